"""From the units that stay to masks of the leaves that they are slices of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jprune.masks._auto import placed


def lines_of(groups: Sequence[Any], keeps: Sequence[Any], xp: Any) -> dict[str, dict[int, Any]]:
  """For each leaf, along each axis that groups have to do with, which indices stay."""
  lines: dict[str, dict[int, Any]] = {}
  for group, keep in zip(groups, keeps):
    keep = xp.concatenate([keep, xp.ones(1, bool)])  # where -1 points to
    for member in group.members:
      line = keep[member.position.units]
      own = lines.setdefault(member.path, {})
      own[member.axis] = own[member.axis] & line if member.axis in own else line
  return lines


def whole(lines: Mapping[int, Any], shape: tuple[int, ...], xp: Any) -> Any:
  """What all axes keep."""
  out = xp.ones(shape, bool) if not lines else None
  for axis, line in lines.items():
    lined_up = xp.reshape(line, [-1 if i == axis else 1 for i in range(len(shape))])
    lined_up = xp.broadcast_to(lined_up, shape)
    out = lined_up if out is None else out & lined_up
  return out


def placed_mask(lines: Mapping[int, np.ndarray], shape: tuple[int, ...], score: Any) -> jax.Array:
  """The mask of a leaf where its concrete score lies; each device makes its own part."""
  if isinstance(score, jax.Array) and len(score.sharding.device_set) > 1:

    def part(index: tuple[slice, ...] | None) -> np.ndarray:
      index = (slice(None),) * len(shape) if index is None else index
      own = {axis: line[index[axis]] for axis, line in lines.items()}
      return whole(own, tuple(len(range(n)[i]) for n, i in zip(shape, index)), np)

    return jax.make_array_from_callback(shape, score.sharding, part)
  mask = whole(lines, shape, np)
  return placed(mask, score) if isinstance(score, jax.Array) else jnp.asarray(mask)


def nothing_to_follow(shape: tuple[int, ...], others: Iterable[jax.Array]) -> jax.Array:
  """What stands, under a trace, where a member has no scores that its mask could follow."""
  blank = jnp.zeros(shape, bool)
  for mesh in (jax.typeof(other).sharding.mesh for other in others):
    if mesh.explicit_axes:  # types there must be of one mesh
      return jax.sharding.reshard(blank, NamedSharding(mesh, PartitionSpec()))
  return blank
