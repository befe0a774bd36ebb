"""Counting on one CPU device: leaves are read as flat runs of lanes.

XLA's CPU backend counts ``sum(key > t)`` at a tenth of the speed of memory: a long reduction
becomes a tree whose input is written out first. Here a *chunk* of 64 x 4,096 keys is counted by
sums over an axis of eight with long contiguous lanes, which fuse and vectorise: a key's bin
becomes a nibble of a uint32 word, eight words are added, split into bytes, and eight of those
are added again before they are widened. A pass then costs little more than a read, and its
temporaries stay in the cache.

Leaves of at least one chunk are read in place, chunk by chunk; the last chunk overlaps the one
before it, and skips the rows that were counted. What does not fill a row of lanes, and smaller
leaves, are copied into one matrix of rows, padded with NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jprune.masks import _keys, _search, _wide

LANES = 4096
ROWS = 64
CHUNK = ROWS * LANES
_U32 = jnp.uint32


class Flat(NamedTuple):
  """Leaves of one dtype, laid out. Blocks are the chunks, then the rows; index maps are static.

  Attributes:
    leaves: every leaf, flat: floats of 32 bits and more, or the bits of 16-bit floats (XLA:CPU
      would widen a slice of those to float32).
    rest: ``(B, LANES)``, rows of smaller leaves and of remainders.
    form: constants of the keys.
    chunk_slot: ``(C,)``, the leaf of each chunk.
    chunk_start: ``(C,)``, where each chunk is read.
    chunk_skip: ``(C,)``, how many of its rows an earlier chunk has counted.
    block_slot: ``(C + B,)``, the leaf of each block.
    block_first: ``(C + B,)``, the flat index in that leaf at which the block is read.
  """

  leaves: list[jax.Array]
  rest: jax.Array
  form: _keys.Layout
  chunk_slot: np.ndarray
  chunk_start: np.ndarray
  chunk_skip: np.ndarray
  block_slot: np.ndarray
  block_first: np.ndarray


def prepare(xs: Sequence[jax.Array]) -> Flat:
  """Lays out leaves of one floating dtype, each of fewer than 2**31 elements."""
  xs = [_keys.widen(x).reshape(-1) for x in xs]
  form = _keys.layout(xs[0])
  if form.signed == 'int16':
    xs = [_keys.bits(x) for x in xs]
  rows, slots, starts, skips, row_slots, row_firsts = [], [], [], [], [], []
  for slot, x in enumerate(xs):
    in_place = x.size // LANES * LANES if x.size >= CHUNK else 0
    for begin in range(0, in_place, CHUNK):
      slots.append(slot)
      starts.append(min(begin, in_place - CHUNK))
      skips.append((begin - starts[-1]) // LANES)
    if in_place < x.size:
      rows.append(_padded_rows(x[in_place:]))
      row_slots += [slot] * rows[-1].shape[0]
      row_firsts += range(in_place, x.size, LANES)
  rest = jnp.concatenate(rows) if rows else jnp.zeros((0, LANES), xs[0].dtype)
  ints = lambda values: np.asarray(values, np.int32)
  return Flat(
      xs, rest, form, ints(slots), ints(starts), ints(skips),
      ints(slots + row_slots), ints(starts + row_firsts),
  )


def counted(size: int) -> int:
  """How many keys a leaf brings to the count: padding, which ranks with NaN, included."""
  return -(-size // LANES) * LANES


def count(flat: Flat, window: jax.Array, shift: jax.Array) -> jax.Array:
  """One pass: keys in each bin, wide ``(leaves, 8, 2)``, from per-leaf windows and shifts."""
  counts = _wide.wide(_blocks(flat, window, shift))
  leaves = jnp.zeros((len(flat.leaves), _search.BINS, 2), _U32)
  return _wide.carried(leaves.at[flat.block_slot].add(counts))


def nan_key(flat: Flat) -> int:
  """The key of NaN, and of padding."""
  return flat.form.nan


def mask(x: jax.Array, key: jax.Array, cut: jax.Array) -> jax.Array:
  """Keeps the keys above ``key``, and its ties before flat index ``cut``."""
  keys = _keys.keys(x.reshape(-1))
  before = lax.iota(_U32, keys.size) < cut
  return ((keys > key) | ((keys == key) & before)).reshape(x.shape)


def _blocks(flat: Flat, window: jax.Array, shift: jax.Array) -> jax.Array:
  """uint32 ``(blocks, 8)``."""
  chunks = flat.chunk_slot.size
  out = jnp.zeros((flat.block_slot.size, _search.BINS), _U32)
  if chunks:
    slot_of, skip_of = jnp.asarray(flat.chunk_slot), jnp.asarray(flat.chunk_skip)

    def one(i: jax.Array, out: jax.Array) -> jax.Array:
      slot = slot_of[i]
      bins = _chunk_bins(keys_of(_chunk(flat, i), flat.form), window[slot], shift[slot], skip_of[i])
      return out.at[i].set(bins)

    out = lax.fori_loop(0, chunks, one, out)
  rows = flat.rest.shape[0]
  if rows:
    slots = jnp.asarray(flat.block_slot[chunks:])
    step = min(ROWS, rows)

    def some(i: jax.Array, out: jax.Array) -> jax.Array:
      begin = jnp.minimum(i * step, rows - step)  # rows counted twice are written twice
      block = lax.dynamic_slice_in_dim(flat.rest, begin, step)
      slot = lax.dynamic_slice_in_dim(slots, begin, step)
      bins = row_bins(keys_of(block, flat.form), window[slot], shift[slot])
      return lax.dynamic_update_slice_in_dim(out, bins, chunks + begin, axis=0)

    out = lax.fori_loop(0, -(-rows // step), some, out)
  return out


def cuts(flat: Flat, key: jax.Array, keep: jax.Array) -> jax.Array:
  """Where to cut the ties: uint32, the least index that has ``keep`` ties of ``key`` before it.

  Args:
    flat: the leaves.
    key: ``(leaves,)``, the key whose ties are cut.
    keep: uint32 ``(leaves,)``, how many to keep; at most as many as there are.
  """
  ties = _blocks(flat, key - 1, jnp.zeros_like(key))[:, 1]
  order = np.lexsort((flat.block_first, flat.block_slot))
  slot = flat.block_slot[order]
  ties = ties[order]
  through = jnp.cumsum(ties)
  # differences stay exact when the sum over all leaves wraps round
  first = np.searchsorted(slot, np.arange(len(flat.leaves)))
  first = np.minimum(first, max(slot.size - 1, 0))
  before = through - ties - (through - ties)[first][slot]
  wanted = keep[slot]
  hit = (before < wanted) & (wanted <= before + ties)
  position = jnp.zeros(len(flat.leaves), jnp.int32).at[slot].add(
      jnp.where(hit, jnp.arange(slot.size, dtype=jnp.int32), 0)
  )

  def cut(leaf: jax.Array) -> jax.Array:
    at = position[leaf]
    row, start, left = _row_with(flat, jnp.asarray(order)[at], key[leaf], keep[leaf] - before[at])
    seen = jnp.cumsum((keys_of(row, flat.form) == key[leaf]).astype(_U32))
    return (start + jnp.sum(seen < left, dtype=jnp.int32) + 1).astype(_U32)

  one = lambda leaf: lax.cond(keep[leaf] > 0, cut, lambda _: _U32(0), leaf)
  return lax.map(one, jnp.arange(len(flat.leaves), dtype=jnp.int32))


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
  """The row of a block that holds its tie number ``tie``: row, flat index, ties still to go."""
  chunks = flat.chunk_slot.size
  start = jnp.asarray(flat.block_first)[block]

  def in_chunk() -> tuple[jax.Array, jax.Array, jax.Array]:
    rows = _chunk(flat, jnp.minimum(block, chunks - 1))
    window = jnp.broadcast_to(key - 1, (ROWS,))
    ties = row_bins(keys_of(rows, flat.form), window, jnp.zeros_like(window))[:, 1]
    skipped = jnp.arange(ROWS) < jnp.asarray(flat.chunk_skip)[jnp.minimum(block, chunks - 1)]
    ties = jnp.where(skipped, 0, ties)
    through = jnp.cumsum(ties)
    at = jnp.sum(through < tie, dtype=jnp.int32)
    return rows[at], start + at * LANES, tie - (through - ties)[at]

  def in_rest() -> tuple[jax.Array, jax.Array, jax.Array]:
    return flat.rest[block - chunks], start, tie

  if not flat.rest.shape[0]:
    return in_chunk()
  return lax.cond(block < chunks, in_chunk, in_rest) if chunks else in_rest()


def _chunk(flat: Flat, i: jax.Array) -> jax.Array:
  """Chunk number ``i``: ``(ROWS, LANES)``, read from whichever leaf it is in."""
  large = sorted(set(flat.chunk_slot.tolist()))
  which = jnp.asarray(np.searchsorted(large, flat.chunk_slot).astype(np.int32))[i]
  read = lambda leaf: lambda start: lax.dynamic_slice(leaf, (start,), (CHUNK,))
  start = jnp.asarray(flat.chunk_start)[i]
  return lax.switch(which, [read(flat.leaves[j]) for j in large], start).reshape(ROWS, LANES)


def _padded_rows(x: jax.Array) -> jax.Array:
  nan = jnp.nan if jnp.issubdtype(x.dtype, jnp.floating) else (1 << 15) - 1
  return jnp.pad(x, (0, -x.size % LANES), constant_values=nan).reshape(-1, LANES)


def keys_of(block: jax.Array, form: _keys.Layout) -> jax.Array:
  if jnp.issubdtype(block.dtype, jnp.floating):
    block = _keys.bits(block)
  return _keys.key_of_bits(block, form)


def _nibbles(keys: jax.Array, window: jax.Array, shift: jax.Array) -> jax.Array:
  """1 in the nibble of the key's bin; 0 beyond the bins, where the shift leaves the word."""
  away = (jnp.maximum(keys, window) - window) >> shift
  bin_ = jnp.minimum(away, jnp.asarray(_search.BINS, away.dtype)).astype(_U32)
  return lax.shift_left(jnp.ones_like(bin_), bin_ << 2)


def _bytes(words: jax.Array) -> jax.Array:
  """Splits nibble counters into byte counters: a new leading axis, bins 0 2 4 6 and 1 3 5 7."""
  return jnp.stack([words & 0x0F0F0F0F, (words >> 4) & 0x0F0F0F0F])


def _chunk_bins(keys: jax.Array, window: jax.Array, shift: jax.Array, skip: jax.Array) -> jax.Array:
  """uint32 ``(8,)``: bins of a chunk ``(ROWS, LANES)``, its first ``skip`` rows left out."""
  row = lax.iota(jnp.int32, ROWS).reshape(8, 8, 1)
  counts = jnp.where(row >= skip, _U32(0xFFFFFFFF), _U32(0))
  words = jnp.sum(_nibbles(keys.reshape(8, 8, LANES), window, shift) & counts, axis=1, dtype=_U32)
  words = jnp.sum(_bytes(words), axis=1, dtype=_U32)  # (2, LANES), at most 64 in a byte
  singles = lax.bitcast_convert_type(words, jnp.uint8).astype(_U32)  # (2, LANES, 4)
  return jnp.sum(singles, axis=1, dtype=_U32).T.reshape(_search.BINS)


def row_bins(keys: jax.Array, window: jax.Array, shift: jax.Array) -> jax.Array:
  """uint32 ``(R, 8)``: bins of each row, by the row's own window and shift.

  Rows are whole multiples of 64 keys, of at most 2**32 - 1.
  """
  rows, lanes = keys.shape
  spread = lambda x: x[:, None, None]
  words = _nibbles(keys.reshape(rows, 8, lanes // 8), spread(window), spread(shift))
  words = jnp.sum(words, axis=1, dtype=_U32).reshape(rows, 8, lanes // 64)
  words = jnp.sum(_bytes(words), axis=2, dtype=_U32)  # (2, R, lanes // 64)
  singles = lax.bitcast_convert_type(words, jnp.uint8).astype(_U32)  # (2, R, lanes // 64, 4)
  return jnp.moveaxis(jnp.sum(singles, axis=2, dtype=_U32), 0, -1).reshape(rows, _search.BINS)
