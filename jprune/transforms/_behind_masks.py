"""Dense weights live on behind the masks, and come back when they have grown."""

from __future__ import annotations

from typing import Any, Unpack

import jax
import jax.numpy as jnp
import optax

from jprune import _checks
from jprune.masks import ChannelGroups, NOfM
from jprune.transforms._method import Method, Step, each, single
from jprune.transforms._sparse_training import (
  Settings,
  SettingsAndDistribution,
  checked,
  names_first,
  sparse_training,
)
from jprune.typing import ByPath, Pattern, Schedule


@names_first
def straight_through(
  inner: optax.GradientTransformation,
  sparsity: float | Schedule,
  *,
  every: int = 1,
  end: int | None = None,
  key: jax.Array | None = None,
  **settings: Unpack[Settings],
) -> optax.GradientTransformationExtraArgs:
  r"""Prunes what the model sees, and trains what stands behind it: weights may come back.

  The state holds dense weights :math:`w`; the params show :math:`m \odot w`, where the mask
  :math:`m` keeps the best of the dense weights. So loss and evaluation see a sparse model, and the
  gradient at it, as if masking had been the identity, moves all dense weights by the inner
  optimizer:

  .. math:: w \leftarrow w - \eta\, \nabla L(m \odot w)

  This is a straight-through estimator, and dynamic pruning with feedback: the error of pruning is
  fed back into the weights that were pruned. What a call chooses, its params show; so the gradients
  of the next call are those at this mask.

  Args:
    inner: an optimizer, of the dense weights.
    sparsity: fraction of zeros in [0, 1], or a schedule of it; it may fall.
    every: masks change on calls whose count is a multiple of this (16 in the paper), and at the
      end of the schedule.
    end: the last call on which masks change; by default none.
    key: a typed random key, for scorers that draw.
    **settings: as for :func:`sparse_training`.

  Returns:
    An optimizer with a :class:`SparseState`.

  Raises:
    ValueError: for what is no sparsity or no step; at ``init``, for leaves that can't be pruned so.
    TypeError: for an argument of another kind.

  Examples:
    >>> tx = straight_through(optax.sgd(1.0), 0.5)
    >>> params = {'kernel': jnp.array([[1.0, -3.0], [2.0, 0.5]])}
    >>> grads = {'kernel': jnp.array([[-4.0, 0.0], [0.0, 0.0]])}
    >>> state = tx.init(params)
    >>> updates, state = tx.update(grads, state, params)
    >>> params = optax.apply_updates(params, updates)
    >>> params['kernel']  # chosen before the step
    Array([[ 0., -3.],
           [ 2.,  0.]], dtype=float32)
    >>> updates, state = tx.update({'kernel': jnp.zeros((2, 2))}, state, params)
    >>> optax.apply_updates(params, updates)['kernel']  # 5 has grown behind its mask
    Array([[ 5., -3.],
           [ 0.,  0.]], dtype=float32)

  References:
    Lin et al., Dynamic model pruning with feedback, ICLR 2020, arXiv:2006.07253
    Bengio et al., Estimating or propagating gradients through stochastic neurons, 2013,
    arXiv:1308.3432
  """
  method = Method('straight_through', _best, dense=True, regrows=True)
  return sparse_training(
    method, inner, sparsity, every=every, end=end, key=key, **checked('straight_through', settings)
  )


@names_first
def sr_ste(
  inner: optax.GradientTransformation,
  sparsity: float | Schedule | None = None,
  *,
  every: int = 1,
  pattern: Pattern | NOfM | ChannelGroups = NOfM(2, 4),
  decay: float = 2e-4,
  end: int | None = None,
  key: jax.Array | None = None,
  **settings: Unpack[SettingsAndDistribution],
) -> optax.GradientTransformationExtraArgs:
  r"""Sparse-refined straight-through: what is pruned decays, so that masks settle down.

  As :func:`straight_through`, but the gradient of the dense weights :math:`w` is

  .. math:: g + \lambda\, (1 - m) \odot w

  so that a pruned weight goes to zero unless its gradients keep it up. The term goes through the
  inner optimizer with the gradient, as in the paper.

  Args:
    inner: an optimizer, of the dense weights.
    sparsity: fraction of zeros in [0, 1], or a schedule of it. An N:M pattern needs none: it is
      :math:`1 - n/m`; a schedule up to that lets n come down from m step by step.
    every: masks change on calls whose count is a multiple of this, and at the end of the schedule.
    pattern: N:M, or any other.
    decay: :math:`\lambda`, at least 0.
    end: the last call on which masks change; by default none.
    key: a typed random key, for scorers that draw.
    **settings: as for :func:`sparse_training`.

  Returns:
    An optimizer with a :class:`SparseState`.

  Raises:
    ValueError: for what is no sparsity, no step, or no decay; at ``init``, for leaves that can't be
      pruned so.
    TypeError: for an argument of another kind, or if there is no sparsity for a pattern that is not
      N:M.

  Examples:
    >>> tx = sr_ste(optax.sgd(1.0), pattern=jprune.NOfM(1, 2), decay=0.5)
    >>> params = {'kernel': jnp.array([[1.0, -3.0], [2.0, 0.5]])}
    >>> updates, state = tx.update({'kernel': jnp.zeros((2, 2))}, tx.init(params), params)
    >>> optax.apply_updates(params, updates)['kernel']
    Array([[ 0., -3.],
           [ 2.,  0.]], dtype=float32)
    >>> state.dense['kernel']
    Array([[ 0.5 , -3.  ],
           [ 2.  ,  0.25]], dtype=float32)

  References:
    Zhou et al., Learning N:M fine-grained structured sparse neural networks from scratch, ICLR
    2021, arXiv:2102.04010, equation 9
  """
  rate = _checks.non_negative_number('sr_ste', 'decay', decay)

  def gradient(step: Step) -> ByPath:
    pulled = lambda g, w, mask: jnp.where(mask, g, g + rate * single(w))
    return each(pulled, step.grads, step.weights, step.masks)

  method = Method('sr_ste', _best, dense=True, regrows=True, gradient=gradient)
  return sparse_training(
    method,
    inner,
    sparsity_of(sparsity, pattern),
    every=every,
    end=end,
    key=key,
    pattern=pattern,
    **checked('sr_ste', settings),
  )


def _best(step: Step) -> tuple[ByPath, Any]:
  return step.best(step.scores()), step.memory


def sparsity_of(sparsity: float | Schedule | None, pattern: Any) -> Any:
  """The sparsity; where none is given, the one that an N:M pattern has."""
  if sparsity is None and isinstance(pattern, NOfM):
    return pattern.sparsity
  return sparsity
