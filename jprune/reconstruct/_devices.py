"""Where things are computed: leaf by leaf on one device, whatever devices the params lie on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


@contextlib.contextmanager
def on_one_device(*trees: Any) -> Iterator[tuple[Any, ...]]:
  """The trees with all arrays on one device, if any lies on several or a mesh is in use.

  Factorisations gain nothing from a split, and where meshes have explicit axes, shardings are part
  of types, which must agree in every operation. Arrays of other processes stay where they are.
  What is computed goes back by :func:`returned`.
  """
  arrays = [x for x in jax.tree.leaves(trees) if isinstance(x, jax.Array)]
  several = [x for x in arrays if len(x.sharding.device_set) > 1]
  around = not jax.sharding.get_abstract_mesh().empty
  if not (several or around) or not all(x.is_fully_addressable for x in arrays):
    yield trees
    return
  device = min((several or arrays)[0].devices(), key=lambda device: device.id)
  mesh = Mesh(np.array([device]), ('one',), axis_types=(AxisType.Auto,))
  here = NamedSharding(mesh, PartitionSpec())

  def moved(x: Any) -> Any:
    if not isinstance(x, jax.Array):
      return x
    if isinstance(x.sharding, NamedSharding):  # jax 0.8 can't do both at once
      x = jax.device_put(x, NamedSharding(x.sharding.mesh, PartitionSpec()))
    return jax.device_put(x, here)

  trees = jax.tree.map(moved, trees)
  with jax.set_mesh(mesh):
    yield trees


def returned(x: jax.Array, leaf: Any) -> jax.Array:
  """Where the leaf lies; free to be moved if the leaf is."""
  if not isinstance(leaf, jax.Array) or not leaf.committed:
    return jnp.asarray(np.asarray(x)) if x.committed else x
  several = len(leaf.sharding.device_set) > 1 and x.is_fully_addressable
  # by way of the host, as jax 0.8 takes no array of another mesh where meshes have explicit axes
  return jax.device_put(np.asarray(x) if several else x, leaf.sharding)
