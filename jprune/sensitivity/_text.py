"""Tables as text and as HTML: one list of cells serves both."""

from __future__ import annotations

import html as _html
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jprune.report._cells import count, plural, printable, shorten

if TYPE_CHECKING:
  from jprune.sensitivity._sensitivity import Sensitivity

WIDTH = 100
_GAP = '  '
_NARROWEST = 32  # columns of the name, however many numbers there are: a path of four keys

__all__ = ['WIDTH', 'html_table', 'number', 'paragraph', 'plural', 'table', 'wrapped']


def number(value: float | None) -> str:
  """A metric: four digits."""
  return '' if value is None else f'{value:.4g}'


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
  """Aligned lines of at most ``WIDTH`` columns; the first ``left`` columns are words."""
  lines = [list(header), *map(list, rows)]
  widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
  widths[0] = min(widths[0], WIDTH - sum(widths[1:]) - len(_GAP) * (len(widths) - 1))
  rule = '-' * (sum(widths) + len(_GAP) * (len(widths) - 1))
  return [_aligned(lines[0], widths, left), rule, *(_aligned(x, widths, left) for x in lines[1:])]


def _aligned(line: Sequence[str], widths: Sequence[int], left: int) -> str:
  cells = [f'{shorten(line[0], widths[0]):<{widths[0]}}']
  cells += [
    f'{cell:<{width}}' if i < left else f'{cell:>{width}}'
    for i, (cell, width) in enumerate(zip(line[1:], widths[1:]), 1)
  ]
  return _GAP.join(cells).rstrip()


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


# ----------------------------------------------------------------------------------- sensitivity


def sensitivity_text(found: Sensitivity) -> str:
  """A row for each group; as many of the sparsities as there is room for."""
  every = range(len(found.sparsities))
  for shown in range(len(every), -1, -1):
    points = _spread(len(every), shown)
    header, rows = _cells(found, points)
    numbers = [max(len(line[i]) for line in [header, *rows]) for i in range(1, len(header))]
    longest = max(len(line[0]) for line in [header, *rows])
    if min(longest, _NARROWEST) + sum(numbers) + len(_GAP) * len(numbers) <= WIDTH:
      break
  lines = [*table(header, rows), '', *wrapped(_sentence(found))]
  if shown < len(every):
    lines.append(f'{len(every) - shown:,} more of the sparsities are in to_dict().')
  return '\n'.join(lines)


def sensitivity_html(found: Sensitivity) -> str:
  header, rows = _cells(found, range(len(found.sparsities)))
  return html_table(header, rows) + '\n' + paragraph(_sentence(found))


def _cells(found: Sensitivity, points: Sequence[int]) -> tuple[list[str], list[list[str]]]:
  header = ['group', found.unit, *(f'{found.sparsities[i]:g}' for i in points), 'mean drop']
  mean = dict(found.ranking())
  rows = [
    [
      printable(curve.name),
      count(curve.size),
      *(number(curve.metrics[i]) for i in points),
      number(mean[curve.name]),
    ]
    for curve in found.curves
  ]
  return header, rows


def _sentence(found: Sensitivity) -> str:
  how = f'alone{by_pattern(found.pattern)}'
  return f'Metric by sparsity, each group pruned {how}; {found.baseline:.4g} dense.'


def by_pattern(pattern: str) -> str:
  """Which pattern, for a sentence; not the usual one."""
  return '' if pattern in ('', 'Unstructured()') else f' by {pattern}'


def _spread(count: int, shown: int) -> list[int]:
  """So many places out of ``count``, evenly, both ends among them."""
  if shown < 2:
    return list(range(count))[:shown]
  return [round(i * (count - 1) / (shown - 1)) for i in range(shown)]
