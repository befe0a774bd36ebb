"""Sparse to sparse with a constant fan-in: every neuron has as many inputs, or none at all."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jprune import distributions, schedules, scores, tree
from jprune.masks import _keys, _rows, _select, _wide
from jprune.masks._forms import rows
from jprune.transforms._method import ByPath, Method, Step, magnitudes
from jprune.transforms._sparse_training import sparse_training
from jprune.typing import Schedule


def srigl(
  inner: optax.GradientTransformation,
  sparsity: float | Schedule,
  *,
  every: int,
  key: jax.Array,
  end: int | None = None,
  drop: float | Schedule = 0.3,
  gamma: float = 0.3,
  ablate: Any = None,
  distribution: Any = distributions.erk,
  **settings: Any,
) -> optax.GradientTransformationExtraArgs:
  """SRigL."""
  fraction = drop if callable(drop) else schedules.constant(drop)
  roles = settings.get('roles')

  def start(step: Step) -> ByPath:
    columns = Columns('srigl', step.weights, roles)
    random = columns.split(scores.random(step.weights, step.key))
    return columns.join([started(x, k) for x, k in zip(random, step.kept, strict=True)])

  def change(step: Step) -> tuple[ByPath, Any]:
    columns = Columns('srigl', step.weights, roles)
    split = columns.split
    weights, grads = split(magnitudes(step.weights)), split(magnitudes(step.grads))
    masks = split(step.masks)
    may = columns.owners(ablatable(step.weights, ablate))
    out = []
    for w, g, mask, budget, ablates in zip(weights, grads, masks, step.kept, may, strict=True):
      stay, alive = changed(w, g, mask, budget, fraction(step.count), gamma, ablates)
      out.append(grown(w, g, stay, alive, budget))
    return columns.join(out), ()

  method = Method('srigl', change, start, regrows=True, random=True)
  return sparse_training(
    method, inner, sparsity, every=every, end=end, key=key, distribution=distribution, **settings
  )


def ablatable(weights: ByPath, ablate: Any) -> list[bool]:
  """Of which leaves neurons may go."""
  if ablate is None:
    return [False] * len(weights)
  if hasattr(ablate, 'groups'):
    members = ((m.path, m.axis) for group in ablate.groups for m in group.members)
    outputs = {path for path, axis in members if axis == weights[path].ndim - 1}
    return [path in outputs for path in weights]
  return tree.matching('srigl', 'ablate', weights, ablate)


class Columns:
  """Leaves as matrices ``(fan-in, neurons)``, and back."""

  def __init__(self, function: str, weights: ByPath, roles: Any) -> None:
    self._forms = rows(function, weights, roles)
    self._shapes: list[tuple[int, ...]] = []

  def split(self, leaves: ByPath) -> list[jax.Array]:
    """Matrices of leaves, layers of stacks one by one."""
    parts, self._treedef = jax.tree.flatten(self._forms.split(leaves))
    self._shapes = [part.shape for part in parts]
    return [part.reshape(-1, part.shape[-1]) for part in parts]

  def owners(self, of_leaves: list[Any]) -> list[Any]:
    """For each matrix what there is for its leaf."""
    return jax.tree.leaves(self._forms.shares(of_leaves))

  def join(self, matrices: list[jax.Array]) -> ByPath:
    """Leaves of matrices."""
    parts = [matrix.reshape(shape) for matrix, shape in zip(matrices, self._shapes, strict=True)]
    return self._forms.join(self._treedef.unflatten(parts))


def started(random: jax.Array, kept: jax.Array) -> jax.Array:
  """A mask ``(fan-in, neurons)`` with as many random inputs of each neuron."""
  fan = _fan(kept, random.shape[1], random.shape[0])
  return _rows.largest(random, _wide.wide(fan), 0)


def changed(
  weights: jax.Array,
  grads: jax.Array,
  mask: jax.Array,
  budget: jax.Array,
  fraction: jax.Array,
  least: float,
  ablates: bool,
) -> tuple[jax.Array, jax.Array]:
  """What stays of the weights, and which neurons do.

  Args:
    weights: magnitudes ``(fan-in, neurons)``.
    grads: magnitudes.
    mask: in force.
    budget: how many weights the matrix is to keep, wide.
    fraction: of its weights that are dropped.
    least: the fraction of the fan-in that has to be salient in a neuron that stays.
    ablates: whether neurons may go.

  Returns:
    Bools ``(fan-in, neurons)`` and ``(neurons,)``.
  """
  alive = jnp.any(mask, axis=0)
  there = _wide.count(mask)
  neurons = jnp.maximum(jnp.sum(alive, dtype=jnp.uint32), 1)
  fan = _wide.narrow(there) // neurons
  dropped = _wide.share(fraction, there)
  stay = _among(weights, mask, _wide.subtract(there, dropped))
  if not ablates:
    return stay, alive
  salient = stay | _among(grads, ~mask & alive[None], dropped)
  count = jnp.sum(salient, axis=0, dtype=jnp.uint32)
  needed = jnp.maximum(jnp.floor(least * fan.astype(jnp.float32)).astype(jnp.uint32), 1)
  weak = alive & (count < needed)
  # as many go as leave room for the budget, those with the fewest salient weights first
  fewest = (_wide.narrow(budget) + np.uint32(mask.shape[0] - 1)) // np.uint32(mask.shape[0])
  room = neurons - jnp.minimum(fewest, neurons)
  order = jnp.lexsort((jnp.arange(count.size), count, ~weak))
  rank = jnp.zeros(count.size, jnp.uint32).at[order].set(jnp.arange(count.size, dtype=jnp.uint32))
  return stay, alive & ~(weak & (rank < room))


def grown(
  weights: jax.Array, grads: jax.Array, stay: jax.Array, alive: jax.Array, budget: jax.Array
) -> jax.Array:
  """A mask ``(fan-in, neurons)``: as many weights in each neuron that stays, the largest first.

  Args:
    weights: magnitudes ``(fan-in, neurons)``.
    grads: magnitudes.
    stay: weights that have not been dropped.
    alive: neurons that stay, ``(neurons,)``.
    budget: how many weights there may be in all, wide.
  """
  fan = _wide.wide(_fan(budget, jnp.sum(alive, dtype=jnp.uint32), weights.shape[0]))
  stay = stay & alive[None]
  stay = stay & _rows.largest(_keys.marked(weights, stay), fan, 0)
  return alive[None] & _rows.largest(_keys.raised(grads, stay), fan, 0)


def _fan(budget: jax.Array, neurons: Any, inputs: int) -> jax.Array:
  """How many weights each neuron may have: one at least."""
  each = _wide.narrow(budget) // jnp.maximum(jnp.asarray(neurons, jnp.uint32), 1)
  return jnp.clip(each, 1, inputs)


def _among(x: jax.Array, mask: jax.Array, count: jax.Array) -> jax.Array:
  """The largest of what a mask keeps, so many."""
  return mask & _select.largest([_keys.marked(x, mask)], [count])[0]
