"""Statistics as text and HTML: which leaves they are of, and which are skipped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import jax
from jax.core import Tracer

from jprune._text import html as page
from jprune._text.table import table, width, wrapped
from jprune._text.words import printable

if TYPE_CHECKING:
  from jprune.graph._statistics.stats import Stats

VECTORS = 'each step of a scan uses a vector of it'
_HEADER = ['leaf', 'batch', 'inputs', 'outputs', 'rows', 'moments']


def text(stats: Stats) -> str:
  """A row for each use; below, what was skipped, and why."""
  below = [line for note in _below(stats) for line in wrapped(note, '', '    ', width())]
  return '\n'.join([*table(_HEADER, _cells(stats)), *below])


def html(stats: Stats) -> str:
  """A plain table, and lists of what was skipped."""
  below = [page.paragraph(line) for line in _below(stats) if line]
  return '\n'.join([page.table(_HEADER, _cells(stats)), *below])


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
  if isinstance(count, (Tracer, jax.ShapeDtypeStruct)):
    return '?'
  return f'{float(count.max()):,.10g}'


def _below(stats: Stats) -> list[str]:
  lines = []
  for title, pairs in (('Skipped:', stats.skipped), ('Also:', stats.notes)):
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
