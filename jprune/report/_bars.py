"""Leaves put together: by layer, by kind, by how sparse they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from jprune._text.fold_paths import natural
from jprune.report._kinds import kinds, layer_of
from jprune.report._leaf import LeafTally, fraction_of_zeros

if TYPE_CHECKING:
  from jprune.report._tally import Tally

_BINS = 10  # of the histogram, besides that of leaves without zeros


@dataclasses.dataclass(frozen=True)
class Bar:
  """Some leaves and what is left of them."""

  name: str
  leaves: int
  size: int
  nonzero: int

  @property
  def sparsity(self) -> float:
    return fraction_of_zeros(self.size, self.nonzero)

  def to_dict(self) -> dict[str, Any]:
    return {**dataclasses.asdict(self), 'sparsity': self.sparsity}


def by_layer(tally: Tally) -> list[Bar]:
  """In the order of their names, numbers in them by their size."""
  found = _grouped(tally.rows, [layer_of(row.path) for row in tally.rows])
  return sorted(found, key=lambda bar: natural(bar.name))


def by_kind(tally: Tally) -> list[Bar]:
  """The kind with most weights first."""
  named = kinds([row.path for row in tally.rows], [row.shape for row in tally.rows])
  return sorted(_grouped(tally.rows, named), key=lambda bar: (-bar.size, bar.name))


def by_sparsity(tally: Tally) -> list[Bar]:
  """How many leaves are how sparse: none of them zero, up to 10 %, up to 20 %, ..."""
  names = ['no zeros', *(f'to {10 * (i + 1)} %' for i in range(_BINS))]
  rows: list[list[LeafTally]] = [[] for _ in names]
  for row in tally.rows:
    zeros = row.size - row.nonzero
    # in whole numbers, so that 0.3 falls where it belongs; so does round(0.3 * size), but where
    # half a weight is much
    half = _BINS // 2 if row.size > 5 * _BINS else 0
    rows[-((half - zeros * _BINS) // row.size) if zeros else 0].append(row)
  return [_bar(*each) for each in zip(names, rows)]


def fewer(bars: Sequence[Bar], most: int) -> list[Bar]:
  """Neighbours put together until there are few enough."""
  step = -(-len(bars) // most) or 1
  return [_joined(bars[i : i + step]) for i in range(0, len(bars), step)]


def _joined(bars: Sequence[Bar]) -> Bar:
  first, last = bars[0].name, bars[-1].name
  names = first if len(bars) == 1 else f'{first} … {last}'
  return Bar(names, *(sum(getattr(b, n) for b in bars) for n in ('leaves', 'size', 'nonzero')))


def _grouped(rows: Sequence[LeafTally], names: Iterable[str]) -> list[Bar]:
  found: dict[str, list[LeafTally]] = {}
  for row, name in zip(rows, names):
    if row.size:
      found.setdefault(name, []).append(row)
  return [_bar(*each) for each in found.items()]


def _bar(name: str, rows: Sequence[LeafTally]) -> Bar:
  return Bar(name, len(rows), sum(row.size for row in rows), sum(row.nonzero for row in rows))
