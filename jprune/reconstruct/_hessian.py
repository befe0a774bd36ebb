"""Gram matrices made definite: dead inputs, damping, and what is added until they factorise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import solve_triangular

from jprune import _powers
from jprune.graph._statistics.moments import Moments

_TRIES = 12
_FIRST = 1e-6  # what is tried after no damping at all
_NOISE = 4 * float(jnp.finfo(jnp.float32).eps)


def one_by_one(function: Callable[..., Any], *trees: Any) -> Any:
  """Maps over the first axis, holding the intermediates of one item at a time."""
  if jax.tree.leaves(trees)[0].shape[0] == 1:
    first = jax.tree.map(lambda x: x[0], trees)
    return jax.tree.map(lambda x: x[None], function(*first))
  return lax.map(lambda xs: function(*xs), trees)


@jax.jit
def of_size_one(moments: Moments) -> jax.Array:
  """Gram matrices, each divided by a power of two, such that no diagonal exceeds 1."""
  gram = moments.levelled()[0].gram
  power = _powers.exponent(jnp.diagonal(gram, axis1=-2, axis2=-1), axis=-1)
  return _powers.times(gram, -power[:, None, None])


def settled(gram: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
  """A Gram matrix whose dead inputs stand for themselves.

  Args:
    gram: ``(inputs, inputs)``.

  Returns:
    The matrix with the mean of the diagonal's positive entries in place of its zeros; which inputs
    are alive, ``(inputs,)``; and that mean, 1 if all are dead.
  """
  diagonal = jnp.diagonal(gram)
  live = diagonal > 0
  total = jnp.sum(jnp.where(live, diagonal, 0.0))
  mean = jnp.where(total > 0, total / jnp.maximum(jnp.sum(live), 1).astype(jnp.float32), 1.0)
  both = live[:, None] & live[None, :]
  dead = jnp.diag(jnp.where(live, 0.0, mean))
  return jnp.where(both, gram, dead), live, mean


def factorised(gram: jax.Array, mean: jax.Array, damping: Any) -> tuple[jax.Array, jax.Array]:
  """The lower Cholesky factor of ``gram + damping * mean * I``, and the damping it took.

  A try fails if the factor isn't finite, or if a pivot is no more than the rounding error of the
  entry that it is the rest of; then the damping grows tenfold.
  """
  scale = mean * jnp.eye(gram.shape[0], dtype=jnp.float32)
  # LAPACK's factor: NaN everywhere if it breaks down
  factor = lambda damping: jnp.linalg.cholesky(gram + damping * scale, symmetrize_input=False)

  def failed(lower: jax.Array, damping: jax.Array) -> jax.Array:
    pivots = jnp.square(jnp.diagonal(lower))
    noise = _NOISE * (jnp.diagonal(gram) + damping * mean)
    return ~(jnp.all(jnp.isfinite(lower)) & jnp.all(pivots > noise))

  def again(state: tuple[Any, ...]) -> tuple[Any, ...]:
    _, damping, tries = state
    damping = jnp.where(damping == 0, _FIRST, 10 * damping)
    return factor(damping), damping, tries + 1

  damping = jnp.asarray(damping, jnp.float32)
  more = lambda state: failed(*state[:2]) & (state[2] < _TRIES)
  lower, damping, _ = lax.while_loop(more, again, (factor(damping), damping, 0))
  return lower, damping


def root_of_inverse(gram: jax.Array, mean: jax.Array, damping: Any) -> tuple[jax.Array, jax.Array]:
  r"""Upper triangular :math:`U` with :math:`U^\top U = H^{-1}`, and the damping that it took.

  With :math:`P` reversing the order and :math:`PHP = LL^\top` it is :math:`PL^{-1}P`: one
  factorisation, and the inverse itself is never formed.
  """
  lower, used = factorised(gram[::-1, ::-1], mean, damping)
  identity = jnp.eye(gram.shape[0], dtype=jnp.float32)
  return solve_triangular(lower, identity, lower=True)[::-1, ::-1], used
