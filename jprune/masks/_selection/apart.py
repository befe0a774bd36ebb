"""Code that leaves of one shape share.

XLA compiles equal kernels once. What differs from leaf to leaf only in where it reads a table is
such a kernel if the place is a number that the compiler doesn't know.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jprune.masks._auto import varying

FEW = 16  # kernels more or less


def numbers(count: int, unknown: jax.Array) -> list[Any]:
  """The numbers from 0 on, int32; so that the compiler can't tell, if they are many.

  They come out of a loop that would move them on, and never runs.

  Args:
    count: how many.
    unknown: any uint32 scalar whose value the compiler doesn't know.
  """
  if count <= FEW:
    return list(range(count))
  odd = (unknown * (unknown + np.uint32(1))) & np.uint32(1)  # none is
  turn = lambda carry: (carry[0] + np.uint32(1), [*carry[1][1:], carry[1][0]])
  start = varying((odd - odd, [jnp.int32(i) for i in range(count)]), odd)
  return lax.while_loop(lambda carry: carry[0] < odd, turn, start)[1]


def at(table: jax.Array, place: Any) -> jax.Array:
  """``table[place]``, of one of :func:`numbers` or of an int."""
  if not isinstance(place, jax.Array):
    return table[int(place)]
  return lax.dynamic_index_in_dim(table, place.astype(jnp.uint32), keepdims=False)
