"""Where arrays lie: meshes without types, and back to what the leaves' types say."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jprune import _hosts


@contextlib.contextmanager
def untyped(*trees: Any) -> Iterator[tuple[Any, ...]]:
  """The trees with arrays whose types don't say how they are split, nor does a mesh in use.

  On meshes with explicit axes types must agree in every operation; here it is left to the
  partitioner. What is computed goes back by :func:`returned`.
  """
  arrays = [x for x in jax.tree.leaves(trees) if isinstance(x, jax.Array)]
  around = not jax.sharding.get_abstract_mesh().empty
  typed = any(x is not without_types(x) for x in arrays)
  if not around and not typed:
    yield trees
    return
  most = max(arrays, key=lambda x: len(x.sharding.device_set), default=None)
  if most is None:
    yield trees
    return
  mesh = mesh_of(most)
  with jax.set_mesh(mesh):
    yield jax.tree.map(lambda x: settled(x, mesh), trees)


def without_types(x: jax.Array) -> jax.Array:
  """The same pieces in the same places, on a mesh whose axes are not in the types."""
  held = x.sharding
  if not isinstance(held, NamedSharding) or AxisType.Explicit not in held.mesh.axis_types:
    return x
  return _retyped(x, _hosts.automatic(held))


def settled(x: Any, mesh: Mesh) -> Any:
  """An array at hand on all devices of a mesh: as it lies there already, or whole on each."""
  if not isinstance(x, jax.Array):
    return x
  x = without_types(x)
  held = getattr(x.sharding, 'mesh', None)
  if isinstance(held, Mesh) and tuple(held.devices.flat) == tuple(mesh.devices.flat):
    return x
  whole = NamedSharding(mesh, PartitionSpec())
  if x.is_fully_addressable and not whole.is_fully_addressable:
    return jax.make_array_from_callback(x.shape, whole, np.asarray(x).__getitem__)
  return jax.device_put(x, whole)


def returned(x: jax.Array, leaf: Any) -> jax.Array:
  """Where the leaf lies, and of the type that says so if its does; free to be moved if it is."""
  if not isinstance(leaf, jax.Array) or not leaf.committed:
    return jnp.asarray(np.asarray(x)) if x.committed else x
  if x.sharding == leaf.sharding:
    return x
  if not isinstance(leaf.sharding, NamedSharding):
    return jax.device_put(x, leaf.sharding)
  there = NamedSharding(mesh_of(leaf), leaf.sharding.spec)
  if not x.sharding.is_equivalent_to(there, x.ndim):
    x = jax.device_put(without_types(x), there)
  return _retyped(x, leaf.sharding)


def mesh_of(x: jax.Array) -> Mesh:
  """The mesh of an array, with no axis in the types."""
  of = _hosts.automatic if isinstance(x.sharding, NamedSharding) else _hosts.everywhere
  return of(x.sharding).mesh


def _retyped(x: jax.Array, sharding: NamedSharding) -> jax.Array:
  pieces = [shard.data for shard in x.addressable_shards]
  return jax.make_array_from_single_device_arrays(x.shape, sharding, pieces)
