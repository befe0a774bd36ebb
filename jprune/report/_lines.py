"""Tables as text and as HTML: one list of cells serves both."""

from __future__ import annotations

import html as _html
import textwrap
from collections.abc import Sequence

from jprune.report._cells import shorten

WIDTH = 100
GAP = '  '


def number(value: float | None) -> str:
  """A metric: four digits."""
  return '' if value is None else f'{value:.4g}'


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
  """Aligned lines of at most ``WIDTH`` columns; the first ``left`` columns are words."""
  lines = [list(header), *map(list, rows)]
  widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
  widths[0] = min(widths[0], WIDTH - sum(widths[1:]) - len(GAP) * (len(widths) - 1))
  rule = '-' * (sum(widths) + len(GAP) * (len(widths) - 1))
  return [_aligned(lines[0], widths, left), rule, *(_aligned(x, widths, left) for x in lines[1:])]


def _aligned(line: Sequence[str], widths: Sequence[int], left: int) -> str:
  cells = [f'{shorten(line[0], widths[0]):<{widths[0]}}']
  cells += [
    f'{cell:<{width}}' if i < left else f'{cell:>{width}}'
    for i, (cell, width) in enumerate(zip(line[1:], widths[1:]), 1)
  ]
  return GAP.join(cells).rstrip()


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
  """A plain table with all names in full."""
  style = lambda i: ' style="text-align: left"' if i < left else ''
  row = lambda tag, line: (
    '<tr>'
    + ''.join(f'<{tag}{style(i)}>{_html.escape(x)}</{tag}>' for i, x in enumerate(line))
    + '</tr>'
  )
  body = [row('td', line) for line in rows]
  head = ['<table>', '<thead>', row('th', header), '</thead>', '<tbody>']
  return '\n'.join([*head, *body, '</tbody>', '</table>'])


def wrapped(sentence: str) -> list[str]:
  """Lines that fit most terminals."""
  return textwrap.wrap(sentence, 80, break_long_words=False, break_on_hyphens=False)


def paragraph(sentence: str) -> str:
  return f'<p>{_html.escape(sentence)}</p>'


def spread(count: int, shown: int) -> list[int]:
  """So many places out of ``count``, evenly, both ends among them."""
  if shown < 2:
    return list(range(count))[:shown]
  return [round(i * (count - 1) / (shown - 1)) for i in range(shown)]
