"""Weights stay for moving away from zero, whatever their size: what fine-tuning needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Unpack, cast

import jax
import jax.numpy as jnp
import optax

from jprune import _checks, schedules
from jprune.transforms import _errors
from jprune.transforms._method import Method, Step, each, single
from jprune.transforms._sparse_training import (
  Settings,
  checked,
  names_first,
  not_scored,
  sparse_training,
)
from jprune.typing import ByPath, Schedule, Where


class Movements(NamedTuple):
  """What movement pruning keeps beside the weights.

  Attributes:
    scores: of the weights: float32, 0 at first.
    optimizer: state of the optimizer that moves them.
  """

  scores: ByPath
  optimizer: optax.OptState


@names_first
def movement(
  inner: optax.GradientTransformation,
  sparsity: float | Schedule,
  *,
  every: int,
  optimizer: optax.GradientTransformation | None = None,
  end: int | None = None,
  **settings: Unpack[Settings],
) -> optax.GradientTransformationExtraArgs:
  r"""Movement pruning: keeps the weights that training moves away from zero.

  Each weight has a score that its gradients move as they would move a factor in front of it:

  .. math:: S \leftarrow S - \eta_S\, w \odot \nabla L(m \odot w)

  and those with the highest scores stay. The state holds dense weights :math:`w`, of which the
  params show :math:`m \odot w`; so weights may come back, as the scores of pruned ones go on to
  move. The weights themselves rest while they are pruned: their gradients are zero.

  Made for the fine-tuning of pretrained models, with a cubic schedule.

  Args:
    inner: an optimizer, of the weights.
    sparsity: fraction of zeros in [0, 1], or a schedule of it; it may fall.
    every: masks change on calls whose count is a multiple of this (1 in the paper), and at the end
      of the schedule.
    optimizer: moves the scores; by default ``optax.sgd(1.0)``, the formula above. The authors' code
      has ``optax.adam(1e-2)``.
    end: the last call on which masks change; by default none.
    **settings: as for :func:`sparse_training`, but for a scorer and running means.

  Returns:
    An optimizer with a :class:`SparseState`.

  Raises:
    ValueError: for what is no sparsity or no step; at ``init``, for leaves that can't be pruned so.
    TypeError: for an argument of another kind, or a scorer.

  Examples:
    >>> tx = movement(optax.sgd(0.1), 0.5, every=1)
    >>> params = {'kernel': jnp.array([[1.0, -3.0], [2.0, 0.5]])}
    >>> grads = {'kernel': jnp.array([[-1.0, -1.0], [1.0, -1.0]])}
    >>> updates, state = tx.update(grads, tx.init(params), params)
    >>> state.memory.scores['kernel']
    Array([[ 1. , -3. ],
           [-2. ,  0.5]], dtype=float32)
    >>> optax.apply_updates(params, updates)['kernel']
    Array([[1.1, 0. ],
           [0. , 0.6]], dtype=float32)

  References:
    Sanh et al., Movement pruning: adaptive sparsity by fine-tuning, NeurIPS 2020, arXiv:2005.07683,
    sections 3 and 4
  """
  not_scored('movement', settings)
  optimizer = optax.sgd(1.0) if optimizer is None else optimizer
  change = lambda step: (step.best(step.memory.scores), step.memory)
  method = _moving('movement', optimizer, _slopes, change)
  return sparse_training(
    method, inner, sparsity, every=every, end=end, **checked('movement', settings)
  )


def soft_movement(
  inner: optax.GradientTransformation,
  threshold: float | Schedule = 0.1,
  *,
  every: int,
  pull: float | Callable[[Any], Any],
  optimizer: optax.GradientTransformation | None = None,
  end: int | None = None,
  where: Where = None,
  packed: bool = False,
) -> optax.GradientTransformationExtraArgs:
  r"""Soft movement pruning: as many weights stay as training finds worth their cost.

  Scores move as in :func:`movement`, and a regulariser pulls them down,

  .. math:: \frac{\partial}{\partial S} \Big( L + \lambda \sum_{ij} \sigma(S_{ij}) \Big)

  and a weight stays as long as :math:`\sigma(S)` is above a threshold :math:`\tau`. The sparsity is
  what comes out, for each leaf its own: :func:`metrics` tells it. The larger :math:`\lambda`, the
  fewer weights stay.

  Args:
    inner: an optimizer, of the weights.
    threshold: :math:`\tau` in [0, 1], or a schedule of it. Scores start at 0, of which
      :math:`\sigma` is 1/2: the threshold starts below that.
    every: masks change on calls whose count is a multiple of this (1 in the paper).
    pull: :math:`\lambda` of one weight, at least 0; or a function of the count, in the paper one
      that rises by a cubic schedule. It works against :math:`w\,\partial L/\partial w`, which is
      small: the authors' code takes the mean of all :math:`\sigma(S)`, so what is given there is to
      be divided by the number of weights.
    optimizer: moves the scores; by default ``optax.adam(1e-2)``, as in the authors' code.
    end: the last change; by default masks change for good.
    where: which leaves are pruned, as for :func:`jprune.prune`.
    packed: hold masks at one bit a weight.

  Returns:
    An optimizer with a :class:`SparseState`.

  Raises:
    ValueError: for a threshold that starts at 1/2 or higher, a negative pull, or what is no step.
    TypeError: for an argument of another kind.

  Examples:
    >>> tx = soft_movement(optax.sgd(0.1), every=1, pull=1.0, optimizer=optax.sgd(10.0))
    >>> params = {'kernel': jnp.array([[1.0, -3.0], [2.0, 0.5]])}
    >>> grads = {'kernel': jnp.array([[-0.1, -0.1], [0.1, -1.0]])}
    >>> updates, state = tx.update(grads, tx.init(params), params)
    >>> state.memory.scores['kernel']  # 1/4 of the pull, and w * g
    Array([[-1.5, -5.5],
           [-4.5,  2.5]], dtype=float32)
    >>> optax.apply_updates(params, updates)['kernel']
    Array([[1.01, 0.  ],
           [0.  , 0.6 ]], dtype=float32)

  References:
    Sanh et al., Movement pruning: adaptive sparsity by fine-tuning, NeurIPS 2020, arXiv:2005.07683,
    section 4, soft movement pruning
  """
  name = 'soft_movement'
  if not callable(threshold):
    _checks.static_fraction(name, 'threshold', threshold)
  level = threshold if callable(threshold) else schedules.constant(threshold)
  _errors.check_starts_below(name, float(level(0)), 0.5)
  if callable(pull):
    strength = pull
  else:
    rate = _checks.non_negative_number(name, 'pull', pull)
    strength = lambda count: rate
  optimizer = optax.adam(1e-2) if optimizer is None else optimizer

  def slopes(step: Step) -> ByPath:
    down = jnp.asarray(strength(step.count), jnp.float32)
    slope = lambda s: jax.nn.sigmoid(s) * jax.nn.sigmoid(-s)
    pulled = lambda move, s: move + (down * slope(s)).astype(move.dtype)
    return each(pulled, _slopes(step), step.memory.scores)

  def change(step: Step) -> tuple[ByPath, Movements]:
    above = lambda s: jax.nn.sigmoid(s) > jnp.asarray(level(step.count), s.dtype)
    return each(above, step.memory.scores), step.memory

  method = _moving(name, optimizer, slopes, change)
  return sparse_training(method, inner, 0.0, every=every, end=end, where=where, packed=packed)


def _moving(
  name: str,
  optimizer: optax.GradientTransformation,
  slopes: Callable[[Step], ByPath],
  change: Callable[[Step], tuple[ByPath, Movements]],
) -> Method:
  """A method with scores that an optimizer moves along some slopes."""

  def start(weights: ByPath) -> Movements:
    scores = each(lambda w: jnp.zeros_like(single(w)), weights)
    return Movements(scores, optimizer.init(scores))

  def observe(step: Step) -> Movements:
    scores, state = step.memory
    moves, state = optimizer.update(slopes(step), state, scores)
    return Movements(each(optax.apply_updates, scores, cast(ByPath, moves)), state)

  def gradient(step: Step) -> ByPath:
    return each(lambda g, mask: jnp.where(mask, g, 0), step.grads, step.masks)

  return Method(
    name, change, remember=start, observe=observe, gradient=gradient, dense=True, regrows=True
  )


def _slopes(step: Step) -> ByPath:
  """By how much the loss rises with a factor in front of each weight."""
  return each(lambda w, g: single(w) * g.astype(single(w).dtype), step.weights, step.grads)
