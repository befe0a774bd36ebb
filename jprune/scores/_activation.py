"""The size of activations as the importance of the units that they are the values of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from jprune import _powers
from jprune._entry import public
from jprune.scores._stats import per_input, raised, score_uses
from jprune.typing import Params, Scores

if TYPE_CHECKING:
  from jprune.graph import Stats


@public
def activation(params: Params, stats: Stats) -> Scores:
  r"""Norm of each input of a kernel, over all rows that were captured.

  .. math:: s_{ij} = \lVert x_i \rVert_2

  All weights that multiply a unit have its score. So it is for whole channels: give
  :func:`jprune.masks.channels` the kernels that *consume* them, and the group by name, as in
  ``sparsity={'Dense_0/kernel[1]': 0.5}, where='Dense_1/kernel'``; a number alone would prune the
  outputs of ``Dense_1`` too, whose scores are all equal. A unit with a small norm adds little to
  what follows, unless large weights wait for it there; :func:`wanda` is the product of both.

  Args:
    params: tree of arrays.
    stats: a :class:`jprune.graph.Stats` of these params; no Gram matrices are needed.

  Returns:
    Scores, float32, structure and shapes of ``params``; ``None`` for leaves that ``stats`` doesn't
    hold.

  Raises:
    ValueError: if there is no leaf, or ``stats`` holds none of the leaves, is of leaves of other
      shapes or of no row.
    TypeError: if ``stats`` isn't a :class:`jprune.graph.Stats`, or a leaf is a shape struct.

  Examples:
    >>> fn = lambda params, x: x @ params['w']
    >>> params = {'w': jnp.ones((2, 3))}
    >>> _, stats = jprune.graph.capture(fn, params, jnp.array([[3.0, 1.0], [-4.0, 0.0]]))
    >>> activation(params, stats)['w']
    Array([[5., 5., 5.],
           [1., 1., 1.]], dtype=float32)

  References:
    Molchanov et al., Pruning convolutional neural networks for resource efficient inference,
    ICLR 2017, arXiv:1611.06440 (criteria based on activations)
  """
  return score_uses('activation', params, stats, _norm, degrees=(0, 1))


@public
def activation_mean(params: Params, stats: Stats) -> Scores:
  r"""How far the mean of each input of a kernel lies from zero.

  .. math:: s_{ij} = \lvert \overline{x_i} \rvert

  Behind a ReLU it is the mean activation of the paper; the absolute value is for units that take
  both signs. Use it as :func:`activation`, with :func:`jprune.masks.channels`.

  Args:
    params: tree of arrays.
    stats: a :class:`jprune.graph.Stats` of these params; no Gram matrices are needed.

  Returns:
    Scores, float32, structure and shapes of ``params``; ``None`` for leaves that ``stats`` doesn't
    hold.

  Raises:
    ValueError: if there is no leaf, or ``stats`` holds none of the leaves, is of leaves of other
      shapes or of no row.
    TypeError: if ``stats`` isn't a :class:`jprune.graph.Stats`, or a leaf is a shape struct.

  Examples:
    >>> fn = lambda params, x: x @ params['w']
    >>> params = {'w': jnp.ones((2, 3))}
    >>> _, stats = jprune.graph.capture(fn, params, jnp.array([[3.0, 1.0], [-4.0, 0.0]]))
    >>> activation_mean(params, stats)['w'][:, 0]
    Array([0.5, 0.5], dtype=float32)

  References:
    Molchanov et al., Pruning convolutional neural networks for resource efficient inference,
    ICLR 2017, arXiv:1611.06440 (criteria based on activations)
  """
  return score_uses('activation_mean', params, stats, _mean, degrees=(0, 1))


@public
def activation_active(params: Params, stats: Stats) -> Scores:
  r"""Fraction of rows in which an input of a kernel isn't zero: one less APoZ.

  .. math:: s_{ij} = \frac{1}{n} \sum_{r=1}^{n} [x_{ri} \ne 0]

  For kernels behind a ReLU, whose average percentage of zeros the paper looks at; inputs that are
  never exactly zero all score 1. Use it as :func:`activation`, with :func:`jprune.masks.channels`.

  Args:
    params: tree of arrays.
    stats: a :class:`jprune.graph.Stats` of these params; no Gram matrices are needed.

  Returns:
    Scores in [0, 1], float32, structure and shapes of ``params``; ``None`` for leaves that
    ``stats`` doesn't hold.

  Raises:
    ValueError: if there is no leaf, or ``stats`` holds none of the leaves, is of leaves of other
      shapes or of no row.
    TypeError: if ``stats`` isn't a :class:`jprune.graph.Stats`, or a leaf is a shape struct.

  Examples:
    >>> fn = lambda params, x: x @ params['w']
    >>> params = {'w': jnp.ones((2, 3))}
    >>> _, stats = jprune.graph.capture(fn, params, jnp.array([[3.0, 1.0], [-4.0, 0.0]]))
    >>> activation_active(params, stats)['w'][:, 0]
    Array([1. , 0.5], dtype=float32)

  References:
    Hu et al., Network trimming: a data-driven neuron pruning approach towards efficient deep
    architectures, 2016, arXiv:1607.03250
  """
  return score_uses('activation_active', params, stats, _active, degrees=(0, 0))


def _norm(w: jax.Array, moments: Any, power: jax.Array) -> jax.Array:
  return raised(per_input(moments.norm, w), power)


def _mean(w: jax.Array, moments: Any, power: jax.Array) -> jax.Array:
  mean = _powers.times(jnp.abs(moments.mean), moments.exponent.astype(jnp.int32))
  return raised(per_input(mean, w), power)


def _active(w: jax.Array, moments: Any, _: jax.Array) -> jax.Array:
  rows = moments.count[:, None]
  active = jnp.clip(1 - moments.zeros / jnp.where(rows > 0, rows, 1.0), 0, 1)
  return per_input(jnp.where(rows > 0, active, 0.0), w)
