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
  """That of the power of two next above the largest finite size along axes; of nothing 0."""
  size = jnp.max(jnp.where(jnp.isfinite(x), jnp.abs(x), 0), axis=axis, initial=0)
  return jnp.where(size > 0, jnp.frexp(size)[1], 0)


def times(x: jax.Array, power: Any) -> jax.Array:
  """``x * 2 ** power``, exact as long as the result is a normal number.

  Args:
    x: floating, of any shape.
    power: int32, a number or of as many dimensions as ``x``.
  """
  half = lax.shift_right_arithmetic(power, jnp.int32(1))
  return x * _two_to(half, x.dtype) * _two_to(power - half, x.dtype)


def _two_to(power: jax.Array, dtype: Any) -> jax.Array:
  """By its bits, as no function that computes powers promises exact ones."""
  info = jnp.finfo(dtype)
  biased = jnp.clip(power, int(info.minexp), int(info.maxexp) - 1) + (int(info.maxexp) - 1)
  bits = biased.astype(_BITS[info.bits])
  return lax.bitcast_convert_type(lax.shift_left(bits, jnp.full_like(bits, info.nmant)), dtype)
