"""A report of repairs as text and HTML."""

from __future__ import annotations

import html as _html
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from jprune.reconstruct._report import Repair

_WIDTH = 100
_GAP = '  '
_HEADER = ('leaf', 'size', 'pruned', 'sparsity', 'error masked', 'error repaired', 'damping')


def text(report: Repair) -> str:
  """A table of at most 100 columns: a row for each leaf, then what else there is to say."""
  header, *body, total = lines = [list(_HEADER), *_cells(report)]
  widths = [max(len(line[i]) for line in lines) for i in range(len(_HEADER))]
  widths[0] = min(widths[0], _WIDTH - sum(widths[1:]) - len(_GAP) * (len(widths) - 1))
  rule = '-' * (sum(widths) + len(_GAP) * (len(widths) - 1))
  table = [_aligned(header, widths), rule, *(_aligned(line, widths) for line in body), rule]
  return '\n'.join([*table, _aligned(total, widths), '', *_notes(report)])


def html(report: Repair) -> str:
  """A plain table with all paths in full."""
  *body, total = _cells(report)
  left = ' style="text-align: left"'
  cell = lambda tag, i, text: f'<{tag}{"" if i else left}>{_html.escape(text)}</{tag}>'
  row = lambda tag, line: f'<tr>{"".join(cell(tag, i, text) for i, text in enumerate(line))}</tr>'
  lines = ['<table>', '<thead>', row('th', _HEADER), '</thead>', '<tbody>']
  lines += [row('td', line) for line in body]
  lines += ['</tbody>', '<tfoot>', row('th', total), '</tfoot>', '</table>']
  notes = (f'<p>{_html.escape(note.strip())}</p>' for note in _notes(report, None))
  return '\n'.join([*lines, *notes])


def summary(report: Repair) -> str:
  """The totals in short."""
  size, pruned = (sum(getattr(row, name) for row in report.rows) for name in ('size', 'pruned'))
  leaves = _plural(len(report.rows), 'leaf', 'leaves')
  return f'{report.method}, {leaves}, {pruned:,} of {size:,} weights pruned'


def _cells(report: Repair) -> list[list[str]]:
  """Rows and total."""
  rows = [
    [
      printable(row.path),
      f'{row.size:,}',
      f'{row.pruned:,}',
      f'{100 * row.sparsity:.2f}%',
      _number(row.error_before),
      _number(row.error_after),
      f'{row.damping:.2g}{"*" if row.escalated else ""}',
    ]
    for row in report.rows
  ]
  size, pruned = (sum(getattr(row, name) for row in report.rows) for name in ('size', 'pruned'))
  share = f'{100 * pruned / size:.2f}%' if size else '0.00%'
  total = f'total, {_plural(len(rows), "leaf", "leaves")}'
  return [*rows, [total, f'{size:,}', f'{pruned:,}', share, '', '', '']]


def _notes(report: Repair, width: int | None = _WIDTH) -> list[str]:
  out = [
    f'By {report.method}. Errors: squared, of the outputs, relative to those of the dense leaf.'
  ]
  if any(row.escalated for row in report.rows):
    out.append('*: not positive definite with the damping that was asked for; damped more.')
  for row in report.rows:
    if row.note:
      out.append(cut(f'{printable(row.path)}: {row.note}', width))
  if report.left_alone:
    out.append('Left alone:')
    reasons: dict[str, list[str]] = {}
    for path, why in report.left_alone:
      reasons.setdefault(why, []).append(printable(path))
    out += [_listing(f'  {why} ({len(names)}): ', names, width) for why, names in reasons.items()]
  return out


def _listing(start: str, names: list[str], width: int | None) -> str:
  """As many names as a line holds, then how many more there are."""
  for shown in range(len(names), 0, -1):
    rest = f' and {len(names) - shown:,} more' if shown < len(names) else ''
    line = start + ', '.join(names[:shown]) + rest
    if width is None or len(line) <= width:
      return line
  return cut(start + names[0], width)


def _number(error: float) -> str:
  """Four digits."""
  return f'{error:.4f}' if error == 0 or error >= 0.001 else f'{error:.1e}'


def _aligned(line: list[str], widths: list[int]) -> str:
  label, *numbers = line
  cells = [f'{cut(label, widths[0]):<{widths[0]}}']
  cells += [f'{number:>{width}}' for number, width in zip(numbers, widths[1:])]
  return _GAP.join(cells).rstrip()


def cut(name: str, width: int | None) -> str:
  if width is None or len(name) <= width:
    return name
  head = (width - 1) // 2
  return f'{name[:head]}…{name[len(name) - (width - 1 - head) :]}'


def printable(path: str) -> str:
  """A path that stays on its line, whatever the keys of a dict may hold."""
  return ''.join(c if c.isprintable() else '?' for c in path) or '(root)'


def _plural(number: int, one: str, many: str) -> str:
  return f'{number:,} {one if number == 1 else many}'
