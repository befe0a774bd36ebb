"""The monotone integer image of floats: ``key(x) < key(y)`` exactly where ``x < y``.

-0.0 equals +0.0, denormals keep their order (no float comparison is ever made, so flushing does
not matter), and every NaN shares one key below that of -inf.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


class Layout(NamedTuple):
  """Constants of one float format.

  Attributes:
    signed: name of the int dtype that carries the bits.
    key: name of the uint dtype of the keys (16-bit floats use 32-bit keys).
    rotate: added to the reflected bits, so that the NaNs wrap round to the bottom.
    nan: the key that all NaNs get.
    low: the lowest int of ``signed``.
  """

  signed: str
  key: str
  rotate: int
  nan: int
  low: int


def _layout(bits: int, infinity: int) -> Layout:
  rotate = 2**bits - 1 - infinity
  return Layout(
    f'int{bits}', f'uint{max(bits, 32)}', rotate, rotate - infinity - 1, -(2 ** (bits - 1))
  )


_LAYOUTS = {
  'float16': _layout(16, 0x7C00),
  'bfloat16': _layout(16, 0x7F80),
  'float32': _layout(32, 0x7F800000),
  'float64': _layout(64, 0x7FF0000000000000),
}


def widen(x: Any) -> Any:
  """Floats of 8 bits or fewer as bfloat16, which holds all of their values."""
  return x if x.dtype.name in _LAYOUTS else x.astype(jnp.dtype('bfloat16'))


def layout(x: Any) -> Layout:
  """The constants for an array that :func:`widen` has seen."""
  return _LAYOUTS[x.dtype.name]


def bits(x: jax.Array) -> jax.Array:
  """The bits of floats as signed ints, for :func:`key_of_bits`."""
  return lax.bitcast_convert_type(x, jnp.dtype(layout(x).signed))


def key_of_bits(b: jax.Array, form: Layout) -> jax.Array:
  """Keys from bits; elementwise, so that XLA fuses it into whatever reads it."""
  unsigned = jnp.dtype('u' + form.signed)
  reflected = jnp.where(b < 0, jnp.asarray(form.low, b.dtype) - b, b)
  rotated = lax.bitcast_convert_type(reflected, unsigned) + jnp.asarray(form.rotate, unsigned)
  key = jnp.dtype(form.key)
  return jnp.maximum(rotated.astype(key), jnp.asarray(form.nan, key))


def keys(x: jax.Array) -> jax.Array:
  """Keys of a floating array: uint32 (uint64 for float64), same shape."""
  x = widen(x)
  return key_of_bits(bits(x), layout(x))


def host_keys(x: np.ndarray) -> np.ndarray:
  """As :func:`keys`, on the host."""
  x = widen(np.ascontiguousarray(x))
  form = layout(x)
  b = x.view(form.signed)
  unsigned = np.dtype('u' + form.signed)
  reflected = np.where(b < 0, np.subtract(b.dtype.type(form.low), b), b)
  rotated = reflected.view(unsigned) + unsigned.type(form.rotate)
  return np.maximum(rotated.astype(form.key), np.dtype(form.key).type(form.nan))


def host_ties(x: np.ndarray, key: int) -> np.ndarray:
  """``host_keys(x) == key``, by the bits: one comparison instead of the whole image."""
  x = widen(np.ascontiguousarray(x))
  form = layout(x)
  if key == form.nan:
    return host_keys(x) == key
  b = x.view(form.signed)
  reflected = (int(key) - form.rotate) % (-2 * form.low)
  if reflected == 0:
    return (b == 0) | (b == form.low)  # both zeros
  return b == (reflected if reflected < -form.low else -form.low - reflected)
