"""Preserving the gradient flow."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from jprune._batches import as_iterable
from jprune._entry import public
from jprune.scores._gradients import (
  Leaves,
  Loss,
  all_finite,
  gradients,
  hessian_product,
  summed,
  times,
  weights_of,
)
from jprune.typing import LossFn, Params, Scores


@public
def grasp(params: Params, loss_fn: LossFn, *batches: Any, progress: bool = True) -> Scores:
  r"""How much a weight adds to the gradient flow: GraSP.

  .. math:: s_i = \theta_i \, (H g)_i, \qquad g = \sum_b \nabla L_b, \quad H = \sum_b \nabla^2 L_b

  Removing weight i changes :math:`\lVert g \rVert^2` by :math:`-2 s_i`, to first order. Scores
  are signed: weights with the lowest, often negative, scores go first, as their removal makes the
  gradient larger. The paper's score is the negative of this, and its largest are removed.

  The paper divides logits by 200 inside the loss, so that the loss is nearly linear in them. That
  is for ``loss_fn`` to do.

  Args:
    params: tree of arrays. What is neither floating nor complex is held fixed.
    loss_fn: ``loss_fn(params, batch) -> scalar``, the mean over the batch; twice differentiable,
      forward over reverse.
    *batches: at least one batch; or one iterable of batches that is no tree (unpack a list). They
      are needed twice: a data loader is read twice, and has to give the same batches in any order;
      the batches of an iterator that can be read only once are kept in memory.
    progress: whether to show a bar, in terminals and notebooks, if it takes long.

  Returns:
    Scores, float32, structure and shapes of ``params``; ``None`` for leaves that are neither
    floating nor complex arrays.

  Raises:
    ValueError: if there is no leaf or no batch; if a derivative is not finite; if a second
      reading gives another number of batches.
    TypeError: if a leaf is a shape struct, a batch holds what is no array, or the loss is no
      floating scalar.

  Examples:
    >>> hessian = jnp.array([[2.0, 1.0], [1.0, 3.0]])
    >>> loss_fn = lambda p, batch: p['w'] @ hessian @ p['w'] / 2 - batch @ p['w']
    >>> grasp({'w': jnp.array([1.0, -1.0])}, loss_fn, jnp.array([0.0, 1.0]))['w']
    Array([-1.,  8.], dtype=float32)

  References:
    Wang et al., Picking winning tickets before training by preserving gradient flow, ICLR 2020,
    arXiv:2002.07376 (eq. 8)
  """
  weights = weights_of('grasp', params, loss_fn)
  given = _twice(as_iterable('grasp', batches))
  total, first = summed(weights, loss_fn, given, gradients, progress=progress)
  # H is linear: with a vector of entries up to 1 nothing overflows in a narrow dtype
  vector, exponent = _scaled(total)
  again = {'progress': progress, 'before': first}
  products, _ = summed(weights, loss_fn, given, _product, vector, **again)
  values = [_unscaled(each, exponent) for each in products]
  return weights.scores(functools.partial(times, absolute=False), values)


def _twice(batches: Iterable[Any]) -> Iterable[Any]:
  """Something that can be read twice."""
  return list(batches) if iter(batches) is batches else batches


def _product(
  loss: Loss, leaves: Leaves, batch: Any, number: jax.Array, vector: Leaves
) -> tuple[Leaves, Leaves]:
  del number
  products = hessian_product(loss, leaves, batch, vector)
  return products, all_finite(products)


@jax.jit
def _scaled(vector: Leaves) -> tuple[Leaves, jax.Array]:
  """The vector over a power of two, so that its largest entry is below 1 and at least 1/2."""
  largest = [jnp.max(jnp.abs(each), initial=0.0) for each in vector]
  _, exponent = jnp.frexp(jnp.max(jnp.stack([jnp.float32(0), *largest])))
  return [jnp.ldexp(each, -exponent) for each in vector], exponent


@jax.jit
def _unscaled(value: jax.Array, exponent: jax.Array) -> jax.Array:
  return jnp.ldexp(value, exponent)
