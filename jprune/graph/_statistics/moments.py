"""Means, squares and products of the inputs of a matrix product, and how those of batches merge.

Sums are kept about the mean, as differences of large sums would cancel; means of several batches
are merged by the update of Chan, Golub and LeVeque, *Updating formulae and a pairwise algorithm
for computing sample variances*, 1979.

Squares of very small or large inputs leave float32. So these inputs are divided by a power of two,
each by its own, which is exact: all else is what it would be of inputs near 1.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jprune import _powers
from jprune._entry import explicit
from jprune.graph import _errors

_NEAR = 20  # inputs up to 2 ** 20 and down to 2 ** -20 are taken as they are
_POWERS = (-126, 126)  # of two, that can be multiplied by
_LOWEST = -(2**20)  # exponent of inputs that are all zero
_STRIP = 256  # features of a block of products of which only one triangle is computed
_STRIPS = 32  # of products that are split over devices, at most


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=['count', 'mean', 'squares', 'zeros', 'products', 'exponent'],
  meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class Moments:
  """What is known about the inputs ``x`` of a product ``y = x W``, over all rows seen so far.

  A number by which ``W`` is scaled before belongs to ``x``.
  ``batch`` counts the products that were made of one leaf side by side (layers of a scan,
  experts, groups of a convolution); it is 1 for a plain kernel. All arrays are float32.

  Of an input whose largest entry is not between 2^-20 and 2^20, mean, squares and products are
  those of the input divided by ``2 ** exponent``, lest squares leave float32. The properties
  (``variance``, ``gram``, ...) are of the inputs themselves, and may.

  Attributes:
    count: ``(batch,)``, the number of rows, or the sum of their weights.
    mean: ``(batch, inputs)``, of each input.
    squares: ``(batch, inputs)``, sum of squared deviations from the mean.
    zeros: ``(batch, inputs)``, how many rows have a zero there.
    products: ``(batch, inputs, inputs)``, sums of products of deviations from the means; ``None``
      if they were not asked for.
    exponent: ``(batch, inputs)``, integers: by which power of two each input was divided; 0 between
      2^-20 and 2^20. ``None`` stands for zeros.

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
  exponent: jax.Array | None = None

  @property
  @explicit
  def variance(self) -> jax.Array:
    """Of each input, ``(batch, inputs)``."""
    return _powers.times(self.squares / _nonzero(self.count)[:, None], 2 * exponents(self))

  @property
  @explicit
  def second_moment(self) -> jax.Array:
    """Mean square of each input, ``(batch, inputs)``."""
    scaled = self.squares / _nonzero(self.count)[:, None] + jnp.square(self.mean)
    return _powers.times(scaled, 2 * exponents(self))

  @property
  @explicit
  def norm(self) -> jax.Array:
    """Euclidean norm of each input over all rows, ``(batch, inputs)``."""
    scaled = jnp.sqrt(self.squares + self.count[:, None] * jnp.square(self.mean))
    return _powers.times(scaled, exponents(self))

  @property
  @explicit
  def covariance(self) -> jax.Array:
    """Mean product of deviations, ``(batch, inputs, inputs)``; needs ``products``."""
    return _powers.times_pairs(self._covariance, exponents(self))

  @property
  @explicit
  def gram(self) -> jax.Array:
    r"""Mean of :math:`x x^\top`, ``(batch, inputs, inputs)``; needs ``products``."""
    scaled = self._covariance + self.mean[:, :, None] * self.mean[:, None, :]
    return _powers.times_pairs(scaled, exponents(self))

  def levelled(self) -> tuple[Moments, jax.Array]:
    """The same of inputs of which the largest of each product is about 1.

    Returns:
      The moments, and the power of two, int32 ``(batch,)``, that their inputs are over.
    """
    known = _known(self)
    top = jnp.max(known, axis=1, initial=_LOWEST)
    top = jnp.where(top == _LOWEST, 0, top)
    relative = jnp.where(known == _LOWEST, 0, known - top[:, None])
    return dataclasses.replace(self, exponent=relative.astype(jnp.float32)), top

  @property
  def _covariance(self) -> jax.Array:
    if self.products is None:
      raise _errors.no_products()
    return self.products / _nonzero(self.count)[:, None, None]


def exponents(moments: Moments) -> jax.Array:
  """Of each input, int32 ``(batch, inputs)``."""
  if moments.exponent is None:
    return jnp.zeros_like(moments.mean, jnp.int32)
  return jnp.asarray(moments.exponent).astype(jnp.int32)


def moments_of(
  x: jax.Array,
  weights: jax.Array | None = None,
  gram: bool = True,
  power: jax.Array | int = 0,
  by_rows: Callable[[jax.Array], jax.Array] | None = None,
) -> Moments:
  """Of rows ``(batch, rows, inputs)``, each weighted by ``weights``, ``(rows,)``.

  Args:
    x: the rows, over two to some power.
    weights: at least 0.
    gram: whether to take products of pairs of inputs.
    power: which one, int32.
    by_rows: splits products, and parts of them, by rows over devices, if they are to be.
  """
  x = _powers.wide(x)
  batch, rows, _ = x.shape
  if weights is None:
    total = jnp.float32(rows)
    weigh = lambda y: y
  else:
    weights = weights.astype(jnp.float32)
    total = jnp.sum(weights)
    x = jnp.where(weights[None, :, None] == 0, 0.0, x)  # padding may hold anything, even NaN
    weigh = lambda y: y * weights[None, :, None]
  zeros = jnp.sum(weigh((x == 0).astype(jnp.float32)), axis=1)
  whole = _powers.exponent(x, axis=1) + power
  exponent = jnp.where(jnp.abs(whole) <= _NEAR, 0, whole)
  shift = jnp.clip(power - exponent, *_POWERS)
  exponent = power - shift
  x = (x * _powers.two_to(shift, x.dtype)[:, None, :]).astype(jnp.float32)
  mean = jnp.sum(weigh(x), axis=1) / _nonzero(total)
  apart = x - mean[:, None, :]
  weighed = weigh(apart)
  products = _symmetric_products(apart, weighed, by_rows) if gram else None
  squares = jnp.sum(apart * weighed, axis=1)
  exponent = exponent.astype(jnp.float32)
  return Moments(jnp.broadcast_to(total, (batch,)), mean, squares, zeros, products, exponent)


def no_rows(batch: int, inputs: int, gram: bool) -> Moments:
  """What is known before the first row."""
  some = lambda *shape: jnp.zeros(shape, jnp.float32)
  products = some(batch, inputs, inputs) if gram else None
  return Moments(
    some(batch), some(batch, inputs), some(batch, inputs), some(batch, inputs), products
  )


def merged(a: Moments, b: Moments) -> Moments:
  """Of the rows of both."""
  exponent = jnp.maximum(_known(a), _known(b))
  a, b = _over(a, exponent), _over(b, exponent)
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
    jnp.where(exponent == _LOWEST, 0, exponent).astype(jnp.float32),
  )


def scaled(moments: Moments, by: float) -> Moments:
  """Of the same rows, multiplied by a number."""
  part, power = math.frexp(by)
  if abs(power) <= _NEAR:
    part, power = by, 0
  square = part * part
  return Moments(
    moments.count,
    part * moments.mean,
    square * moments.squares,
    moments.zeros if by else jnp.broadcast_to(moments.count[:, None], moments.zeros.shape),
    None if moments.products is None else square * moments.products,
    (exponents(moments) + power).astype(jnp.float32),
  )


def _known(moments: Moments) -> jax.Array:
  """Exponents, ``(batch, inputs)``; of inputs that are all zero the lowest."""
  nothing = (moments.mean == 0) & (moments.squares == 0)
  return jnp.where(nothing, _LOWEST, exponents(moments))


def _over(moments: Moments, exponent: jax.Array) -> Moments:
  """Its sums, of inputs over other powers of two, none lower than theirs."""
  known = _known(moments)
  by = _powers.two_to(jnp.where(known == _LOWEST, 0, known - exponent), jnp.float32)
  products = moments.products
  if products is not None:
    products = products * by[:, :, None] * by[:, None, :]
  return dataclasses.replace(
    moments,
    mean=moments.mean * by,
    squares=moments.squares * by * by,
    products=products,
  )


def _symmetric_products(
  a: jax.Array, b: jax.Array, by_rows: Callable[[jax.Array], jax.Array] | None
) -> jax.Array:
  """``a^T b``, which is symmetric: strip by strip from the diagonal on, the rest mirrored.

  What is split by rows is summed up over devices strip by strip, none of which is ever whole.
  """
  size = a.shape[2]
  dot = functools.partial(
    lax.dot_general,
    dimension_numbers=(((1,), (1,)), ((0,), (0,))),
    precision=lax.Precision.HIGHEST,
  )
  if by_rows is not None:
    step = max(_STRIP, -(-size // _STRIPS))
    columns = []
    for begin in range(0, size, step):
      column = dot(a[:, :, begin:], b[:, :, begin : begin + step])
      columns.append(by_rows(jnp.pad(column, ((0, 0), (begin, 0), (0, 0)))))
    if len(columns) == 1:
      return columns[0]
    lower = jnp.tril(jnp.concatenate(columns, axis=2))
    return lower + jnp.tril(lower, -1).mT
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
