"""Statistics as text and HTML: which leaves they are of, and which are left out."""

from __future__ import annotations

import html as _html
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import jax

from jprune.graph._macs.table import printable

if TYPE_CHECKING:
  from jprune.graph._capture.stats import Stats

_WIDTH = 100
_GAP = '  '
VECTORS = 'each step of a scan uses a vector of it'
_HEADER = ['leaf', 'batch', 'inputs', 'outputs', 'rows', 'moments']


def text(stats: Stats) -> str:
  """A row for each use; below, what was left out and why."""
  lines = [_HEADER, *_cells(stats)]
  widths = [max(len(line[i]) for line in lines) for i in range(len(_HEADER))]
  widths[0] = min(widths[0], _WIDTH - sum(widths[1:]) - len(_GAP) * (len(widths) - 1))
  rows = []
  for label, *numbers in lines:
    short = label if len(label) <= widths[0] else f'…{label[len(label) - widths[0] + 1 :]}'
    cells = [f'{short:<{widths[0]}}', *(f'{n:>{w}}' for n, w in zip(numbers, widths[1:]))]
    rows.append(_GAP.join(cells))
  rule = '-' * len(rows[0])
  return '\n'.join([rows[0], rule, *rows[1:], *_below(stats)])


def html(stats: Stats) -> str:
  """A plain table, and lists of what was left out."""
  row = lambda tag, line: f'<tr>{"".join(f"<{tag}>{_html.escape(c)}</{tag}>" for c in line)}</tr>'
  lines = ['<table>', '<thead>', row('th', _HEADER), '</thead>', '<tbody>']
  lines += [row('td', line) for line in _cells(stats)]
  lines += ['</tbody>', '</table>']
  return '\n'.join(
    [*lines, *(f'<p>{_html.escape(line.strip())}</p>' for line in _below(stats) if line)]
  )


def _cells(stats: Stats) -> list[list[str]]:
  out = []
  for path, uses in stats.uses:
    for use in uses:
      whole = len(uses) == 1
      part = '' if whole else '[' + ', '.join(f'{low}:{high}' for low, high in use.box) + ']'
      sizes = [f'{n:,}' for n in use.sizes]
      out.append([printable(path) + part, *sizes, _rows(stats, use.source), str(use.source)])
  return out


def _rows(stats: Stats, source: int) -> str:
  """How many rows were seen, at most where products side by side differ."""
  count = stats.inputs[source].count
  if isinstance(count, (jax.core.Tracer, jax.ShapeDtypeStruct)):
    return '?'
  return f'{float(count.max()):,.10g}'


def _below(stats: Stats) -> list[str]:
  lines = []
  for title, pairs in (('Left out:', stats.left_out), ('Also:', stats.notes)):
    if pairs:
      lines += ['', title, *_listed(pairs)]
  return lines


def _listed(pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
  """A line for each, but for stacked biases and the like, which are one."""
  vectors = [path for path, why in pairs if why.startswith(VECTORS)]
  yield from (f'  {printable(path)}: {why}' for path, why in pairs if path not in vectors)
  if vectors:
    more = f' and {len(vectors) - 1:,} more' if len(vectors) > 1 else ''
    yield f'  {printable(vectors[0])}{more}: {VECTORS}'
