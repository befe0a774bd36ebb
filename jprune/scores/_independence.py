"""Units that the others can't stand in for: pivoted Cholesky of the activations' Gram matrix.

Each step picks the unit of which most is left when the units picked before have explained what
they can; the greedy choice of a subset that spans the rest.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jprune.scores._stats import one_by_one, per_input, score_uses
from jprune.typing import Params, Scores

_EPSILON = float(jnp.finfo(jnp.float32).eps)
_SMALLEST = 0x00800000  # bits of the smallest normal float32
_STEP = 64  # of float32 numbers between two scores: what a mean over a unit's weights won't blur


def independence(params: Params, stats: Any) -> Scores:
  r"""How much of each input of a kernel is no linear function of more important inputs.

  Units are picked one after the other, by pivoted Cholesky of the Gram matrix
  :math:`G = \overline{x x^\top}`: next comes the unit with the largest residual, its mean square
  less what the best linear function of the units picked before explains of it,

  .. math:: s_u = \min_c \overline{\bigl(x_u - \textstyle\sum_{v\ \text{before}\ u} c_v x_v\bigr)^2}

  which is its score, in units of the squared activation. Residuals never grow, so the units with
  the k highest scores are the first k that were picked, for every k. Copies of a unit, and linear
  combinations of units, come last, where next to nothing is left of them: among these, units with
  a larger mean square come first. Equal scores are drawn apart by less than 1e-5 each, so that
  scores order units strictly.

  All weights that multiply a unit have its score: give :func:`jprune.masks.channels` the kernels
  that consume the channels. The Gram matrix is not centred, since what a dropped unit did can be
  folded into the weights of the units that stay only by a linear map; a constant that it adds
  would need a bias. A constant unit therefore counts as a unit of its own.

  Takes n steps of n^2 multiplications for n inputs.

  Args:
    params: tree of arrays.
    stats: a :class:`jprune.graph.Stats` of these params, captured with ``gram=True``.

  Returns:
    Scores, float32, structure and shapes of ``params``; ``None`` for leaves that ``stats`` doesn't
    hold. Each matrix product that a leaf is used in (expert, layer of a scan) is by itself.

  Raises:
    ValueError: if there is no leaf, or ``stats`` holds none of the leaves, is of leaves of other
      shapes, of no row, or without Gram matrices.
    TypeError: if ``stats`` isn't a :class:`jprune.graph.Stats`, or a leaf is a shape struct.

  Examples:
    >>> fn = lambda params, x: x @ params['w']
    >>> params = {'w': jnp.ones((3, 2))}
    >>> x = jnp.array([[2.0, 0.0, 1.0], [0.0, 4.0, 2.0]])  # the third: half of the sum of both
    >>> _, stats = jprune.graph.capture(fn, params, x, gram=True)
    >>> [round(score, 4) for score in independence(params, stats)['w'][:, 0].tolist()]
    [2.0, 8.0, 0.0]

  References:
    Higham, Cholesky factorization, WIREs Computational Statistics 2009 (complete pivoting);
    He et al., Channel pruning for accelerating very deep neural networks, ICCV 2017,
    arXiv:1707.06168 (channels that the others reconstruct)
  """
  return score_uses('independence', params, stats, _score, gram=True)


def _score(w: jax.Array, moments: Any) -> jax.Array:
  return per_input(one_by_one(_of_units, moments.gram), w)


def _of_units(gram: jax.Array) -> jax.Array:
  """Score of each unit, ``(units,)``, from their Gram matrix."""
  size = gram.shape[0]
  _, exponent = jnp.frexp(jnp.max(jnp.diagonal(gram)))
  gram = jnp.ldexp(gram, -exponent)
  square = jnp.diagonal(gram)
  noise = max(size, 10) * _EPSILON * square  # what rounding leaves of a unit without residual

  def pick(step: jax.Array, state: Any) -> Any:
    factor, left, order, found = state
    explained = left <= noise
    rank = jnp.where(explained, square - 2, left)  # explained ones last, by their mean square
    unit = jnp.argmax(jnp.where(order < size, -jnp.inf, rank))
    residual = jnp.where(explained[unit], 0.0, left[unit])
    known = jnp.matmul(factor, factor[unit], precision=lax.Precision.HIGHEST)
    root = jnp.sqrt(jnp.where(residual > 0, residual, 1.0))
    column = jnp.where(residual > 0, (gram[:, unit] - known) / root, 0.0)
    return (
      factor.at[:, step].set(column),
      left - jnp.square(column),
      order.at[unit].set(step),
      found.at[step].set(residual),
    )

  nothing = jnp.zeros(size, jnp.float32)
  start = (jnp.zeros_like(gram), square, jnp.full(size, size, jnp.int32), nothing)
  _, _, order, found = lax.fori_loop(0, size, pick, start)
  scores = _strictly_falling(jnp.ldexp(found, exponent))[order]
  return scores + 0 * jnp.sum(square)  # NaN if anything is


def _strictly_falling(values: jax.Array) -> jax.Array:
  """Lowers non-negative values, by as little as will do, to where each is below those before it.

  Works on their bits, which order as the floats do. Zeros become the smallest normal numbers.
  """
  rank = lax.iota(jnp.uint32, values.size) * jnp.uint32(_STEP)
  fallen = lax.cummin(lax.bitcast_convert_type(values, jnp.uint32) + rank)
  floor = jnp.uint32(_SMALLEST) + rank[::-1]
  return lax.bitcast_convert_type(jnp.maximum(fallen, floor + rank) - rank, jnp.float32)
