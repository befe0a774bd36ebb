"""The k largest along some axes: as many races as there are rows, run side by side."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jprune.masks._selection import flat as _flat
from jprune.masks._selection import keys as _keys
from jprune.masks._selection import search as _search
from jprune.masks._selection import select as _select
from jprune.masks._selection import sorted as _sorted
from jprune.masks._selection import wide as _wide

LONG = 2**32  # from here on a row is too long for one count
_U32 = jnp.uint32


def largest(x: jax.Array, k: Any, axis: int | tuple[int, ...]) -> jax.Array:
  """Mask of the k largest of each row along ``axis``.

  Args:
    x: floating array, or marked bits (:mod:`.keys`).
    k: a Python int, or a traced wide count ``(2,)``.
    axis: along which a row lies; or several, row-major in the order given.
  """
  if isinstance(axis, tuple) and len(axis) != 1:
    last = range(-len(axis), 0)
    lead = jnp.moveaxis(x, axis, last)
    joined = lead.reshape(*lead.shape[: x.ndim - len(axis)], -1)
    return jnp.moveaxis(largest(joined, k, -1).reshape(lead.shape), last, axis)
  axis = (axis if isinstance(axis, int) else axis[0]) % x.ndim
  if isinstance(k, int):
    if x.size == 0 or k in (0, x.shape[axis]):
      return jnp.full(x.shape, bool(k) and x.size > 0, bool)
    k = jnp.asarray(_wide.constant(k))
  if x.shape[axis] >= LONG:
    rows = jnp.moveaxis(x, axis, -1)
    one = lambda row: _select.largest([row], [k])[0]
    masks = jax.vmap(one)(rows.reshape(-1, x.shape[axis]))
    return jnp.moveaxis(masks.reshape(rows.shape), -1, axis)
  if _select.way(x) is _flat and x.size <= _sorted.MOST:
    return _sorted.largest_of_rows(x, k, axis)
  return _largest(x, k, axis)


@functools.partial(jax.jit, static_argnames=['axis'])
def _largest(x: jax.Array, k: jax.Array, axis: int) -> jax.Array:
  x = _keys.widen(x)
  size = x.shape[axis]
  races = x.size // size
  lead = tuple(n for i, n in enumerate(x.shape) if i != axis)
  lined_up = lambda v: jnp.expand_dims(v.reshape(lead), axis)

  def count(edges: jax.Array, blocks: _search.Blocks) -> jax.Array:
    del blocks
    held, edges = lax.optimization_barrier((x, edges))
    keys = _keys.keys(held)
    hits = [keys > lined_up(edges[:, j]) for j in range(edges.shape[1])]
    return jnp.stack([each.reshape(-1) for each in _wide.sums(hits, [axis])], axis=-1)

  ks = jnp.broadcast_to(k[None], (races, 2))
  total = jnp.broadcast_to(jnp.asarray(_wide.constant(size))[None], (races, 2))
  state = _search.start(ks, total, jnp.dtype(_keys.layout(x).key), None)
  none = jnp.zeros(races, _U32)
  blocks = _search.Blocks(jnp.full(races, size, _U32), none)
  state, _ = _search.run(count, _wide.wide, state, ks, blocks)
  exact = _wide.equal(state.upto, ks)
  left = _wide.narrow(_wide.subtract(ks, jnp.where(exact[:, None], ks, state.above)))
  keys, key = _keys.keys(x), lined_up(state.low)
  ties = keys == key

  def cut() -> jax.Array:
    before = jnp.cumsum(ties, axis=axis, dtype=_U32)
    return ties & (lined_up(exact) | (before <= lined_up(left)))

  return (keys > key) | lax.cond(jnp.all(exact), lambda: ties, cut)
