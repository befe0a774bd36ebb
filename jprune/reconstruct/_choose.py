"""Which weights go, exactly so many, under a trace: the races of one matrix or of a part of it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jprune.masks._n_of_m import _by_pairs
from jprune.masks._selection import keys as _keys

_U32 = jnp.uint32
_LAST = 2**32 - 1


def lowest(scores: jax.Array, count: Any, order: jax.Array, per_output: bool = False) -> jax.Array:
  """Mask of the ``count`` lowest scores; of equal ones those that come last in the order.

  Args:
    scores: ``(rows, outputs)``, float32.
    count: how many, a traced int; ``per_output`` of each output, one int or ``(outputs,)``.
    order: ``(rows, outputs)``, distinct ints of at least 0.
    per_output: whether each output is a race of its own.
  """
  count = jnp.reshape(jnp.asarray(count, jnp.int32), (1, -1))
  keys = _keys.keys(scores)
  key = _ranked(keys, count, per_output)
  below, ties = keys < key, keys == key
  left = count - _number(below, per_output)

  def cut() -> jax.Array:
    place = jnp.where(ties, _U32(_LAST) - order.astype(_U32), _U32(_LAST))
    return ties & (place <= _ranked(place, left, per_output))

  return below | lax.cond(jnp.all(_number(ties, per_output) == left), lambda: ties, cut)


def best_of_groups(scores: jax.Array, n: int, m: int, alive: jax.Array | None = None) -> jax.Array:
  """Mask of the ``n`` best of every ``m`` rows; the lower index first among equal scores.

  Of a group with fewer than ``n`` that are ``alive`` (bools, by default all) these are all.
  """
  if alive is not None:
    return best_of_groups(jnp.where(alive, scores, -jnp.inf), n, m) & alive
  groups = scores.reshape(-1, m, scores.shape[1])
  return _by_pairs(groups, n, 1).reshape(scores.shape)


def _ranked(keys: jax.Array, count: Any, per_output: bool) -> jax.Array:
  """The ``count``-th lowest key, bit by bit: the largest one with fewer than ``count`` below."""

  def bit(i: jax.Array, found: jax.Array) -> jax.Array:
    higher = found | (_U32(1) << (_U32(31) - lax.convert_element_type(i, _U32)))
    return jnp.where(_number(keys < higher, per_output) < count, higher, found)

  shape = (1, keys.shape[1]) if per_output else (1, 1)
  return lax.fori_loop(0, 32, bit, jnp.zeros(shape, _U32))


def _number(mask: jax.Array, per_output: bool) -> jax.Array:
  """How many, ``(1, outputs)`` or ``(1, 1)``."""
  each = jnp.sum(mask, axis=0, dtype=jnp.int32, keepdims=True)
  return each if per_output else jnp.sum(each, axis=1, keepdims=True)
