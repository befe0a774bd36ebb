"""Connection sensitivity before training."""

from __future__ import annotations

from typing import Any

from jprune._batches import as_iterable
from jprune._entry import public
from jprune.scores._gradients import gradients, summed, times, weights_of
from jprune.typing import LossFn, Params, Scores


@public
def snip(params: Params, loss_fn: LossFn, *batches: Any, progress: bool = True) -> Scores:
  r"""Connection sensitivity: how much the loss moves when a weight is removed.

  .. math:: s_i = \Bigl|\theta_i \sum_b \partial L_b / \partial \theta_i\Bigr|

  The paper divides all scores by their sum, which changes no order; here they are left as they
  are, in units of the loss. It is meant for one batch, of about ten samples a class, before any
  training.

  Args:
    params: tree of arrays. What is neither floating nor complex is held fixed.
    loss_fn: ``loss_fn(params, batch) -> scalar``, the mean over the batch.
    *batches: at least one batch; their gradients are summed before the absolute value. Or one
      iterable of batches that is no tree, such as a generator or a data loader; unpack a list.
    progress: whether to show a bar, in terminals and notebooks, if it takes long.

  Returns:
    Scores, float32, structure and shapes of ``params``; ``None`` for leaves that are neither
    floating nor complex arrays.

  Raises:
    ValueError: if there is no leaf or no batch; if a gradient is not finite.
    TypeError: if a leaf is a shape struct, a batch holds what is no array, or the loss is no
      floating scalar.

  Examples:
    >>> loss_fn = lambda p, x: jnp.sum(p['w'] * x)
    >>> snip({'w': jnp.array([1.0, -2.0])}, loss_fn, jnp.array([3.0, 1.0]))['w']
    Array([3., 2.], dtype=float32)

  References:
    Lee et al., SNIP: single-shot network pruning based on connection sensitivity, ICLR 2019,
    arXiv:1810.02340
  """
  weights = weights_of('snip', params, loss_fn)
  total, _ = summed(weights, loss_fn, as_iterable('snip', batches), gradients, progress=progress)
  return weights.scores(times, total)
