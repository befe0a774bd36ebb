"""Few elements under a trace: sorted.

A search by counting takes some seconds to compile, whatever the size, and a sort a tenth of that;
of a few thousand elements it is not slower either.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jprune.masks._selection import keys as _keys
from jprune.masks._selection import wide as _wide

MOST = 2**12  # elements


def largest(xs: Sequence[jax.Array], k: jax.Array, together: bool) -> list[jax.Array]:
  """Masks of the k largest of each leaf, or of all of them; ties as everywhere.

  Args:
    xs: floating arrays of one dtype, or marked bits.
    k: wide counts ``(leaves, 2)``, or ``(1, 2)``.
    together: whether all leaves compete.
  """
  sizes = [math.prod(x.shape) for x in xs]
  starts = np.cumsum([0, *sizes])
  race = np.zeros(starts[-1], np.int32) if together else np.repeat(np.arange(len(xs)), sizes)
  race = race.astype(np.int32)
  keys = jnp.concatenate([_descending(x).reshape(-1) for x in xs])
  index = lax.iota(jnp.int32, keys.size)
  _, _, index = lax.sort((jnp.asarray(race), keys, index), num_keys=2, is_stable=True)
  begin = np.zeros(1, np.int32) if together else starts[:-1].astype(np.int32)
  rank = lax.iota(jnp.int32, keys.size) - begin[race]
  kept = rank < _wide.narrow(k).astype(jnp.int32)[race]
  kept = jnp.zeros(keys.size, bool).at[index].set(kept, unique_indices=True)
  return [kept[a:b].reshape(x.shape) for x, a, b in zip(xs, starts, starts[1:])]


@functools.partial(jax.jit, static_argnames=['axis'])
def largest_of_rows(x: jax.Array, k: jax.Array, axis: int) -> jax.Array:
  """Mask of the k largest of each row along an axis; ``k`` is a wide count ``(2,)``."""
  index = lax.broadcasted_iota(jnp.int32, x.shape, axis)
  _, index = lax.sort((_descending(x), index), dimension=axis, num_keys=1, is_stable=True)
  kept = lax.broadcasted_iota(jnp.int32, x.shape, axis) < _wide.narrow(k).astype(jnp.int32)
  return jnp.put_along_axis(jnp.zeros(x.shape, bool), index, kept, axis, inplace=False)


def _descending(x: jax.Array) -> jax.Array:
  """Keys that ascend as the elements fall."""
  return ~_keys.keys(_keys.widen(x))
