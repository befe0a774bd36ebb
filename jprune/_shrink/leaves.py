"""Single leaves, full to small and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jprune import tree
from jprune.graph._program.sharding import divided

Axes = Mapping[int, Sequence[int]]


def sliced(leaf: Any, axes: Axes) -> Any:
  """The entries at the given indices of each axis."""
  if not axes:
    return leaf
  if isinstance(leaf, jax.ShapeDtypeStruct):
    shape = tuple(len(axes[i]) if i in axes else n for i, n in enumerate(leaf.shape))
    return jax.ShapeDtypeStruct(shape, leaf.dtype)
  out = _host(leaf)
  for axis, indices in axes.items():
    # all indices are in range; to clip them asks for no value to fill in, which keys haven't
    out = out.take(np.asarray(indices, int), axis=axis, mode='clip')
  return _like(leaf, out)


def expanded(leaf: Any, axes: Axes, full: Mapping[int, int]) -> Any:
  """Zeros of the full shape with the entries at the given indices."""
  if not axes:
    return leaf
  shape = tuple(full[i] if i in axes else n for i, n in enumerate(leaf.shape))
  if isinstance(leaf, jax.ShapeDtypeStruct):
    return jax.ShapeDtypeStruct(shape, leaf.dtype)
  small = _host(leaf)
  index = tuple(
    np.asarray(axes[i], int) if i in axes else np.arange(n) for i, n in enumerate(shape)
  )
  if isinstance(small, np.ndarray):
    out = np.zeros(shape, small.dtype)
    out[np.ix_(*index)] = small
  else:
    out = jnp.zeros(shape, small.dtype).at[np.ix_(*index)].set(small)
  return _like(leaf, out)


def _host(leaf: Any) -> Any:
  """The values where taking some of them needs no compilation, if they can be had there."""
  if isinstance(leaf, jax.Array) and not tree.is_traced(leaf):
    extended = jnp.issubdtype(leaf.dtype, jax.dtypes.extended)
    if leaf.is_fully_addressable and not extended:
      return np.asarray(leaf)
  return leaf


def _like(leaf: Any, out: Any) -> Any:
  """On the devices of the full leaf, split as it was along the axes that still divide.

  A leaf that is not committed merely lies there: jit moves it, or copies it to all devices of a
  mesh, and so it does with what becomes of the leaf.
  """
  if not isinstance(leaf, jax.Array) or tree.is_traced(leaf):
    return out
  sharding = leaf.sharding
  if not leaf.committed:
    (device,) = sharding.device_set
    with jax.default_device(device):
      return jax.device_put(out)
  if isinstance(sharding, jax.sharding.NamedSharding):
    sharding = divided(sharding, out.shape)
  elif len(sharding.device_set) > 1:
    sharding = jax.sharding.SingleDeviceSharding(min(sharding.device_set, key=lambda d: d.id))
  return jax.device_put(out, sharding)
