"""Meshes with explicit axes: their arrays carry their sharding in their type."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax


def following(
  function: Callable[..., list[jax.Array]], xs: Sequence[jax.Array], *args: jax.Array
) -> list[jax.Array]:
  """``function(xs, *args)``, one array for each of ``xs`` and sharded like it.

  Types of explicitly sharded arrays must agree in every operation; within, the partitioner is
  left to work the shardings out, as it does for all other arrays.
  """
  shardings = [jax.typeof(x).sharding for x in xs]
  if not any(sharding.mesh.explicit_axes for sharding in shardings):
    return function(xs, *args)
  mesh = next(s.mesh for s in shardings if s.mesh.explicit_axes)
  inside = jax.sharding.auto_axes(function, axes=mesh.explicit_axes, out_sharding=shardings)
  return inside(list(xs), *args)
