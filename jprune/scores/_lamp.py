"""Magnitudes that compare across layers: LAMP.

A leaf is sorted once, in descending order; all the rest is prefix scans over the sorted weights.
Three things make the float32 result trustworthy: squares are taken of weights scaled by a power
of two (exact, and nothing over- or underflows), the sums are running sums of positive numbers
(a difference of sums would cancel), and rounding is not let to break the order (see
``_strictly_ordered``).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jprune import tree
from jprune._entry import public
from jprune._roles import Role, Roles
from jprune.scores import _errors
from jprune.scores._common import score_leaves, single_size
from jprune.tree._named_roles import roles_or_names
from jprune.typing import Params, Scores

_LARGEST = 0x7F7FFFFF  # bits of the largest finite float32
_TARGET = 46  # exponent of the scaled largest weight: the squares of 2^31 such weights still add up


@public
def lamp(params: Params, *, roles: Roles | None = None) -> Scores:
  r"""Layer-adaptive magnitude: what a weight adds to those of its leaf that outlive it.

  .. math:: s_u = \frac{\theta_u^2}{\sum_{v \ge u} \theta_v^2},

  the weights of a leaf in ascending order of magnitude. Scores order a leaf as magnitudes do, so
  per leaf LAMP prunes what magnitude prunes; their use is one threshold over all leaves
  (:func:`jprune.distributions.global_`). The largest weight of each leaf scores 1.

  The paper leaves the order of equal magnitudes open. Here the lowest flat index counts as the
  largest of them, since that is the one that selection keeps first. Larger magnitudes have
  strictly larger scores as long as these are normal float32 numbers: only weights whose score
  would lie below 1e-38 may share the score 0, as weights of 0.0 do.

  Args:
    params: tree of arrays, each of less than 2^31 weights. Sorting gathers a sharded leaf; its
      scores are sharded as the leaf is.
    roles: what a function does with each leaf, from :func:`jprune.graph.roles`; by names where it
      isn't given. Each layer of a stack is scored as a leaf of its own. :func:`jprune.prune` passes
      on what it is given.

  Returns:
    Scores in [0, 1], float32, structure and shapes of ``params``; ``None`` for leaves that are
    neither floating nor complex arrays.

  Raises:
    ValueError: if there is no leaf, or a leaf is too large to be sorted.
    TypeError: if a leaf is a shape struct.

  Examples:
    >>> lamp({'w': jnp.array([2.0, -4.0, 0.0])})['w']
    Array([0.2, 1. , 0. ], dtype=float32)

  References:
    Lee et al., Layer-adaptive sparsity for the magnitude-based pruning, ICLR 2021,
    arXiv:2010.07611
  """
  known = roles_or_names('lamp', tree.shapes(params), roles)
  return score_leaves('lamp', params, lambda path, leaf: _lamp_leaf(path, leaf, known[path]))


def _lamp_leaf(path: str, leaf: jax.Array, role: Role | None) -> jax.Array:
  if leaf.size >= 2**31:
    raise _errors.too_large_to_sort('lamp', path, leaf)
  if role is None or not role.known or role.stack == 1 or not leaf.size:
    return _lamp_array(leaf)
  layers = role.layers_first(_gathered(leaf))
  scores = jnp.stack([_lamp_array(layers[i]) for i in range(role.stack)])
  return _placed_like(role.layers_placed(scores), leaf)


@jax.jit
def _lamp_array(leaf: jax.Array) -> jax.Array:
  size = single_size(leaf)
  if not leaf.size:
    return size
  flat = _gathered(size).reshape(-1)
  # Bits of non-negative floats order as their values do, and faster. Infinities count as the
  # largest finite number; their squares stay finite below.
  bits = jnp.minimum(lax.bitcast_convert_type(flat, jnp.int32), _LARGEST)
  index = lax.iota(jnp.int32, bits.size)
  descending, order = lax.sort((~bits, index), num_keys=1, is_stable=True)
  scores = _descending_scores(~descending)
  scores = jnp.zeros_like(scores).at[order].set(scores, unique_indices=True)
  scores = _placed_like(scores.reshape(leaf.shape), size)
  # NaN is passed on for selection to refuse. That the leaf itself takes part in this last
  # operation also makes the partitioner give the scores the sharding of the leaf.
  return jnp.where(jnp.isnan(size), size, scores)


def _descending_scores(bits: jax.Array) -> jax.Array:
  """LAMP of magnitudes in descending order, which are given by their bits."""
  exponent = (bits[0] >> 23) - 127
  factor = lax.bitcast_convert_type((jnp.minimum(_TARGET - exponent, 127) + 127) << 23, jnp.float32)
  square = jnp.square(lax.bitcast_convert_type(bits, jnp.float32) * factor)
  total = jnp.cumsum(square)
  return _strictly_ordered(bits, jnp.where(total > 0, square / total, 0.0))


def _strictly_ordered(bits: jax.Array, scores: jax.Array) -> jax.Array:
  """Lowers scores, by as little as will do, to where each falls below those of larger weights.

  Exact scores of two neighbouring float32 magnitudes lie at least one float32 apart; rounding,
  above all of the sums, may make them equal or swap them. In bits: with rank r, the number of
  distinct larger magnitudes, s'_i = min_{j <= i} (s_j + r_j) - r_i. A score moves by no more than
  the rounding error that made this necessary, and the first one, 1.0, not at all.
  """
  drop = jnp.concatenate([jnp.zeros(1, jnp.uint32), (bits[1:] < bits[:-1]).astype(jnp.uint32)])
  rank = jnp.cumsum(drop, dtype=jnp.uint32)
  floor = lax.cummin(lax.bitcast_convert_type(scores, jnp.uint32) + rank)
  return lax.bitcast_convert_type(jnp.maximum(floor, rank) - rank, jnp.float32)


def _gathered(array: jax.Array) -> jax.Array:
  """A whole copy on every device: meshes of explicit axes refuse to sort along a split axis."""
  mesh = jax.typeof(array).sharding.mesh
  if AxisType.Explicit not in mesh.axis_types:
    return array
  return jax.sharding.reshard(array, NamedSharding(mesh, PartitionSpec()))


def _placed_like(array: jax.Array, leaf: jax.Array) -> jax.Array:
  """Undoes ``_gathered``."""
  sharding = jax.typeof(leaf).sharding
  if AxisType.Explicit not in sharding.mesh.axis_types:
    return array
  return jax.sharding.reshard(array, sharding)
