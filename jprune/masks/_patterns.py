"""Patterns: which weights live and die together.

Selection counts *units*. A pattern says what the units of a leaf are, gives each a score, and
spreads a mask over units back to weights. A weight that was pruned before adds nothing to its
unit's score, and a unit of such weights alone stays pruned. A pattern of the user's finds NaN in
their place; those that stand here are told by a mask, so that there is no NaN on the way.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jprune import _checks
from jprune.masks import _errors
from jprune.masks._selection import keys as _keys


@dataclasses.dataclass(frozen=True)
class Unstructured:
  """Every weight is its own unit.

  Examples:
    >>> w = jnp.array([[1.0, 3.0], [2.0, 4.0]])
    >>> jprune.prune({'w': w}, 1 / 4, pattern=Unstructured())['w']
    Array([[False,  True],
           [ True,  True]], dtype=bool)
  """

  def check(self, function: str, path: str, shape: tuple[int, ...]) -> None:
    """Fits every shape."""

  def unit_scores(self, scores: jax.Array) -> jax.Array:
    """The scores themselves."""
    return scores

  def expand(self, units: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The mask itself."""
    del shape
    return units


@dataclasses.dataclass(frozen=True)
class Block:
  """Tiles of the last two axes; a tile's score is the mean of its weights' scores.

  Attributes:
    shape: rows and columns of a tile.
    pad: where an axis doesn't divide, take the last tiles as smaller ones (their score is the
      mean over the weights they have) instead of raising an error.

  Examples:
    >>> w = jnp.arange(16.0).reshape(4, 4)
    >>> jprune.prune({'w': w}, 0.5, pattern=Block((2, 2)))['w'].astype(int)
    Array([[0, 0, 0, 0],
           [0, 0, 0, 0],
           [1, 1, 1, 1],
           [1, 1, 1, 1]], dtype=int32)
  """

  shape: tuple[int, int]
  pad: bool = False

  def __post_init__(self) -> None:
    if not isinstance(self.shape, tuple) or len(self.shape) != 2:
      raise _errors.bad_block(self.shape)
    for length in self.shape:
      _checks.check_positive_int('Block', 'shape', length)

  def check(self, function: str, path: str, shape: tuple[int, ...]) -> None:
    """Refuses leaves of fewer than two dimensions, and axes that don't divide unless padded."""
    if len(shape) < 2:
      raise _errors.too_few_dimensions(function, 'Block', path, shape)
    for axis, length in zip((-2, -1), self.shape):
      if not self.pad and shape[axis] % length:
        raise _errors.not_divisible(function, axis, path, shape, 'the block', length)

  def units(self, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the tiles of a leaf of this shape."""
    return (*shape[:-2], *(-(-n // length) for n, length in zip(shape[-2:], self.shape)))

  def unit_scores(self, scores: jax.Array) -> jax.Array:
    """Mean score of each tile, ``units(scores.shape)``; NaN where all scores are."""
    return _or_nan(*self.known_scores(scores, ~jnp.isnan(scores)))

  def known_scores(self, scores: jax.Array, known: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean of the known scores of each tile, and whether there are any."""
    rows, cols = self.shape
    missing = [(0, 0)] * (scores.ndim - 2)
    missing += [(0, -n % length) for n, length in zip(scores.shape[-2:], self.shape)]
    *lead, tall, wide = self.units(scores.shape)
    tiles = lambda x: jnp.pad(x, missing).reshape(*lead, tall, rows, wide, cols)
    height, width = (_lengths(*each) for each in zip((rows, cols), scores.shape[-2:]))
    sizes = (height[:, None] * width[None]).reshape((1,) * len(lead) + (height.size, width.size))
    return _mean(tiles(scores), tiles(known), (-3, -1), sizes)

  def expand(self, units: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Each tile's bool for all of its weights."""
    tall = jnp.repeat(units, self.shape[0], axis=-2)[..., : shape[-2], :]
    return jnp.repeat(tall, self.shape[1], axis=-1)[..., : shape[-1]]


@dataclasses.dataclass(frozen=True)
class Channel:
  """Whole slices along one axis; a slice's score is the mean of its weights' scores.

  Each leaf is pruned for itself: channels that belong together across leaves (a kernel's
  outputs, its bias, the next kernel's inputs) are not tied by this pattern.

  Attributes:
    axis: the axis whose indices are the units; ``None`` for the outputs of a kernel, of each layer
      by themselves where layers are stacked, as roles or names tell.

  Examples:
    >>> w = jnp.array([[1.0, 5.0], [2.0, 4.0]])
    >>> jprune.prune({'w': w}, 0.5, pattern=Channel(-1))['w']
    Array([[False,  True],
           [False,  True]], dtype=bool)
  """

  axis: int | None = None

  def __post_init__(self) -> None:
    if self.axis is not None:
      _checks.check_int('Channel', 'axis', self.axis)

  def check(self, function: str, path: str, shape: tuple[int, ...]) -> None:
    """Refuses leaves that haven't the axis."""
    if self.axis is None:
      raise _errors.axis_not_known(function, path, shape)
    _checks.check_axis(function, self.axis, path, shape)

  def unit_scores(self, scores: jax.Array) -> jax.Array:
    """Mean score of each slice, ``(channels,)``; NaN where all scores are."""
    return _or_nan(*self.known_scores(scores, ~jnp.isnan(scores)))

  def known_scores(self, scores: jax.Array, known: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean of the known scores of each slice, and whether there are any."""
    axis = axis_of(self, scores.shape)
    others = tuple(i for i in range(scores.ndim) if i != axis)
    size = math.prod(scores.shape[i] for i in others)
    return _mean(scores, known, others, jnp.full((1,), max(size, 1), jnp.float32))

  def expand(self, units: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Each channel's bool for all of its weights."""
    axis, lined_up = axis_of(self, shape), [1] * len(shape)
    lined_up[axis] = shape[axis]
    return jnp.broadcast_to(units.reshape(lined_up), shape)


@dataclasses.dataclass(frozen=True)
class NOfM:
  """Keep the ``n`` best of every ``m`` consecutive weights along an axis: its own sparsity.

  Attributes:
    n: weights kept in each group.
    m: size of a group.
    axis: along which groups lie; ``None`` for the inputs of a kernel, as roles or names tell:
      ``(..., inputs, outputs)`` of a Flax kernel, the first axis of its queries, the second of a
      PyTorch weight. A matrix of any other name has inputs, then outputs.
    pad: where the axis doesn't divide, let the last group have fewer than ``m`` weights (it
      keeps ``n`` of them, or all it has) instead of raising an error.

  Examples:
    >>> w = jnp.array([[0.25, 1.0], [-1.33, 2.0], [0.43, 3.0], [-0.11, 4.0]])
    >>> jprune.prune({'w': w}, pattern=NOfM(2, 4))['w'].T
    Array([[False,  True,  True, False],
           [False, False,  True,  True]], dtype=bool)
  """

  n: int
  m: int
  axis: int | None = None
  pad: bool = False

  def __post_init__(self) -> None:
    _errors.check_n_of_m('NOfM', self.n, self.m)
    if self.axis is not None:
      _checks.check_int('NOfM', 'axis', self.axis)

  @property
  def sparsity(self) -> float:
    """Fraction of zeros, ``1 - n / m``; of leaves that don't need padding."""
    return 1 - self.n / self.m

  def check(self, function: str, path: str, shape: tuple[int, ...]) -> None:
    """Refuses leaves that haven't the axis, and axes that don't divide unless padded."""
    if self.axis is None:
      raise _errors.axis_not_known(function, path, shape)
    _checks.check_axis(function, self.axis, path, shape)
    if not self.pad and shape[self.axis] % self.m:
      raise _errors.not_divisible(function, self.axis, path, shape, 'm', self.m)


def axis_of(pattern: Channel | NOfM, shape: tuple[int, ...]) -> int:
  """The axis of a leaf that a pattern is along, counted from the front.

  The pattern names one: its ``check`` refuses ``None``.
  """
  return cast(int, pattern.axis) % len(shape)


def unit_scores(pattern: Any, x: jax.Array, dtype: Any) -> jax.Array:
  """Scores of a pattern's units, or their marked bits (:mod:`._selection.keys`).

  Args:
    pattern: any pattern but :class:`NOfM`.
    x: floats of one leaf, or their marked bits.
    dtype: of the floats.
  """
  if isinstance(pattern, Unstructured):
    return x
  if not _keys.are_bits(x) and not hasattr(pattern, 'known_scores'):
    return pattern.unit_scores(x)
  return _keys.marked(*known_units(pattern, x, dtype))


def units_shape(pattern: Any, leaf: Any) -> tuple[int, ...]:
  """The shape of the units of a leaf of scores; of any pattern but :class:`NOfM`."""
  if isinstance(pattern, Unstructured):
    return tuple(leaf.shape)
  scores = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
  return tuple(jax.eval_shape(pattern.unit_scores, scores).shape)


def known_units(pattern: Any, x: jax.Array, dtype: Any) -> tuple[jax.Array, jax.Array]:
  """Scores of a pattern's units as floats, none of them NaN, and which units have one."""
  scores, known = _keys.unmarked(_keys.marked(x), _keys.widened(dtype))
  if isinstance(pattern, Unstructured):
    return scores, known
  if hasattr(pattern, 'known_scores'):
    return pattern.known_scores(scores, known)

  def of_users(scores: jax.Array, known: jax.Array) -> tuple[jax.Array, jax.Array]:
    units = pattern.unit_scores(_or_nan(scores, known))
    nan = jnp.isnan(units)
    return jnp.where(nan, jnp.zeros_like(units), units), ~nan

  return jax.jit(of_users)(scores, known)  # no NaN comes out


def _or_nan(x: jax.Array, known: jax.Array) -> jax.Array:
  return jnp.where(known, x, jnp.asarray(jnp.nan, x.dtype))


def _lengths(length: int, size: int) -> jax.Array:
  """How long each tile of an axis is, float32: all but the last ``length``; ``(1,)`` if all are."""
  if size % length == 0:
    return jnp.full((1,), length, jnp.float32)
  count = -(-size // length)
  last = lax.iota(jnp.uint32, count) == np.uint32(count - 1)
  return jnp.where(last, jnp.float32(size - length * (count - 1)), jnp.float32(length))


def _mean(
  x: jax.Array, known: jax.Array, axes: tuple[int, ...], sizes: jax.Array
) -> tuple[jax.Array, jax.Array]:
  total = jnp.sum(jnp.where(known, x, jnp.zeros((), x.dtype)).astype(jnp.float32), axis=axes)
  return total / sizes, jnp.any(known, axis=axes)
