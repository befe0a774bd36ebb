"""From dense to sparse, step by step."""

from __future__ import annotations

from typing import Any, Unpack

import jax
import optax

from jprune.transforms._method import Method, Step
from jprune.transforms._sparse_training import Settings, checked, names_first, sparse_training
from jprune.typing import ByPath, Schedule


@names_first
def gradual(
  inner: optax.GradientTransformation,
  sparsity: float | Schedule,
  *,
  every: int,
  end: int | None = None,
  key: jax.Array | None = None,
  **settings: Unpack[Settings],
) -> optax.GradientTransformationExtraArgs:
  r"""Gradual pruning: the lowest-scoring weights go, more of them each time, and stay at zero.

  .. math:: m_{t+1} = m_t \land \operatorname{top}_{k(t)}(s(w_t))

  What is pruned stays so. The schedule says how: :func:`~jprune.schedules.cubic` is the usual one,
  from a quarter to three quarters of the training; ``one_shot(0.9, at=1000)`` prunes once. With
  ``pattern=NOfM(2, 4)`` each four lose one weight and later two; with
  ``pattern=ChannelGroups(graph)`` whole channels go, and :func:`jprune.shrink` makes the model
  smaller by ``masks_of(state)``, then or in mid-training.

  Args:
    inner: the optimizer.
    sparsity: a schedule of the fraction of zeros, or a number, which is reached at the first step.
    every: the number of calls between changes of masks.
    end: the last call on which masks change; by default the end of the schedule.
    key: a typed random key, for scorers that draw.
    **settings: as for :func:`sparse_training`.

  Returns:
    As :func:`sparse_training`.

  Raises:
    ValueError: as :func:`sparse_training`; if the schedule falls.
    TypeError: as :func:`sparse_training`.

  Examples:
    >>> tx = gradual(optax.sgd(0.1), jprune.schedules.linear(0.0, 0.75, 0, 3), every=1)
    >>> params = {'kernel': jnp.array([[4.0, -3.0], [1.0, 2.0]])}
    >>> state = tx.init(params)
    >>> for _ in range(4):
    ...   updates, state = tx.update({'kernel': jnp.ones((2, 2))}, state, params)
    ...   params = optax.apply_updates(params, updates)
    ...   print(int(jnp.sum(params['kernel'] == 0.0)))
    0
    1
    2
    3

  References:
    Zhu & Gupta, To prune, or not to prune: exploring the efficacy of pruning for model
    compression, 2017, arXiv:1710.01878
  """
  method = Method('gradual', _pruned)
  return sparse_training(
    method,
    inner,
    sparsity,
    every=every,
    end=end,
    key=key,
    **checked('gradual', settings, from_masks=True),
  )


def _pruned(step: Step) -> tuple[ByPath, Any]:
  return step.best(step.scores(), among=step.masks), step.memory
