"""Finding the k-th largest key by counting.

A *race* is a set of keys that compete for k places; several races run side by side. A search
keeps, for each race, a bracket of keys that holds the wanted one, with exact counts at both
ends. A pass counts how many keys fall into eight bins of width ``2**shift``; the bracket shrinks
to one bin. Windows are guessed (first from a sorted sample, then by interpolating the rank
between the ends of the bracket, a few standard deviations wide), so a pass gains far more than
three bits as long as the guesses hold; the counts show a guess that failed, and the next pass
then divides the bracket plainly. Guesses decide how many passes it takes, never the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jprune.masks._auto import varying
from jprune.masks._selection import wide as _wide

BINS = 8
# wider windows miss more seldom, narrower ones gain more: a miss costs one plain pass
_SIGMAS = 2.5


class State(NamedTuple):
  """A search over G races; keys are uint32, or uint64 for float64 scores.

  Attributes:
    low: key ``(G,)``; the wanted key is at least this.
    high: key ``(G,)``; and at most this.
    upto: wide count ``(G, 2)`` of keys ``>= low``; at least k.
    above: wide count ``(G, 2)`` of keys ``> high``; less than k.
    window: key ``(G,)``, where bin 0 of the next pass begins; all keys below fall into bin 0.
    shift: key ``(G,)``; bins of the next pass are ``2**shift`` wide.
    plain: bool ``(G,)``; whether the next pass divides the whole bracket.
    done: bool ``(G,)``; the bracket is one key, or exactly k keys are ``>= low``.
  """

  low: jax.Array
  high: jax.Array
  upto: jax.Array
  above: jax.Array
  window: jax.Array
  shift: jax.Array
  plain: jax.Array
  done: jax.Array


def start(k: jax.Array, total: jax.Array, dtype: jnp.dtype, sample: jax.Array | None) -> State:
  """The first bracket: all keys; its first window straddles rank k in a sample.

  Args:
    k: wide counts ``(G, 2)``, places to win.
    total: wide counts ``(G, 2)`` of all keys, padding included.
    dtype: of the keys.
    sample: keys ``(G, S)`` in any order, or ``None``.
  """
  races = k.shape[0]
  top = jnp.full(races, jnp.iinfo(dtype).max, dtype)
  # k = 0: no key is above the highest one, and no tie with it is kept
  nothing = _wide.equal(k, jnp.zeros_like(k))
  done = nothing | _wide.equal(k, total)
  low = jnp.where(nothing, top, jnp.zeros(races, dtype))
  false = jnp.zeros(races, bool)
  state = State(low, top, total, jnp.zeros_like(total), low, low, ~false, done)
  if sample is None:
    return state._replace(**_plain_window(state))
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
  return state._replace(plain=false, **_window(state, lower, upper))


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
  none = jnp.zeros_like(number)
  state = State(low, top, number, none, low, low, jnp.zeros(low.shape, bool), done)
  return state._replace(**_next_window(state, k))


def advance(state: State, bins: jax.Array, k: jax.Array, total: jax.Array) -> State:
  """Narrows the brackets by the counts of one pass.

  Args:
    state: before the pass.
    bins: wide counts ``(G, 8, 2)``: keys in each bin; bin 0 holds all keys below bin 1 too.
    k: wide counts ``(G, 2)``.
    total: wide counts ``(G, 2)``.
  """
  # at_edge[:, j] counts the keys from the lower edge of bin j + 1 on
  beyond = _wide.subtract(total, _wide.total(bins, axis=1))
  from_top = jnp.concatenate([beyond[:, None], jnp.flip(bins[:, 1:], axis=1)], axis=1)
  at_edge = jnp.flip(_wide.running_total(from_top, axis=1), axis=1)
  enough = _wide.at_least(at_edge, k[:, None])
  bin_ = jnp.sum(enough, axis=1, dtype=jnp.int32)  # the wanted key is in bin 0..8; 8 is beyond
  count_at = lambda j: jnp.take_along_axis(at_edge, jnp.clip(j, 0, BINS - 1)[:, None, None], 1)[
    :, 0
  ]
  lower, _ = _edge(state, bin_)
  upper, wrapped = _edge(state, bin_ + 1)
  rises = (bin_ > 0) & (lower > state.low) & ~state.done
  falls = (bin_ < BINS) & ~wrapped & (upper <= state.high) & ~state.done
  low = jnp.where(rises, lower, state.low)
  high = jnp.where(falls, upper - 1, state.high)
  upto = jnp.where(rises[:, None], count_at(bin_ - 1), state.upto)
  above = jnp.where(falls[:, None], count_at(bin_), state.above)
  missed = ~state.plain & ((bin_ == 0) | (bin_ == BINS))
  done = state.done | (low == high) | _wide.equal(upto, k)
  state = state._replace(low=low, high=high, upto=upto, above=above, plain=missed, done=done)
  return state._replace(**_next_window(state, k))


def run(
  blocks: Callable[[jax.Array, jax.Array], jax.Array],
  bins: Callable[[jax.Array], jax.Array],
  state: State,
  k: jax.Array,
  total: jax.Array,
) -> tuple[State, jax.Array]:
  """Searches inside a trace, and counts the ties with the keys that were found.

  Args:
    blocks: ``(window, shift)`` to counts ``(B, 8)``, for as many blocks as the caller has parts to
      count: uint32, or wide.
    bins: those to wide counts ``(G, 8, 2)``.
    state: from :func:`start`.
    k: wide counts ``(G, 2)``.
    total: wide counts ``(G, 2)``.

  Returns:
    The last state; and ``(B,)`` ties with ``low``, of use where ``upto`` is not ``k``. They
    are the last pass of the same loop, so that the code that counts is compiled only once.
  """

  def body(carry: tuple[State, jax.Array, jax.Array]) -> tuple[State, jax.Array, jax.Array]:
    state, _, _ = carry
    found = jnp.all(state.done)
    window = jnp.where(found, state.low - 1, state.window)  # the ties are bin 1
    counts = blocks(window, jnp.where(found, jnp.zeros_like(state.shift), state.shift))
    return advance(state, bins(counts), k, total), counts[:, 1], found

  def unfinished(carry: tuple[State, jax.Array, jax.Array]) -> jax.Array:
    state, _, tied = carry
    return ~jnp.all(state.done) | ~(tied | jnp.all(_wide.equal(state.upto, k)))

  shape = jax.eval_shape(blocks, state.window, state.shift)
  none = jnp.zeros(shape.shape[:1] + shape.shape[2:], jnp.uint32)
  carry = (state, none, jnp.bool_(False))
  state, ties, _ = lax.while_loop(unfinished, body, varying(carry, jax.eval_shape(body, carry)))
  return state, ties


def _edge(state: State, j: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Lower edge of bin j, and whether it lies past the highest key."""
  offset = j.astype(state.window.dtype) << state.shift
  edge = state.window + offset
  return edge, edge < offset


def _next_window(state: State, k: jax.Array) -> dict[str, jax.Array]:
  """Interpolates rank k in the bracket; divides it plainly where that gains nothing."""
  span = (state.high - state.low).astype(jnp.float32)
  inside = jnp.maximum(_wide.approximate(_wide.subtract(state.upto, state.above)), 1.0)
  dropped = _wide.approximate(_wide.subtract(state.upto, k)) / inside
  sigma = jnp.sqrt(inside * dropped * (1 - dropped)) + 0.5
  reach = _SIGMAS * sigma / inside * span + 1.0
  offset = dropped * span
  # below, float32 rounding may push a guess outside the bracket: it is clipped to it
  step = lambda x: jnp.minimum(
    jnp.clip(x, 0.0, 0.99 * span).astype(state.low.dtype), state.high - state.low
  )
  guess = _window(state, state.low + step(offset - reach), state.low + step(offset + reach))
  plain = state.plain | (reach > 0.4 * span)
  division = _plain_window(state)
  return {
    'plain': plain,
    **{name: jnp.where(plain, division[name], guess[name]) for name in guess},
  }


def _shift_for(width: jax.Array, bins: int) -> jax.Array:
  """The least shift at which so many bins are wider than ``width``; eight never wrap round."""
  length = jnp.iinfo(width.dtype).bits
  shifts = jnp.arange(length - 4, dtype=width.dtype)
  return jnp.sum((width[:, None] >> shifts[None]) >= bins, axis=1).astype(width.dtype)


def _plain_window(state: State) -> dict[str, jax.Array]:
  return {'window': state.low, 'shift': _shift_for(state.high - state.low, BINS)}


def _window(state: State, lower: jax.Array, upper: jax.Array) -> dict[str, jax.Array]:
  """Bins 1 to 7 over [lower, upper]; bin 0 takes what lies below."""
  one = jnp.ones_like(lower)
  shift = _shift_for(jnp.maximum(upper, lower) - lower, BINS - 1)
  first = jnp.maximum(
    jnp.maximum(lower, state.low + (state.low < state.high).astype(one.dtype)), one << shift
  )
  return {'window': first - (one << shift), 'shift': shift}
