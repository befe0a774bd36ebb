"""Counting on one CPU device: leaves are read as flat runs of lanes.

XLA's CPU backend counts ``sum(key > t)`` at a tenth of the speed of memory: a long reduction
becomes a tree whose input is written out first. Here a *chunk* of 64 x 4,096 keys is counted by
sums over an axis of eight with long contiguous lanes, which fuse and vectorise: a key's bin
becomes a nibble of a uint32 word, eight words are added, split into bytes, and eight of those
are added again before they are widened. A pass then costs about two plain reads, and its
temporaries stay in the cache.

Leaves of at least 16 rows of lanes are read in place, chunk by chunk; the last chunk overlaps
the one before it, and skips the rows that were counted. What does not fill a row, and smaller
leaves, are copied into one matrix of rows, as bits, with padding that ranks with NaN.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jprune.masks._selection import keys as _keys
from jprune.masks._selection import search as _search
from jprune.masks._selection import wide as _wide
from jprune.masks._selection.bins import chunk_bins, keys_of, row_bins

LANES = 4096
ROWS = (64, 16)  # of a chunk: the first for leaves that fill one, the second for smaller leaves
_U32 = jnp.uint32


class Stretch(NamedTuple):
  """Chunks of one size; all but ``rows`` are static arrays with one entry for each chunk.

  Attributes:
    rows: rows of lanes in a chunk.
    slot: the leaf it is in.
    start: the flat index in that leaf at which it is read.
    skip: how many of its rows an earlier chunk has counted.
  """

  rows: int
  slot: np.ndarray
  start: np.ndarray
  skip: np.ndarray


class Flat(NamedTuple):
  """Leaves of one dtype, laid out. Blocks are the chunks of all runs, then the rows of the rest.

  Attributes:
    leaves: every leaf, flat: floats of 32 bits and more, or the bits of 16-bit floats (XLA:CPU
      would widen a slice of those to float32).
    rest: ``(B, LANES)``, rows of smaller leaves and of remainders: bits.
    form: constants of the keys.
    runs: what is read in place.
    block_slot: for each block, the leaf it is in.
    block_start: for each block, the flat index in that leaf at which it is read.
  """

  leaves: list[jax.Array]
  rest: jax.Array
  form: _keys.KeyLayout
  runs: list[Stretch]
  block_slot: np.ndarray
  block_start: np.ndarray


def prepare(xs: Sequence[jax.Array]) -> Flat:
  """Lays out leaves of one floating dtype, each of fewer than 2**31 elements."""
  xs = [_keys.widen(x).reshape(-1) for x in xs]
  form = _keys.layout(xs[0])
  if form.signed == 'int16':
    xs = [_keys.bits(x) for x in xs]
  runs = [_run(rows, xs) for rows in ROWS]
  rows, slots, starts = [], [], []
  for slot, x in enumerate(xs):
    in_place = x.size // LANES * LANES if _chunk_rows(x.size) else 0
    if in_place < x.size:
      rows.append(_padded_rows(x[in_place:]))
      slots += [slot] * rows[-1].shape[0]
      starts += range(in_place, x.size, LANES)
  rest = jnp.concatenate(rows) if rows else jnp.zeros((0, LANES), form.signed)
  runs = [run for run in runs if run.slot.size]
  slots = np.concatenate([*(run.slot for run in runs), np.asarray(slots, np.int32)])
  starts = np.concatenate([*(run.start for run in runs), np.asarray(starts, np.int32)])
  return Flat(xs, rest, form, runs, slots, starts)


def _chunk_rows(size: int) -> int:
  """Rows of the chunks in which a leaf is read; 0 for a leaf that is copied."""
  return next((rows for rows in ROWS if size >= rows * LANES), 0)


def _run(rows: int, xs: Sequence[jax.Array]) -> Stretch:
  """The chunks of all leaves that are read in chunks of so many rows."""
  slots, starts, skips = [], [], []
  for slot, x in enumerate(xs):
    if _chunk_rows(x.size) != rows:
      continue
    in_place = x.size // LANES * LANES
    for begin in range(0, in_place, rows * LANES):
      slots.append(slot)
      starts.append(min(begin, in_place - rows * LANES))
      skips.append((begin - starts[-1]) // LANES)
  return Stretch(rows, *(np.asarray(values, np.int32) for values in (slots, starts, skips)))


def counted(size: int) -> int:
  """How many keys a leaf brings to the count: padding, which ranks with NaN, included."""
  return -(-size // LANES) * LANES


def per_leaf(flat: Flat, blocks: jax.Array) -> jax.Array:
  """Counts of blocks, uint32 ``(blocks, ...)``, to wide counts of leaves ``(leaves, ..., 2)``."""
  counts = _wide.wide(blocks)
  leaves = jnp.zeros((len(flat.leaves), *counts.shape[1:]), _U32)
  return _wide.carried(leaves.at[flat.block_slot].add(counts))


def nan_key(flat: Flat) -> int:
  """The key of NaN, and of padding."""
  return flat.form.nan


def masks(flat: Flat, xs: Sequence[jax.Array], key: jax.Array, cut: jax.Array) -> list[jax.Array]:
  """The :func:`mask` of each leaf."""
  del flat
  return [mask(x, key[i], cut[i]) for i, x in enumerate(xs)]


def mask(x: jax.Array, key: jax.Array, cut: jax.Array) -> jax.Array:
  """Keeps the keys above ``key``, and its ties before flat index ``cut``, a wide count."""
  keys = _keys.keys(x.reshape(-1))
  before = lax.iota(_U32, keys.size) < _wide.narrow(cut)
  return ((keys > key) | ((keys == key) & before)).reshape(x.shape)


def count(flat: Flat, window: jax.Array, shift: jax.Array) -> jax.Array:
  """One pass: keys in each bin, uint32 ``(blocks, 8)``, from per-leaf windows and shifts."""
  parts = [_run_bins(flat, run, window, shift) for run in flat.runs]
  rows = flat.rest.shape[0]
  if rows:
    slot = flat.block_slot[flat.block_slot.size - rows :]
    parts.append(rows_bins(flat.rest, flat.form, window[slot], shift[slot]))
  return jnp.concatenate(parts) if parts else jnp.zeros((0, _search.BINS), _U32)


def _run_bins(flat: Flat, run: Stretch, window: jax.Array, shift: jax.Array) -> jax.Array:
  slots, skips = jnp.asarray(run.slot), jnp.asarray(run.skip)

  def one(i: jax.Array, out: jax.Array) -> jax.Array:
    keys = keys_of(_chunk(flat, run, i), flat.form)
    slot = slots[i] if len(flat.leaves) > 1 else 0
    return out.at[i].set(chunk_bins(keys, window[slot], shift[slot], skips[i]))

  return lax.fori_loop(0, run.slot.size, one, jnp.zeros((run.slot.size, _search.BINS), _U32))


def rows_bins(
  rows: jax.Array, form: _keys.KeyLayout, window: jax.Array, shift: jax.Array
) -> jax.Array:
  """uint32 ``(R, 8)`` of rows ``(R, lanes)``, each by its own window and shift, some at a time."""
  step = min(rows.shape[0], max(1, ROWS[0] * LANES // rows.shape[1]))

  def some(i: jax.Array, out: jax.Array) -> jax.Array:
    begin = jnp.minimum(i * step, rows.shape[0] - step)  # rows counted twice are written twice
    part = lambda values: lax.dynamic_slice_in_dim(values, begin, step)
    bins = row_bins(keys_of(part(rows), form), part(window), part(shift))
    return lax.dynamic_update_slice_in_dim(out, bins, begin, axis=0)

  out = jnp.zeros((rows.shape[0], _search.BINS), _U32)
  return lax.fori_loop(0, -(-rows.shape[0] // step), some, out)


def cuts(flat: Flat, key: jax.Array, keep: jax.Array, ties: jax.Array) -> jax.Array:
  """Where to cut the ties: wide, the least index that has ``keep`` ties of ``key`` before it.

  Args:
    flat: the leaves.
    key: ``(leaves,)``, the key whose ties are cut.
    keep: wide ``(leaves, 2)``, how many to keep; at most as many as there are.
    ties: uint32 ``(blocks,)``, how many there are in each block.
  """
  keep = _wide.narrow(keep)
  order = np.lexsort((flat.block_start, flat.block_slot)).astype(np.int32)
  slot = flat.block_slot[order]
  ties = ties[order]
  through = jnp.cumsum(ties)
  # differences stay exact when the sum over all leaves wraps round
  first = np.searchsorted(slot, np.arange(len(flat.leaves)))
  first = np.minimum(first, max(slot.size - 1, 0))
  before = through - ties - (through - ties)[first][slot]
  wanted = keep[slot]
  hit = (before < wanted) & (wanted <= before + ties)
  position = (
    jnp.zeros(len(flat.leaves), jnp.int32)
    .at[slot]
    .add(jnp.where(hit, jnp.arange(slot.size, dtype=jnp.int32), 0))
  )

  def cut(leaf: jax.Array) -> jax.Array:
    at = position[leaf]
    row, start, left = _row_with(flat, jnp.asarray(order)[at], key[leaf], keep[leaf] - before[at])
    seen = jnp.cumsum((row == key[leaf]).astype(_U32))
    return (start + jnp.sum(seen < left, dtype=jnp.int32) + 1).astype(_U32)

  one = lambda leaf: lax.cond(keep[leaf] > 0, cut, lambda _: _U32(0), leaf)
  return _wide.wide(lax.map(one, jnp.arange(len(flat.leaves), dtype=jnp.int32)))


def sample(flat: Flat, sizes: Sequence[int]) -> list[jax.Array]:
  """Keys at jittered, evenly spread places, so many from each leaf."""
  out = []
  for leaf, size in zip(flat.leaves, sizes):
    picked = leaf[jittered(leaf.size, size).astype(np.int32)]
    out.append(keys_of(picked, flat.form))
  return out


def jittered(size: int, places: int) -> np.ndarray:
  """One index from each of so many equal parts of ``range(size)``; the same every time."""
  edges = np.arange(places + 1, dtype=np.int64) * size // places
  hashed = np.arange(places, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(40)
  offset = (hashed * (edges[1:] - edges[:-1]).astype(np.uint64)) >> np.uint64(24)
  return np.minimum(edges[:-1] + offset.astype(np.int64), size - 1)


def _row_with(
  flat: Flat, block: jax.Array, key: jax.Array, tie: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """The row of a block that holds its tie number ``tie``: keys, flat index, ties still to go."""
  start = jnp.asarray(flat.block_start)[block]
  firsts = np.cumsum([0] + [run.slot.size for run in flat.runs])

  def in_run(run: Stretch, first: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    i = jnp.clip(block - first, 0, run.slot.size - 1)
    rows = _chunk(flat, run, i)
    window = jnp.broadcast_to(key - 1, (run.rows,))
    ties = row_bins(keys_of(rows, flat.form), window, jnp.zeros_like(window))[:, 1]
    ties = jnp.where(jnp.arange(run.rows, dtype=jnp.int32) < jnp.asarray(run.skip)[i], 0, ties)
    through = jnp.cumsum(ties)
    at = jnp.sum(through < tie, dtype=jnp.int32)
    return keys_of(rows[at], flat.form), start + at * LANES, tie - (through - ties)[at]

  ways: list[Callable[[], tuple[jax.Array, jax.Array, jax.Array]]]
  ways = [functools.partial(in_run, run, int(first)) for run, first in zip(flat.runs, firsts)]
  if flat.rest.shape[0]:
    row = lambda: keys_of(flat.rest[jnp.maximum(block - int(firsts[-1]), 0)], flat.form)
    ways.append(lambda: (row(), start, tie))
  which = jnp.sum(block >= jnp.asarray(firsts[1:], jnp.int32), dtype=jnp.int32)
  return lax.switch(which, ways)


def _chunk(flat: Flat, run: Stretch, i: jax.Array) -> jax.Array:
  """Chunk number ``i`` of a run, ``(rows, LANES)``, read from whichever leaf it is in."""
  slots, which = np.unique(run.slot, return_inverse=True)
  read = lambda leaf: lambda start: lax.dynamic_slice(leaf, (start,), (run.rows * LANES,))
  reads = [read(flat.leaves[slot]) for slot in slots]
  start = jnp.asarray(run.start)[i]
  chunk = lax.switch(jnp.asarray(which, jnp.int32)[i], reads, start)
  return chunk.reshape(run.rows, LANES)


def _padded_rows(x: jax.Array) -> jax.Array:
  """The bits of floats, in rows."""
  bits = _keys.bits(x)
  mark = _keys.mark(bits.dtype)
  return jnp.pad(bits, (0, -x.size % LANES), constant_values=mark).reshape(-1, LANES)
