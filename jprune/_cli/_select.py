"""Which weights stay: how many of each leaf, and the mask of a leaf that is in memory."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jprune._cli import _count, _scores
from jprune._cli._source import ModelSource
from jprune.masks import NOfM
from jprune.masks._leaves import kept as kept_of
from jprune.masks._n_of_m import _mask as best
from jprune.masks._patterns import axis_of
from jprune.tree._along import along_for
from jprune.tree._selected import selected_for
from jprune.typing import Distribution

Rank = Callable[[int, np.ndarray], _scores.Chunk]
"""``(leaf, its values) -> scores``."""

Shown = Callable[[str, list[int]], Iterable[int]]
"""Some leaves under a progress bar that says what is being done."""


class Choice(NamedTuple):
  """What becomes of the selected leaves.

  Attributes:
    kept: how many weights each one keeps, by its place in the file.
    mask: ``(leaf, its values, its earlier mask) -> mask``, flat.
  """

  kept: dict[int, int]
  mask: Callable[[int, np.ndarray, np.ndarray | None], np.ndarray]


def selected(source: ModelSource, where: list[str] | None) -> list[int]:
  """The leaves that are pruned, in the order of the tree."""
  chosen = selected_for('prune', source.structs(), where)
  return [i for i, yes in zip(source.order, chosen, strict=True) if yes]


def per_leaf(
  source: ModelSource, chosen: list[int], distribution: Distribution, sparsity: float, rank: Rank
) -> Choice:
  """Every leaf by itself: its share follows from the shapes, so nothing has to be read before."""
  structs = [source.dequantised(i) for i in range(len(source.plans))]
  params = source.tree(structs)
  pruned = set(chosen)
  scored = source.tree([each if i in pruned else None for i, each in enumerate(structs)])
  shares = distribution(params, scored, sparsity)
  found = along_for('prune', 'sparsities', params, shares)
  ks = {
    i: kept_of(share, [source.plans[i].size])
    for i, share in zip(source.order, found, strict=True)
    if share is not None
  }

  def mask(i: int, values: np.ndarray, before: np.ndarray | None) -> np.ndarray:
    chunk = rank(i, values)
    keys = lambda: _count.keys(values.size, chunk, before)
    return _count.mask(values.size, keys(), _count.cut(keys, values.size, ks[i]))

  return Choice({i: min(k, source.plans[i].kept) for i, k in ks.items()}, mask)


def together(
  source: ModelSource, chosen: list[int], sparsity: float, rank: Rank, shown: Shown
) -> Choice:
  """One threshold over all leaves, which are read twice to find it."""

  def keys(i: int) -> Iterator[np.ndarray]:
    values, before = source.read(i)  # a generator's own: gone when the last chunk is
    yield from _count.keys(values.size, rank(i, values), before)

  leaves = lambda word: (keys(i) for i in shown(word, chosen))
  k = kept_of(sparsity, [source.plans[i].size for i in chosen])
  cuts = dict(zip(chosen, _count.cuts(leaves, k), strict=True))

  def mask(i: int, values: np.ndarray, before: np.ndarray | None) -> np.ndarray:
    return _count.mask(values.size, _count.keys(values.size, rank(i, values), before), cuts[i])

  return Choice({i: cut.kept for i, cut in cuts.items()}, mask)


def groups(
  source: ModelSource, chosen: list[int], patterns: Sequence[NOfM], rank: Rank, shown: Shown
) -> Choice:
  """The best n of every m, each leaf along the axis of its own pattern.

  A leaf with an earlier mask is read to count what that leaves.
  """
  for i in chosen:
    patterns[i].check('prune', source.plans[i].path, source.plans[i].shape)

  def mask(i: int, values: np.ndarray, before: np.ndarray | None) -> np.ndarray:
    return _n_of_m(values.shape, rank(i, values), before, patterns[i])

  def count(i: int) -> int:
    values, before = source.read(i)
    return int(np.count_nonzero(mask(i, values, before)))

  sparser = [i for i in chosen if source.plans[i].kept < source.plans[i].size]
  kept = {i: _kept_in_groups(source.plans[i].shape, patterns[i]) for i in chosen}
  return Choice({**kept, **{i: count(i) for i in shown('counting', sparser)}}, mask)


def _kept_in_groups(shape: tuple[int, ...], pattern: NOfM) -> int:
  axis = axis_of(pattern, shape)
  whole, rest = divmod(shape[axis], pattern.m)
  others = math.prod(n for i, n in enumerate(shape) if i != axis)
  return others * (whole * pattern.n + min(rest, pattern.n))


def _n_of_m(
  shape: tuple[int, ...], chunk: _scores.Chunk, before: np.ndarray | None, pattern: NOfM
) -> np.ndarray:
  """The flat mask of a leaf, a block of whole groups at a time."""
  out, along = np.empty(math.prod(shape), bool), dataclasses.replace(pattern, axis=1)
  for begin, block in _blocks(shape, axis_of(pattern, shape), pattern.m):
    end = begin + math.prod(block)
    earlier = None if before is None else before.reshape(-1)[begin:end]
    found = chunk(begin, end)
    if earlier is not None:  # pruned before: below all others, and never back
      found = np.where(earlier, found, np.float32(-1))
    out[begin:end] = np.asarray(best(found.reshape(block), along.n, along)).reshape(-1)
    if earlier is not None:
      out[begin:end] &= earlier
  return out


def _blocks(
  shape: tuple[int, ...], axis: int, m: int
) -> Iterator[tuple[int, tuple[int, int, int]]]:
  """Runs of a leaf in flat order: where each begins, and its shape with the groups in the middle.

  About a chunk each: some slices in full, or where one is larger, some of its groups.
  """
  outer, length, inner = (
    math.prod(part) for part in (shape[:axis], shape[axis : axis + 1], shape[axis + 1 :])
  )
  if not outer * length * inner:
    return
  slice_ = length * inner
  rows = max(1, _scores.CHUNK // slice_)
  step = length if slice_ <= _scores.CHUNK else max(1, _scores.CHUNK // (m * inner)) * m
  for row in range(0, outer, rows):
    for place in range(0, length, step):
      taken = min(rows, outer - row), min(step, length - place), inner
      yield row * slice_ + place * inner, taken
