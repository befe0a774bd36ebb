"""The diagonal of the empirical Fisher information as curvature."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jprune import _checks
from jprune._batches import as_iterable
from jprune._entry import public
from jprune.scores._gradients import half_square_times, summed, weights_of
from jprune.scores._taylor_batches import sample_count, sample_term
from jprune.typing import LossFn, Params, Scores


@public
def fisher(
  params: Params, loss_fn: LossFn, *batches: Any, chunk: int = 16, progress: bool = True
) -> Scores:
  r"""How much the loss rises when a weight is removed, by the diagonal empirical Fisher.

  .. math:: s_i = \frac12 \theta_i^2 \, \frac1N \sum_n (\partial L_n / \partial \theta_i)^2

  Near a minimum the loss changes by :math:`\frac12 \theta_i^2 H_{ii}`. Where the loss is a
  negative log-likelihood that describes the data, the mean square of the gradients of single
  samples estimates the curvature :math:`H_{ii}`; it is never negative and costs one gradient a
  sample. Squares are taken in float32: gradients below 1e-22 count as zero.

  The score of a complex weight is that of its real part and that of its imaginary part, added up.

  Args:
    params: tree of arrays. What is neither floating nor complex is held fixed.
    loss_fn: ``loss_fn(params, batch) -> scalar``, a negative log-likelihood. It is called with
      batches of one sample, whose axis 0 has length 1.
    *batches: at least one batch; or one iterable of batches that is no tree, such as a generator
      or a data loader; unpack a list. Axis 0 of each leaf counts the samples.
    chunk: how many samples are looked at together; memory holds as many gradients.
    progress: whether to show a bar, in terminals and notebooks, if it takes long.

  Returns:
    Scores, float32, structure and shapes of ``params``; ``None`` for leaves that are neither
    floating nor complex arrays.

  Raises:
    ValueError: if there is no leaf or no batch; if leaves of a batch differ in the number of
      samples; if the square of a gradient is not finite; if ``chunk`` isn't an int of at least 1.
    TypeError: if a leaf is a shape struct, a batch holds what is no array, or the loss is no
      floating scalar.

  Examples:
    >>> loss_fn = lambda p, x: jnp.mean(x @ p['w'])
    >>> params = {'w': jnp.array([1.0, -2.0])}
    >>> fisher(params, loss_fn, jnp.array([[3.0, 1.0], [-3.0, 1.0]]))['w']
    Array([4.5, 2. ], dtype=float32)

  References:
    Theis et al., Faster gaze prediction with dense networks and Fisher pruning, 2018,
    arXiv:1801.05787 (eq. 7-9); Kunstner et al., Limitations of the empirical Fisher
    approximation, NeurIPS 2019, arXiv:1905.12558
  """
  weights = weights_of('fisher', params, loss_fn)
  _checks.check_positive_int('fisher', 'chunk', chunk)
  given = as_iterable('fisher', batches)
  size_of = lambda number, batch: sample_count('fisher', number, batch)
  term = sample_term(chunk, [_squares] * len(weights.floating))
  total, count = summed(weights, loss_fn, given, term, progress=progress, size_of=size_of)
  return weights.scores(half_square_times, [each / count for each in total])


def _squares(grads: jax.Array, leaf: jax.Array) -> jax.Array:
  del leaf
  return jnp.square(grads)
