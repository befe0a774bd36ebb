"""Leaves of a checkpoint while they are pruned: read as they are needed, written once done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jprune import tree
from jprune.graph._segments.program import LeafPart, overlap
from jprune.io import Checkpoint, LazyArray
from jprune.io._leaf import packed
from jprune.io._writer import Writer
from jprune.masks import PackedMask
from jprune.reconstruct._at_hand import part_of
from jprune.typing import Params

_AT_ONCE = 1 << 26  # bytes, above which a leaf is copied step by step


class InFiles:
  """Leaves that are read from one checkpoint and written to another.

  What was read or solved stays in memory until it is released.

  Attributes:
    leaves: their types by path.
    masks: packed, on the host, by path, of those that were pruned.
  """

  def __init__(self, checkpoint: Checkpoint, out: Writer) -> None:
    paths, leaves, _ = tree.flatten(checkpoint.params)
    lazy: dict[str, LazyArray] = dict(zip(paths, leaves))
    self.leaves: dict[str, Any] = {path: _type(leaf) for path, leaf in lazy.items()}
    self.masks: dict[str, PackedMask] = {}
    self._lazy, self._out = lazy, out
    self._place = {path: place for place, path in enumerate(lazy)}
    self._read: dict[LeafPart, jax.Array] = {}
    self._new: dict[LeafPart, jax.Array] = {}
    self._parts: dict[str, tuple[int, dict[int, np.ndarray]]] = {}

  def whole(self, path: str) -> jax.Array:
    """A leaf as it is now."""
    leaf = LeafPart(self._place[path])
    if leaf in self._new:
      return self._new[leaf]
    if leaf not in self._read:
      values = self._lazy[path].read()
      for new, part in self._new.items():
        if new.place == leaf.place:
          values[_index(new)] = np.asarray(part)
      self._read[leaf] = jnp.asarray(values)
    return self._read[leaf]

  def part(self, path: str, axis: int, step: int) -> jax.Array:
    """Its part at an index along an axis."""
    leaf = LeafPart(self._place[path], axis, step)
    if leaf in self._new:
      return self._new[leaf]
    if leaf not in self._read:
      solved = any(overlap(leaf, new) for new in self._new)
      read = lambda: jnp.asarray(self._lazy[path].read(_index(leaf)))
      self._read[leaf] = part_of(self.whole(path), axis, step) if solved else read()
    return self._read[leaf]

  def put(self, path: str, leaf: jax.Array, mask: jax.Array) -> None:
    """Replaces a leaf."""
    self._solved(LeafPart(self._place[path]), leaf)
    self.masks[path] = PackedMask(_bits(mask), mask.shape[-1])
    self._out.put(path, self._stored(path, leaf))

  def put_part(self, path: str, axis: int, step: int, leaf: jax.Array, mask: jax.Array) -> None:
    """Replaces a part."""
    self._solved(LeafPart(self._place[path], axis, step), leaf)
    along_rows = axis == mask.ndim  # where bits of one byte are of several steps
    parts = self._parts.setdefault(path, (axis, {}))[1]
    parts[step] = np.asarray(mask) if along_rows else _bits(mask)
    self._out.put_step(path, step, self._stored(path, leaf), axis=axis)

  def _solved(self, leaf: LeafPart, values: jax.Array) -> None:
    """Keeps what was solved, and lets go of what was read of it before."""
    self._new[leaf] = values
    self._read = {each: x for each, x in self._read.items() if not overlap(each, leaf)}

  def drop(self, path: str) -> None:
    """Forgets what was done to a leaf, which is then written anew."""
    self._parts.pop(path, None)
    self._new = {leaf: x for leaf, x in self._new.items() if leaf.place != self._place[path]}

  def release(self, needed: Iterable[LeafPart]) -> None:
    """Lets go of what was read, which can be read again, and of what was solved unless needed."""
    needed = set(needed)
    self._read.clear()
    kept = lambda leaf: any(overlap(leaf, each) for each in needed)
    self._new = {leaf: x for leaf, x in self._new.items() if kept(leaf)}

  def join(self) -> None:
    """Copies what was not pruned, and puts masks together."""
    self.release(())
    for path, (axis, parts) in self._parts.items():
      bits: Any = np.stack([parts[i] for i in range(len(parts))], axis)
      shape = self._lazy[path].shape
      bits = _bits(bits) if axis == len(shape) - 1 else bits
      self.masks[path] = PackedMask(bits, shape[-1])
    self._parts.clear()
    for path, lazy in self._lazy.items():
      if path not in self.masks:
        self._copy(path, lazy)

  def _copy(self, path: str, lazy: LazyArray) -> None:
    if lazy.ndim < 2 or lazy.nbytes <= _AT_ONCE:
      self._out.put(path, lazy.read())
      return
    for step in range(lazy.shape[0]):
      self._out.put_step(path, step, lazy.read(step))

  def _stored(self, path: str, leaf: jax.Array) -> np.ndarray:
    return np.asarray(leaf).astype(self._lazy[path].dtype, copy=False)


def in_memory_types(checkpoint: Checkpoint) -> Params:
  """Shapes of the leaves, with the dtypes that they have as arrays of JAX."""
  return jax.tree.map(_type, checkpoint.params)


def _type(leaf: LazyArray) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(leaf.shape, jax.dtypes.canonicalize_dtype(leaf.dtype))


def _index(leaf: LeafPart) -> Any:
  """Where a part is in its leaf."""
  return (*(slice(None) for _ in range(leaf.axis or 0)), leaf.step)


def _bits(mask: Any) -> Any:
  return packed(np.asarray(mask))
