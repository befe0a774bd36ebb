"""Bins of keys by packed counters: the arithmetic of :mod:`jprune.masks._selection.flat`.

A key's bin becomes a nibble of a uint32 word; eight words are added, split into bytes, and eight of
those are added again before they are widened.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from jprune.masks._selection import keys as _keys
from jprune.masks._selection import search as _search

_U32 = jnp.uint32


def keys_of(block: jax.Array, form: _keys.KeyLayout) -> jax.Array:
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


def chunk_bins(keys: jax.Array, window: jax.Array, shift: jax.Array, skip: jax.Array) -> jax.Array:
  """uint32 ``(8,)``: bins of a chunk ``(rows, lanes)``, its first ``skip`` rows left out."""
  rows, lanes = keys.shape
  row = lax.iota(jnp.int32, rows).reshape(rows // 8, 8, 1)
  counts = jnp.where(row >= skip, _U32(0xFFFFFFFF), _U32(0))
  words = jnp.sum(
    _nibbles(keys.reshape(rows // 8, 8, lanes), window, shift) & counts, axis=1, dtype=_U32
  )
  words = jnp.sum(_bytes(words), axis=1, dtype=_U32)  # (2, lanes), at most 64 in a byte
  return _bins(words)


def row_bins(
  keys: jax.Array, window: jax.Array, shift: jax.Array, inside: jax.Array | None = None
) -> jax.Array:
  """uint32 ``(R, 8)``: bins of each row, by the row's own window and shift.

  Rows are whole multiples of 64 keys, of at most 2**32 - 1; those not ``inside`` are in no bin.
  """
  rows, lanes = keys.shape
  spread = lambda x: x[:, None, None]
  words = _nibbles(keys.reshape(rows, 8, lanes // 8), spread(window), spread(shift))
  if inside is not None:
    words = jnp.where(inside.reshape(words.shape), words, _U32(0))
  words = jnp.sum(words, axis=1, dtype=_U32).reshape(rows, 8, lanes // 64)
  return _bins(jnp.sum(_bytes(words), axis=2, dtype=_U32))  # from (2, R, lanes // 64)


def _bins(words: jax.Array) -> jax.Array:
  """Adds up byte counters ``(2, ..., lanes)``, at most 128 in a byte: uint32 ``(..., 8)``."""
  # bytes 0 and 2, then 1 and 3; sums over 32 lanes stay below 2**16
  halves = jnp.stack([words & 0x00FF00FF, (words >> 8) & 0x00FF00FF])
  lanes = words.shape[-1]
  if lanes % 32 == 0:
    halves = jnp.sum(halves.reshape(*halves.shape[:-1], 32, lanes // 32), axis=-2, dtype=_U32)
  low, high = (
    jnp.sum(halves & 0xFFFF, axis=-1, dtype=_U32),
    jnp.sum(halves >> 16, axis=-1, dtype=_U32),
  )
  counts = jnp.stack([low, high])  # (byte // 2, byte % 2, even or odd bin, ...)
  return jnp.moveaxis(counts.reshape(_search.BINS, *words.shape[1:-1]), 0, -1)
