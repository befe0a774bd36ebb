"""How many units each channel group keeps, and which.

Units are ranked twice. Within its group a unit's *rank* says when it goes; within its race (the
group itself, all groups, or the groups of like structure) its *place* says which groups pay. Both
orders agree within a group, so a count for each group settles everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

SCOPES = ('local', 'global', 'isomorphic')


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
  """

  sizes: np.ndarray
  floors: np.ndarray
  group_of: np.ndarray
  race_of: np.ndarray
  totals: np.ndarray
  most: np.ndarray
  round_to: int

  @property
  def stuck(self) -> np.ndarray:
    """Which groups can lose nothing."""
    return self.floors == self.sizes


def field(
  groups: Sequence[Any], scope: str, round_to: int, min_keep: int, leaves: Mapping[str, Any]
) -> Field:
  """The field of some groups; ``leaves`` are those that their members are slices of, by path."""
  sizes = np.array([group.size for group in groups])
  least = -(-min_keep // round_to) * round_to
  floors = np.where(least < sizes, least, sizes)
  races = _races(groups, scope, leaves)
  totals = np.zeros(races.max() + 1, np.int64)
  most = np.zeros_like(totals)
  np.add.at(totals, races, sizes)
  np.add.at(most, races, sizes - floors)
  group_of = np.repeat(np.arange(len(groups)), sizes)
  return Field(sizes, floors, group_of, races[group_of], totals, most, round_to)


def _races(groups: Sequence[Any], scope: str, leaves: Mapping[str, Any]) -> np.ndarray:
  """The race of each group."""
  if scope == 'local':
    return np.arange(len(groups))
  if scope == 'global':
    return np.zeros(len(groups), int)

  # what groups of like structure share: not sizes, nor where in the model they are
  def kind(group: Any) -> tuple[Any, ...]:
    members = group.members
    return tuple(
      sorted((m.path.rpartition('/')[2], m.axis, len(leaves[m.path].shape)) for m in members)
    )

  kinds: dict[Any, int] = {}
  return np.array([kinds.setdefault(kind(group), len(kinds)) for group in groups])


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


def kept_counts(race: Field, place: Any, asked: np.ndarray, xp: Any) -> Any:
  """How many units each group keeps when ``asked`` units of each race are to go."""
  keep = race.totals - np.minimum(asked, race.most)
  stays = place < keep[race.race_of].astype(np.int32)
  count = len(race.sizes)
  if xp is jnp:
    kept = jax.ops.segment_sum(stays.astype(jnp.int32), race.group_of.astype(np.int32), count)
  else:
    kept = np.bincount(race.group_of[stays], minlength=count)
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
  changes = [(np.arange(total) + 0.5) / total for total in race.totals.tolist()]
  levels = np.unique(np.concatenate(changes))

  def asked(step: int) -> np.ndarray:
    level = levels[step - 1] if step else -1.0
    return np.array([np.searchsorted(each, level, 'right') for each in changes])

  low, high = 0, len(levels)
  while low < high:
    middle = (low + high) // 2
    if left(asked(middle)) <= goal:
      high = middle
    else:
      low = middle + 1
  return asked(high)
