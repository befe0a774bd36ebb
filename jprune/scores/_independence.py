"""Units that the others can't stand in for: pivoted Cholesky of the activations' Gram matrix.

Each step picks the unit of which most is left when the units picked before have explained what
they can; the greedy choice of a subset that spans the rest. A unit may be several inputs, a block
of the matrix, which are then eliminated one after the other before the next unit is picked.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jprune import _checks, _powers
from jprune._entry import public
from jprune.scores._stats import one_by_one, per_input, score_uses
from jprune.typing import Params, Scores

if TYPE_CHECKING:
  from jprune.graph import ChannelGraph, Stats

_EPSILON = float(jnp.finfo(jnp.float32).eps)
_SMALLEST = 0x00800000  # bits of the smallest normal float32
_STEP = 64  # of float32 numbers between two scores: what a mean over a unit's weights won't blur


@public
def independence(params: Params, stats: Stats, graph: ChannelGraph | None = None) -> Scores:
  r"""How much of each input of a kernel is no linear function of more important inputs.

  Units are picked one after the other, by pivoted Cholesky of the Gram matrix
  :math:`G = \overline{x x^\top}`: next comes the unit with the largest residual, its mean square
  less what the best linear function of the units picked before explains of it,

  .. math:: s_u = \min_c \overline{\bigl(x_u - \textstyle\sum_{v\ \text{before}\ u} c_v x_v\bigr)^2}

  which is its score, in units of the squared activation (or of that over one power of two for all
  leaves, where float32 could not hold it). By default each input is a unit. But a
  channel may be many of them: the places of a convolution's window, or of a feature map that is
  flattened. With a ``graph`` all inputs of a channel are one unit, which is picked by the sum of
  their residuals and goes as a whole. Residuals never grow, so the units with
  the k highest scores are the first k that were picked, for every k. Copies of a unit, and linear
  combinations of units, come last, where next to nothing is left of them: among these, units with
  a larger mean square come first. Equal scores are drawn apart by less than 1e-5 each, so that
  scores order units strictly.

  All weights that multiply a unit have its score: give :func:`jprune.masks.channels` the kernels
  that consume the channels, the same graph as here, and the group by name, as in
  ``sparsity={'in[1]': 1 / 8}, where='out'``. A number alone would also prune the outputs of these
  kernels, of which nothing is known: their scores are all equal. The Gram matrix is not
  centred, since what a dropped unit did can be folded into the weights of the units that stay only
  by a linear map; a constant that it adds would need a bias. A constant unit therefore counts as a
  unit of its own.

  Takes n steps of n^2 multiplications for n inputs.

  Args:
    params: tree of arrays.
    stats: a :class:`jprune.graph.Stats` of these params, captured with ``gram=True``.
    graph: what :func:`jprune.graph.channels` found for these params, to tell which inputs are one
      channel. Inputs of no channel, or of several (a head, and an entry of all heads), are units
      by themselves.

  Returns:
    Scores, float32, structure and shapes of ``params``; ``None`` for leaves that ``stats`` doesn't
    hold. Each matrix product that a leaf is used in (expert, layer of a scan) is by itself.

  Raises:
    ValueError: if there is no leaf, or ``stats`` holds none of the leaves, is of leaves of other
      shapes, of no row, or without Gram matrices; if scores of two leaves are 2^200 apart.
    TypeError: if ``stats`` isn't a :class:`jprune.graph.Stats`, ``graph`` isn't what
      :func:`jprune.graph.channels` returns, or a leaf is a shape struct.

  Examples:
    >>> fn = lambda params, x: x @ params['w']
    >>> params = {'w': jnp.ones((3, 2))}
    >>> x = jnp.array([[2.0, 0.0, 1.0], [0.0, 4.0, 2.0]])  # the third: half of the sum of both
    >>> _, stats = jprune.graph.capture(fn, params, x, gram=True)
    >>> [round(score, 4) for score in independence(params, stats)['w'][:, 0].tolist()]
    [2.0, 8.0, 0.0]

  References:
    Higham, Cholesky factorization, WIREs Computational Statistics 2009 (complete pivoting);
    He et al., Channel pruning for accelerating very deep neural networks, ICCV 2017,
    arXiv:1707.06168 (channels that the others reconstruct)
  """
  if graph is not None and not (hasattr(graph, 'groups') and hasattr(graph, 'leaves')):
    raise _checks.bad_graph('independence', graph)
  blocks = functools.partial(_blocks, _units_along(graph))
  return score_uses('independence', params, stats, _score, degrees=(0, 2), gram=True, beside=blocks)


def _units_along(graph: ChannelGraph | None) -> dict[tuple[str, int], list[np.ndarray]]:
  """By path and axis, the unit that each index belongs to, or -1, for each group."""
  found: dict[tuple[str, int], list[np.ndarray]] = {}
  for group in graph.groups if graph is not None else ():
    for member in group.members:
      found.setdefault((member.path, member.axis), []).append(np.asarray(member.position.units))
  return found


def _blocks(units: dict[tuple[str, int], list[np.ndarray]], path: str, use: Any) -> np.ndarray:
  """A number for each input of a product, ``(inputs,)``; the same for all of a channel."""
  sizes = [use.shape[place] for place in use.inputs]
  indices = np.unravel_index(np.arange(use.sizes[1]), sizes) if sizes else ()
  keys = []
  for axis in sorted({use.axes[place] for place in use.inputs}):
    number = 0
    for place, index in zip(use.inputs, indices):  # row-major within an axis, as in the leaf
      if use.axes[place] == axis:
        later = zip(use.shape[place + 1 :], use.axes[place + 1 :])
        number = number + index * int(np.prod([n for n, other in later if other == axis]))
    low, high = use.box[axis]
    whole = np.prod([n for n, other in zip(use.shape, use.axes) if other == axis]) == high - low
    if whole and all(use.axes[place] != axis for place in (*use.batch, *use.outputs)):
      keys += [each[low + number] for each in units.get((path, axis), ())]
  own = np.arange(use.sizes[1])
  if not keys:
    return own.astype(np.int32)
  one = np.sum([key >= 0 for key in keys], axis=0) == 1  # of one channel and no more
  table = np.stack([np.where(one, key, -1) for key in keys] + [np.where(one, -1, own)], axis=1)
  return np.unique(table, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int32)


def _score(w: jax.Array, given: Any, power: jax.Array) -> jax.Array:
  moments, blocks = given
  of_units = lambda gram, power: _of_units(gram, blocks, power)
  return per_input(one_by_one(of_units, moments.gram, power[:, 0, 0].astype(jnp.int32)), w)


class _Elimination(NamedTuple):
  """Of the elimination.

  Attributes:
    factor: ``(inputs, inputs)``, a column for each input that was eliminated.
    left: ``(inputs,)``, residuals.
    there: ``(inputs,)``, whether an input is still to be eliminated.
    order: ``(units,)``, as which a unit was picked; as many as there are inputs while it was not.
    found: ``(inputs,)``, what was left of each unit, in the order in which they were picked.
    unit: the one that is being eliminated.
    picked: how many were picked.
  """

  factor: jax.Array
  left: jax.Array
  there: jax.Array
  order: jax.Array
  found: jax.Array
  unit: jax.Array
  picked: jax.Array


def _of_units(gram: jax.Array, blocks: jax.Array, power: jax.Array) -> jax.Array:
  """Score of each input, ``(inputs,)``.

  Args:
    gram: the Gram matrix.
    blocks: the unit that each input is of.
    power: of two, by which scores are larger.
  """
  size = gram.shape[0]
  exponent = _powers.exponent(jnp.diagonal(gram))
  gram = _powers.times(gram, -exponent)
  square = jnp.diagonal(gram)
  noise = max(size, 10) * _EPSILON * square  # what rounding leaves of an input without residual
  of_unit = lambda values: jnp.zeros(size, jnp.float32).at[blocks].add(values)
  whole = of_unit(square)
  exists = jnp.zeros(size, bool).at[blocks].set(True)

  def next_unit(state: _Elimination, rest: jax.Array) -> _Elimination:
    """Starts with the unit of which most is left; of none the largest; of equals the first."""
    left = of_unit(jnp.where(rest, state.left, 0.0))
    waiting = exists & (state.order == size)
    rank = jnp.where(jnp.any(waiting & (left > 0)), left, whole)
    most = jnp.max(jnp.where(waiting, rank, -jnp.inf))
    # equal but for rounding, as copies are
    unit = jnp.argmax(waiting & (rank + of_unit(noise) >= most)).astype(jnp.int32)
    more = jnp.any(waiting)
    return state._replace(
      order=state.order.at[unit].set(jnp.where(more, state.picked, state.order[unit])),
      found=state.found.at[state.picked].set(jnp.where(more, left[unit], 0.0), mode='drop'),
      unit=unit,
      picked=state.picked + more.astype(jnp.int32),
    )

  def eliminate(step: jax.Array, state: _Elimination) -> _Elimination:
    rest = state.there & (state.left > noise)
    going_on = jnp.any(rest & (blocks == state.unit))
    state = lax.cond(going_on, lambda state: state, lambda state: next_unit(state, rest), state)
    mine = rest & (blocks == state.unit)
    place = jnp.argmax(jnp.where(mine, state.left, -jnp.inf))
    residual = jnp.where(jnp.any(mine), state.left[place], 0.0)
    known = jnp.matmul(state.factor, state.factor[place], precision=lax.Precision.HIGHEST)
    root = jnp.sqrt(jnp.where(residual > 0, residual, 1.0))
    column = jnp.where(residual > 0, (gram[:, place] - known) / root, 0.0)
    return state._replace(
      factor=state.factor.at[:, step].set(column),
      left=state.left - jnp.square(column),
      there=state.there.at[place].set(state.there[place] & (residual <= 0)),
    )

  start = _Elimination(
    factor=jnp.zeros_like(gram),
    left=square,
    there=jnp.ones(size, bool),
    order=jnp.full(size, size, jnp.int32),
    found=jnp.zeros(size, jnp.float32),
    unit=jnp.int32(size),  # none
    picked=jnp.int32(0),
  )
  last = lax.fori_loop(0, size, eliminate, start)
  scores = _strictly_falling(_powers.times(last.found, exponent + power))[last.order[blocks]]
  return scores + 0 * jnp.sum(square)  # NaN if anything is


def _strictly_falling(values: jax.Array) -> jax.Array:
  """Lowers non-negative values, by as little as will do, to where each is below those before it.

  Works on their bits, which order as the floats do. Zeros become the smallest normal numbers.
  """
  rank = lax.iota(jnp.uint32, values.size) * jnp.uint32(_STEP)
  fallen = lax.cummin(lax.bitcast_convert_type(values, jnp.uint32) + rank)
  floor = jnp.uint32(_SMALLEST) + rank[::-1]
  return lax.bitcast_convert_type(jnp.maximum(fallen, floor + rank) - rank, jnp.float32)
