"""A report of repairs as text and HTML."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jprune._text import html as page
from jprune._text.table import paths_listed, table, width, wrapped
from jprune._text.words import by_reason, byte_size, count, number, percent, plural, printable

if TYPE_CHECKING:
  from jprune.reconstruct._report import Repair

MASKS_ALONE = 'masks alone'
"""The method of a report of masks that nothing was repaired after."""
_LINES = 2  # for the leaves that are skipped for one reason
_HEADER = ('leaf', 'size', 'pruned', 'sparsity', 'error masked', 'error repaired', 'damping')


def text(report: Repair) -> str:
  """A table: a row for each leaf, then what else there is to say."""
  notes = [line for note in _notes(report) for line in wrapped(note, '', '    ', width())]
  return '\n'.join([*table(*_cells(report)), '', *notes, *_skipped(report)])


def html(report: Repair) -> str:
  """A plain table with all paths in full."""
  parts = [page.table(*_cells(report)), *map(page.paragraph, _notes(report))]
  for why, names in by_reason(report.skipped).items():
    parts.append(page.details(f'Skipped, {why} ({len(names):,})', names))
  return '\n'.join(parts)


def summary(report: Repair) -> str:
  """The totals in short."""
  size, pruned = (sum(getattr(row, name) for row in report.rows) for name in ('size', 'pruned'))
  leaves = plural(len(report.rows), 'leaf')
  return f'{report.method}, {leaves}, {pruned:,} of {size:,} weights pruned'


def _cells(report: Repair) -> tuple[Sequence[str], list[list[str]], list[str]]:
  """Header, rows and total; of masks alone without what a repair did."""
  rows = [
    [
      printable(row.path),
      count(row.size),
      count(row.pruned),
      percent(row.pruned, row.size),
      number(row.error_before),
      number(row.error_after),
      f'{number(row.damping)}{"*" if row.escalated else ""}',
    ]
    for row in report.rows
  ]
  size, pruned = (sum(getattr(row, name) for row in report.rows) for name in ('size', 'pruned'))
  total = f'total, {plural(len(rows), "leaf")}'
  totals = [total, count(size), count(pruned), percent(pruned, size), '', '', '']
  shown = -2 if report.method == MASKS_ALONE else None
  return _HEADER[:shown], [row[:shown] for row in rows], totals[:shown]


def _notes(report: Repair) -> list[str]:
  out = [
    f'By {report.method}. Errors: squared, of the outputs, relative to those of the dense leaf.'
  ]
  if report.passes:
    times = 'once' if report.passes == 1 else f'{number(report.passes)} times'
    out.append(f'The model was run {times} over all batches.')
  if report.peak_bytes:
    out.append(f'Most memory of a device: {byte_size(report.peak_bytes)}, by {report.peak_source}.')
  if any(row.escalated for row in report.rows):
    out.append('*: not positive definite with the damping that was asked for; damped more.')
  return out + [f'{printable(row.path)}: {row.note}' for row in report.rows if row.note]


def _skipped(report: Repair) -> list[str]:
  """One entry for each reason; nothing if nothing was skipped."""
  lines = ['Skipped:'] if report.skipped else []
  for why, names in by_reason(report.skipped).items():
    lines += paths_listed(names, f'  {why} ({len(names):,}): ', '    ', _LINES)
  return lines
