"""N:M by a continuous projection: soft thresholds instead of a choice that jumps."""

from __future__ import annotations

from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
import optax

from jprune.masks import ChannelGroups, NOfM
from jprune.masks._auto import following
from jprune.masks._forms import Forms
from jprune.masks._patterns import axis_of
from jprune.transforms import _errors
from jprune.transforms._behind_masks import sparsity_of
from jprune.transforms._method import Method, Step, each, magnitudes, single
from jprune.transforms._sparse_training import (
  SettingsAndDistribution,
  checked,
  names_first,
  not_scored,
  sparse_training,
)
from jprune.typing import ByPath, Pattern, Schedule


class Scales(NamedTuple):
  """What soft weights are multiplied by.

  Attributes:
    scale: the scale of each leaf, a float32 scalar.
  """

  scale: ByPath


@names_first
def s_ste(
  inner: optax.GradientTransformation,
  sparsity: float | Schedule | None = None,
  *,
  every: int = 1,
  pattern: Pattern | NOfM | ChannelGroups = NOfM(2, 4),
  end: int | None = None,
  **settings: Unpack[SettingsAndDistribution],
) -> optax.GradientTransformationExtraArgs:
  r"""Smooth straight-through: N:M weights that fade in and out.

  As :func:`straight_through`, but the params show the dense weights :math:`w` by a continuous
  function of them: less, in each group, the largest magnitude :math:`t` that is pruned, the
  :math:`(m - n)`-th smallest (of 2:4 the second-smallest), times a scale that is fixed once:

  .. math::
    S(w) = \operatorname{sign}(w) \max(|w| - t, 0), \qquad
    \beta = \frac{\langle w, S(w) \rangle}{\|S(w)\|^2}, \qquad
    \text{params} = \beta\, S(w)

  So no weight jumps when it changes places with another. :math:`\beta`, which brings the leaf as
  near to the dense one as a scale can, is computed when masks are first chosen, and anew only where
  a schedule lets n come down. Layers that are stacked in one leaf share it.

  Args:
    inner: an optimizer, of the dense weights.
    sparsity: ``None`` for :math:`1 - n/m`; a schedule up to that lets n come down from m.
    every: masks change on calls whose count is a multiple of this, and at the end of the schedule.
    pattern: an :class:`jprune.masks.NOfM`.
    end: the last call on which masks change; by default none.
    **settings: as for :func:`sparse_training`, but weights are chosen by magnitude.

  Returns:
    An optimizer with a :class:`SparseState`, whose masks have n of every m. A weight that is as
    small as the largest pruned one of its group shows as 0 though it is kept.

  Raises:
    ValueError: for what is no sparsity or no step; at ``init``, for leaves that the pattern doesn't
      divide.
    TypeError: for an argument of another kind, a pattern that is not N:M, or a scorer.

  Examples:
    >>> tx = s_ste(optax.sgd(1.0))
    >>> params = {'kernel': jnp.array([[4.0, 1.0], [-2.0, 2.0], [1.0, 3.0], [0.5, 4.0]])}
    >>> updates, state = tx.update({'kernel': jnp.zeros((4, 2))}, tx.init(params), params)
    >>> state.memory.scale['kernel']
    Array(1.6666666, dtype=float32)
    >>> optax.apply_updates(params, updates)['kernel']
    Array([[ 5.       ,  0.       ],
           [-1.6666666,  0.       ],
           [ 0.       ,  1.6666666],
           [ 0.       ,  3.3333333]], dtype=float32)

  References:
    Hu et al., S-STE: continuous pruning function for efficient 2:4 sparse pre-training, NeurIPS
    2024, arXiv:2409.09099, section 4
  """
  if not isinstance(pattern, NOfM):
    raise _errors.no_n_of_m('s_ste', pattern)
  not_scored('s_ste', settings)

  def soft(step: Step, masks: ByPath) -> ByPath:
    groups = Forms('s_ste', step.weights, pattern, settings.get('roles'), True, step.shapes)
    less = lambda w, mask: _less_threshold(w, mask, groups.pattern)
    return groups.join(jax.tree.map(less, groups.split(step.weights), groups.split(masks)))

  def change(step: Step) -> tuple[ByPath, Scales]:
    masks = step.best(magnitudes(step.weights))
    found = each(_scale, step.weights, soft(step, masks))
    same = each(lambda new, old: _count(new) == _count(old), masks, step.masks)
    return masks, Scales(each(jnp.where, same, step.memory.scale, found))

  def show(step: Step) -> ByPath:
    scaled = lambda scale, x: scale.astype(x.dtype) * x
    return each(scaled, step.memory.scale, soft(step, step.masks))

  start = lambda weights: Scales(each(lambda w: jnp.ones((), jnp.float32), weights))
  method = Method('s_ste', change, remember=start, show=show, dense=True, regrows=True)
  return sparse_training(
    method,
    inner,
    sparsity_of(sparsity, pattern),
    every=every,
    end=end,
    pattern=pattern,
    **checked('s_ste', settings),
  )


def _less_threshold(weight: jax.Array, mask: jax.Array, pattern: NOfM) -> jax.Array:
  """Kept weights, less the largest magnitude that their group prunes: float32."""

  def soft(xs: list[jax.Array], mask: jax.Array) -> list[jax.Array]:
    weight = single(xs[0])
    if not weight.size:
      return [weight]
    size = jnp.abs(weight)
    most = _most_of_groups(jnp.where(mask, 0, size), pattern)
    return [jnp.where(mask, jnp.sign(weight) * jnp.maximum(size - most, 0), 0)]

  return following(soft, [weight], mask)[0]


def _most_of_groups(x: jax.Array, pattern: NOfM) -> jax.Array:
  """For each number, none below 0, the largest of its group."""
  axis, m = axis_of(pattern, x.shape), pattern.m
  length = x.shape[axis]
  padded = jnp.pad(x, [(0, -length % m if i == axis else 0) for i in range(x.ndim)])
  groups = padded.reshape(*x.shape[:axis], -1, m, *x.shape[axis + 1 :])
  most = jnp.max(groups, axis=axis + 1, keepdims=True, initial=0)
  whole = jnp.broadcast_to(most, groups.shape).reshape(padded.shape)
  return jax.lax.slice_in_dim(whole, 0, length, axis=axis)


def _scale(weight: jax.Array, soft: jax.Array) -> jax.Array:
  """By what soft weights come nearest to the whole ones; 1 if there are none."""
  own = jnp.sum(jnp.square(soft))
  scale = jnp.sum(single(weight) * soft) / jnp.where(own > 0, own, 1)
  return jnp.where(own > 0, scale, 1).astype(jnp.float32)


def _count(mask: jax.Array) -> jax.Array:
  """How many weights a mask keeps, as far as equality goes: modulo 2**32."""
  return jnp.sum(mask, dtype=jnp.uint32)
