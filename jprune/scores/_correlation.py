"""How much of an output moves with what one weight contributes to it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import lax

from jprune import _powers
from jprune._entry import public
from jprune.scores._stats import one_by_one, score_uses, unit_scaled
from jprune.typing import Params, Scores

if TYPE_CHECKING:
  from jprune.graph import Stats

_EPSILON = float(jnp.finfo(jnp.float32).eps)


@public
def correlation(params: Params, stats: Stats) -> Scores:
  r"""Absolute correlation between what a weight contributes and the output that it is part of.

  .. math:: s_{ij} = |\operatorname{corr}(W_{ij} x_i,\ y_j)|
     = \frac{|W_{ij} (C W_j)_i|}{|W_{ij}| \sqrt{C_{ii}} \sqrt{W_j^\top C W_j}},
     \qquad y_j = \sum_k W_{kj} x_k,

  with the covariance :math:`C` of the inputs. Redundant are weights whose contribution says
  nothing about the output: what they add is drowned, or cancelled, by the other terms.

  The weight itself cancels, unless it is zero. So this is how an *input* moves with an output, and
  a tiny weight scores as high as a large one if the other weights make the output follow its
  input. Multiply by :func:`wanda` or :func:`magnitude` where size should count too.

  Args:
    params: tree of arrays.
    stats: a :class:`jprune.graph.Stats` of these params, captured with ``gram=True``.

  Returns:
    Scores in [0, 1], float32, structure and shapes of ``params``; 0 where the weight is zero, and
    where its input or its output is constant as far as float32 can tell. ``None`` for leaves that
    ``stats`` doesn't hold.

  Raises:
    ValueError: if there is no leaf, or ``stats`` holds none of the leaves, is of leaves of other
      shapes, of no row, or without Gram matrices.
    TypeError: if ``stats`` isn't a :class:`jprune.graph.Stats`, a leaf is a shape struct, or one
      that ``stats`` holds is complex.

  Examples:
    >>> fn = lambda params, x: x @ params['w']
    >>> params = {'w': jnp.array([[3.0, 0.0], [4.0, 1.0]])}
    >>> x = jnp.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> _, stats = jprune.graph.capture(fn, params, x, gram=True)
    >>> [[round(s, 4) for s in row] for row in correlation(params, stats)['w'].tolist()]
    [[0.6, 0.0], [0.8, 1.0]]
  """
  return score_uses('correlation', params, stats, _score, degrees=(0, 0), gram=True, of_sizes=False)


def _score(w: jax.Array, moments: Any, _: jax.Array) -> jax.Array:
  power, moments = moments.exponent.astype(jnp.int32), dataclasses.replace(moments, exponent=None)
  # deviations this small are rounding errors of the mean
  floor = jnp.square(8 * _EPSILON * moments.mean)
  deviation = jnp.sqrt(jnp.where(moments.variance <= floor, 0.0, moments.variance))
  found = one_by_one(_of_matrix, unit_scaled(w, 1), moments.covariance, deviation, power)
  return jnp.where(w != 0, found, 0.0)


def _of_matrix(
  w: jax.Array, covariance: jax.Array, deviation: jax.Array, power: jax.Array
) -> jax.Array:
  """For ``w``, ``(inputs, outputs)``, by way of inputs with a standard deviation of 1.

  Covariances and deviations are of inputs over two to a power, ``(inputs,)``.
  """
  constant = deviation == 0
  inverse = jnp.where(constant, 0.0, 1 / jnp.where(constant, 1.0, deviation))
  correlations = covariance * inverse[:, None] * inverse[None, :]
  terms = unit_scaled(w * _powers.times(deviation, power)[:, None], 0)
  moved = jnp.matmul(correlations, terms, precision=lax.Precision.HIGHEST)
  variance = jnp.sum(terms * moved, axis=0)
  # what rounding errors of the correlations may add up to
  floor = 4 * _EPSILON * jnp.square(jnp.sum(jnp.abs(terms), axis=0))
  still = variance <= floor
  ratio = jnp.abs(moved) / jnp.sqrt(jnp.where(still, 1.0, variance))[None, :]
  return jnp.where(still[None, :], 0.0, jnp.clip(ratio, 0, 1))
