"""Exact counts of nonzero values, at any size, with as little traffic as the array allows.

An array is counted shard by shard where the shards lie: on the host by NumPy (a CPU array is
read in place), elsewhere by a kernel whose int32 partial sums are small enough never to
overflow. The partial sums meet as Python ints.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jprune._entry import explicit
from jprune.masks import PackedMask

_BLOCK = 2**26  # elements in one int32 sum: even at 8 set bits each it stays below 2^31
_SET_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1)


class _Ones(NamedTuple):
  """What an element counts for: the sum over a NumPy array, and each element's share on device."""

  host: Callable[[np.ndarray], int]
  device: Callable[[jax.Array], jax.Array]


@explicit
def nonzeros(leaves: Sequence[Any]) -> list[int]:
  """How many values of each leaf aren't zero; the kept weights, if the leaf is a mask.

  NaN and denormals are nonzero, -0.0 is zero. All device work is started before any is awaited.

  Args:
    leaves: NumPy or concrete JAX arrays of numbers or bools, scalars, or
      :class:`jprune.masks.PackedMask`.

  Returns:
    Python ints. Arrays that span processes are counted over all of them, so every process must
    then make the same call.
  """
  packed = [isinstance(leaf, PackedMask) for leaf in leaves]
  ones = [_BITS if yes else _VALUES for yes in packed]
  arrays = [leaf.bits if yes else leaf for leaf, yes in zip(leaves, packed)]
  padding = [_padding(leaf) for leaf, yes in zip(leaves, packed) if yes]
  totals = _totals(arrays + padding, ones + [_BITS] * len(padding))
  excess = iter(totals[len(arrays) :])
  return [total - next(excess) if yes else total for total, yes in zip(totals, packed)]


def _padding(mask: PackedMask) -> Any:
  """The bits past the end of each row, which are no weights (zero, if :func:`pack` made them)."""
  used = (1 if mask.length is None else mask.length) % 8
  if not used or not mask.bits.size:
    return np.zeros((), np.uint8)
  return mask.bits[..., -1] >> np.uint8(used)


def _totals(arrays: Sequence[Any], ones: Sequence[_Ones]) -> list[int]:
  parts = [_parts(array, each) for array, each in zip(arrays, ones)]
  totals = [sum(int(part) for part in leaf) for leaf in jax.device_get(parts)]
  spread = [isinstance(a, jax.Array) and not a.is_fully_addressable for a in arrays]
  if not any(spread):
    return totals
  everywhere = _over_processes(totals)
  return [whole if yes else own for whole, own, yes in zip(everywhere, totals, spread)]


def _parts(array: Any, ones: _Ones) -> list[Any]:
  """Partial sums of one array: Python ints, and device scalars not yet awaited."""
  if not isinstance(array, jax.Array):
    return [ones.host(np.asarray(array))]
  parts: list[Any] = []
  for shard in array.addressable_shards:
    if shard.replica_id != 0:
      continue  # the same values lie elsewhere too
    if _on_host(shard):
      parts.append(ones.host(np.asarray(shard.data)))
    else:
      parts += _device_parts(shard.data, ones.device)
  return parts


def _on_host(shard: jax.Shard) -> bool:
  """Whether NumPy can read a shard in place."""
  return shard.device.platform == 'cpu'


def _device_parts(x: jax.Array, ones: Callable[[jax.Array], jax.Array]) -> list[jax.Array]:
  """One sum for each block of at most ``_BLOCK`` elements (a block is all that is ever copied).

  The slices are static: a start beyond 2^31 doesn't fit into the int32 index of a dynamic one.
  """
  if x.size <= _BLOCK:
    return [_block_sum(x, ones)]
  axis = int(np.argmax(x.shape))
  length = x.shape[axis]
  step = max(1, _BLOCK // (x.size // length))
  parts = []
  for start in range(0, length, step):
    block = lax.slice_in_dim(x, start, min(start + step, length), axis=axis)
    parts += _device_parts(block, ones)
  return parts


@functools.partial(jax.jit, static_argnames='ones')
def _block_sum(x: jax.Array, ones: Callable[[jax.Array], jax.Array]) -> jax.Array:
  return jnp.sum(ones(x), dtype=jnp.int32)


def _over_processes(counts: Sequence[int]) -> list[int]:
  from jax.experimental import multihost_utils

  # Two words each, because with x64 off a gathered int64 would be cut to int32.
  words = np.array([divmod(count, 2**32) for count in counts], np.uint32)
  gathered = np.asarray(multihost_utils.process_allgather(words, tiled=False))
  high, low = np.moveaxis(gathered.reshape(-1, *words.shape).astype(np.uint64).sum(0), -1, 0)
  return [int(upper) * 2**32 + int(lower) for upper, lower in zip(high, low)]


def _is_nonzero(x: jax.Array) -> jax.Array:
  """``x != 0``, but by bits for floats: XLA compares denormals as zeros on some devices."""
  if jnp.issubdtype(x.dtype, jnp.complexfloating):
    return _is_nonzero(x.real) | _is_nonzero(x.imag)
  if not jnp.issubdtype(x.dtype, jnp.floating):
    return x.astype(bool)
  width = jnp.finfo(x.dtype).bits
  bits = lax.bitcast_convert_type(x, f'uint{width}')
  nonzero = jnp.ones(x.shape, bool)
  for zero in _zero_bits(np.dtype(x.dtype), width):
    nonzero &= bits != jnp.array(zero, bits.dtype)
  return nonzero


def _zero_bits(dtype: np.dtype, width: int) -> list[int]:
  """The bit patterns of zero; some 8-bit floats have no -0.0, one has no zero at all."""
  patterns = np.array([0, 1 << (width - 1)], f'uint{8 * dtype.itemsize}')
  return [int(bits) for bits, value in zip(patterns, patterns.view(dtype)) if float(value) == 0.0]


def _host_bits(bits: np.ndarray) -> int:
  # In chunks, since bincount widens what it is given to eight bytes an element.
  chunks = np.nditer(
    bits, flags=['external_loop', 'buffered', 'zerosize_ok'], order='K', buffersize=2**20
  )
  return sum(int(np.bincount(chunk, minlength=256) @ _SET_BITS) for chunk in chunks)


_VALUES = _Ones(lambda x: int(np.count_nonzero(x)), _is_nonzero)
_BITS = _Ones(_host_bits, lax.population_count)
