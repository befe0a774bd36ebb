"""What the host has to know of masks: how many entries they keep, and in which slices."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jprune import _checks, _hosts, tree
from jprune.graph import _errors
from jprune.tree._along import along_for
from jprune.typing import Masks, Params


@dataclasses.dataclass(frozen=True)
class ReadMask:
  """A mask, where it lies, and what was read of it.

  Attributes:
    array: bools, NumPy's or JAX's, unpacked.
    kept: how many entries stay.
    alive: for each axis, at which indices any entry stays.
  """

  array: Any
  kept: int
  alive: tuple[np.ndarray, ...]

  @property
  def keeps_all(self) -> bool:
    return self.kept == tree.size(self.array)

  def is_of_slices(self, axis: int) -> bool:
    """Whether all that is pruned are slices along one axis, but not all of them."""
    alive = self.alive[axis]
    slices = int(np.count_nonzero(alive))
    return slices > 0 and self.kept * len(alive) == slices * tree.size(self.array)

  def same_as(self, other: ReadMask) -> bool:
    """Whether it keeps the same entries."""
    if self.kept != other.kept or not all(map(np.array_equal, self.alive, other.alive)):
      return False
    if self.array is other.array:
      return True
    if not _hosts.spans(self.array, other.array):
      return np.array_equal(self.array, other.array)
    there = jax.device_put(other.array, self.array.sharding)
    return bool((self.array == there).all())


def read_masks(function: str, params: Params, masks: Masks) -> list[ReadMask | None]:
  """The masks in the order of the params' leaves, read shard by shard where they lie."""
  paths, leaves, treedef = tree.flatten(params)
  if masks is None and not jax.tree_util.treedef_is_leaf(treedef):
    raise _errors.no_masks(function)
  found: list[Any] = []
  for path, leaf, mask in zip(paths, leaves, along_for(function, 'masks', params, masks)):
    if hasattr(mask, 'unpack'):
      mask = mask.unpack()
    if mask is not None:
      _checks.check_bool(function, 'masks', path, mask)
      _checks.check_shape(function, 'masks', path, mask, np.shape(leaf))
      if tree.is_traced(mask) or isinstance(mask, jax.ShapeDtypeStruct):
        raise _errors.mask_without_values(function, path, mask)
    found.append(mask)
  facts = iter(read([mask for mask in found if mask is not None]))
  return [None if mask is None else next(facts) for mask in found]


def read(masks: Sequence[Any]) -> list[ReadMask]:
  """What all processes together can say of masks at hand."""
  own = [_read_here(mask) for mask in masks]
  apart = [i for i, mask in enumerate(masks) if not getattr(mask, 'is_fully_addressable', True)]
  if apart:
    counts = _hosts.from_all(np.array([own[i].kept for i in apart], np.int64)).sum(axis=0)
    lines = np.concatenate([line for i in apart for line in own[i].alive])
    ends = np.cumsum([len(line) for i in apart for line in own[i].alive])[:-1]
    split = iter(np.split(_hosts.from_all(lines).any(axis=0), ends))
    for i, kept in zip(apart, counts.tolist()):
      own[i] = ReadMask(masks[i], kept, tuple(next(split) for _ in own[i].alive))
  return own


def _read_here(mask: Any) -> ReadMask:
  """What this process can say of a mask."""
  kept, alive = 0, tuple(np.zeros(n, bool) for n in np.shape(mask))
  for index, part in _hosts.parts(mask):
    held = np.asarray(part)
    kept += int(np.count_nonzero(held))
    for axis, line in enumerate(alive):
      line[index[axis]] |= held.any(axis=tuple(i for i in range(held.ndim) if i != axis))
  return ReadMask(mask, kept, alive)
