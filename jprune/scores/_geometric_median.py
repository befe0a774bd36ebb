"""Filters near the geometric median of their layer: what the others can stand in for.

All distances between n filters of d weights cost n^2 d multiplications. They are taken from
matrix products, |a|^2 + |b|^2 - 2 a.b, about the mean filter, a block of filters at a time; short
filters, where that would lose digits for nothing, from the differences themselves.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType

from jprune import _checks
from jprune._entry import public
from jprune.scores._common import score_leaves
from jprune.typing import Params, Scores

_SHORT = 32  # weights of a filter; up to here differences are no slower than products
_BLOCK = 2**22  # distances that are held at a time


@public
def geometric_median(params: Params, axis: int = -1) -> Scores:
  r"""How far each filter lies from all the others of its leaf: FPGM.

  .. math:: s_i = \sum_{j=1}^{n} \lVert F_i - F_j \rVert_2 \quad \text{for all weights of } F_i

  A filter is a slice along ``axis``. One that is near to all others, next to their geometric
  median, adds the least to what they can express, however large it is. All of a filter's weights
  have its score, so that a channel's mean score is the filter's; give
  :func:`jprune.masks.channels` the leaves whose filters are meant, as in ``where='kernel'``.

  Args:
    params: tree of arrays. In leaves of one dimension each weight is a filter.
    axis: along which the filters of a leaf lie; -1 for the outputs of Flax kernels.

  Returns:
    Scores, float32, structure and shapes of ``params``; ``None`` for leaves that are neither
    floating nor complex arrays.

  Raises:
    ValueError: if there is no leaf, or a leaf of two or more dimensions hasn't the axis.
    TypeError: if ``axis`` isn't an int, or a leaf is a shape struct.

  Examples:
    >>> params = {'kernel': jnp.array([[0.0, 3.0, 0.0], [0.0, 4.0, 5.0]])}
    >>> geometric_median(params)['kernel'][0].round(4)
    Array([10.    ,  8.1623,  8.1623], dtype=float32)

  References:
    He et al., Filter pruning via geometric median for deep convolutional neural networks
    acceleration, CVPR 2019, arXiv:1811.00250 (eq. 6)
  """
  _checks.check_int('geometric_median', 'axis', axis)

  def score_leaf(path: str, leaf: jax.Array) -> jax.Array:
    if leaf.ndim > 1:
      _checks.check_axis('geometric_median', axis, path, leaf.shape)
    return _score_array(leaf, axis if leaf.ndim > 1 else 0)

  return score_leaves('geometric_median', params, score_leaf)


@functools.partial(jax.jit, static_argnums=1)
def _score_array(leaf: jax.Array, axis: int) -> jax.Array:
  if jnp.issubdtype(leaf.dtype, jnp.complexfloating):  # real and imaginary parts side by side
    parts = jnp.stack([leaf.real, leaf.imag], axis=-1)
    return jnp.max(_score_array(parts, axis % leaf.ndim if leaf.ndim else 0), axis=-1)
  x = leaf.astype(jnp.float32)
  if leaf.size == 0 or leaf.ndim == 0:
    return jnp.where(jnp.isnan(x), x, 0.0)  # where the leaf lies, as a constant wouldn't be
  sharding = jax.typeof(x).sharding
  if AxisType.Explicit in sharding.mesh.axis_types:
    free = functools.partial(_along, axis=axis)
    axes = sharding.mesh.explicit_axes
    free = jax.sharding.auto_axes(free, axes=axes, out_sharding=sharding)
    return cast(Callable[[jax.Array], jax.Array], free)(x)
  return _along(x, axis)


def _along(x: jax.Array, axis: int) -> jax.Array:
  rows = jnp.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)
  largest = jnp.finfo(jnp.float32).max
  # the exponent of the largest weight, so that no square over- or underflows
  _, exponent = jnp.frexp(jnp.max(jnp.abs(jnp.clip(rows, -largest, largest))))
  rows = jnp.ldexp(jnp.clip(rows, -largest, largest), -exponent)
  scores = jnp.ldexp(_distance_sums(rows), exponent)
  lined_up = scores.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])
  # NaN is passed on for selection to refuse; that the leaf itself takes part also makes the
  # partitioner give the scores its sharding
  return jnp.where(jnp.isnan(x), x, jnp.broadcast_to(lined_up, x.shape))


def _distance_sums(rows: jax.Array) -> jax.Array:
  """For each of the rows ``(n, d)`` the sum of its distances to all of them, ``(n,)``."""
  n, d = rows.shape
  if d <= _SHORT:
    near = lambda row: jnp.sum(jnp.sqrt(jnp.sum(jnp.square(rows - row[None]), axis=1)))
    return lax.map(near, rows, batch_size=max(1, min(n, _BLOCK // (n * d))))
  rows = rows - jnp.mean(rows, axis=0, keepdims=True)
  squares = jnp.sum(jnp.square(rows), axis=1)
  index = lax.iota(jnp.int32, n)

  def one(i: jax.Array) -> jax.Array:
    products = jnp.matmul(rows, rows[i], precision=lax.Precision.HIGHEST)
    apart = jnp.maximum(squares + squares[i] - 2 * products, 0)
    return jnp.sum(jnp.sqrt(jnp.where(index == i, 0, apart)))

  return lax.map(one, index, batch_size=max(1, min(n, _BLOCK // n)))
