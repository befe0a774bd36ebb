"""The monotone integer image of floats: ``key(x) < key(y)`` exactly where ``x < y``.

-0.0 equals +0.0, denormals keep their order (no float comparison is ever made, so flushing does
not matter), and every NaN shares one key below that of -inf.

What ranks below all scores (weights that were pruned before, padding) or above them (what has to
stay) is marked in the bits of the floats, as signed ints: a NaN among floats would be an error
under ``jax_debug_nans``. Wherever floats are taken here, such marked bits are too.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


class KeyLayout(NamedTuple):
  """Constants of one float format.

  Attributes:
    signed: name of the int dtype that carries the bits.
    key: name of the uint dtype of the keys.
    rotate: added to the reflected bits, so that the NaNs wrap round to the bottom.
    nan: the key that all NaNs get.
    low: the lowest int of ``signed``.
  """

  signed: str
  key: str
  rotate: int
  nan: int
  low: int


def _layout(bits: int, highest: int) -> KeyLayout:
  """``highest`` are the bits that get the highest key; infinity's among floats."""
  rotate = 2**bits - 1 - highest
  return KeyLayout(f'int{bits}', f'uint{bits}', rotate, rotate - highest - 1, -(2 ** (bits - 1)))


_LAYOUTS = {
  'float16': _layout(16, 0x7C00),
  'bfloat16': _layout(16, 0x7F80),
  'float32': _layout(32, 0x7F800000),
  'float64': _layout(64, 0x7FF0000000000000),
}
# marked bits: in either 16-bit format infinity lies at or below bfloat16's, and the marks above
# it; right above is what ranks before all scores
_LAYOUTS |= {
  'int16': _layout(16, 0x7F81),
  'int32': _layout(32, 0x7F800001),
  'int64': _layout(64, 0x7FF0000000000001),
}


def widen(x: Any) -> Any:
  """Floats of 8 bits or fewer as bfloat16, which holds all of their values."""
  return x if x.dtype.name in _LAYOUTS else x.astype(widened(x.dtype))


def widened(dtype: Any) -> jnp.dtype:
  """The dtype of what :func:`widen` makes of floats."""
  return jnp.dtype(dtype if jnp.dtype(dtype).name in _LAYOUTS else 'bfloat16')


def layout(x: Any) -> KeyLayout:
  """The constants for an array that :func:`widen` has seen."""
  return _LAYOUTS[x.dtype.name]


def bits(x: jax.Array) -> jax.Array:
  """The bits of floats as signed ints, for :func:`key_of_bits`."""
  if are_bits(x):
    return x
  return lax.bitcast_convert_type(x, jnp.dtype(layout(x).signed))


def are_bits(x: jax.Array) -> bool:
  """Whether these are marked bits, not floats."""
  return jnp.issubdtype(x.dtype, jnp.signedinteger)


def mark(dtype: Any) -> int:
  """The bits, of that int dtype, of what ranks with NaN."""
  return int(jnp.iinfo(dtype).max)


def is_marked(b: jax.Array) -> jax.Array:
  """Where marked bits rank below all scores."""
  return b == mark(b.dtype)


@jax.jit
def marked(x: jax.Array, known: jax.Array | None = None) -> jax.Array:
  """The bits of floats, marked where they are not known, and where they are NaN."""
  x = widen(x)
  if are_bits(x):
    return x
  known = ~jnp.isnan(x) if known is None else known & ~jnp.isnan(x)
  found = bits(x)
  return jnp.where(known, found, jnp.asarray(mark(found.dtype), found.dtype))


@jax.jit
def raised(x: jax.Array, kept: jax.Array) -> jax.Array:
  """The marked bits of floats, or of marked bits, with ``kept`` above all scores."""
  b = marked(x)
  form = _LAYOUTS[b.dtype.name]
  return jnp.where(kept, jnp.asarray(-2 * form.low - 1 - form.rotate, b.dtype), b)


@functools.partial(jax.jit, static_argnames='dtype')
def unmarked(b: jax.Array, dtype: Any) -> tuple[jax.Array, jax.Array]:
  """The floats of marked bits, 0 where they are marked; and where they are not."""
  known = ~is_marked(b)
  return lax.bitcast_convert_type(jnp.where(known, b, jnp.zeros_like(b)), dtype), known


def key_of_bits(b: jax.Array, form: KeyLayout) -> jax.Array:
  """Keys from bits; elementwise, so that XLA fuses it into whatever reads it."""
  key = jnp.dtype(form.key)
  reflected = jnp.where(b < 0, jnp.asarray(form.low, b.dtype) - b, b)
  rotated = lax.bitcast_convert_type(reflected, key) + jnp.asarray(form.rotate, key)
  return jnp.maximum(rotated, jnp.asarray(form.nan, key))


def keys(x: jax.Array) -> jax.Array:
  """Keys of a floating array: unsigned ints of as many bits (16 for floats of 8), same shape."""
  x = widen(x)
  return key_of_bits(bits(x), layout(x))


def host_keys(x: np.ndarray) -> np.ndarray:
  """As :func:`keys`, on the host."""
  x = widen(np.ascontiguousarray(x))
  form = layout(x)
  b = x.view(form.signed)
  key = np.dtype(form.key)
  reflected = np.where(b < 0, np.subtract(b.dtype.type(form.low), b), b)
  return np.maximum(reflected.view(key) + key.type(form.rotate), key.type(form.nan))


def host_between(x: np.ndarray, low: int, high: int) -> np.ndarray:
  """Where the keys of an array are from ``low`` to ``high``; of positive numbers by their bits."""
  x = widen(np.ascontiguousarray(x))
  form = layout(x)
  key = np.dtype(form.key)
  first, last = ((end - form.rotate) % (-2 * form.low) for end in (low, high))
  if 0 < first <= last < -form.low and low > form.nan:  # of positive numbers only
    return (x.view(key) - key.type(first)) <= key.type(last - first)
  keys = host_keys(x)
  return (keys >= key.type(low)) & (keys <= key.type(high))
