"""Groups that are factors of one axis share what the axis may lose.

An axis of 32 channels under a GroupNorm of 8 groups is a product of two factors, 8 by 4; each is a
channel group, and an index of the axis stays if its unit of either group does. So what is left of
the axis is the product of what is left of its factors. A :class:`Block` is the part of an axis that
the same factors share; groups that meet in blocks, directly or through others, are one *family*.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

# Of each group that is a factor, how often: twice for x times x.
Block = Mapping[int, int]

# A sparsity halfway between two steps, such as 0.1 between 10 and 8 of 10, is not past it, however
# it was rounded.
_HALFWAY = 1e-12


class Path(NamedTuple):
  """How a family loses its units, one step after another.

  Attributes:
    kept: how many units each group keeps after so many steps, ``(steps + 1, groups)``.
    levels: the sparsity past which a step is nearer to what was asked than the one before it,
      ``(steps,)``, rising.
  """

  kept: np.ndarray
  levels: np.ndarray


def families(groups: Sequence[Any], among: Sequence[int]) -> list[tuple[list[int], list[Block]]]:
  """Groups that share the parts of some axis, with these parts; groups that share none aren't here.

  Args:
    groups: channel groups.
    among: the places of those that are to share; others aren't factors.
  """
  blocks = _blocks(groups, among)
  owner = {i: i for block in blocks for i in block}

  def root(i: int) -> int:
    while owner[i] != i:
      i = owner[i]
    return i

  for block in blocks:
    first, *others = (root(i) for i in block)
    for other in others:
      owner[root(other)] = root(first)
  found: dict[int, tuple[list[int], list[Block]]] = {}
  for i in sorted(owner):
    found.setdefault(root(i), ([], []))[0].append(i)
  for block in blocks:
    found[root(next(iter(block)))][1].append(block)
  return list(found.values())


def _blocks(groups: Sequence[Any], among: Sequence[int]) -> list[Block]:
  """The different products of two or more factors, over all axes of all leaves."""
  on_axis: dict[tuple[str, int], list[tuple[int, np.ndarray]]] = {}
  for i in among:
    for member in groups[i].members:
      inside = member.position.units >= 0
      on_axis.setdefault((member.path, member.axis), []).append((i, inside))
  found: dict[Any, Block] = {}
  for members in on_axis.values():
    if len(members) < 2:
      continue
    for column in np.unique(np.stack([inside for _, inside in members]), axis=1).T:
      factors = Counter(i for (i, _), yes in zip(members, column.tolist()) if yes)
      if factors.total() > 1:
        found.setdefault(tuple(sorted(factors.items())), factors)
  return list(found.values())


def path(steps: Mapping[int, Sequence[int]], blocks: Sequence[Block]) -> Path:
  """The order in which the units of a family go where all blocks are to lose the same.

  The block of which most is left loses next, and of its factors the one that loses least by it: as
  a rule that with the most units. So each step is as small as can be, and masks of a higher
  sparsity are among those of a lower one.

  Args:
    steps: the numbers of units that each group of the family may keep, falling, its size first.
    blocks: the family's.
  """
  order = list(steps)
  at = dict.fromkeys(order, 0)
  count = lambda i: steps[i][at[i]]
  ratio = lambda i: steps[i][at[i] + 1] / count(i)
  left = lambda block: math.prod((count(i) / steps[i][0]) ** times for i, times in block.items())
  kept, levels, level = [[count(i) for i in order]], [], 0.0
  while True:
    movable = lambda block: [i for i in block if at[i] + 1 < len(steps[i])]
    open_ = [(left(block), block) for block in blocks if movable(block)]
    if not open_:
      break
    before, block = max(open_, key=lambda pair: pair[0])
    loser = max(movable(block), key=ratio)
    at[loser] += 1
    level = max(level, 1 - (before + left(block)) / 2 + _HALFWAY)
    kept.append([count(i) for i in order])
    levels.append(level)
  return Path(np.array(kept), np.array(levels))


def exponents(members: Iterable[int], blocks: Sequence[Block]) -> dict[int, float]:
  """Powers of what groups keep by themselves, which add up to one over each block.

  The most crowded block divides what it has among its groups, then the next; a group that has its
  power already brings it along.

  Args:
    members: groups of a family that can lose units; others are no factors.
    blocks: the family's.
  """
  found: dict[int, float] = {}
  left = set(members)
  while left:
    shares = []
    for block in blocks:
      held = sum(found[i] * times for i, times in block.items() if i in found)
      if free := sum(times for i, times in block.items() if i in left):
        shares.append((max(1 - held, 0.0) / free, left & block.keys()))
    share, each = min(shares, key=lambda pair: pair[0])
    found |= dict.fromkeys(each, share)
    left -= each
  return found


def raised(size: int, floor: int, exponent: float) -> np.ndarray:
  """For each number of units kept by itself, the number where the group shares: ``(size + 1,)``."""
  by_itself = np.arange(size + 1) / max(size, 1)
  return np.clip(np.floor(size * by_itself**exponent + 0.5), floor, size).astype(np.int64)


def falling(size: int, floor: int, round_to: int) -> list[int]:
  """The numbers of units that a group may keep, from all of them down to the fewest."""
  multiples = itertools.count(floor, round_to)
  return [size, *reversed(list(itertools.takewhile(lambda n: n < size, multiples)))]
