"""Counting on accelerators and on sharded arrays: every leaf in its own shape.

Only elementwise work and sums over whole leaves, which GPUs and TPUs fuse into one read, and
which the partitioner turns into a local count and an all-reduce of eight numbers: no reshape,
no slice, nothing that would move scores between devices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jprune.masks import _keys, _search, _wide
from jprune.masks._flat import jittered

_U32 = jnp.uint32


def prepare(xs: Sequence[jax.Array]) -> list[jax.Array]:
  """Nothing to lay out."""
  return list(xs)


def counted(size: int) -> int:
  """How many keys a leaf brings to the count: no padding."""
  return size


def nan_key(xs: Sequence[jax.Array]) -> int:
  """The key of NaN."""
  return _keys.layout(_keys.widen(xs[0])).nan


def count(xs: Sequence[jax.Array], window: jax.Array, shift: jax.Array) -> jax.Array:
  """One pass: keys in each bin, uint32 ``(leaves, 8)``, from per-leaf windows and shifts."""
  return _count(lambda x, i: _keys.keys(x), xs, window, shift)


def per_leaf(xs: Sequence[jax.Array], blocks: jax.Array) -> jax.Array:
  """Counts of blocks, which are leaves here, as wide counts ``(leaves, ..., 2)``."""
  del xs
  return _wide.wide(blocks)


def mask(x: jax.Array, key: jax.Array, cut: jax.Array) -> jax.Array:
  """Keeps the keys above ``key``, and its ties before flat index ``cut``."""
  keys = _keys.keys(x)
  return (keys > key) | ((keys == key) & (flat_index(x.shape) < cut))


def cuts(xs: Sequence[jax.Array], key: jax.Array, keep: jax.Array, ties: jax.Array) -> jax.Array:
  """Where to cut the ties, as :func:`jprune.masks._flat.cuts`: a second race, of indices.

  Ties race with the complement of their flat index as key, all others with 0.
  """
  del ties
  tie_keys = lambda x, i: jnp.where(_keys.keys(x) == key[i], ~flat_index(x.shape), _U32(0))
  k = _wide.wide(keep)
  total = jnp.stack([_wide.constant(math.prod(x.shape)) for x in xs])
  blocks = lambda window, shift: _count(tie_keys, xs, window, shift)
  found, _ = _search.run(blocks, _wide.wide, _search.start(k, total, _U32, None), k, total)
  cut = jnp.where(found.low == 0, ~found.low, ~found.low + 1)  # low = 0 keeps all of a leaf
  return jnp.where(keep == 0, _U32(0), cut)


def sample(xs: Sequence[jax.Array], sizes: Sequence[int]) -> list[jax.Array]:
  """Keys at jittered, evenly spread places, so many from each leaf."""
  out = []
  for x, places in zip(xs, sizes):
    if not x.shape:
      out.append(jnp.broadcast_to(_keys.keys(x), places))
      continue
    at = np.unravel_index(jittered(math.prod(x.shape), places), x.shape)
    out.append(_keys.keys(x[tuple(i.astype(np.int32) for i in at)]))
  return out


def flat_index(shape: tuple[int, ...]) -> jax.Array:
  """uint32 array of the row-major index of each element; fuses into whatever reads it."""
  index = jnp.zeros(shape, _U32)
  for axis in range(len(shape)):
    stride = math.prod(shape[axis + 1 :])
    index = index + lax.broadcasted_iota(_U32, shape, axis) * _U32(stride)
  return index


def _count(
  keys_of: Callable[[jax.Array, int], jax.Array],
  xs: Sequence[jax.Array],
  window: jax.Array,
  shift: jax.Array,
) -> jax.Array:
  # without the barrier the loop would compute all keys once and store them
  xs, window, shift = lax.optimization_barrier((list(xs), window, shift))
  counts = []
  for i, x in enumerate(xs):
    away = (jnp.maximum(keys_of(x, i), window[i]) - window[i]) >> shift[i]
    counts.append(jnp.stack([jnp.sum(away == j, dtype=_U32) for j in range(_search.BINS)]))
  return jnp.stack(counts)
