"""A report of repairs as text and HTML."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jprune._text import html as page
from jprune._text.table import WIDTH, table
from jprune._text.words import by_reason, byte_size, plural, printable, shorten

if TYPE_CHECKING:
  from jprune.reconstruct._report import Repair

_HEADER = ('leaf', 'size', 'pruned', 'sparsity', 'error masked', 'error repaired', 'damping')


def text(report: Repair) -> str:
  """A table of at most 100 columns: a row for each leaf, then what else there is to say."""
  return '\n'.join([*table(_HEADER, *_cells(report)), '', *_notes(report, WIDTH)])


def html(report: Repair) -> str:
  """A plain table with all paths in full."""
  notes = map(page.paragraph, _notes(report, None))
  return '\n'.join([page.table(_HEADER, *_cells(report)), *notes])


def summary(report: Repair) -> str:
  """The totals in short."""
  size, pruned = (sum(getattr(row, name) for row in report.rows) for name in ('size', 'pruned'))
  leaves = plural(len(report.rows), 'leaf')
  return f'{report.method}, {leaves}, {pruned:,} of {size:,} weights pruned'


def _cells(report: Repair) -> tuple[list[list[str]], list[str]]:
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
  total = f'total, {plural(len(rows), "leaf")}'
  return rows, [total, f'{size:,}', f'{pruned:,}', share, '', '', '']


def _notes(report: Repair, width: int | None) -> list[str]:
  out = [
    f'By {report.method}. Errors: squared, of the outputs, relative to those of the dense leaf.'
  ]
  if report.passes:
    out.append(f'The model was run {report.passes:.3g} times over all batches.')
  if report.peak_bytes:
    out.append(f'Most memory of a device: {byte_size(report.peak_bytes)}, by {report.peak_source}.')
  if any(row.escalated for row in report.rows):
    out.append('*: not positive definite with the damping that was asked for; damped more.')
  for row in report.rows:
    if row.note:
      out.append(cut(f'{printable(row.path)}: {row.note}', width))
  if report.skipped:
    out.append('Skipped:')
    out += [
      _listing(f'  {why} ({len(names)}): ', names, width)
      for why, names in by_reason(report.skipped).items()
    ]
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


def cut(name: str, width: int | None) -> str:
  return name if width is None else shorten(name, width)
