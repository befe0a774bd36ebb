"""Dense training that is pulled towards a sparse projection, by the method of multipliers."""

from __future__ import annotations

from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jprune import _checks
from jprune.transforms._method import Method, Step, each, single
from jprune.transforms._sparse_training import (
  Settings,
  checked,
  names_first,
  not_scored,
  sparse_training,
)
from jprune.typing import ByPath, Schedule


class Duals(NamedTuple):
  """What ADMM keeps beside the weights, float32.

  Attributes:
    target: the sparse weights :math:`z` that training is pulled towards.
    dual: the scaled dual variables :math:`u`, what pulling has not achieved so far.
  """

  target: ByPath
  dual: ByPath


@names_first
def admm(
  inner: optax.GradientTransformation,
  sparsity: float | Schedule,
  *,
  end: int,
  every: int = 32,
  penalty: float = 0.1,
  weighted: bool = False,
  **settings: Unpack[Settings],
) -> optax.GradientTransformationExtraArgs:
  r"""The alternating direction method of multipliers: dense weights that become sparse by and by.

  Minimises the loss over weights of which so many are zero, by three steps in turn: the inner
  optimizer moves dense weights :math:`w` by the gradient and a pull towards sparse ones,

  .. math:: \nabla L(w) + \lambda_t\,(w - z + u), \qquad
    \lambda_t = \frac{\lambda}{2} \left(1 - \cos \frac{\pi t}{T}\right)

  and on every K-th call, before that,

  .. math:: z \leftarrow \operatorname{top}_k(w + u), \qquad u \leftarrow u + w - z

  So no weight is cut off while the loss still depends on it, and what is cut off at the end,
  step :math:`T`, is next to nothing. The last projection is exact: from then on masks stay, pruned
  weights are zero, and the others go on training by the gradient alone.

  Args:
    inner: an optimizer. Its momentum and its scaling act on the pull as on the gradient.
    sparsity: fraction of zeros in [0, 1], or a schedule of it, up to ``end`` at most.
    end: :math:`T`, the step of the last projection, at least 1. Some steps after it let the
      weights that stay settle down.
    every: :math:`K`, steps from projection to projection.
    penalty: :math:`\lambda`, positive. Where it is too small, the last projection costs much; where
      it is too large, weights are chosen before they are trained.
    weighted: whether projections are the nearest as the optimizer's second moment :math:`v` weighs
      distances, an estimate of the curvature: :math:`\sqrt{v}\,|w + u|` decides instead of
      :math:`|w + u|`. For Adam-like optimizers; on the first call, which has none, as without it.
    **settings: as for :func:`sparse_training`, but for a scorer and running means.

  Returns:
    An optimizer with a :class:`SparseState`, whose masks keep everything up to ``end``.

  Raises:
    ValueError: for what is no sparsity or no step, or a penalty that is not positive; at ``init``,
      for leaves that can't be pruned so; at the first ``update``, if the inner optimizer has no
      second moment of a leaf where ``weighted`` asks for it.
    TypeError: for an argument of another kind, or a scorer.

  Examples:
    >>> tx = admm(optax.sgd(0.1), 0.5, end=100, every=10, penalty=1.0)
    >>> curvature = jnp.array([[1.0, 0.1], [1.0, 0.1]])
    >>> best = jnp.array([[1.0, -1.5], [2.0, 0.5]])
    >>> params = {'kernel': best}  # large where it matters least
    >>> state = tx.init(params)
    >>> step = jax.jit(tx.update)
    >>> for _ in range(102):
    ...   grads = {'kernel': curvature * (params['kernel'] - best)}
    ...   updates, state = step(grads, state, params)
    ...   params = optax.apply_updates(params, updates)
    >>> params['kernel'].round(1)
    Array([[1., 0.],
           [2., 0.]], dtype=float32)

  References:
    Lee et al., SAFE: finding sparse and flat minima to improve pruning, ICML 2025, arXiv:2506.06866
    Lee et al., The unseen frontier: pushing the limits of LLM sparsity with surrogate-free ADMM
    (ELSA), 2025, arXiv:2510.01650
    Boyd et al., Distributed optimization and statistical learning via the alternating direction
    method of multipliers, 2011, section 9.1
  """
  not_scored('admm', settings)
  rate = _checks.positive_number('admm', 'penalty', penalty)
  _checks.check_step('admm', 'end', end)
  _checks.check_later('admm', 'end', end, 0)

  def change(step: Step) -> tuple[ByPath, Duals]:
    final = step.count >= end
    pulled = lambda w, u: jnp.where(final, single(w), single(w) + u)
    whole = each(pulled, step.weights, step.memory.dual)
    scores = each(jnp.abs, whole)
    if weighted:
      weigh = lambda s, v: jnp.where(step.count > 0, s * jnp.sqrt(single(v)), s)
      scores = each(weigh, scores, step.second_moments())
    near = step.best(scores)
    target = each(lambda x, mask: jnp.where(mask, x, 0), whole, near)
    dual = each(jnp.subtract, whole, target)
    return each(lambda mask: mask | ~final, near), Duals(target, dual)

  def gradient(step: Step) -> ByPath:
    strength = jnp.where(step.count < end, _risen(rate, step.count, end), 0)

    def pull(g: Any, w: Any, z: Any, u: Any, mask: Any) -> jax.Array:
      return jnp.where(mask, g + strength.astype(z.dtype) * (single(w) - z + u), 0)

    return each(pull, step.grads, step.weights, *step.memory, step.masks)

  start = lambda weights: Duals(
    each(lambda w: single(w) + 0, weights), each(lambda w: jnp.zeros_like(single(w)), weights)
  )
  method = Method('admm', change, remember=start, gradient=gradient, regrows=True)
  settings['clock'] = False  # nothing ever comes back
  return sparse_training(method, inner, sparsity, every=every, end=end, **checked('admm', settings))


def _risen(penalty: float, count: Any, end: int) -> jax.Array:
  """The penalty at a step, risen from 0 by half a cosine."""
  share = jnp.minimum(jnp.asarray(count), end).astype(jnp.float32) / end
  return penalty / 2 * (1 - jnp.cos(np.float32(np.pi) * share))
