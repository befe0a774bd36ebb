"""How far outputs are off, from the moments of the inputs alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jprune.graph._moments import Moments
from jprune.reconstruct._hessian import one_by_one


@jax.jit
def exponent(moments: Moments) -> jax.Array:
  """That of the power of two above the largest norm of an input; of no inputs 0."""
  mean = jnp.sqrt(moments.count)[:, None] * jnp.abs(moments.mean)
  return jnp.frexp(jnp.max(jnp.maximum(jnp.sqrt(moments.squares), mean), initial=0.0))[1]


@jax.jit
def energy(matrices: jax.Array, moments: Moments, down: jax.Array) -> jax.Array:
  r"""Sum of squares of :math:`XW` over all rows, products and outputs.

  The part about the mean and that of the mean are added up apart, both of them sums of squares:
  in the Gram matrix itself a large mean would drown the rest.

  Args:
    matrices: ``(batch, inputs, outputs)``, float32.
    moments: of the inputs, with products.
    down: inputs are divided by two to this power, lest their squares overflow.

  Returns:
    A scalar, at least 0.
  """
  dot = lambda a, b: jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)

  def one(w: jax.Array, products: jax.Array, mean: jax.Array, count: jax.Array) -> jax.Array:
    spread = jnp.maximum(jnp.sum(w * dot(products, w), axis=0), 0.0)
    return jnp.sum(spread) + count * jnp.sum(jnp.square(dot(mean, w)))

  products, mean = jnp.ldexp(moments.products, -2 * down), jnp.ldexp(moments.mean, -down)
  each = one_by_one(one, matrices, products, mean, moments.count)
  return jnp.sum(each)
