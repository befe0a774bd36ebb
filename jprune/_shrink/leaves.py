"""Single leaves, full to small and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jprune import _hosts, tree
from jprune.graph._program.sharding import divided, explicit, placed, take_axis, whole

Axes = Mapping[int, Sequence[int]]


def sliced(leaf: Any, axes: Axes) -> Any:
  """The entries at the given indices of each axis."""
  if not axes:
    return leaf
  if isinstance(leaf, jax.ShapeDtypeStruct):
    shape = tuple(len(axes[i]) if i in axes else n for i, n in enumerate(leaf.shape))
    return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=divided(leaf.sharding, shape))
  indices = {axis: np.asarray(each, int) for axis, each in axes.items()}
  if _hosts.spans(leaf):
    shape = tuple(len(axes[i]) if i in axes else n for i, n in enumerate(leaf.shape))
    return _where_it_lies(_take, leaf, shape, indices)
  return _like(leaf, _take(_host(leaf), indices))


def _take(x: Any, indices: Mapping[int, Any], shape: tuple[int, ...] = ()) -> Any:
  del shape  # follows from the indices
  for axis, each in indices.items():
    x = take_axis(x, each, axis)
  return x


def expanded(leaf: Any, axes: Axes, full: Mapping[int, int]) -> Any:
  """Zeros of the full shape with the entries at the given indices."""
  if not axes:
    return leaf
  shape = tuple(full[i] if i in axes else n for i, n in enumerate(leaf.shape))
  if isinstance(leaf, jax.ShapeDtypeStruct):
    return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=divided(leaf.sharding, shape))
  index = tuple(
    np.asarray(axes[i], int) if i in axes else np.arange(n) for i, n in enumerate(shape)
  )
  if _hosts.spans(leaf):
    return _where_it_lies(_put, leaf, shape, np.ix_(*index))
  small = _host(leaf)
  if not isinstance(small, np.ndarray):
    out = _put(whole(small), np.ix_(*index), shape)
    return _like(leaf, placed(out, explicit(jax.typeof(leaf), shape)))
  out = np.zeros(shape, small.dtype)
  out[np.ix_(*index)] = small
  return _like(leaf, out)


def _put(small: Any, index: Any, shape: tuple[int, ...]) -> Any:
  return jnp.zeros(shape, small.dtype).at[index].set(small)


def _where_it_lies(
  change: Callable[..., Any], leaf: jax.Array, shape: tuple[int, ...], index: Any
) -> jax.Array:
  """``change`` of an array that spans processes, by all of them; its result is split as it was."""
  there = _divided(leaf.sharding, shape)
  compiled = jax.jit(change, static_argnames='shape', out_shardings=_hosts.automatic(there))
  out = compiled(jax.device_put(leaf, _hosts.automatic(leaf.sharding)), index, shape=shape)
  return jax.device_put(out, there)


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
  return jax.device_put(out, _divided(sharding, out.shape))


def _divided(sharding: Any, shape: tuple[int, ...]) -> Any:
  if isinstance(sharding, jax.sharding.NamedSharding):
    return divided(sharding, shape)
  if not sharding.is_fully_addressable:
    return _hosts.everywhere(sharding)
  if len(sharding.device_set) > 1:
    return jax.sharding.SingleDeviceSharding(min(sharding.device_set, key=lambda d: d.id))
  return sharding
