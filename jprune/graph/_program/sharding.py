"""How arrays of another size are split over devices."""

# What JAX takes and gives is only partly typed.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec


def struct(aval: Any, shape: Sequence[Any] | None = None) -> jax.ShapeDtypeStruct:
  """Shape (or another one) and dtype, and the sharding where it is part of the type."""
  size: Sequence[Any] = aval.shape if shape is None else shape
  return jax.ShapeDtypeStruct(size, aval.dtype, sharding=explicit(aval, size))


def explicit(aval: Any, shape: Sequence[Any]) -> Any:
  """The sharding of a value of another size, where shardings are part of types; else ``None``."""
  mesh = aval.sharding.mesh
  return None if mesh.empty or mesh.are_all_axes_auto else divided(aval.sharding, shape)


def divided(sharding: Any, shape: Sequence[Any]) -> Any:
  """A named sharding along the axes whose new sizes it divides; ``None`` instead of any other."""
  if not isinstance(sharding, NamedSharding):
    return None
  spec = [*sharding.spec, *[None] * (len(shape) - len(sharding.spec))]
  ways = [_ways(sharding.mesh, names) for names in spec]
  kept = (names if n % of == 0 else None for names, n, of in zip(spec, shape, ways))
  return sharding.update(spec=PartitionSpec(*kept))


def take_axis(x: Any, indices: np.ndarray, axis: int) -> Any:
  """Entries at constant indices along one axis, which stays split if the new size allows that."""
  aval = jax.typeof(x)
  shape = tuple(len(indices) if i == axis else n for i, n in enumerate(aval.shape))
  if (sharding := explicit(aval, shape)) is None or aval.sharding.spec[axis] is None:
    return x.take(indices, axis=axis)
  whole = [None if i == axis else names for i, names in enumerate(aval.sharding.spec)]
  x = jax.sharding.reshard(x, aval.sharding.update(spec=PartitionSpec(*whole)))
  return jax.sharding.reshard(x.take(indices, axis=axis), sharding)


def _ways(mesh: Any, names: Any) -> int:
  several = cast(tuple[Any, ...], names if isinstance(names, tuple) else (names,))
  return math.prod(mesh.shape[name] for name in several if name is not None)
