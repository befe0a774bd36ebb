"""Means, squares and products of the inputs of a matrix product, and how those of batches merge.

Sums are kept about the mean, as differences of large sums would cancel; means of several batches
are merged by the update of Chan, Golub and LeVeque, *Updating formulae and a pairwise algorithm
for computing sample variances*, 1979.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import lax

from jprune import _checks

_STRIP = 256  # features of a block of products of which only one triangle is computed


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=['count', 'mean', 'squares', 'zeros', 'products'],
  meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class Moments:
  """What is known about the inputs ``x`` of a product ``y = x W``, over all rows seen so far.

  A number by which ``W`` is scaled before belongs to ``x``.
  ``batch`` counts the products that were made of one leaf side by side (layers of a scan,
  experts, groups of a convolution); it is 1 for a plain kernel. All arrays are float32.

  Attributes:
    count: ``(batch,)``, the number of rows, or the sum of their weights.
    mean: ``(batch, inputs)``, of each input.
    squares: ``(batch, inputs)``, sum of squared deviations from the mean.
    zeros: ``(batch, inputs)``, how many rows have a zero there.
    products: ``(batch, inputs, inputs)``, sums of products of deviations from the means; ``None``
      if they were not asked for.

  Examples:
    >>> fn = lambda params, x: x @ params['w']
    >>> x = jnp.array([[1.0, 0.0], [3.0, 4.0]])
    >>> _, stats = jprune.graph.capture(fn, {'w': jnp.ones((2, 5))}, x, gram=True)
    >>> ((use, moments),) = stats['w']
    >>> moments.mean[0], moments.gram[0]
    (Array([2., 2.], dtype=float32), Array([[5., 6.],
           [6., 8.]], dtype=float32))
  """

  count: jax.Array
  mean: jax.Array
  squares: jax.Array
  zeros: jax.Array
  products: jax.Array | None = None

  @property
  def variance(self) -> jax.Array:
    """Of each input, ``(batch, inputs)``."""
    return self.squares / _nonzero(self.count)[:, None]

  @property
  def second_moment(self) -> jax.Array:
    """Mean square of each input, ``(batch, inputs)``."""
    return self.variance + jnp.square(self.mean)

  @property
  def norm(self) -> jax.Array:
    """Euclidean norm of each input over all rows, ``(batch, inputs)``."""
    return jnp.sqrt(self.squares + self.count[:, None] * jnp.square(self.mean))

  @property
  def covariance(self) -> jax.Array:
    """Mean product of deviations, ``(batch, inputs, inputs)``; needs ``products``."""
    if self.products is None:
      raise _checks.no_products()
    return self.products / _nonzero(self.count)[:, None, None]

  @property
  def gram(self) -> jax.Array:
    r"""Mean of :math:`x x^\top`, ``(batch, inputs, inputs)``; needs ``products``."""
    return self.covariance + self.mean[:, :, None] * self.mean[:, None, :]


def moments_of(x: jax.Array, weights: jax.Array | None = None, gram: bool = True) -> Moments:
  """Of the rows of ``x``, ``(batch, rows, inputs)``, each weighted by ``weights``, ``(rows,)``."""
  x = x.astype(jnp.float32)
  batch, rows, _ = x.shape
  if weights is None:
    total = jnp.float32(rows)
    weigh = lambda y: y
  else:
    weights = weights.astype(jnp.float32)
    total = jnp.sum(weights)
    x = jnp.where(weights[None, :, None] == 0, 0.0, x)  # padding may hold anything, even NaN
    weigh = lambda y: y * weights[None, :, None]
  mean = jnp.sum(weigh(x), axis=1) / _nonzero(total)
  apart = x - mean[:, None, :]
  weighed = weigh(apart)
  zeros = jnp.sum(weigh((x == 0).astype(jnp.float32)), axis=1)
  products = _symmetric_products(apart, weighed) if gram else None
  squares = jnp.sum(apart * weighed, axis=1)
  return Moments(jnp.broadcast_to(total, (batch,)), mean, squares, zeros, products)


def no_rows(batch: int, inputs: int, gram: bool) -> Moments:
  """What is known before the first row."""
  some = lambda *shape: jnp.zeros(shape, jnp.float32)
  products = some(batch, inputs, inputs) if gram else None
  return Moments(
    some(batch), some(batch, inputs), some(batch, inputs), some(batch, inputs), products
  )


def merged(a: Moments, b: Moments) -> Moments:
  """Of the rows of both."""
  count = a.count + b.count
  share = b.count / _nonzero(count)
  gap = b.mean - a.mean
  between = (a.count * share)[:, None] * gap
  products = None
  if a.products is not None and b.products is not None:
    products = a.products + b.products + between[:, :, None] * gap[:, None, :]
  return Moments(
    count,
    a.mean + gap * share[:, None],
    a.squares + b.squares + between * gap,
    a.zeros + b.zeros,
    products,
  )


def scaled(moments: Moments, by: float) -> Moments:
  """Of the same rows, multiplied by a number."""
  square = by * by
  return Moments(
    moments.count,
    by * moments.mean,
    square * moments.squares,
    moments.zeros if by else jnp.broadcast_to(moments.count[:, None], moments.zeros.shape),
    None if moments.products is None else square * moments.products,
  )


def _symmetric_products(a: jax.Array, b: jax.Array) -> jax.Array:
  """``a^T b``, which is symmetric: strip by strip from the diagonal on, the rest mirrored."""
  size = a.shape[2]
  dot = functools.partial(
    lax.dot_general,
    dimension_numbers=(((1,), (1,)), ((0,), (0,))),
    precision=lax.Precision.HIGHEST,
  )
  if size < 2 * _STRIP:
    return dot(a, b)
  strips = []
  for begin in range(0, size, _STRIP):
    strip = dot(a[:, :, begin : begin + _STRIP], b[:, :, begin:])
    strips.append(jnp.pad(strip, ((0, 0), (0, 0), (begin, 0))))
  upper = jnp.triu(jnp.concatenate(strips, axis=1))
  return upper + jnp.triu(upper, 1).mT


def _nonzero(count: jax.Array) -> jax.Array:
  return jnp.where(count == 0, 1.0, count)
