"""Dense training that is pulled towards a sparse projection, by the method of multipliers."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jprune.transforms._method import ByPath, Method, Step, each, single
from jprune.transforms._sparse_training import sparse_training
from jprune.typing import Schedule


class Duals(NamedTuple):
  """What ADMM keeps beside the weights, float32.

  Attributes:
    target: the sparse weights :math:`z` that training is pulled towards.
    dual: the scaled dual variables :math:`u`.
  """

  target: ByPath
  dual: ByPath


def admm(
  inner: optax.GradientTransformation,
  sparsity: float | Schedule,
  *,
  end: int,
  every: int = 32,
  penalty: float = 0.01,
  weighted: bool = False,
  **settings: Any,
) -> optax.GradientTransformationExtraArgs:
  """ADMM."""

  def strength(count: Any) -> jax.Array:
    x = jnp.minimum(count, end).astype(jnp.float32) / end
    return penalty / 2 * (1 - jnp.cos(np.pi * x))

  def change(step: Step) -> tuple[ByPath, Any]:
    final = step.count >= end
    weights = each(single, step.weights)
    pulled = each(lambda w, u: jnp.where(final, w, w + u), weights, step.memory.dual)
    scores = each(jnp.abs, pulled)
    if weighted:
      scores = each(lambda s, v: s * jnp.sqrt(v), scores, step.second_moments())
    near = step.best(scores)
    target = each(lambda x, mask: jnp.where(mask, x, jnp.zeros_like(x)), pulled, near)
    dual = each(lambda x, z: x - z, pulled, target)
    masks = each(lambda mask: mask | ~final, near)
    return masks, Duals(target, dual)

  def gradient(step: Step) -> ByPath:
    rate = jnp.where(step.count < end, strength(step.count), 0.0)
    pull = lambda g, w, z, u, mask: jnp.where(mask, g + rate * (single(w) - z + u), 0)
    return each(pull, step.grads, step.weights, *step.memory, step.masks)

  start = lambda weights: Duals(
    each(lambda w: single(w) + 0, weights), each(lambda w: jnp.zeros_like(single(w)), weights)
  )
  method = Method('admm', change, remember=start, gradient=gradient, regrows=True)
  return sparse_training(method, inner, sparsity, every=every, end=end, **settings)
