"""Products of pairs of inputs split over devices: each holds some rows of every Gram matrix."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jprune.graph._statistics.moments import Moments

_ROWS, _BATCH = 1, 0


class Split(NamedTuple):
  """Where moments lie on the devices of a mesh.

  Attributes:
    mesh: the devices.
    products: whether products are split; all else, and they if not, is whole on every device.
  """

  mesh: Mesh
  products: bool

  @property
  def typed(self) -> bool:
    return AxisType.Explicit in self.mesh.axis_types

  def shardings(self, like: Any, mesh: Any = None) -> Any:
    """Of each array of some moments, or of their shapes."""
    whole = NamedSharding(mesh or self.mesh, PartitionSpec())
    found = jax.tree.map(lambda _: whole, like)
    if like.products is None or not self.products:
      return found
    rows = NamedSharding(mesh or self.mesh, self.spec(like.products.shape))
    return dataclasses.replace(found, products=rows)

  def spec(self, shape: tuple[int, ...]) -> PartitionSpec:
    """Of products: rows over all axes of the mesh that divide them, else the products by number."""
    for axis in (_ROWS, _BATCH):
      if axis == _BATCH and self.typed:
        break
      names, size = [], shape[axis]
      for name in self.mesh.explicit_axes if self.typed else self.mesh.axis_names:
        count = self.mesh.shape[name]
        if count > 1 and size % count == 0:
          names.append(name)
          size //= count
      if names:
        return PartitionSpec(*[None] * axis, tuple(names))
    return PartitionSpec()

  def place(self, moments: Moments) -> Moments:
    """The moments there, under a trace."""
    move = jax.sharding.reshard if self.typed else lax.with_sharding_constraint
    return jax.tree.map(move, moments, self.shardings(moments))

  def by_rows(self, x: jax.Array) -> jax.Array:
    """A part of products under a trace, where axes are not in the types: ``(batch, rows, ...)``."""
    mesh: Any = jax.sharding.get_abstract_mesh() if self.typed else self.mesh
    spec = self.spec((1, *x.shape[1:]))
    # whole for a moment, lest the rows that it is summed over be gathered for its sake
    x = lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec()))
    return lax.with_sharding_constraint(x, NamedSharding(mesh, spec))
