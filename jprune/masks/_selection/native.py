"""Counting on accelerators and on sharded arrays: every leaf in its own shape.

Only elementwise work and one reduction of all edges at once over whole leaves. Backends fuse it
into one read with a counter for each edge (sums side by side would be as many arrays of the leaf's
size on CPUs), and the partitioner turns it into a local count and the exchange of some numbers: no
reshape, no slice, nothing that would move scores between devices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jprune.masks._selection import apart as _apart
from jprune.masks._selection import keys as _keys
from jprune.masks._selection import search as _search
from jprune.masks._selection import wide as _wide
from jprune.masks._selection.flat import jittered

LONG = 2**32  # indices from here on take more than a word
_U32 = jnp.uint32
_ONE = np.uint32(1)


class Native(NamedTuple):
  """Leaves of one dtype, each of which is a block.

  Attributes:
    leaves: every leaf, in its own shape.
    race: for each leaf, the race it takes part in; static.
    numbers: of the leaves, see :mod:`.apart`.
  """

  leaves: list[jax.Array]
  race: np.ndarray
  numbers: list[Any]


def prepare(xs: Sequence[jax.Array], race: np.ndarray, unknown: jax.Array) -> Native:
  """Nothing to lay out."""
  return Native(list(xs), race, _apart.numbers(len(xs), unknown))


def begin(held: Native) -> _search.Blocks:
  """The blocks before a search."""
  sizes = jnp.asarray(_wide.constant([math.prod(x.shape) for x in held.leaves]))
  return _search.Blocks(sizes, jnp.zeros_like(sizes))


def races(held: Native) -> np.ndarray:
  """The race of each block."""
  return held.race


def per_leaf(held: Native, blocks: jax.Array) -> jax.Array:
  """Counts of blocks, which are leaves here."""
  del held
  return blocks


def all_leaves(held: Native, blocks: jax.Array) -> jax.Array:
  """Counts of blocks to wide counts of all leaves together, ``(1, ..., 2)``."""
  del held
  return _wide.total(blocks, axis=0)[None]


def count(held: Native, edges: jax.Array, blocks: _search.Blocks) -> jax.Array:
  """One pass: keys above each edge, wide ``(leaves, E, 2)``, from the edges of races ``(G, E)``."""
  del blocks
  return every(held, edges)


def every(held: Native, edges: jax.Array) -> jax.Array:
  """As :func:`count`."""
  return _count(lambda x, i, one: _keys.keys(x), held, edges)


def masks(held: Native, xs: Sequence[jax.Array], key: jax.Array, cut: jax.Array) -> list[jax.Array]:
  """The :func:`mask` of each leaf, from keys ``(leaves,)`` and wide cuts ``(leaves, 2)``."""
  one = lambda x, i: mask(x, _apart.at(key, i), _apart.at(cut, i))
  return [one(x, number) for x, number in zip(xs, held.numbers)]


def mask(x: jax.Array, key: jax.Array, cut: jax.Array) -> jax.Array:
  """Keeps the keys above ``key``, and its ties before flat index ``cut``, a wide count."""
  keys = _keys.keys(x)
  if _is_long(x):
    before = ~_wide.at_least(jnp.stack(_long_index(x.shape), axis=-1), cut)
  else:
    before = flat_index(x.shape) < _wide.narrow(cut)
  return (keys > key) | ((keys == key) & before)


def cuts(held: Native, key: jax.Array, keep: jax.Array, ties: jax.Array) -> jax.Array:
  """Where to cut the ties, as :func:`jprune.masks._selection.flat.cuts`: a second race, of indices.

  Ties race with the complement of their flat index as key, all others with 0. In leaves of 2**32
  elements and more the high words of the indices race first, then the low ones behind the winner.
  """
  xs = held.leaves
  out: dict[int, jax.Array] = {}
  for long in (False, True):
    places = [i for i, x in enumerate(xs) if _is_long(x) == long]
    if places:
      at = np.asarray(places, np.int32)
      found = (_long_cuts if long else _cuts)([xs[i] for i in places], key[at], keep[at], ties[at])
      out.update(zip(places, found))
  return jnp.stack([out[i] for i in range(len(xs))])


def _cuts(xs: Sequence[jax.Array], key: jax.Array, keep: jax.Array, ties: jax.Array) -> jax.Array:
  def index(x: jax.Array, i: int, one: jax.Array) -> jax.Array:
    return jnp.where(_keys.keys(x) == key[i], ~flat_index(x.shape, one), _U32(0))

  # all ties have indices below the leaf's size, spread evenly as far as is known
  low = [np.uint32(2**32 - max(math.prod(x.shape), 1)) for x in xs]
  low = _race(xs, index, keep, ties, jnp.asarray(low)).low
  cut = _wide.wide(jnp.where(low == 0, ~low, ~low + 1))  # low = 0 keeps all of a leaf
  return jnp.where(_is_zero(keep), _U32(0), cut)


def _long_cuts(
  xs: Sequence[jax.Array], key: jax.Array, keep: jax.Array, ties: jax.Array
) -> jax.Array:
  def high(x: jax.Array, i: int, one: jax.Array) -> jax.Array:
    return jnp.where(_keys.keys(x) == key[i], ~_long_index(x.shape, one)[0], _U32(0))

  words = [np.uint32(2**32 - 1 - (math.prod(x.shape) >> _wide.BASE)) for x in xs]
  first = _race(xs, high, keep, ties, jnp.asarray(words))
  word = ~first.low
  exact = _wide.equal(first.upto, keep)[:, None]

  def low(x: jax.Array, i: int, one: jax.Array) -> jax.Array:
    index = _long_index(x.shape, one)
    return jnp.where((_keys.keys(x) == key[i]) & (index[0] == word[i]), ~index[1], _U32(0))

  left = jnp.where(exact, _U32(0), _wide.subtract(keep, jnp.where(exact, keep, first.above)))
  here = _wide.subtract(first.upto, first.above)
  lowest = jnp.full(word.shape, 2**32 - (1 << _wide.BASE), _U32)
  second = ~_race(xs, low, left, here, lowest).low
  cut = _wide.carried(jnp.stack([word, second + 1], axis=-1))
  after = jnp.stack([word + 1, jnp.zeros_like(word)], axis=-1)
  return jnp.where(_is_zero(keep), _U32(0), jnp.where(exact, after, cut))


def _is_zero(count: jax.Array) -> jax.Array:
  return _wide.equal(count, jnp.zeros_like(count))[:, None]


def _race(
  xs: Sequence[jax.Array],
  keys_of: Callable[[jax.Array, int, jax.Array], jax.Array],
  k: jax.Array,
  number: jax.Array,
  low: jax.Array,
) -> _search.State:
  """The k highest of other keys, uint32: of ``number`` from ``low`` on, the rest being 0."""
  held = prepare(xs, np.arange(len(xs), dtype=np.int32), number[0, 1])
  count = lambda edges, blocks: _count(keys_of, held, edges)
  start = _search.within(k, number, low)
  return _search.run(count, lambda counts: counts, start, k, begin(held))[0]


def sample(held: Native, sizes: Sequence[int]) -> list[jax.Array]:
  """Keys at jittered, evenly spread places, so many from each leaf; nothing from one with none."""
  out = []
  for x, places in zip(held.leaves, sizes):
    if not places:
      continue
    if not x.shape:
      out.append(jnp.broadcast_to(_keys.keys(x), places))
      continue
    for axis, length in enumerate(x.shape):
      if length >= 2**31:  # an index of 32 bits doesn't reach that far
        x = lax.slice_in_dim(x, 0, length, length >> 20, axis)
    at = np.unravel_index(jittered(math.prod(x.shape), places), x.shape)
    out.append(_keys.keys(x[tuple(i.astype(np.int32) for i in at)]))
  return out


def _is_long(x: jax.Array) -> bool:
  """Whether some flat index takes more than 32 bits; the highest one is no key of a tie."""
  return math.prod(x.shape) >= LONG


def _long_index(shape: tuple[int, ...], one: Any = _ONE) -> tuple[jax.Array, jax.Array]:
  """As :func:`flat_index`, as the two words of a wide count."""
  high, low = jnp.zeros(shape, _U32), jnp.zeros(shape, _U32)
  for axis in range(len(shape)):
    stride = math.prod(shape[axis + 1 :])
    for number, by in _iotas(shape, axis, one):
      words = _wide.times(number, by * stride)
      high, low = high + words[..., 0], low + words[..., 1]
  words = _wide.carried(jnp.stack([high, low], axis=-1))
  return words[..., 0], words[..., 1]


def _iotas(shape: tuple[int, ...], axis: int, one: Any) -> list[tuple[jax.Array, int]]:
  """The index along an axis, as numbers of 32 bits and what these are to be multiplied by."""
  length = shape[axis]
  if length <= LONG:
    return [(_iota(shape, axis, one), 1)]
  split = (*shape[:axis], -(-length >> _wide.BASE), 1 << _wide.BASE, *shape[axis + 1 :])
  joined = (*shape[:axis], split[axis] << _wide.BASE, *shape[axis + 1 :])
  parts = [lax.broadcasted_iota(_U32, split, axis + i).reshape(joined) for i in range(2)]
  return [
    (lax.slice_in_dim(part, 0, length, axis=axis) * one, by)
    for part, by in zip(parts, (1 << _wide.BASE, 1))
  ]


def _iota(shape: tuple[int, ...], axis: int, one: Any) -> jax.Array:
  """uint32 numbers along an axis, times ``one``.

  A vector's are made of two numbers each: where it is split over devices, each of them adds what
  comes before its part, before the loop, and stores the sum; so that is a short vector.
  """
  (length, *others) = shape if shape else (0,)
  step = next((n for n in (256, 16) if length and length % (n * jax.device_count()) == 0), 0)
  if others or not step or jax.device_count() == 1:
    return lax.broadcasted_iota(_U32, shape, axis) * one
  parts = [lax.broadcasted_iota(_U32, (length // step, step), i) for i in range(2)]
  return (parts[0] * (_U32(step) * one) + parts[1] * one).reshape(length)


def flat_index(shape: tuple[int, ...], one: Any = _ONE) -> jax.Array:
  """uint32 array of the row-major index of each element; fuses into whatever reads it.

  In a loop ``one`` is a traced 1 of that loop, lest what doesn't depend on the loop be computed
  before it, and stored.
  """
  index = jnp.zeros(shape, _U32)
  for axis in range(len(shape)):
    stride = _U32(math.prod(shape[axis + 1 :]))
    index = index + _iota(shape, axis, one) * stride
  return index


def _count(
  keys_of: Callable[[jax.Array, int, jax.Array], jax.Array], held: Native, edges: jax.Array
) -> jax.Array:
  # without the barrier the loop would compute all keys once and store them
  xs, edges, one = lax.optimization_barrier((held.leaves, edges, _U32(1)))
  counts = []
  for i, x in enumerate(xs):
    mine = _apart.at(edges, held.numbers[i] if len(xs) == edges.shape[0] else held.race[i])
    keys = keys_of(x, i, one)
    counts.append(_wide.counts([keys > mine[j] for j in range(edges.shape[1])]))
  return jnp.stack(counts)
