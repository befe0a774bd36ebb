"""Selection on concrete arrays: the search is driven from Python.

One small compiled count for each shape takes a fraction of the time that it takes to compile a
whole search. On one CPU the last keys, once they are few, are read where they lie by NumPy, which
also chooses among small leaves, before anything is compiled.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jprune.masks._auto import placed
from jprune.masks._selection import flat as _flat
from jprune.masks._selection import keys as _keys
from jprune.masks._selection import search as _search
from jprune.masks._selection import wide as _wide

SAMPLE = 2048
ON_HOST = 2**18  # elements; below, NumPy is done before anything is compiled


class Part:
  """What is known, in a search, of an array that takes part.

  Attributes:
    x: the array.
    way: how to count in it.
    blocks: on one CPU, counts of its rows.
  """

  def __init__(self, x: jax.Array, way: Any):
    self.x, self.way = x, way
    rows = -(-x.size // _flat.LANES) if way is _flat else 0
    sizes = np.full(rows, _flat.LANES, np.uint32)
    sizes[rows - 1 :] -= np.uint32(-x.size % _flat.LANES)
    self.blocks = _search.Blocks(sizes, np.zeros_like(sizes))


def largest(xs: Sequence[jax.Array], k: int, way_of: Any) -> list[jax.Array]:
  """Masks of the k largest of all leaves; ``way_of`` tells how to count in an array."""
  sizes = [x.size for x in xs]
  if k in (0, sum(sizes)):
    return [_filled(x, k > 0) for x in xs]
  small = [x.size < ON_HOST and x.is_fully_addressable for x in xs]
  if all(small) and sum(sizes) <= ON_HOST:
    return _partitioned(xs, k)
  # small leaves join one array: a shape to compile instead of many
  held = [_keys.host_keys(np.asarray(x)).reshape(-1) if s else None for x, s in zip(xs, small)]
  parts = [None if s else Part(x, way_of(x)) for x, s in zip(xs, small)]
  searched = [part for part in parts if part is not None]
  if any(small):
    joined = jnp.asarray(np.concatenate([np.ravel(x) for x, s in zip(xs, small) if s]))
    searched.append(Part(joined, way_of(joined)))
  key, left = _searched(searched, k)
  out = []
  for x, keys, part in zip(xs, held, parts):
    mask, used = _of_keys(x, keys, key, left) if part is None else _of_part(part, key, left)
    out.append(mask)
    left = None if left is None else left - used
  return out


def _searched(parts: Sequence[Part], k: int) -> tuple[np.ndarray, int | None]:
  """The k-th largest key, and how many ties of it are kept; ``None`` for all there are."""
  sizes = [part.x.size for part in parts]
  wanted, total = (_wide.constant(n)[None] for n in (k, sum(sizes)))
  places = [-(-SAMPLE * size // sum(sizes)) for size in sizes]
  sample = np.concatenate([_sampled(part.x, n, part.way) for part, n in zip(parts, places)])
  # a length that doesn't depend on the leaves: compiled once
  sample = np.sort(sample)[_flat.jittered(sample.size, SAMPLE)][None]
  state = _start(wanted, total, sample)
  while not np.asarray(state.done)[0]:  # indexing a jax.Array would be dispatched
    counts = [_counted(part.x, state.edges, part.way) for part in parts]
    totals = _wide.host_total([np.asarray(each) for _, each in counts])
    state, found = _advance(state, totals, wanted)
    place, rises, falls = (np.asarray(each)[0] for each in found)
    for part, (each, _) in zip(parts, counts):
      if part.way is _flat:
        held, (upto, above) = np.asarray(each), part.blocks
        upto = held[:, place - 1] if rises else upto
        part.blocks = _search.Blocks(upto, held[:, place] if falls else above)
    if not np.asarray(state.done)[0] and _few(parts, sum(sizes)):
      return _finished(parts, state, k)
  exact = _wide.value(np.asarray(state.upto)[0]) == k
  left = None if exact else k - _wide.value(np.asarray(state.above)[0])
  return np.asarray(state.low)[0], left


def _few(parts: Sequence[Part], size: int) -> bool:
  """Whether the keys that are left lie in few rows."""
  if any(part.way is not _flat for part in parts):
    return False
  alive = sum(np.count_nonzero(part.blocks.upto != part.blocks.above) for part in parts)
  return bool(alive * _flat.LANES * 8 < max(size, 8 * ON_HOST))


def _finished(parts: Sequence[Part], state: _search.State, k: int) -> tuple[np.ndarray, int | None]:
  """As :func:`_searched`, from what is left: by quickselect."""
  low, high = (np.asarray(each)[0] for each in (state.low, state.high))
  above = _wide.value(np.asarray(state.above)[0])
  rest = [_inside(part, low, high) for part in parts]
  keys = np.concatenate([each for _, each in rest])
  key = np.partition(keys, keys.size - (k - above))[keys.size - (k - above)]
  for part, (row, each) in zip(parts, rest):
    ties = np.bincount(row[each == key], minlength=part.blocks.upto.size).astype(np.uint32)
    part.blocks = _search.Blocks(ties, np.zeros_like(ties))
  return key, k - above - int(np.count_nonzero(keys > key))


def _inside(part: Part, low: Any, high: Any) -> tuple[np.ndarray, np.ndarray]:
  """The keys of an array within the bracket, and the row of each."""
  alive = np.flatnonzero(part.blocks.upto != part.blocks.above)
  x = np.asarray(part.x).reshape(-1)  # one CPU: no copy
  whole = x.size // _flat.LANES
  rows = x[: whole * _flat.LANES].reshape(whole, _flat.LANES)[alive[alive < whole]]
  row, lane = np.nonzero(_keys.host_between(rows, int(low), int(high)))
  found = [(alive[row], rows[row, lane])]
  if alive.size and alive[-1] == whole:
    tail = x[whole * _flat.LANES :]
    tail = tail[_keys.host_between(tail, int(low), int(high))]
    found.append((np.full(tail.size, whole), tail))
  return np.concatenate([r for r, _ in found]), _keys.host_keys(
    np.concatenate([values for _, values in found])
  )


def _of_keys(x: jax.Array, keys: Any, key: Any, left: int | None) -> tuple[jax.Array, int]:
  """Mask of a small leaf, and how many ties it took of the ``left`` ones."""
  cut, used = x.size, 0
  if left is not None:
    ties = np.flatnonzero(keys == key)
    used = min(left, ties.size)
    cut = int(ties[used]) if used < ties.size else x.size
  mask = (keys > key) | ((keys == key) & (np.arange(x.size) < cut))
  return placed(mask.reshape(x.shape), x), used


def _of_part(part: Part, key: Any, left: int | None) -> tuple[jax.Array, int]:
  """Mask of a leaf, and how many ties it took of the ``left`` ones."""
  x, way = part.x, part.way
  cut, used = x.size, 0
  if left is not None and way is _flat:
    ties = part.blocks.upto.astype(np.int64) - part.blocks.above
    used = min(left, int(ties.sum()))
    cut = _cut(x, key, used, ties)
  elif left is not None:
    found, ties = _cut_by_device(x, key, _wide.constant(left), way)
    used = min(left, _wide.value(ties))
    cut = _wide.value(found) if used < _wide.value(ties) else x.size
  return _mask(x, key, _wide.constant(cut), way), used


def _cut(x: jax.Array, key: Any, keep: int, ties: np.ndarray) -> int:
  """The least flat index with ``keep`` ties before it, from the number of ties in each row."""
  if keep == 0:
    return 0
  through = np.cumsum(ties)
  if keep == through[-1]:
    return x.size
  row = int(np.searchsorted(through, keep))
  begin = row * _flat.LANES
  held = np.asarray(x).reshape(-1)[begin : begin + _flat.LANES]
  at = np.flatnonzero(_keys.host_between(held, int(key), int(key)))
  return begin + int(at[keep - 1 - (through[row] - ties[row])]) + 1


def _partitioned(xs: Sequence[jax.Array], k: int) -> list[jax.Array]:
  """Small leaves by quickselect on the host: nothing to compile."""
  keys = np.concatenate([_keys.host_keys(np.asarray(x)).reshape(-1) for x in xs])
  key = np.partition(keys, keys.size - k)[keys.size - k]
  mask = keys > key
  ties = np.flatnonzero(keys == key)
  mask[ties[: k - np.count_nonzero(mask)]] = True
  pieces = np.split(mask, np.cumsum([x.size for x in xs])[:-1])
  return [placed(piece.reshape(x.shape), x) for piece, x in zip(pieces, xs)]


def _filled(x: jax.Array, value: bool) -> jax.Array:
  return jnp.full(x.shape, value, bool, device=x.sharding if x.committed else None)


def _alone(x: jax.Array, way: Any) -> Any:
  return way.prepare([x], np.zeros(1, np.int32), jnp.uint32(0))


@jax.jit
def _start(k: jax.Array, total: jax.Array, sample: jax.Array) -> _search.State:
  return _search.start(k, total, sample.dtype, sample)


_advance = jax.jit(_search.advance)


@functools.partial(jax.jit, static_argnames=['places', 'way'])
def _sampled(x: jax.Array, places: int, way: Any) -> jax.Array:
  return way.sample(_alone(x, way), [places])[0]


@functools.partial(jax.jit, static_argnames=['way'])
def _counted(x: jax.Array, edges: jax.Array, way: Any) -> tuple[jax.Array, jax.Array]:
  """Counts of blocks, and wide counts of them all, ``(1, E, 2)``."""
  held = _alone(x, way)
  counts = way.every(held, edges)
  return counts, way.per_leaf(held, counts)


@functools.partial(jax.jit, static_argnames=['way'])
def _cut_by_device(
  x: jax.Array, key: jax.Array, left: jax.Array, way: Any
) -> tuple[jax.Array, jax.Array]:
  """Where to cut if no more than ``left`` ties are kept, and how many ties there are."""
  held = _alone(x, way)
  edges = jnp.stack([key - 1, key])[None]
  counts = way.every(held, edges)[0]
  ties = _wide.subtract(counts[0], counts[1])
  return way.cuts(held, key[None], _wide.least(left, ties)[None], ties[None])[0], ties


@functools.partial(jax.jit, static_argnames=['way'])
def _mask(x: jax.Array, key: jax.Array, cut: jax.Array, way: Any) -> jax.Array:
  return way.mask(x, key, cut)
