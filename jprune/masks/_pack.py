"""Masks at one bit a weight.

Bits run along the last axis, little-endian, each row padded to whole bytes: the layout of the
compressed-tensors bitmask, and one that keeps the sharding of all leading axes.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from jprune import _checks, tree
from jprune._entry import explicit
from jprune.typing import Masks


@functools.partial(jax.tree_util.register_dataclass, data_fields=['bits'], meta_fields=['length'])
@dataclasses.dataclass(frozen=True)
class PackedMask:
  """One packed mask leaf.

  Attributes:
    bits: uint8, shape ``(*leading, ceil(length / 8))``; bit ``i % 8`` of byte ``i // 8`` is
      weight ``i`` of its row.
    length: size of the mask's last axis; ``None`` for a scalar mask, whose ``bits`` has shape
      ``(1,)``.

  Examples:
    >>> packed = pack({'w': jnp.array([True, False, True])})['w']
    >>> packed.bits, packed.shape
    (Array([5], dtype=uint8), (3,))
  """

  bits: jax.Array
  length: int | None

  @property
  def shape(self) -> tuple[int, ...]:
    """Shape of the mask, a bool for each weight."""
    return () if self.length is None else (*self.bits.shape[:-1], self.length)

  @explicit
  def unpack(self) -> jax.Array:
    """The mask as bools.

    Examples:
      >>> pack({'w': jnp.array([True, False])})['w'].unpack()
      Array([ True, False], dtype=bool)
    """
    return unpack_leaf(self)


@explicit
def pack(masks: Masks) -> Masks:
  """Packs bool masks at one bit a weight; pure, usable inside ``jit``.

  Args:
    masks: tree of bool arrays; ``None`` leaves stay ``None``, packed leaves stay packed.

  Returns:
    The tree with :class:`PackedMask` leaves, an eighth of the memory.

  Raises:
    TypeError: if a leaf is not of dtype bool.

  Examples:
    >>> masks = {'w': jnp.array([[True, False, True]])}
    >>> unpack(pack(masks))['w']
    Array([[ True, False,  True]], dtype=bool)
  """
  return _map(pack_leaf, masks)


@explicit
def unpack(masks: Masks) -> Masks:
  """The inverse of :func:`pack`; bool leaves stay as they are.

  Args:
    masks: tree of :class:`PackedMask`, bool or ``None`` leaves.

  Returns:
    The tree with bool leaves.

  Examples:
    >>> unpack(pack({'w': jnp.array([True]), 'b': None}))
    {'b': None, 'w': Array([ True], dtype=bool)}
  """
  return _map(unpack_leaf, masks)


def pack_leaf(mask: Any, path: str = '') -> PackedMask:
  if isinstance(mask, PackedMask):
    return mask
  _checks.check_bool('pack', 'masks', path, mask)
  row = jnp.atleast_1d(mask)
  return PackedMask(
    jnp.packbits(row, axis=-1, bitorder='little'), None if mask.ndim == 0 else mask.shape[-1]
  )


def unpack_leaf(mask: Any, path: str = '', function: str = 'unpack') -> jax.Array:
  if not isinstance(mask, PackedMask):
    _checks.check_bool(function, 'masks', path, mask)
    return mask
  if mask.bits.size == 0:
    return jnp.zeros(mask.shape, bool)
  count = 1 if mask.length is None else mask.length
  row = jnp.unpackbits(mask.bits, axis=-1, count=count, bitorder='little').astype(bool)
  return row.reshape(mask.shape)


def _map(function: Any, masks: Masks) -> Masks:
  is_leaf = lambda leaf: isinstance(leaf, PackedMask)
  at = lambda path, leaf: function(leaf, tree.path_string(path))
  return jax.tree_util.tree_map_with_path(at, masks, is_leaf=is_leaf)
