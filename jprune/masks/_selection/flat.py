"""Counting on one CPU device: leaves are read as flat rows of lanes, where they lie.

All edges are counted by one reduction of as many arrays as there are edges, along rows: XLA's CPU
backend makes one read of it that stores nothing. (Of a sum of more than 32 numbers of a single
array it makes a tree, whose input is written out first.) Counts of rows are what ties are found by;
and once the keys that are left lie in few rows, only these are read.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jprune.masks._selection import apart as _apart
from jprune.masks._selection import keys as _keys
from jprune.masks._selection import search as _search
from jprune.masks._selection import wide as _wide

LANES = 1024
SOME = 4  # rows are read by themselves once no more than one in so many has to be
FEW = 8  # leaves, at most, of which rows are read by themselves: each is a branch to compile
_U32 = jnp.uint32


class Flat(NamedTuple):
  """Leaves of one dtype. Blocks are rows: all of the first leaf, then all of the next.

  Attributes:
    leaves: every leaf, flat.
    race: for each leaf, the race it takes part in; static, as all that follows but ``numbers``.
    slot: for each block, its leaf.
    start: for each block, where it begins in its leaf.
    size: for each block, how many elements it has.
    numbers: of the leaves, see :mod:`.apart`.
  """

  leaves: list[jax.Array]
  race: np.ndarray
  slot: np.ndarray
  start: np.ndarray
  size: np.ndarray
  numbers: list[Any]


def prepare(xs: Sequence[jax.Array], race: np.ndarray, unknown: jax.Array) -> Flat:
  """Lays out leaves of one floating dtype."""
  leaves = [_keys.widen(x).reshape(-1) for x in xs]
  starts = [np.arange(0, x.size, LANES) for x in leaves]
  sizes = [np.minimum(LANES, x.size - begin) for x, begin in zip(leaves, starts)]
  slot = np.repeat(np.arange(len(xs), dtype=np.int32), [begin.size for begin in starts])
  start, size = np.concatenate(starts), np.concatenate(sizes).astype(np.uint32)
  return Flat(leaves, race, slot, start, size, _apart.numbers(len(xs), unknown))


def begin(held: Flat) -> _search.Blocks:
  """The blocks before a search."""
  return _search.Blocks(jnp.asarray(held.size), jnp.zeros(held.size.shape, _U32))


def races(held: Flat) -> np.ndarray:
  """The race of each block."""
  return held.race[held.slot]


def per_leaf(held: Flat, blocks: jax.Array) -> jax.Array:
  """Counts of blocks, uint32 ``(B, ...)``, to wide counts of leaves ``(leaves, ..., 2)``."""
  counts = _wide.wide(blocks)
  if len(held.leaves) == 1:
    return _wide.total(counts, axis=0)[None]
  ends = np.searchsorted(held.slot, np.arange(len(held.leaves) + 1))
  leaves = jnp.zeros((len(held.leaves), *counts.shape[1:]), _U32)
  if (ends[1:] - ends[:-1]).max() < 1 << _wide.BASE:
    return _wide.carried(leaves.at[held.slot].add(counts, indices_are_sorted=True))
  parts = [_wide.total(counts[a:b], axis=0) for a, b in itertools.pairwise(ends)]
  return jnp.stack(parts)


def all_leaves(held: Flat, blocks: jax.Array) -> jax.Array:
  """Counts of blocks to wide counts of all leaves together, ``(1, ..., 2)``."""
  del held
  return _wide.total(_wide.wide(blocks), axis=0)[None]


def count(held: Flat, edges: jax.Array, blocks: _search.Blocks) -> jax.Array:
  """One pass: keys above each edge, uint32 ``(B, E)``, from the edges of races ``(G, E)``."""
  rows = held.slot.size
  sizes = [x.size for x in held.leaves]
  many = len(sizes) > FEW or rows < 16 * SOME
  if many or max(sizes) >= 2**31 or edges.dtype.itemsize == 2:  # of 16 bits most are ties
    return every(held, edges)
  alive = blocks.upto != blocks.above
  number = jnp.sum(alive, dtype=jnp.int32)
  some = lambda: _some(held, edges, blocks.above, alive, number)
  return lax.cond(number * SOME < rows, some, lambda: every(held, edges))


def every(held: Flat, edges: jax.Array) -> jax.Array:
  """As :func:`count`, all rows read."""
  # without the barrier the loop would compute all keys once and store them
  leaves, edges = lax.optimization_barrier((held.leaves, edges))
  parts = []
  for x, number, race in zip(leaves, held.numbers, held.race):
    if x.size:
      mine = _apart.at(edges, number if len(leaves) == edges.shape[0] else race)
      parts += _of_leaf(x, mine)
  if not parts:
    return jnp.zeros((0, edges.shape[1]), _U32)
  # edge by edge: what is joined then lies in memory, and is copied
  return jnp.stack([jnp.concatenate(each) for each in zip(*parts)], axis=1)


@jax.jit  # leaves of one shape are traced once
def _of_leaf(x: jax.Array, edges: jax.Array) -> list[list[jax.Array]]:
  whole = x.size // LANES * LANES
  out = []
  if whole:
    out.append(counts(_keys.keys(x[:whole].reshape(-1, LANES)), edges))
  if whole < x.size:
    out.append(counts(_keys.keys(x[whole:])[None], edges))
  return out


def _some(
  held: Flat, edges: jax.Array, above: jax.Array, alive: jax.Array, number: jax.Array
) -> jax.Array:
  """Counts of the rows in which some keys are left; all others have what they had above."""
  rows = jnp.nonzero(alive, size=max(1, alive.size // SOME), fill_value=0)[0]
  known = [jnp.asarray(each) for each in (held.slot, races(held), *_places(held))]
  ways = [functools.partial(_read, x) for x in held.leaves]
  form, lane = _keys.layout(held.leaves[0]), lax.iota(jnp.int32, LANES)

  def one(i: jax.Array, out: jax.Array) -> jax.Array:
    slot, race, start, first, last = (each[rows[i]] for each in known)
    keys = _keys.key_of_bits(lax.switch(slot, ways, start), form)
    mine = edges[race] if edges.shape[0] > 1 else edges[0]
    found = counts(keys[None], mine, ((lane >= first) & (lane < last))[None])
    return out.at[rows[i]].set(jnp.concatenate(found))

  none = jnp.broadcast_to(above[:, None], (above.size, edges.shape[1]))
  return lax.fori_loop(0, number, one, none)


def counts(keys: jax.Array, edges: jax.Array, inside: jax.Array | None = None) -> list[jax.Array]:
  """For each edge, how many keys of each row ``(R, lanes)`` lie above it, uint32 ``(R,)``."""
  hits = [keys > edges[j] for j in range(edges.shape[0])]
  if inside is not None:
    hits = [each & inside for each in hits]
  narrow = keys.dtype.itemsize == 2 and keys.shape[1] < 2**16  # as many lanes as keys
  found = _wide.sums(hits, [1], jnp.uint16 if narrow else _U32)
  return [each.astype(_U32) for each in found]


@jax.jit
def _read(x: jax.Array, start: jax.Array) -> jax.Array:
  """The bits of ``LANES`` elements of a leaf; of a shorter one, with padding."""
  if x.size < LANES:
    bits = _keys.bits(x)
    return jnp.pad(bits, (0, LANES - x.size), constant_values=_keys.mark(bits.dtype))
  if x.dtype.itemsize == 2:  # XLA's CPU backend would widen all of them for a slice
    return _keys.bits(x[start + lax.iota(_U32, LANES)])
  return _keys.bits(lax.dynamic_slice(x, (start,), (LANES,)))


def _places(held: Flat) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """For each block where the elements begin that are read for it, and which of them are its own."""
  sizes = np.asarray([x.size for x in held.leaves])
  start = np.minimum(held.start, np.maximum(sizes - LANES, 0)[held.slot])
  first = (held.start - start).astype(np.int32)
  return start.astype(np.uint32), first, first + held.size.astype(np.int32)


def masks(held: Flat, xs: Sequence[jax.Array], key: jax.Array, cut: jax.Array) -> list[jax.Array]:
  """The :func:`mask` of each leaf, from keys ``(leaves,)`` and wide cuts ``(leaves, 2)``."""
  one = lambda x, i: mask(x, _apart.at(key, i), _apart.at(cut, i))
  return [one(x, number) for x, number in zip(xs, held.numbers)]


@jax.jit
def mask(x: jax.Array, key: jax.Array, cut: jax.Array) -> jax.Array:
  """Keeps the keys above ``key``, and its ties before flat index ``cut``, a wide count."""
  keys = _keys.keys(x.reshape(-1))
  before = lax.iota(_U32, keys.size) < _wide.narrow(cut)
  return ((keys > key) | ((keys == key) & before)).reshape(x.shape)


def cuts(held: Flat, key: jax.Array, keep: jax.Array, ties: jax.Array) -> jax.Array:
  """Where to cut the ties: wide, the least index that has ``keep`` ties of ``key`` before it.

  Args:
    held: the leaves.
    key: ``(leaves,)``, the key whose ties are cut.
    keep: wide ``(leaves, 2)``, how many to keep; at most as many as there are.
    ties: uint32 ``(B,)``, how many there are in each block.
  """
  keep, slot = _wide.narrow(keep), held.slot
  if not slot.size:
    return _wide.wide(jnp.zeros_like(keep))
  first = np.searchsorted(slot, np.arange(len(held.leaves)))
  first = np.minimum(first, slot.size - 1)
  through = jnp.cumsum(ties)  # differences stay exact when the sum over all leaves wraps round
  before = through - ties
  before = before - before[first][slot]
  full = before + ties < keep[slot]  # these blocks keep all of their ties
  full = jnp.zeros(len(held.leaves), jnp.int32).at[slot].add(full.astype(jnp.int32))
  at = jnp.minimum(jnp.asarray(first, jnp.int32) + full, slot.size - 1)
  start, own, end = (jnp.asarray(each)[at] for each in _places(held))
  rows = [_read(x, _apart.at(start, number)) for x, number in zip(held.leaves, held.numbers)]
  keys = _keys.key_of_bits(jnp.stack(rows), _keys.layout(held.leaves[0]))
  lane = lax.iota(jnp.int32, LANES)[None]
  tied = (keys == key[:, None]) & (lane >= own[:, None]) & (lane < end[:, None])
  seen = jnp.cumsum(tied, axis=1, dtype=_U32)
  # lanes before the block's own have seen nothing, and count as well
  lanes = jnp.sum(seen < (keep - before[at])[:, None], axis=1, dtype=_U32)
  return _wide.wide(jnp.where(keep > 0, start + lanes + 1, _U32(0)))


def sample(held: Flat, sizes: Sequence[int]) -> list[jax.Array]:
  """Keys at jittered, evenly spread places, so many from each leaf; nothing from one with none."""
  taken = [(x, jittered(x.size, size)) for x, size in zip(held.leaves, sizes) if size]
  return [_keys.keys(x[at.astype(np.uint32)]) for x, at in taken]


def jittered(size: int, places: int) -> np.ndarray:
  """One index from each of so many equal parts of ``range(size)``; the same every time."""
  edges = np.arange(places + 1, dtype=np.int64) * size // places
  hashed = np.arange(places, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(40)
  offset = (hashed * (edges[1:] - edges[:-1]).astype(np.uint64)) >> np.uint64(24)
  return np.minimum(edges[:-1] + offset.astype(np.int64), size - 1)
