"""Exact-k selection: which elements of leaves rank among the k largest.

Equal scores rank by flat index, lowest first, leaves in the order given. Under a trace the
search is one ``while_loop`` over all leaves. On concrete arrays it is driven from Python, one
small compiled count for each shape, which compiles in a fraction of the time; leaves of less
than a chunk are partitioned by NumPy.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jprune import tree
from jprune.masks._auto import mesh_axes, placed, varying
from jprune.masks._selection import flat as _flat
from jprune.masks._selection import joined as _joined
from jprune.masks._selection import keys as _keys
from jprune.masks._selection import native as _native
from jprune.masks._selection import search as _search
from jprune.masks._selection import sorted as _sorted
from jprune.masks._selection import wide as _wide

SAMPLE = 2048
ON_HOST = 2**18  # elements; below, NumPy is done before anything is compiled
MANY = 32  # from so many leaves on, sampling each would take longer to compile than it saves
_U32 = jnp.uint32


def largest(xs: Sequence[jax.Array], ks: Any) -> list[jax.Array]:
  """Masks of the k largest of each leaf.

  Args:
    xs: floating arrays, or marked bits (:mod:`.keys`).
    ks: for each a Python int, or a traced wide count ``(2,)``; or all of them, ``(leaves, 2)``.
  """
  if _is_concrete(xs, ks):
    return [_driven([x], k)[0] for x, k in zip(xs, ks)]
  out: dict[int, jax.Array] = {}
  for indices in _by_dtype(xs):
    whole = len(indices) == len(xs)
    places = ks if whole else [ks[i] for i in indices]
    masks = _traced([xs[i] for i in indices], places, together=False)
    out.update(zip(indices, masks))
  return [out[i] for i in range(len(xs))]


def largest_together(xs: Sequence[jax.Array], k: Any) -> list[jax.Array]:
  """Masks of the k largest of all leaves taken together; floats are compared by value.

  Bits are compared with bits of the same kind of floats only.
  """
  xs = of_one_dtype(xs)
  if _is_concrete(xs, [k]):
    return _driven(xs, k)
  return _traced(xs, [k], together=True)


def of_one_dtype(xs: Sequence[jax.Array]) -> list[jax.Array]:
  """Floats as they are if they have one dtype, else as one that holds the values of all."""
  dtypes = {x.dtype for x in xs}
  if len(dtypes) == 1:
    return list(xs)
  common = jnp.dtype('float64' if jnp.dtype('float64') in dtypes else 'float32')
  return [x.astype(common) for x in xs]


def _is_concrete(xs: Sequence[Any], ks: Sequence[Any]) -> bool:
  return (
    not isinstance(ks, jax.Array)
    and all(isinstance(k, int) for k in ks)
    and not tree.is_traced(*xs)
  )


def _by_dtype(xs: Sequence[jax.Array]) -> list[list[int]]:
  groups: dict[Any, list[int]] = {}
  for i, x in enumerate(xs):
    groups.setdefault(x.dtype, []).append(i)
  return list(groups.values())


# ------------------------------------------------------------------------------- under a trace


def _traced(
  xs: Sequence[jax.Array], ks: Any, *, together: bool, way: Any = None
) -> list[jax.Array]:
  """Masks by one search over all leaves. ``way`` is how to count, worked out unless given."""
  k = ks
  if not isinstance(ks, jax.Array):
    k = jnp.stack([jnp.asarray(_wide.constant(k)) if isinstance(k, int) else k for k in ks])
  if way is None:
    way = _way_of(xs)
    if way is not _native and sum(math.prod(x.shape) for x in xs) <= _sorted.MOST:
      return _sorted.largest(xs, k, together)
  leaves = way.prepare(xs)
  sizes = [math.prod(x.shape) for x in xs]
  race = np.zeros(len(xs), np.int32) if together else np.arange(len(xs), dtype=np.int32)
  totals = jnp.stack([_wide.constant(way.counted(size)) for size in sizes])
  total = _wide.total(totals, axis=0)[None] if together else totals

  def bins(blocks: jax.Array) -> jax.Array:
    counts = way.per_leaf(leaves, blocks)
    return _wide.total(counts, axis=0)[None] if together else counts

  count = lambda window, shift: way.count(leaves, window[race], shift[race])
  key_dtype = jnp.dtype(_keys.layout(_keys.widen(xs[0])).key)
  state = _search.start(k, total, key_dtype, _sample(way, leaves, sizes, together))
  state, ties = _search.run(count, bins, state, k, total)
  key = state.low[race]
  every = jnp.stack([_wide.constant(size) for size in sizes])

  def resolve() -> jax.Array:
    exact = _wide.equal(state.upto, k)[race][:, None]
    keep = _wide.subtract(k, state.above)
    if together:
      # padding ranks with NaN, but is none of the leaf's ties
      padding = jnp.asarray([way.counted(size) - size for size in sizes], _U32)
      padding = _wide.wide(jnp.where(key == way.nan_key(leaves), padding, 0))
      keep = _shared(_wide.subtract(way.per_leaf(leaves, ties), padding), keep)
    return jnp.where(exact, every, way.cuts(leaves, key, jnp.where(exact, _U32(0), keep), ties))

  cut = lax.cond(jnp.all(_wide.equal(state.upto, k)), lambda: varying(every, state, ties), resolve)
  return way.masks(leaves, xs, key, cut)


def way(x: jax.Array) -> Any:
  """How to count in one array: the module :mod:`.flat` or :mod:`.native`."""
  return _way_of([x])


def _way_of(xs: Sequence[jax.Array]) -> Any:
  """How to count. Under a trace the sharding is not known, only whether there could be one."""
  if any(math.prod(x.shape) >= 2**31 for x in xs) or mesh_axes(*xs):
    return _native
  if tree.is_traced(*xs):
    if jax.default_backend() != 'cpu' or jax.device_count() > 1:
      return _native
    return _joined if len(xs) > MANY else _flat
  on_one_cpu = lambda x: len(x.devices()) == 1 and next(iter(x.devices())).platform == 'cpu'
  return _flat if all(on_one_cpu(x) for x in xs) else _native


def _sample(way: Any, leaves: Any, sizes: Sequence[int], together: bool) -> jax.Array | None:
  """Keys ``(races, S)`` for the first guess; ``None`` for races of many leaves."""
  if len(sizes) > MANY or not all(sizes):
    return None
  if not together:
    return jnp.stack(way.sample(leaves, [SAMPLE] * len(sizes)))
  whole = sum(sizes)
  return jnp.concatenate(way.sample(leaves, [-(-SAMPLE * n // whole) for n in sizes]))[None]


def _shared(ties: jax.Array, left: jax.Array) -> jax.Array:
  """Gives ``left`` ties, a wide count ``(1, 2)``, to the leaves in order: wide ``(leaves, 2)``."""
  before = _wide.subtract(_wide.running_total(ties), ties)
  return _wide.least(ties, _wide.subtract(left, _wide.least(before, left)))


# --------------------------------------------------------------------------- on concrete arrays


def _driven(xs: Sequence[jax.Array], k: int) -> list[jax.Array]:
  """Masks of the k largest of all leaves, the search driven from Python."""
  sizes = [x.size for x in xs]
  if k in (0, sum(sizes)):
    return [_filled(x, k > 0) for x in xs]
  small = [_on_host(x) for x in xs]
  if all(small) and sum(sizes) <= ON_HOST:
    return _partitioned(xs, k)
  # small leaves join one array: a shape to compile instead of many
  held = [_keys.host_keys(np.asarray(x)).reshape(-1) if s else None for x, s in zip(xs, small)]
  parts = [x for x, s in zip(xs, small) if not s]
  if any(small):
    parts.append(jnp.asarray(np.concatenate([np.ravel(x) for x, s in zip(xs, small) if s])))
  state = _search_driven(parts, k)
  key = np.asarray(state.low)[0]
  left = None
  if _wide.value(state.upto[0]) != k:
    left = k - _wide.value(state.above[0])
  out = []
  for x, keys in zip(xs, held):
    mask, used = _masked(x, keys, key, left)
    out.append(mask)
    left = None if left is None else left - used
  return out


def _search_driven(parts: Sequence[jax.Array], k: int) -> _search.State:
  ways = [_way_of([x]) for x in parts]
  sizes = [x.size for x in parts]
  total = sum(way.counted(size) for way, size in zip(ways, sizes))
  limits = tuple(jnp.asarray(_wide.constant(n))[None] for n in (k, total))
  places = [-(-SAMPLE * size // sum(sizes)) for size in sizes]
  sample = np.concatenate([_sampled(x, n, w) for x, n, w in zip(parts, places, ways)])
  # a length that doesn't depend on the leaves: compiled once
  sample = jnp.asarray(np.sort(sample)[_flat.jittered(sample.size, SAMPLE)])[None]
  state = _start(*limits, sample)
  while not bool(state.done[0]):
    bins = [np.asarray(_counted(x, state.window, state.shift, way)) for x, way in zip(parts, ways)]
    state = _advance(state, _wide.host_total(bins), *limits)
  return state


def _masked(x: jax.Array, keys: np.ndarray | None, key: Any, left: int | None) -> tuple[Any, int]:
  """Mask of one leaf, and how many ties it took of the ``left`` ones (``None``: all there are)."""
  cut, used = x.size, 0
  if keys is not None:
    if left is not None:
      ties = np.flatnonzero(keys == key)
      used = min(left, ties.size)
      cut = int(ties[used]) if used < ties.size else x.size
    mask = (keys > key) | ((keys == key) & (np.arange(x.size) < cut))
    return placed(mask.reshape(x.shape), x), used
  way = _way_of([x])
  if left is not None:
    bins = _counted(x, key[None] - 1, np.zeros_like(key[None]), way)
    ties = _wide.value(bins[0, 1])
    if key == _keys.layout(_keys.widen(x)).nan:
      ties -= way.counted(x.size) - x.size
    used = min(left, ties)
    cut = x.size if used == ties else _cut(x, key, used, way)
  return _mask(x, key, _wide.constant(cut), way), used


def _cut(x: jax.Array, key: Any, keep: int, way: Any) -> int:
  """The least flat index with ``keep`` ties before it, ``keep`` being less than there are."""
  if keep == 0:
    return 0
  if way is _native:
    return _wide.value(_cut_by_device(x, key, _wide.constant(keep), way))
  held = np.asarray(x).reshape(-1)  # the leaf itself: one CPU, no copy
  for begin in range(0, x.size, ON_HOST):
    ties = np.flatnonzero(_keys.host_ties(held[begin : begin + ON_HOST], int(key)))
    if ties.size >= keep:
      return begin + int(ties[keep - 1]) + 1
    keep -= ties.size
  return x.size


def _partitioned(xs: Sequence[jax.Array], k: int) -> list[jax.Array]:
  """Small leaves by quickselect on the host: nothing to compile."""
  keys = np.concatenate([_keys.host_keys(np.asarray(x)).reshape(-1) for x in xs])
  key = np.partition(keys, keys.size - k)[keys.size - k]
  mask = keys > key
  ties = np.flatnonzero(keys == key)
  mask[ties[: k - np.count_nonzero(mask)]] = True
  pieces = np.split(mask, np.cumsum([x.size for x in xs])[:-1])
  return [placed(piece.reshape(x.shape), x) for piece, x in zip(pieces, xs)]


def _on_host(x: jax.Array) -> bool:
  return x.size < ON_HOST and x.is_fully_addressable


def _filled(x: jax.Array, value: bool) -> jax.Array:
  return jnp.full(x.shape, value, bool, device=x.sharding if x.committed else None)


@jax.jit
def _start(k: jax.Array, total: jax.Array, sample: jax.Array) -> _search.State:
  return _search.start(k, total, sample.dtype, sample)


_advance = jax.jit(_search.advance)


@functools.partial(jax.jit, static_argnames=['places', 'way'])
def _sampled(x: jax.Array, places: int, way: Any) -> jax.Array:
  return way.sample(way.prepare([x]), [places])[0]


@functools.partial(jax.jit, static_argnames=['way'])
def _counted(x: jax.Array, window: jax.Array, shift: jax.Array, way: Any) -> jax.Array:
  leaves = way.prepare([x])
  return way.per_leaf(leaves, way.count(leaves, window, shift))


@functools.partial(jax.jit, static_argnames=['way'])
def _cut_by_device(x: jax.Array, key: jax.Array, keep: jax.Array, way: Any) -> jax.Array:
  leaves = way.prepare([x])
  ties = way.count(leaves, key[None] - 1, jnp.zeros_like(key[None]))[:, 1]
  return way.cuts(leaves, key[None], keep[None], ties)[0]


@functools.partial(jax.jit, static_argnames=['way'])
def _mask(x: jax.Array, key: jax.Array, cut: jax.Array, way: Any) -> jax.Array:
  return way.mask(x, key, cut)
