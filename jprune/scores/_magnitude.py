"""The size of a weight as its importance."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from jprune import _checks
from jprune._entry import public
from jprune.scores._common import score_leaves, single_size
from jprune.typing import Params, Scores


@public
def magnitude(params: Params, p: float = 1) -> Scores:
  r"""How large each weight is; of complex numbers, their absolute value.

  .. math:: s_i = |\theta_i|^p

  The power changes nothing about the order within a model; it does where scores are summed, over
  the weights of a block or a channel. It is taken in float32, so prefer ``p=1`` where weights
  below 1e-19 or above 1e19 have to be told apart.

  Args:
    params: tree of arrays.
    p: the power, a positive number: 1 for L1, 2 for L2.

  Returns:
    Scores, float32, structure and shapes of ``params``; ``None`` for leaves that are neither
    floating nor complex arrays.

  Raises:
    ValueError: if there is no leaf, or ``p`` isn't positive and finite.
    TypeError: if ``p`` isn't a number, or a leaf is a shape struct.

  Examples:
    >>> params = {'w': jnp.array([1.0, -2.0, 0.5]), 'steps': jnp.array(3)}
    >>> magnitude(params)
    {'steps': None, 'w': Array([1. , 2. , 0.5], dtype=float32)}
    >>> magnitude(params, p=2)['w']
    Array([1.  , 4.  , 0.25], dtype=float32)

  References:
    Han et al., Learning both weights and connections for efficient neural networks, NeurIPS 2015,
    arXiv:1506.02626
  """
  power = _checks.positive_number('magnitude', 'p', p)
  return score_leaves('magnitude', params, lambda path, leaf: _power(leaf, power))


@functools.partial(jax.jit, static_argnums=1)
def _power(leaf: jax.Array, p: float) -> jax.Array:
  size = single_size(leaf)
  if p == 1:
    return size
  return jnp.square(size) if p == 2 else jnp.power(size, jnp.float32(p))
