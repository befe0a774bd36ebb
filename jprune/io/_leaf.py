"""One leaf and its mask as the tensors of its storage format, and back. NumPy on the host.

============  ====================================================================
format        tensors
============  ====================================================================
``dense``     ``<path>``; with a mask that prunes something, also ``<path>.mask``
``bitmask``   ``<path>.shape``, ``.compressed``, ``.bitmask``, ``.row_offsets``
``index``     ``<path>.shape``, ``.values``, ``.indices``
============  ====================================================================

``bitmask`` is the "sparse-bitmask" layout of compressed-tensors. ``compressed`` and ``values``
hold the kept weights in row-major order; ``bitmask`` and ``mask`` hold a bit for each weight,
little-endian, each row padded to whole bytes; a row is a run along the last axis, and
``row_offsets`` says which of the kept weights is its first; ``indices`` are flat positions.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jprune.masks._pack import PackedMask
from jprune.masks._storage import index_bytes, smallest_storage


class Leaf(NamedTuple):
  """What the file says about a leaf.

  Attributes:
    path: canonical path.
    dtype: name of the dtype, as NumPy and JAX spell it.
    shape: of the leaf.
    format: ``'dense'``, ``'bitmask'`` or ``'index'``.
    kept: how many weights the mask keeps (all of them without a mask).
    mask: ``'bool'``, ``'packed'``, or ``None`` for a leaf without a mask.
  """

  path: str
  dtype: str
  shape: tuple[int, ...]
  format: str
  kept: int
  mask: str | None

  @property
  def size(self) -> int:
    return math.prod(self.shape)


class Tensor(NamedTuple):
  """A tensor of the file: its name, and dtype and shape as NumPy sees it."""

  name: str
  dtype: np.dtype
  shape: tuple[int, ...]

  @property
  def nbytes(self) -> int:
    return math.prod(self.shape) * self.dtype.itemsize


def plan(path: str, leaf: Any, mask: Any) -> Leaf:
  """Which format a leaf gets. Counts the mask, reads no weights."""
  kept = None if mask is None else int(np.count_nonzero(host_mask(mask)))
  return plan_for(path, leaf, mask, kept)


def plan_for(path: str, leaf: Any, mask: Any, kept: int | None) -> Leaf:
  """:func:`plan` of a leaf whose mask is counted already."""
  shape, dtype = tuple(int(n) for n in leaf.shape), np.dtype(leaf.dtype)
  if mask is None or kept is None:
    return Leaf(path, dtype.name, shape, 'dense', math.prod(shape), None)
  kind = 'packed' if isinstance(mask, PackedMask) else 'bool'
  storage = smallest_storage(shape, kept, dtype.itemsize)
  return Leaf(path, dtype.name, shape, storage.format, kept, kind)


def parsed(row: Sequence[Any], dtypes: Container[str]) -> Leaf:
  """A leaf's plan out of the metadata.

  Raises:
    ValueError, TypeError: if no :func:`plan` can have made it.
  """
  path, dtype, shape, *rest = row
  if type(path) is not str or dtype not in dtypes:
    raise ValueError(f'it describes a leaf as {row}')
  check_shape(shape, jnp.dtype(dtype).itemsize)
  leaf = Leaf(path, dtype, tuple(shape), *rest)
  whole = type(leaf.kept) is int and 0 <= leaf.kept <= leaf.size
  without = leaf.mask is None and leaf.kept == leaf.size and leaf.format == 'dense'
  masked = leaf.mask in ('bool', 'packed') and (leaf.format == 'dense' or leaf.size)
  if not (whole and (without or masked)):
    raise ValueError(f'it describes a leaf as {row}')
  return leaf


def check_shape(shape: Sequence[Any], itemsize: int) -> None:
  """Refuses what no array has as its shape: NumPy counts its bytes, zeros left out, in 63 bits.

  Raises:
    ValueError: if it is none.
  """
  most = 2**63 // itemsize
  listed = isinstance(shape, (list, tuple)) and len(shape) <= 64
  counts = listed and all(type(n) is int and 0 <= n < most for n in shape)
  if not counts or math.prod(n for n in shape if n) >= most:
    raise ValueError(f'no array has the shape {shape}')


def tensors(leaf: Leaf) -> list[Tensor]:
  """The tensors of a leaf, in the order in which :func:`encode` gives them."""
  name = leaf.path or 'params'  # a bare array has no path
  dtype = jnp.dtype(leaf.dtype)
  int64, uint8 = np.dtype(np.int64), np.dtype(np.uint8)
  cols = leaf.shape[-1] if leaf.shape else 1
  bits = (*leaf.shape[:-1], -(-cols // 8))
  if leaf.format == 'dense':
    mask = [Tensor(f'{name}.mask', uint8, bits)] if leaf.kept < leaf.size else []
    return [Tensor(name, dtype, leaf.shape), *mask]
  shape = Tensor(f'{name}.shape', int64, (len(leaf.shape),))
  if leaf.format == 'bitmask':
    return [
      shape,
      Tensor(f'{name}.compressed', dtype, (leaf.kept,)),
      Tensor(f'{name}.bitmask', uint8, bits),
      Tensor(f'{name}.row_offsets', int64, (leaf.size // cols,)),
    ]
  if leaf.format == 'index':
    position = np.dtype(np.int32 if index_bytes(leaf.size) == 4 else np.int64)
    return [
      shape,
      Tensor(f'{name}.values', dtype, (leaf.kept,)),
      Tensor(f'{name}.indices', position, (leaf.kept,)),
    ]
  raise ValueError(f'unknown format {leaf.format!r}')


def encode(leaf: Leaf, array: np.ndarray, mask: np.ndarray | None) -> list[np.ndarray]:
  """The contents of :func:`tensors`; weights under ``False`` are not among them."""
  if mask is None or (leaf.kept == leaf.size and leaf.format == 'dense'):
    return [array]
  bits = packed(mask)
  if leaf.format == 'dense':
    zero = np.zeros((), array.dtype)  # selected, not multiplied: no NaN, no -0.0
    return [np.where(mask, array, zero), bits]
  shape, values = np.array(leaf.shape, np.int64), array[mask]
  if leaf.format == 'index':
    return [shape, values, np.flatnonzero(mask).astype(tensors(leaf)[2].dtype)]
  return [shape, values, bits, _row_offsets(mask)]


def decode(leaf: Leaf, arrays: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
  """The inverse of :func:`encode`: the weights, 0.0 where pruned, and the mask.

  Raises:
    ValueError: if the tensors contradict each other.
  """
  if leaf.format == 'dense':
    if leaf.mask is None or leaf.kept == leaf.size:
      return arrays[0], None if leaf.mask is None else np.ones(leaf.shape, bool)
    mask = _unpacked(leaf, arrays[1])
    if np.any(arrays[0][~mask].reshape(-1).view(np.uint8)):
      raise ValueError('it holds weights that its mask prunes')
    return arrays[0], mask
  if tuple(arrays[0].tolist()) != leaf.shape:
    raise ValueError(f'its shape is {leaf.shape} and {tuple(arrays[0].tolist())}')
  if leaf.format == 'bitmask':
    mask = _unpacked(leaf, arrays[2])
    if not np.array_equal(_row_offsets(mask), arrays[3]):
      raise ValueError("its row offsets don't fit its bitmask")
  else:
    mask = _from_positions(leaf, arrays[2])
  values = np.zeros(leaf.shape, arrays[1].dtype)
  values[mask] = arrays[1]
  return values, mask


def packed(mask: np.ndarray) -> np.ndarray:
  """A bit for each weight, each row padded to whole bytes."""
  rows, shape = _rows(mask), mask.shape or (1,)
  bits = np.packbits(rows, axis=-1, bitorder='little')
  return bits.reshape(*shape[:-1], bits.shape[-1])


def _rows(array: np.ndarray) -> np.ndarray:
  """As a matrix: NumPy packs and unpacks at most 32 dimensions."""
  shape = array.shape or (1,)
  return array.reshape(math.prod(shape[:-1]), shape[-1])


def host(leaf: Any) -> np.ndarray:
  """One array on the host, row-major and little-endian; shards are gathered.

  The copy is made through an alias of the shards: NumPy's view of a ``jax.Array`` stays cached
  in that array, so that asking the caller's arrays would leave all of them in host memory.
  """
  if isinstance(leaf, jax.Array):
    shards = [shard.data for shard in leaf.addressable_shards]
    leaf = jax.make_array_from_single_device_arrays(leaf.shape, leaf.sharding, shards)
  array = np.asarray(leaf, order='C')
  return array.astype(array.dtype.newbyteorder('<')) if array.dtype.byteorder == '>' else array


def host_mask(mask: Any) -> np.ndarray:
  """A mask leaf on the host, a bool for each weight."""
  if not isinstance(mask, PackedMask):
    return host(mask)
  return unpacked_rows(host(mask.bits), mask)


def unpacked_rows(bits: np.ndarray, mask: PackedMask) -> np.ndarray:
  """A bool for each weight of a packed mask, whose bits are on the host."""
  count = 1 if mask.length is None else mask.length
  bools = np.unpackbits(_rows(bits), axis=-1, count=count, bitorder='little')
  return bools.reshape(mask.shape).astype(bool)


def _row_offsets(mask: np.ndarray) -> np.ndarray:
  counts = np.count_nonzero(np.atleast_1d(mask), axis=-1).reshape(-1)
  return np.cumsum(counts, dtype=np.int64) - counts


def _unpacked(leaf: Leaf, bits: np.ndarray) -> np.ndarray:
  cols = leaf.shape[-1] if leaf.shape else 1
  mask = np.unpackbits(_rows(bits), axis=-1, count=cols, bitorder='little').reshape(leaf.shape)
  mask = mask.astype(bool)
  if np.count_nonzero(mask) != leaf.kept:
    raise ValueError(f'its mask keeps {np.count_nonzero(mask)} weights, not {leaf.kept}')
  return mask


def _from_positions(leaf: Leaf, positions: np.ndarray) -> np.ndarray:
  if positions.size:
    inside = positions[0] >= 0 and positions[-1] < leaf.size
    if not inside or np.any(positions[1:] <= positions[:-1]):
      raise ValueError(f"its positions don't rise within [0, {leaf.size})")
  mask = np.zeros(leaf.size, bool)
  mask[positions] = True
  return mask.reshape(leaf.shape)
