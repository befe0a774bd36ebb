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

from jprune import _hosts

_BLOCK = 2**26  # elements in one int32 sum: even at 8 set bits each it stays below 2^31
_SET_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1)


class Ones(NamedTuple):
  """What an element counts for: the sum over a NumPy array, and each element's share on device."""

  host: Callable[[np.ndarray], int]
  device: Callable[[jax.Array], jax.Array]


def totals(arrays: Sequence[Any], ones: Sequence[Ones] | None = None) -> list[int]:
  """What the elements of each array count for in all.

  NaN and denormals are nonzero, -0.0 is zero. All device work is started before any is awaited.

  Args:
    arrays: NumPy or concrete JAX arrays of numbers or bools, or scalars.
    ones: for each array :data:`VALUES`, as without them, or :data:`BITS`.

  Returns:
    Python ints. Arrays that span processes are counted over all of them, so every process must
    then make the same call.
  """
  ones = [VALUES] * len(arrays) if ones is None else ones
  found = [_parts(array, each) for array, each in zip(arrays, ones)]
  own = [sum(int(part) for part in leaf) for leaf in jax.device_get(found)]
  spread = [isinstance(a, jax.Array) and not a.is_fully_addressable for a in arrays]
  if not any(spread):
    return own
  together = [sum(counts) for counts in _hosts.from_all(np.array(own, np.int64)).T.tolist()]
  return [of_all if yes else here for of_all, here, yes in zip(together, own, spread)]


def _parts(array: Any, ones: Ones) -> list[Any]:
  """Partial sums of one array: Python ints, and device scalars not yet awaited."""
  parts: list[Any] = []
  for _, part in _hosts.parts(array):
    if not isinstance(part, jax.Array) or _on_host(part):
      parts.append(ones.host(np.asarray(part)))
    else:
      parts += _device_parts(part, ones.device)
  return parts


def _on_host(part: jax.Array) -> bool:
  """Whether NumPy can read what lies on one device in place."""
  (device,) = part.devices()
  return device.platform == 'cpu'


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


VALUES = Ones(lambda x: int(np.count_nonzero(x)), _is_nonzero)
BITS = Ones(_host_bits, lax.population_count)
