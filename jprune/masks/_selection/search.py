"""Finding the k-th largest key by counting.

A *race* is a set of keys that compete for k places; several races run side by side. A search
keeps, for each race, a bracket of keys that holds the wanted one, with exact counts at both
ends. A pass counts how many keys lie above each of a few edges; the bracket shrinks to what lies
between two of them. Edges are guessed (first from a sorted sample, then by interpolating the rank
between the ends of the bracket, as densities of two neighbouring bins have it, a few standard
deviations wide), so a pass gains far more than two bits as long as the guesses hold; the counts
show a guess that failed, and the next pass then divides the bracket plainly. Guesses decide how
many passes it takes, never the answer.

What is counted lies in *blocks*. How many keys of each block lie within the bracket is known all
the while: a pass may leave out the blocks in which there are none, and at the end, when the bracket
is one key, these are the ties.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jprune.masks._auto import varying
from jprune.masks._selection import wide as _wide

# wider windows miss more seldom, narrower ones gain more: a miss costs one plain pass
_SIGMAS = 2.5


class State(NamedTuple):
  """A search over G races; keys are unsigned ints of any width.

  Attributes:
    low: key ``(G,)``; the wanted key is at least this.
    high: key ``(G,)``; and at most this.
    upto: wide count ``(G, 2)`` of keys ``>= low``; at least k.
    above: wide count ``(G, 2)`` of keys ``> high``; less than k.
    edges: keys ``(G, E)``, ascending, of the next pass, which counts the keys above each.
    plain: bool ``(G,)``; whether the next pass divides the whole bracket.
    done: bool ``(G,)``; the bracket is one key, or exactly k keys are ``>= low``.
    bend: float32 ``(G,)``; by how much the density of keys rises from key to key, relatively.
  """

  low: jax.Array
  high: jax.Array
  upto: jax.Array
  above: jax.Array
  edges: jax.Array
  plain: jax.Array
  done: jax.Array
  bend: jax.Array


class Narrowed(NamedTuple):
  """What a pass has told of G races.

  Attributes:
    place: int ``(G,)``; how many edges the wanted key lies above.
    rises: bool ``(G,)``; whether the last of those is below the bracket now.
    falls: bool ``(G,)``; whether the one after it ends the bracket now.
  """

  place: jax.Array
  rises: jax.Array
  falls: jax.Array


class Blocks(NamedTuple):
  """For each of B blocks: uint32 counts ``(B,)``, or wide counts ``(B, 2)``.

  Attributes:
    upto: of keys ``>= low``.
    above: of keys ``> high``.
  """

  upto: Any
  above: Any

  def inside(self) -> jax.Array:
    """Of the keys in the bracket."""
    return self.upto - self.above if self.upto.ndim == 1 else _wide.subtract(*self)


def edges_for(dtype: Any) -> int:
  """How many edges a pass counts at, three at least: each of them costs CPUs time."""
  if jax.default_backend() != 'cpu':
    return 7
  return 5 if jnp.dtype(dtype).itemsize == 2 else 3


def start(k: jax.Array, total: jax.Array, dtype: Any, sample: jax.Array | None) -> State:
  """The first bracket: all keys; its first edges straddle rank k in a sample.

  Args:
    k: wide counts ``(G, 2)``, places to win.
    total: wide counts ``(G, 2)`` of all keys.
    dtype: of the keys.
    sample: keys ``(G, S)`` in any order, or ``None``.
  """
  races = k.shape[0]
  top = jnp.full(races, jnp.iinfo(dtype).max, dtype)
  # k = 0: no key is above the highest one, and no tie with it is kept
  nothing = _wide.equal(k, jnp.zeros_like(k))
  done = nothing | _wide.equal(k, total)
  low = jnp.where(nothing, top, jnp.zeros(races, dtype))
  edges = jnp.zeros((races, edges_for(dtype)), dtype)
  plain, bend = jnp.ones(races, bool), jnp.zeros(races, jnp.float32)
  state = State(low, top, total, jnp.zeros_like(total), edges, plain, done, bend)
  if sample is None:
    return state._replace(edges=_division(state))
  size = sample.shape[1]
  ordered = jnp.sort(sample, axis=1)
  kept = _wide.approximate(k) / jnp.maximum(_wide.approximate(total), 1.0)
  spread = _SIGMAS * jnp.sqrt(size * kept * (1 - kept)) + 2.0
  position = (1 - kept) * size
  pick = lambda i: jnp.take_along_axis(ordered, jnp.clip(i, 0, size - 1)[:, None], 1)[:, 0]
  first = jnp.floor(position - spread).astype(jnp.int32)
  last = jnp.ceil(position + spread).astype(jnp.int32)
  lower = jnp.where(first < 0, jnp.zeros_like(low), pick(first))
  upper = jnp.where(last >= size, top, pick(last))
  return state._replace(plain=~state.plain, edges=_window(state, lower, upper))


def within(k: jax.Array, number: jax.Array, low: jax.Array) -> State:
  """A first bracket of uint32 keys: ``number`` of them from ``low`` on, about evenly spread.

  Args:
    k: wide counts ``(G, 2)``.
    number: wide counts ``(G, 2)``, at least k; all keys below ``low`` lose.
    low: keys ``(G,)``.
  """
  top = jnp.full_like(low, jnp.iinfo(low.dtype).max)
  nothing = _wide.equal(k, jnp.zeros_like(k))
  low = jnp.where(nothing, top, low)
  done = nothing | _wide.equal(k, number)
  edges = jnp.zeros((*low.shape, edges_for(low.dtype)), low.dtype)
  plain, bend = jnp.zeros(low.shape, bool), jnp.zeros(low.shape, jnp.float32)
  state = State(low, top, number, jnp.zeros_like(number), edges, plain, done, bend)
  return state._replace(**_next_edges(state, k))


def advance(state: State, counts: jax.Array, k: jax.Array) -> tuple[State, Narrowed]:
  """Narrows the brackets by the counts of one pass.

  Args:
    state: before the pass.
    counts: wide counts ``(G, E, 2)``: keys above each edge.
    k: wide counts ``(G, 2)``.
  """
  last = state.edges.shape[1] - 1
  place = jnp.sum(_wide.at_least(counts, k[:, None]), axis=1, dtype=jnp.int32)
  before, after = jnp.clip(place - 1, 0, last), jnp.clip(place, 0, last)
  edge_at = lambda j: jnp.take_along_axis(state.edges, j[:, None], 1)[:, 0]
  count_at = lambda j: jnp.take_along_axis(counts, j[:, None, None], 1)[:, 0]
  rises = (place > 0) & (edge_at(before) >= state.low) & ~state.done
  falls = (place <= last) & (edge_at(after) < state.high) & ~state.done
  low = jnp.where(rises, edge_at(before) + 1, state.low)
  high = jnp.where(falls, edge_at(after), state.high)
  upto = jnp.where(rises[:, None], count_at(before), state.upto)
  above = jnp.where(falls[:, None], count_at(after), state.above)
  missed = ~state.plain & ((place == 0) | (place > last))
  done = state.done | (low == high) | _wide.equal(upto, k)
  state = State(low, high, upto, above, state.edges, missed, done, _bend(state, counts, place))
  return state._replace(**_next_edges(state, k)), Narrowed(place, rises, falls)


def narrowed(blocks: Blocks, counts: Any, found: Narrowed) -> Blocks:
  """The blocks after a pass.

  Args:
    blocks: before it.
    counts: of keys above each edge: ``(B, E)``, or wide ``(B, E, 2)``.
    found: ``(B,)``, for each block what is known of its race.
  """
  (upto, above), (place, rises, falls) = blocks, found
  like = lambda hits: hits if counts.ndim == 2 else hits[:, None]
  for j in range(counts.shape[1]):
    upto = jnp.where(like(rises & (place == j + 1)), counts[:, j], upto)
    above = jnp.where(like(falls & (place == j)), counts[:, j], above)
  return Blocks(upto, above)


def run(
  count: Callable[[jax.Array, Blocks], jax.Array],
  total: Callable[[jax.Array], jax.Array],
  state: State,
  k: jax.Array,
  blocks: Blocks,
  race: np.ndarray | None = None,
) -> tuple[State, Blocks]:
  """Searches inside a trace.

  Args:
    count: edges ``(G, E)`` and the blocks to counts ``(B, E)``, or wide ``(B, E, 2)``.
    total: those to wide counts ``(G, E, 2)``.
    state: from :func:`start`.
    k: wide counts ``(G, 2)``.
    blocks: before the search: all keys of each, and none.
    race: int ``(B,)``, of each block; ``None`` where each block is a race.
  """

  def body(carry: tuple[State, Blocks]) -> tuple[State, Blocks]:
    state, blocks = carry
    counts = count(state.edges, blocks)
    state, found = advance(state, total(counts), k)
    if race is not None and k.shape[0] == 1:
      found = Narrowed(*(jnp.broadcast_to(each, race.shape) for each in found))
    elif race is not None:
      found = Narrowed(*(each[race] for each in found))
    return state, narrowed(blocks, counts, found)

  carry = varying((state, blocks), jax.eval_shape(body, (state, blocks)))
  return lax.while_loop(lambda carry: ~jnp.all(carry[0].done), body, carry)


def _bend(state: State, counts: jax.Array, place: jax.Array) -> jax.Array:
  """How the density changes from the bin with the wanted key to the next, or the one before."""
  edges, above = state.edges.astype(jnp.float32), _wide.approximate(counts)
  width = jnp.maximum(edges[:, 1:] - edges[:, :-1], 1.0)
  density = (above[:, :-1] - above[:, 1:]) / width
  last = density.shape[1] - 1
  here = jnp.clip(place - 1, 0, last)
  beside = jnp.where(here < last, here + 1, here - 1)
  of = lambda values, j: jnp.take_along_axis(values, j[:, None], 1)[:, 0]
  rise = (of(density, beside) - of(density, here)) / jnp.maximum(of(density, here), 1e-30)
  apart = (of(width, here) + of(width, beside)) / 2
  known = (place > 0) & (place <= last + 1)
  return jnp.where(known, rise / jnp.where(beside > here, apart, -apart), 0.0)


def _next_edges(state: State, k: jax.Array) -> dict[str, jax.Array]:
  """Interpolates rank k in the bracket; divides it plainly where that gains nothing."""
  span = (state.high - state.low).astype(jnp.float32)
  inside = jnp.maximum(_wide.approximate(_wide.subtract(state.upto, state.above)), 1.0)
  dropped = _wide.approximate(_wide.subtract(state.upto, k)) / inside
  sigma = jnp.sqrt(inside * dropped * (1 - dropped)) + 0.5
  reach = _SIGMAS * sigma / inside * span + 1.0
  offset = dropped * span
  curved = state.bend * offset * (span - offset) / 2
  offset = offset + jnp.clip(curved, -0.2 * span, 0.2 * span)
  # float32 rounding may push a guess outside the bracket: it is clipped to it
  step = lambda x: jnp.minimum(
    jnp.clip(x, 0.0, 0.99 * span).astype(state.low.dtype), state.high - state.low
  )
  guess = _window(state, state.low + step(offset - reach), state.low + step(offset + reach))
  count = state.edges.shape[1]
  plain = state.plain | (reach > (count - 1) / (2 * count + 2) * span)
  return {'plain': plain, 'edges': jnp.where(plain[:, None], _division(state), guess)}


def _division(state: State) -> jax.Array:
  """Edges that divide the bracket into equal parts; nothing wraps round where these are large."""
  count = state.edges.shape[1]
  span = state.high - state.low
  part = span // (count + 1) + 1
  return _inside(state, [jnp.minimum(part * (j + 1) - 1, span) for j in range(count)])


def _window(state: State, lower: jax.Array, upper: jax.Array) -> jax.Array:
  """Edges from ``lower`` to ``upper``, about equally far apart, and one at least."""
  last = state.edges.shape[1] - 1
  lower = jnp.clip(lower, state.low, state.high)
  width = jnp.maximum(upper, lower) - lower
  one = jnp.ones_like(width)
  steps = [jnp.maximum(width // last * j, one * j) for j in range(last)]
  steps.append(jnp.maximum(width, one * last))
  most = state.high - lower
  return _inside(state, [lower - state.low + jnp.minimum(each, most) for each in steps])


def _inside(state: State, offsets: list[jax.Array]) -> jax.Array:
  """Edges at these offsets from the lower end; none of them where nothing is to be learnt."""
  span = state.high - state.low
  last = jnp.maximum(span, jnp.ones_like(span)) - 1
  return jnp.stack([state.low + jnp.minimum(each, last) for each in offsets], axis=1)
