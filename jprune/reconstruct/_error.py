"""How far outputs are off, from the moments of the inputs alone."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from jprune import _powers
from jprune.graph._capture.moments import Moments, exponents
from jprune.graph._capture.stats import Use
from jprune.reconstruct._hessian import one_by_one

_NOTHING = -(2**20)


@functools.partial(jax.jit, static_argnames=['use'])
def exponent(leaf: jax.Array, moments: Moments, use: Use) -> jax.Array:
  """That of a power of two above most terms of the outputs; very low if there are none."""
  matrices = _powers.wide(use.matrices(leaf))
  live = (moments.mean != 0) | (moments.squares != 0)
  there = (matrices != 0) & live[:, :, None]
  each = jnp.frexp(matrices)[1] + exponents(moments)[:, :, None]
  return jnp.max(jnp.where(there, each, _NOTHING), initial=_NOTHING)


@functools.partial(jax.jit, static_argnames=['use'])
def energy(
  leaf: jax.Array, less: jax.Array | None, moments: Moments, down: jax.Array, use: Use
) -> jax.Array:
  r"""Sum of squares of :math:`XW` over all rows, products and outputs.

  The part about the mean and that of the mean are added up apart, both of them sums of squares:
  in the Gram matrix itself a large mean would drown the rest.

  Args:
    leaf: the weights.
    less: of the same shape, what is subtracted from them.
    moments: of the inputs, with products.
    down: outputs are divided by two to this power, lest their squares leave float32.
    use: how the leaf is used.

  Returns:
    A scalar, at least 0.
  """
  dot = lambda a, b: jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)

  def one(w: jax.Array, products: jax.Array, mean: jax.Array, count: jax.Array) -> jax.Array:
    spread = jnp.maximum(jnp.sum(w * dot(products, w), axis=0), 0.0)
    return jnp.sum(spread) + count * jnp.sum(jnp.square(dot(mean, w)))

  leaf = _powers.wide(leaf)
  w = use.matrices(leaf if less is None else leaf - _powers.wide(less))
  w = _powers.times(w, exponents(moments)[:, :, None] - down).astype(jnp.float32)
  return jnp.sum(one_by_one(one, w, moments.products, moments.mean, moments.count))
