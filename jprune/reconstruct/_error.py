"""How far outputs are off, from the moments of the inputs alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jprune import _powers
from jprune.graph._statistics.moments import Moments, exponents
from jprune.reconstruct._hessian import one_by_one

_NOTHING = -(2**20)


def exponent(matrices: jax.Array, moments: Moments) -> jax.Array:
  """Of powers of two above most terms of the outputs, ``(batch,)``; very low if there are none."""
  live = (moments.mean != 0) | (moments.squares != 0)
  there = (matrices != 0) & live[:, :, None]
  each = jnp.frexp(matrices)[1] + exponents(moments)[:, :, None]
  return jnp.max(jnp.where(there, each, _NOTHING), axis=(1, 2), initial=_NOTHING)


def energy(matrices: jax.Array, moments: Moments, down: jax.Array) -> jax.Array:
  r"""Sums of squares of :math:`XW` over all rows and outputs, ``(batch,)``, at least 0.

  The part about the mean and that of the mean are added up apart, both of them sums of squares:
  in the Gram matrix itself a large mean would drown the rest.

  Args:
    matrices: ``(batch, inputs, outputs)``.
    moments: of the inputs, with products.
    down: ``(batch,)``; outputs are divided by two to this power, lest their squares leave float32.
  """
  dot = lambda a, b: jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)

  def one(w: jax.Array, products: jax.Array, mean: jax.Array, count: jax.Array) -> jax.Array:
    spread = jnp.maximum(jnp.sum(w * dot(products, w), axis=0), 0.0)
    return jnp.sum(spread) + count * jnp.sum(jnp.square(dot(mean, w)))

  power = exponents(moments)[:, :, None] - down[:, None, None]
  w = _powers.times(matrices, power).astype(jnp.float32)
  return one_by_one(one, w, moments.products, moments.mean, moments.count)
