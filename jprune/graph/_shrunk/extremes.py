"""Largest and smallest entries, some of which stand for many: their derivatives."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def extreme(
  combine: Any, axes: Sequence[int], times: Sequence[int], values: Sequence[Any], operands: Any
) -> jax.Array:
  """The largest (smallest) of several results of a reduction.

  Of entries that tie, JAX gives each the same share of the derivative. So a ghost, which stands for
  several, has as many shares.

  Args:
    combine: the larger (smaller) of two.
    axes: over which it went.
    times: how many entries each entry of an operand stands for.
    values: the results.
    operands: what was reduced to them.
  """
  del axes, times, operands
  return functools.reduce(combine, values)


@extreme.defjvp
def _shared(
  combine: Any, axes: Sequence[int], times: Sequence[int], primals: Any, tangents: Any
) -> tuple[Any, Any]:
  values, operands = primals
  found = extreme(combine, axes, times, values, operands)
  weights, wide = [], jnp.float32 if found.dtype.itemsize < 4 else found.real.dtype
  for value, operand, often in zip(values, operands, times, strict=True):
    ties = (operand == jnp.expand_dims(found, axes)).sum(axes, dtype=wide) * jnp.asarray(
      often, wide
    )
    weights.append(jnp.where(value == found, ties, jnp.zeros_like(ties)))
  total = functools.reduce(jnp.add, weights)
  share = lambda w, t: jnp.where(w == 0, jnp.zeros_like(t), t * (w / total).astype(t.dtype))
  moved = [share(weight, t) for weight, t in zip(weights, tangents[0], strict=True)]
  return found, functools.reduce(jnp.add, moved)
