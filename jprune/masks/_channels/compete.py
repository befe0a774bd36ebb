"""How many units each channel group keeps, and which.

Units are ranked twice. Within its group a unit's *rank* says when it goes; within its race (the
group itself, all groups, or the groups of like structure) its *place* says which groups pay. Both
orders agree within a group, so a count for each group settles everything. Groups that are factors
of one axis share what it may lose: by themselves they are one race, in which a path says who pays;
where they compete with others, each keeps a power of what it would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jprune.masks._channels import shares as _shares
from jprune.typing import Scope


class Field(NamedTuple):
  """Who competes with whom, known before any score is.

  Attributes:
    sizes: units of each group, ``(groups,)``.
    floors: the fewest units that a group may keep; its size where nothing can be pruned.
    group_of: group of each unit, ``(units,)``, groups one after another.
    race_of: race of each unit, ``(units,)``.
    totals: units of each race, ``(races,)``.
    most: how many units of each race may be pruned.
    round_to: what the number of kept units is a multiple of.
    named: races of groups that compete with none, because their sparsity is given.
    paths: by race, the groups of a family that has a race of its own, and how it loses its units.
    kept_of: for each number of units that the race leaves to a group, from none to all, how many
      it keeps; groups one after another.
    stuck: groups that can lose nothing, and neither can another factor of their axis.
  """

  sizes: np.ndarray
  floors: np.ndarray
  group_of: np.ndarray
  race_of: np.ndarray
  totals: np.ndarray
  most: np.ndarray
  round_to: int
  named: dict[int, float]
  paths: dict[int, tuple[list[int], _shares.Path]]
  kept_of: np.ndarray
  stuck: list[int]

  def asked(self, sparsity: float | None) -> np.ndarray:
    """How many units of each race are to go; of families, steps. ``None``: only named ones do."""
    of = [self.named.get(r, sparsity) or 0.0 for r in range(len(self.totals))]
    asked = [round(float(s) * total) for s, total in zip(of, self.totals.tolist())]
    for r, (_, path) in self.paths.items():
      asked[r] = int(np.searchsorted(path.levels, of[r], 'left'))
    return np.array(asked)


def field(
  groups: Sequence[Any],
  scope: Scope,
  round_to: int,
  min_keep: int,
  leaves: Mapping[str, Any],
  named: Sequence[tuple[float, Sequence[int]]] = (),
) -> Field:
  """The field of some groups.

  Args:
    groups: channel groups that take part.
    scope: in which those compete that aren't named.
    round_to: what the number of kept units is a multiple of.
    min_keep: each group keeps so many units.
    leaves: those that the members are slices of, by path.
    named: sparsities with the places of the groups that they are for.
  """
  sizes = np.array([group.size for group in groups])
  least = -(-min_keep // round_to) * round_to
  floors = np.where(least < sizes, least, sizes)
  of_name = {i: sparsity for sparsity, places in named for i in places}
  free = [i for i in range(len(groups)) if i not in of_name]
  pools = [places for _, places in named] + ([free] if scope == 'local' else [])
  labels = _labels(groups, scope, leaves, free)
  kept_of, paths = [np.arange(size + 1) for size in sizes.tolist()], []
  stuck, spared = set(np.flatnonzero(floors == sizes).tolist()), set()
  for pool in pools:
    for members, blocks in _shares.families(groups, pool):
      paths.append((members, _shares.path(_steps(members, sizes, floors, round_to), blocks)))
      spared |= _spared(blocks, stuck)
      for i in members:
        labels[i] = ('family', members[0])
  if scope != 'local':
    for members, blocks in _shares.families(groups, free):
      spared |= _spared(blocks, stuck)
      for i, exponent in _shares.exponents(set(members) - stuck, blocks).items():
        kept_of[i] = _shares.raised(int(sizes[i]), int(floors[i]), exponent)
  numbers: dict[Any, int] = {}
  races = np.array([numbers.setdefault(label, len(numbers)) for label in labels])
  totals = np.zeros(len(numbers), np.int64)
  most = np.zeros_like(totals)
  np.add.at(totals, races, sizes)
  np.add.at(most, races, sizes - floors)
  group_of = np.repeat(np.arange(len(groups)), sizes)
  return Field(
    sizes,
    floors,
    group_of,
    races[group_of],
    totals,
    most,
    round_to,
    {int(races[i]): sparsity for i, sparsity in of_name.items()},
    {int(races[members[0]]): (members, path) for members, path in paths},
    np.concatenate(kept_of),
    sorted(stuck - spared),
  )


def _steps(
  members: Sequence[int], sizes: np.ndarray, floors: np.ndarray, round_to: int
) -> dict[int, list[int]]:
  """The numbers of units that each group of a family may keep, falling."""
  return {i: _shares.falling(int(sizes[i]), int(floors[i]), round_to) for i in members}


def _spared(blocks: Sequence[Mapping[int, int]], stuck: set[int]) -> set[int]:
  """Groups that needn't lose anything, because another factor of their axis can."""
  return {i for block in blocks if block.keys() - stuck for i in block}


def _labels(
  groups: Sequence[Any], scope: Scope, leaves: Mapping[str, Any], free: Sequence[int]
) -> list[Any]:
  """What the groups of a race have in common; those that aren't ``free`` are by themselves."""

  # what groups of like structure share: not sizes, nor where in the model they are
  def kind(group: Any) -> tuple[Any, ...]:
    members = group.members
    return tuple(
      sorted((m.path.rpartition('/')[2], m.axis, len(leaves[m.path].shape)) for m in members)
    )

  out: list[Any] = [('alone', i) for i in range(len(groups))]
  for i in free if scope != 'local' else ():
    out[i] = 'all' if scope == 'global' else kind(groups[i])
  return out


def ranked(race: Field, vectors: Sequence[Any], xp: Any) -> tuple[Any, Any]:
  """Rank of each unit in its group, place in its race: 0 is the best; NaN comes last.

  Among equal scores the earlier group, and in it the lowest index, comes first. The units that a
  group has to keep have the first places.
  """
  scores = xp.concatenate(vectors)
  nan = xp.isnan(scores)
  falling = xp.where(nan, xp.asarray(np.inf, scores.dtype), -scores)
  index = np.arange(len(race.group_of), dtype=np.int32)
  starts = np.cumsum(race.sizes) - race.sizes
  order = xp.lexsort((index, nan, falling, race.group_of.astype(np.int32)))
  rank = _inverse(order, xp) - starts[race.group_of].astype(np.int32)
  beyond = rank >= race.floors[race.group_of].astype(np.int32)
  starts = np.cumsum(race.totals) - race.totals
  order = xp.lexsort((index, nan, falling, beyond, race.race_of.astype(np.int32)))
  return rank, _inverse(order, xp) - starts[race.race_of].astype(np.int32)


def _inverse(order: Any, xp: Any) -> Any:
  index = np.arange(order.size, dtype=np.int32)
  if xp is jnp:
    return jnp.zeros(order.size, jnp.int32).at[order].set(index, unique_indices=True)
  out = np.empty_like(index)
  out[order] = index
  return out


def kept_counts(race: Field, place: Any, asked: Any, xp: Any) -> Any:
  """How many units each group keeps when ``asked`` units of each race (or steps) are to go."""
  keep = race.totals.astype(np.int32) - xp.minimum(asked, race.most).astype(np.int32)
  stays = place < keep[race.race_of]
  count = len(race.sizes)
  if xp is jnp:
    kept = jax.ops.segment_sum(stays.astype(jnp.int32), race.group_of.astype(np.int32), count)
  else:
    kept = np.bincount(race.group_of[stays], minlength=count)
  ends = np.cumsum(race.sizes + 1)
  kept = xp.asarray(race.kept_of, kept.dtype)[(ends - race.sizes - 1).astype(kept.dtype) + kept]
  for r, (members, path) in race.paths.items():
    of_members = xp.asarray(path.kept, kept.dtype)[xp.minimum(asked[r], len(path.levels))]
    if xp is jnp:
      kept = kept.at[np.asarray(members)].set(of_members)
    else:
      kept[members] = of_members
  if race.round_to == 1:
    return kept
  # the nearest multiple, the larger one of two; a group that loses nothing stays as it is
  sizes, floors = race.sizes.astype(kept.dtype), race.floors.astype(kept.dtype)
  r = race.round_to
  highest = np.maximum(sizes // r * r, floors)
  rounded = xp.clip((kept + r // 2) // r * r, floors, highest)
  return xp.where(kept == sizes, sizes, rounded)


def survivors(race: Field, rank: Any, kept: Any) -> list[Any]:
  """For each group which units stay, ``(size,)``."""
  stays = rank < kept[race.group_of]
  ends = np.cumsum(race.sizes)
  return [stays[end - size : end] for end, size in zip(ends.tolist(), race.sizes.tolist())]


def all_asked(race: Field) -> np.ndarray:
  """As many units of each race as there are; of those that are named, what is given."""
  free = [r not in race.named for r in range(len(race.totals))]
  return np.where(free, race.totals, race.asked(None))


def least_asked(race: Field, left: Callable[[np.ndarray], int], goal: float) -> np.ndarray:
  """The least numbers of units to prune, one for each race, that leave at most ``goal``.

  All races go through the same sparsities. Each step is the next sparsity at which the number of
  some race changes; what is left falls along the way, so bisection finds the step.

  Args:
    race: the field.
    left: what is left once so many units of each race are asked to go; all of them leave no more
      than ``goal``.
    goal: what may be left.
  """
  named = race.asked(None)
  changes = [
    race.paths[r][1].levels if r in race.paths else (np.arange(total) + 0.5) / total
    for r, total in enumerate(race.totals.tolist())
  ]
  free = [r not in race.named for r in range(len(changes))]
  levels = np.unique(np.concatenate([[], *(each for each, yes in zip(changes, free) if yes)]))

  def asked(step: int) -> np.ndarray:
    level = levels[step - 1] if step else -1.0
    return np.where(free, [np.searchsorted(each, level, 'right') for each in changes], named)

  low, high = 0, len(levels)
  while low < high:
    middle = (low + high) // 2
    if left(asked(middle)) <= goal:
      high = middle
    else:
      low = middle + 1
  return asked(high)
