"""The leaves while they are pruned: whole, or one step of a scan after the other."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from jprune.graph._segments.program import LeafPart


class AtHand:
  """Leaves in memory, with their masks.

  Attributes:
    leaves: by path, as they were given or as they are now; but for those that come in parts.
    masks: by path, of those that were pruned.
  """

  def __init__(self, leaves: dict[str, Any]) -> None:
    self.leaves = leaves
    self.masks: dict[str, jax.Array] = {}
    self._parts: dict[str, _Parts] = {}

  def whole(self, path: str) -> Any:
    """A leaf as it is now."""
    if path in self._parts:
      return self._parts[path].leaf(self.leaves[path])
    return self.leaves[path]

  def part(self, path: str, axis: int, step: int) -> Any:
    """Its part at an index along an axis."""
    done = self._parts.get(path)
    if done is not None and done.axis == axis and step in done.done:
      return done.done[step][0]
    return part_of(
      self.whole(path) if done and done.axis != axis else self.leaves[path], axis, step
    )

  def put(self, path: str, leaf: jax.Array, mask: jax.Array) -> None:
    """Replaces a leaf."""
    self.leaves[path], self.masks[path] = leaf, mask

  def put_part(self, path: str, axis: int, step: int, leaf: jax.Array, mask: jax.Array) -> None:
    """Replaces a part."""
    self._parts.setdefault(path, _Parts(axis)).done[step] = leaf, mask

  def release(self, needed: Iterable[LeafPart]) -> None:
    """Lets go of nothing: all of it is asked for at the end."""

  def drop(self, path: str) -> None:
    """Forgets what was done to a leaf."""
    self._parts.pop(path, None)

  def join(self) -> None:
    """Puts the parts together."""
    for path in list(self._parts):
      parts = self._parts.pop(path)
      leaf = self.leaves[path]
      self.put(path, parts.leaf(leaf), parts.mask(leaf))


class _Parts:
  """Those of a leaf that are done: by step, weights and masks."""

  def __init__(self, axis: int) -> None:
    self.axis = axis
    self.done: dict[int, tuple[jax.Array, jax.Array]] = {}

  def leaf(self, leaf: Any) -> jax.Array:
    """The leaf with them in place."""
    steps = range(leaf.shape[self.axis])
    at = lambda i: self.done[i][0] if i in self.done else part_of(leaf, self.axis, i)
    return _stacked([at(i) for i in steps], self.axis, leaf)

  def mask(self, leaf: Any) -> jax.Array:
    return _stacked([self.done[i][1] for i in range(leaf.shape[self.axis])], self.axis, leaf)


def part_of(leaf: Any, axis: int, step: int) -> jax.Array:
  """A leaf at an index along an axis, split over devices as the leaf is along the others."""
  if not isinstance(leaf, jax.Array):
    return jnp.asarray(leaf[(*(slice(None) for _ in range(axis)), step)])
  sharding = leaf.sharding
  if not isinstance(sharding, NamedSharding):
    return _taken(leaf, step, axis=axis)
  spec = [*sharding.spec, *[None] * (leaf.ndim - len(sharding.spec))]
  rest = PartitionSpec(*spec[:axis], *spec[axis + 1 :])
  if spec[axis] is not None:
    spec[axis] = None
    leaf = jax.device_put(leaf, sharding.update(spec=PartitionSpec(*spec)))
  return _split(axis, sharding.update(spec=rest))(leaf, step)


@functools.partial(jax.jit, static_argnames=['axis'])
def _taken(x: jax.Array, step: int, axis: int) -> jax.Array:
  return lax.dynamic_index_in_dim(x, step, axis, keepdims=False)


@functools.lru_cache(maxsize=256)
def _split(axis: int, sharding: NamedSharding) -> Any:
  return jax.jit(functools.partial(_taken, axis=axis), out_shardings=sharding)


def _stacked(parts: list[jax.Array], axis: int, leaf: Any) -> jax.Array:
  """Parts of a leaf side by side, where the leaf lies."""
  whole = jnp.stack(parts, axis)
  if not isinstance(leaf, jax.Array) or not leaf.committed:
    return whole
  return jax.device_put(whole, leaf.sharding)
