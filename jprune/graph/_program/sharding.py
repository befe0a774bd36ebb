"""How arrays of another size are split over devices."""

# What JAX takes and gives is only partly typed.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
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
  reduced = {'unreduced': sharding.spec.unreduced, 'reduced': sharding.spec.reduced}
  return sharding.update(spec=PartitionSpec(*kept, **reduced))


def placed(x: Any, sharding: Any) -> Any:
  """A value under a sharding that :func:`explicit` gave, ``None`` for as it is."""
  if sharding is None or jax.typeof(x).sharding.spec == sharding.spec:
    return x
  return jax.sharding.reshard(x, sharding)


def even(x: Any, *shapes: Sequence[Any]) -> Any:
  """A value made whole along the axes whose sizes in one of these shapes its sharding divides not.

  JAX cuts, pads and joins along an axis that is split only where all sizes divide.
  """
  sharding = explicit(jax.typeof(x), np.shape(x))
  for shape in shapes:
    sharding = divided(sharding, shape)
  return placed(x, sharding)


def whole(x: Any) -> Any:
  """A value that is split along no axis, where shardings are part of types."""
  return even(x, [1] * np.ndim(x))


def zeros(aval: Any, shape: Sequence[Any]) -> jax.Array:
  """Zeros of another size than a value's, split as it is."""
  return placed(jnp.zeros(shape, aval.dtype), explicit(aval, shape))


def take_axis(x: Any, indices: np.ndarray, axis: int) -> Any:
  """Entries at constant indices along one axis, which stays split if the new size allows that.

  To clip indices, all of which are in range, asks for no value to fill in, which keys haven't.
  """
  aval = jax.typeof(x)
  shape = tuple(len(indices) if i == axis else n for i, n in enumerate(aval.shape))
  if (sharding := explicit(aval, shape)) is None or aval.sharding.spec[axis] is None:
    return x.take(indices, axis=axis, mode='clip')
  whole = [None if i == axis else names for i, names in enumerate(aval.sharding.spec)]
  x = jax.sharding.reshard(x, aval.sharding.update(spec=PartitionSpec(*whole)))
  return jax.sharding.reshard(x.take(indices, axis=axis, mode='clip'), sharding)


def _ways(mesh: Any, names: Any) -> int:
  several = cast(tuple[Any, ...], names if isinstance(names, tuple) else (names,))
  free = (None, PartitionSpec.UNCONSTRAINED)
  return math.prod(mesh.shape[name] for name in several if name not in free)
