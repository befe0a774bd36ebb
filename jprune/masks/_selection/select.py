"""Exact-k selection: which elements of leaves rank among the k largest.

Equal scores rank by flat index, lowest first, leaves in the order given. Under a trace the
search is one ``while_loop`` over all leaves; on concrete arrays it is driven from Python
(:mod:`.driven`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jprune import tree
from jprune.masks._auto import mesh_axes, varying
from jprune.masks._selection import apart as _apart
from jprune.masks._selection import driven as _driven
from jprune.masks._selection import flat as _flat
from jprune.masks._selection import keys as _keys
from jprune.masks._selection import native as _native
from jprune.masks._selection import search as _search
from jprune.masks._selection import sorted as _sorted
from jprune.masks._selection import wide as _wide

MANY = 32  # from so many leaves on, sampling each would take longer to compile than it saves
_U32 = jnp.uint32


def largest(xs: Sequence[jax.Array], ks: Any) -> list[jax.Array]:
  """Masks of the k largest of each leaf.

  Args:
    xs: floating arrays, or marked bits (:mod:`.keys`).
    ks: for each a Python int, or a traced wide count ``(2,)``; or all of them, ``(leaves, 2)``.
  """
  if _is_concrete(xs, ks):
    return [_driven.largest([x], k, way)[0] for x, k in zip(xs, ks)]
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
    return _driven.largest(xs, k, way)
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
  sizes = [math.prod(x.shape) for x in xs]
  race = np.zeros(len(xs), np.int32) if together else np.arange(len(xs), dtype=np.int32)
  held = way.prepare(xs, race, _unknown(xs))
  every = jnp.asarray(_wide.constant(sizes))
  total = _wide.total(every, axis=0)[None] if together else every
  totals = way.all_leaves if together else way.per_leaf
  key_dtype = jnp.dtype(_keys.layout(_keys.widen(xs[0])).key)
  state, blocks = _search.run(
    lambda edges, blocks: way.count(held, edges, blocks),
    lambda counts: totals(held, counts),
    _search.start(k, total, key_dtype, _sample(way, held, sizes, together)),
    k,
    way.begin(held),
    way.races(held),
  )
  key = state.low[race]

  def resolve() -> jax.Array:
    exact = _wide.equal(state.upto, k)[race][:, None]
    keep, ties = _wide.subtract(k, state.above), blocks.inside()
    if together:
      keep = _shared(way.per_leaf(held, ties), keep)
    return jnp.where(exact, every, way.cuts(held, key, jnp.where(exact, _U32(0), keep), ties))

  whole = lambda: varying(every, state, blocks)
  cut = lax.cond(jnp.all(_wide.equal(state.upto, k)), whole, resolve)
  return way.masks(held, xs, key, cut)


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
    return _flat
  on_one_cpu = lambda x: len(x.devices()) == 1 and next(iter(x.devices())).platform == 'cpu'
  return _flat if all(on_one_cpu(x) for x in xs) else _native


def _unknown(xs: Sequence[jax.Array]) -> jax.Array:
  """A number that depends on the scores, for :mod:`.apart`."""
  x = next((x for x in xs if math.prod(x.shape)), None)
  if x is None or len(xs) <= _apart.FEW:
    return jnp.uint32(0)
  return _keys.keys(x[(0,) * x.ndim]).astype(_U32)


def _sample(way: Any, held: Any, sizes: Sequence[int], together: bool) -> jax.Array | None:
  """Keys ``(races, S)`` for the first guess; ``None`` where a race has none."""
  if not together:
    places = _driven.SAMPLE if len(sizes) <= MANY else _driven.SAMPLE // 8
    return jnp.stack(way.sample(held, [places] * len(sizes))) if all(sizes) else None
  whole = sum(sizes)
  if not whole:
    return None
  places = [-(-_driven.SAMPLE * n // whole) for n in sizes]
  return jnp.concatenate(way.sample(held, places))[None]


def _shared(ties: jax.Array, left: jax.Array) -> jax.Array:
  """Gives ``left`` ties, a wide count ``(1, 2)``, to the leaves in order: wide ``(leaves, 2)``."""
  before = _wide.subtract(_wide.running_total(ties), ties)
  return _wide.least(ties, _wide.subtract(left, _wide.least(before, left)))
