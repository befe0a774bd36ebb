"""Counting in many leaves on one CPU device: all of them in one array.

:mod:`~jprune.masks._selection.flat` reads each leaf in place, which is a branch of a switch, a
sample and a mask for each; of hundreds of leaves most of the time goes into compiling these. Here
the leaves are copied into one array of rows of lanes, one after another. A *block* is what one row
holds of one leaf: rows that several leaves share have a block for each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jprune.masks._selection import keys as _keys
from jprune.masks._selection import search as _search
from jprune.masks._selection import wide as _wide
from jprune.masks._selection.bins import keys_of, row_bins

LANES = 4096
_ROWS = 64  # that are counted at a time
_U32 = jnp.uint32


class JoinedLeaves(NamedTuple):
  """Leaves of one dtype, together; all but ``rows`` are static.

  Attributes:
    rows: ``(R, LANES)``, floats, or bits.
    form: constants of the keys.
    leaves: how many there are.
    slot: for each block, its leaf.
    row: for each block, its row.
    first: for each block, its first lane.
    last: for each block, the lane after its last one.
    begin: for each block, the index in its leaf of what lies in the first lane of its row, modulo
      2**32.
  """

  rows: jax.Array
  form: _keys.KeyLayout
  leaves: int
  slot: np.ndarray
  row: np.ndarray
  first: np.ndarray
  last: np.ndarray
  begin: np.ndarray


def prepare(xs: Sequence[jax.Array]) -> JoinedLeaves:
  """Copies leaves of one floating dtype, each of fewer than 2**31 elements, into one array."""
  flat = [_keys.widen(x).reshape(-1) for x in xs]
  form = _keys.layout(flat[0])
  if form.signed == 'int16':  # XLA's CPU backend would widen a slice of floats of 16 bits
    flat = [_keys.bits(x) for x in flat]
  sizes = [x.size for x in flat]
  blocks, begin = [], 0
  for slot, size in enumerate(sizes):
    for row in range(begin // LANES, -(-(begin + size) // LANES)):
      ends = max(begin, row * LANES), min(begin + size, (row + 1) * LANES)
      blocks.append((slot, row, *(end - row * LANES for end in ends), row * LANES - begin))
    begin += size
  filling = np.zeros(-begin % LANES, flat[0].dtype)
  rows = jnp.concatenate([*flat, filling]).reshape(-1, LANES)
  columns = np.asarray(blocks, np.int64).reshape(-1, 5).T
  slot, row, first, last = columns[:4].astype(np.int32)
  return JoinedLeaves(rows, form, len(xs), slot, row, first, last, columns[4].astype(np.uint32))


def counted(size: int) -> int:
  """How many keys a leaf brings to the count: what fills a row up is not counted."""
  return size


def nan_key(held: JoinedLeaves) -> int:
  """The key of NaN."""
  return held.form.nan


def per_leaf(held: JoinedLeaves, blocks: jax.Array) -> jax.Array:
  """Counts of blocks, uint32 ``(blocks, ...)``, to wide counts of leaves ``(leaves, ..., 2)``."""
  counts = _wide.wide(blocks)
  leaves = jnp.zeros((held.leaves, *counts.shape[1:]), _U32)
  return _wide.carried(leaves.at[held.slot].add(counts))


def count(held: JoinedLeaves, window: jax.Array, shift: jax.Array) -> jax.Array:
  """One pass: keys in each bin, uint32 ``(blocks, 8)``, from per-leaf windows and shifts."""
  blocks = held.slot.size
  step = min(blocks, _ROWS)
  if not blocks:
    return jnp.zeros((0, _search.BINS), _U32)

  def some(i: jax.Array, out: jax.Array) -> jax.Array:
    begin = jnp.minimum(i * step, blocks - step)  # blocks met twice are written twice
    part = lambda values: lax.dynamic_slice_in_dim(jnp.asarray(values), begin, step)
    slot = part(held.slot)
    keys, inside = _block(held, part(held.row), part(held.first), part(held.last))
    bins = row_bins(keys, window[slot], shift[slot], inside)
    return lax.dynamic_update_slice_in_dim(out, bins, begin, axis=0)

  out = jnp.zeros((blocks, _search.BINS), _U32)
  return lax.fori_loop(0, -(-blocks // step), some, out)


def cuts(held: JoinedLeaves, key: jax.Array, keep: jax.Array, ties: jax.Array) -> jax.Array:
  """Where to cut the ties, as :func:`jprune.masks._selection.flat.cuts`."""
  keep = _wide.narrow(keep)
  ends = np.searchsorted(held.slot, np.arange(held.leaves + 1))
  through = jnp.cumsum(ties)  # differences stay exact when the sum over all leaves wraps round
  before = through - ties
  before = before - before[np.minimum(ends[:-1], max(ties.size - 1, 0))][held.slot]
  full = before + ties < keep[held.slot]  # these blocks keep all of their ties
  at = jnp.zeros(held.leaves, jnp.int32).at[held.slot].add(full.astype(jnp.int32))
  at = jnp.minimum(jnp.asarray(ends[:-1], jnp.int32) + at, max(ties.size - 1, 0))
  of = lambda values: jnp.asarray(values)[at]
  keys, inside = _block(held, of(held.row), of(held.first), of(held.last))
  tied = inside & (keys == key[:, None])
  lanes = jnp.cumsum(tied, axis=1, dtype=_U32) < (keep - before[at])[:, None]
  cut = of(held.begin) + jnp.sum(lanes, axis=1, dtype=_U32) + 1
  return _wide.wide(jnp.where(keep > 0, cut, _U32(0)))


def masks(
  held: JoinedLeaves, xs: Sequence[jax.Array], key: jax.Array, cut: jax.Array
) -> list[jax.Array]:
  """Keeps the keys above each leaf's ``key``, and its ties before flat index ``cut``, wide."""
  cut = _wide.narrow(cut)
  columns = [jnp.asarray(each) for each in held[3:]]

  def one(i: jax.Array, out: jax.Array) -> jax.Array:
    slot, row, first, last, begin = (each[i] for each in columns)
    keys, inside = _block(held, row, first, last)
    before = begin + lax.iota(_U32, LANES) < cut[slot]
    kept = inside & ((keys > key[slot]) | ((keys == key[slot]) & before))
    return out.at[row].set(out[row] | kept)

  # by a loop: else XLA compiles the comparisons anew for each leaf's part of them
  kept = lax.fori_loop(0, held.slot.size, one, jnp.zeros(held.rows.shape, bool)).reshape(-1)
  ends = np.cumsum([math.prod(x.shape) for x in xs])
  return [kept[end - math.prod(x.shape) : end].reshape(x.shape) for end, x in zip(ends, xs)]


def _block(
  held: JoinedLeaves, row: jax.Array, first: jax.Array, last: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Keys of the rows of blocks, and which lanes are the blocks' own."""
  lane = lax.broadcasted_iota(jnp.int32, (*row.shape, LANES), row.ndim)
  inside = (lane >= first[..., None]) & (lane < last[..., None])
  return keys_of(held.rows[row], held.form), inside
