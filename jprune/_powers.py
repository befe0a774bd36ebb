"""Scaling by powers of two, which is exact, to keep squares within what float32 can hold."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

_BITS = {16: jnp.int16, 32: jnp.int32, 64: jnp.int64}


def wide(x: Any) -> jax.Array:
  """As float64 if it is, else as float32."""
  x = jnp.asarray(x)
  return x if x.dtype == jnp.float64 else x.astype(jnp.float32)


def exponent(x: jax.Array, axis: int | tuple[int, ...] | None = None) -> jax.Array:
  """That of the power of two next above the largest size along axes; 0 if it is 0, inf or NaN."""
  return of(jnp.max(jnp.abs(x), axis=axis, initial=0))


def of(size: jax.Array) -> jax.Array:
  """The same of each of some numbers of at least 0, by its bits, which takes less than frexp."""
  info = jnp.finfo(size.dtype)
  bits = lax.bitcast_convert_type(size, _BITS[info.bits])
  biased = lax.shift_right_logical(bits, jnp.full_like(bits, info.nmant)).astype(jnp.int32)
  low, high = 0, 2 * int(info.maxexp) - 1  # of zeros and subnormal numbers; of inf and NaN
  return jnp.where((biased == low) | (biased == high), 0, biased - (int(info.maxexp) - 2))


def times(x: jax.Array, power: Any) -> jax.Array:
  """``x * 2 ** power``, exact as long as the result is a normal number.

  Args:
    x: floating, of any shape.
    power: int32, a number or of as many dimensions as ``x``.
  """
  half = lax.shift_right_arithmetic(power, jnp.int32(1))
  return x * two_to(half, x.dtype) * two_to(power - half, x.dtype)


def times_pairs(x: jax.Array, power: jax.Array) -> jax.Array:
  """``(..., n, n)`` by two to the sum of the powers, ``(..., n)``, of row and column."""
  half = lax.shift_right_arithmetic(power, jnp.int32(1))
  for part in (half, power - half):
    by = two_to(part, x.dtype)
    x = x * by[..., :, None] * by[..., None, :]
  return x


def two_to(power: jax.Array, dtype: Any) -> jax.Array:
  """``2 ** power``, the nearest that is a normal number.

  By its bits, as no function that computes powers promises exact ones.
  """
  info = jnp.finfo(dtype)
  biased = jnp.clip(power, int(info.minexp), int(info.maxexp) - 1) + (int(info.maxexp) - 1)
  bits = biased.astype(_BITS[info.bits])
  return lax.bitcast_convert_type(lax.shift_left(bits, jnp.full_like(bits, info.nmant)), dtype)
