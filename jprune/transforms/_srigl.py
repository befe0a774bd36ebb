"""Sparse to sparse with a constant fan-in: every neuron has as many inputs, or none at all."""

from __future__ import annotations

from typing import Any, Unpack

import jax
import jax.numpy as jnp
import optax

from jprune import _checks, distributions, scores
from jprune._roles import Roles
from jprune._signature import readable
from jprune.graph import ChannelGraph
from jprune.masks import Unstructured
from jprune.masks._forms import rows
from jprune.masks._selection import keys as _keys
from jprune.masks._selection import rows as _rows
from jprune.masks._selection import select as _select
from jprune.masks._selection import wide as _wide
from jprune.transforms import _errors
from jprune.transforms._ablation import Ablation
from jprune.transforms._method import Method, Step, each, joined, magnitudes
from jprune.transforms._regrown import as_fraction
from jprune.transforms._sparse_training import (
  SettingsAndPattern,
  checked,
  names_first,
  not_scored,
  sparse_training,
)
from jprune.typing import ByPath, Distribution, Schedule, Where


@readable
@names_first
def srigl(
  inner: optax.GradientTransformation,
  sparsity: float | Schedule,
  *,
  every: int,
  key: jax.Array,
  end: int | None = None,
  drop: float | Schedule = 0.3,
  gamma: float = 0.3,
  ablate: ChannelGraph | Where = None,
  distribution: Distribution = distributions.erk,
  **settings: Unpack[SettingsAndPattern],
) -> optax.GradientTransformationExtraArgs:
  """SRigL: RigL with a constant fan-in, in which whole neurons may go; sparse, and smaller.

  Every neuron of a leaf keeps as many inputs as the others. On each change a fraction ``drop`` of a
  leaf's weights, those with the smallest magnitude, may be replaced; a weight is *salient* if it is
  not among these, or, of those that are pruned, among as many with the largest gradients. A neuron
  with fewer salient weights than ``gamma`` of the fan-in goes for good (fewer go where what is left
  couldn't hold the leaf's weights), the fan-in is computed anew, and each neuron grows to it by
  the magnitude of gradients.

  Which neurons may go has to be told, as an output of the network must not: by the graph, and then
  everything that belongs to a unit goes with it, its bias and norm and what reads it, so that
  :func:`jprune.shrink` can take it away; or by a selection of leaves.

  Args:
    inner: the optimizer.
    sparsity: the fraction of zeros, or a schedule of it; rounded down to a whole fan-in.
    every: the number of calls between changes of masks.
    key: a typed random key, for the first masks.
    end: the last call on which masks change; by default none. RigL stops at 3/4 of the training.
    drop: the fraction of a leaf's weights that may be replaced, or a schedule of it; in the paper
      ``cosine(0.3, 0.0, 0, end)``.
    gamma: the fraction of the fan-in that must be salient, in [0, 1]; .3 for MobileNet and .95 for
      vision transformers in the paper.
    ablate: what :func:`jprune.graph.channels` found of the function that is trained; or what
      selects leaves, as for ``where``; ``None`` for no neuron.
    distribution: as for :func:`jprune.prune`.
    **settings: as for :func:`sparse_training`; without ``pattern``, ``scorer`` and bounds.

  Returns:
    As :func:`sparse_training`.

  Raises:
    ValueError: as :func:`sparse_training`; if ``gamma`` or ``drop`` is outside [0, 1].
    TypeError: as :func:`sparse_training`.

  Examples:
    >>> params = {'kernel': jax.random.normal(jax.random.key(1), (8, 3))}
    >>> tx = srigl(optax.sgd(0.1), 0.5, every=10, key=jax.random.key(0))
    >>> jprune.transforms.masks_of(tx.init(params))['kernel'].sum(axis=0).tolist()
    [4, 4, 4]

  References:
    Lasby et al., Dynamic sparse training with structured sparsity, ICLR 2024, arXiv:2305.02299
  """
  fraction = as_fraction('srigl', drop)
  least = _checks.static_fraction('srigl', 'gamma', gamma)
  roles = settings.get('roles')
  settings = checked('srigl', settings, from_masks=True)
  not_scored('srigl', settings, ('scorer', 'min_keep', 'max_sparsity', 'per_output'))
  pattern = settings.get('pattern', Unstructured())
  if pattern != Unstructured():
    raise _errors.pattern_of_its_own('srigl', pattern)

  def own(step: Step, leaves: ByPath) -> ByPath:
    return {path: x for path, x in leaves.items() if path not in step.followers}

  def start(step: Step) -> ByPath:
    columns = Columns('srigl', own(step, step.weights), roles)
    random = columns.split(scores.random(own(step, step.weights), key=step.key))
    kept = [started(x, k) for x, k in zip(random, step.kept, strict=True)]
    return joined(step.masks, columns.join(kept))

  def change(step: Step) -> tuple[ByPath, Any]:
    weights = own(step, step.weights)
    shapes = {path: w.shape for path, w in step.weights.items()}
    ablation = Ablation('srigl', ablate, shapes, weights, roles)
    columns = Columns('srigl', weights, roles)
    split = lambda leaves: columns.split(own(step, leaves))
    masks, free = split(step.masks), split(ablation.lines(step.masks, step.weights))
    sizes = split(magnitudes(step.weights)), split(magnitudes(step.grads))
    may = columns.owners(ablation.leaves(weights))
    stays, lives = [], []
    for w, g, mask, able, budget, ablates in zip(*sizes, masks, free, step.kept, may, strict=True):
      share = fraction(step.count)
      stay, alive = changed(w, g, mask, able, budget, share, least, ablates)
      stays.append(stay)
      lives.append(alive)
    there = [jnp.broadcast_to(a, mask.shape) for a, mask in zip(lives, masks)]
    lines = ablation.lines(columns.join(there), step.weights)
    found = []
    for w, g, *rest in zip(*sizes, stays, lives, split(lines), step.kept, strict=True):
      found.append(grown(w, g, *rest))
    whole = each(jnp.logical_and, step.masks, lines)
    return joined(whole, columns.join(found)), ()

  def followers(leaves: ByPath, chosen: set[str]) -> set[str]:
    shapes = {path: jnp.shape(leaf) for path, leaf in leaves.items()}
    return Ablation('srigl', ablate, shapes, chosen, roles).members() - chosen

  method = Method('srigl', change, start, regrows=True, random=True, followers=followers)
  return sparse_training(
    method, inner, sparsity, every=every, end=end, key=key, distribution=distribution, **settings
  )


class Columns:
  """Leaves as matrices ``(fan-in, neurons)``, and back."""

  def __init__(self, function: str, weights: ByPath, roles: Roles | None) -> None:
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
  free: jax.Array,
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
    free: which weights there may be.
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
  salient = stay | _among(grads, ~mask & alive[None] & free, dropped)
  count = jnp.sum(salient, axis=0, dtype=jnp.uint32)
  needed = jnp.maximum(jnp.floor(least * fan.astype(jnp.float32)).astype(jnp.uint32), 1)
  weak = alive & (count < needed)
  # as many go as leave room for the budget, those with the fewest salient weights first
  inputs = jnp.maximum(_inputs(free), 1)
  fewest = jnp.maximum((_wide.narrow(budget) + inputs - 1) // inputs, 1)
  room = neurons - jnp.minimum(fewest, neurons)
  order = jnp.lexsort((jnp.arange(count.size), count, ~weak))
  rank = jnp.zeros(count.size, jnp.uint32).at[order].set(jnp.arange(count.size, dtype=jnp.uint32))
  return stay, alive & ~(weak & (rank < room))


def grown(
  weights: jax.Array,
  grads: jax.Array,
  stay: jax.Array,
  alive: jax.Array,
  free: jax.Array,
  budget: jax.Array,
) -> jax.Array:
  """A mask ``(fan-in, neurons)``: as many weights in each neuron that stays, the largest first.

  Args:
    weights: magnitudes ``(fan-in, neurons)``.
    grads: magnitudes.
    stay: weights that have not been dropped.
    alive: neurons that stay, ``(neurons,)``.
    free: which weights there may be.
    budget: how many weights there may be in all, wide.
  """
  free = free & alive[None]
  stay = stay & free
  fan = _wide.wide(_fan(budget, jnp.sum(alive, dtype=jnp.uint32), _inputs(free)))
  stay = stay & _rows.largest(_keys.marked(weights, stay), fan, 0)
  return free & _rows.largest(_keys.raised(_keys.marked(grads, free), stay), fan, 0)


def _inputs(free: jax.Array) -> jax.Array:
  """How many inputs a neuron may have."""
  return jnp.max(jnp.sum(free, axis=0, dtype=jnp.uint32), initial=0)


def _fan(budget: jax.Array, neurons: Any, inputs: Any) -> jax.Array:
  """How many weights each neuron may have: one at least."""
  each = _wide.narrow(budget) // jnp.maximum(jnp.asarray(neurons, jnp.uint32), 1)
  return jnp.clip(each, jnp.uint32(1), jnp.maximum(jnp.asarray(inputs, jnp.uint32), 1))


def _among(x: jax.Array, mask: jax.Array, count: jax.Array) -> jax.Array:
  """The largest of what a mask keeps, so many."""
  return mask & _select.largest([_keys.marked(x, mask)], [count])[0]
