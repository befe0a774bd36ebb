"""Optimal brain damage: the diagonal of the Hessian by random probes."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jprune import _checks
from jprune._batches import as_iterable
from jprune._entry import public
from jprune.scores._gradients import (
  Leaves,
  Loss,
  all_finite,
  half_square_times,
  hessian_product,
  summed,
  weights_of,
  zeros_like,
)
from jprune.typing import LossFn, Params, Scores


@public
def obd(
  params: Params,
  loss_fn: LossFn,
  *batches: Any,
  key: jax.Array,
  samples: int = 16,
  progress: bool = True,
) -> Scores:
  r"""How much the loss rises when a weight is removed, by the diagonal of the Hessian.

  .. math:: s_i = \frac12 \theta_i^2 h_i, \qquad
    h = \frac1B \sum_b \frac1S \sum_s z_{bs} \odot H_b z_{bs}, \quad z_{bs} \in \{-1, 1\}^n

  With independent random signs :math:`z` the mean of :math:`z_i (Hz)_i` is :math:`H_{ii}`: exact
  with a single probe if the Hessian is diagonal, else with a variance of
  :math:`\sum_{j \ne i} H_{ij}^2` over the number of probes. Probes are independent across batches,
  so many batches need few samples each.

  Curvature may be negative, away from a minimum or by the noise of the probes. Its sign is kept:
  by this expansion the loss falls without such a weight, so that it goes first, and estimates
  stay unbiased, also where scores add up over a channel. If noise decides, take more samples, or
  :func:`fisher`, which is never negative.

  The score of a complex weight is that of its real part and that of its imaginary part, added up.

  Args:
    params: tree of arrays. What is neither floating nor complex is held fixed.
    loss_fn: ``loss_fn(params, batch) -> scalar``, the mean over the batch; twice differentiable,
      forward over reverse.
    *batches: at least one batch; or one iterable of batches that is no tree, such as a generator
      or a data loader; unpack a list. Each counts the same.
    key: one typed random key.
    samples: probes for each batch; each costs about as much as two gradients.
    progress: whether to show a bar, in terminals and notebooks, if it takes long.

  Returns:
    Scores, float32, in units of the loss, structure and shapes of ``params``; ``None`` for leaves
    that are neither floating nor complex arrays.

  Raises:
    ValueError: if there is no leaf or no batch; if a derivative is not finite; if ``samples``
      isn't an int of at least 1.
    TypeError: if ``key`` isn't one typed random key, a leaf is a shape struct, a batch holds what
      is no array, or the loss is no floating scalar.

  Examples:
    >>> loss_fn = lambda p, x: jnp.sum(x * p['w'] ** 2)
    >>> params = {'w': jnp.array([1.0, -2.0])}
    >>> obd(params, loss_fn, jnp.array([3.0, 1.0]), key=jax.random.key(0))['w']
    Array([3., 4.], dtype=float32)

  References:
    LeCun et al., Optimal brain damage, NeurIPS 1989; Bekas et al., An estimator for the diagonal
    of a matrix, Applied Numerical Mathematics 57, 2007
  """
  weights = weights_of('obd', params, loss_fn)
  _checks.check_key('obd', key)
  _checks.check_positive_int('obd', 'samples', samples)
  given = as_iterable('obd', batches)
  term = functools.partial(_diagonal, samples)
  total, count = summed(weights, loss_fn, given, term, key, progress=progress)
  return weights.scores(half_square_times, [each / count for each in total])


def _diagonal(
  samples: int, loss: Loss, leaves: Leaves, batch: Any, number: jax.Array, key: jax.Array
) -> tuple[Leaves, Leaves]:
  """The term that is the diagonal of the Hessian of one batch."""

  def probe(total: Leaves, key: jax.Array) -> tuple[Leaves, None]:
    signs = [_signs(leaf, k) for leaf, k in zip(leaves, jax.random.split(key, len(leaves)))]
    products = hessian_product(loss, leaves, batch, signs)
    return [a + z * each for a, z, each in zip(total, signs, products)], None

  keys = jax.random.split(jax.random.fold_in(key, number), samples)
  total, _ = lax.scan(probe, [zeros_like(leaf) for leaf in leaves], keys)
  return [each / samples for each in total], all_finite(total)


def _signs(leaf: jax.Array, key: jax.Array) -> jax.Array:
  """Random signs for a leaf, drawn where it lies."""
  drawn = jax.random.rademacher(key, leaf.shape, jnp.float32)
  sharding = jax.typeof(leaf).sharding
  if sharding.mesh.explicit_axes and jax.typeof(drawn).sharding != sharding:
    drawn = jax.sharding.reshard(drawn, sharding)
  return jnp.where(leaf == leaf, drawn, drawn)  # only an operation on both ties them together
