"""Which devices solve, and how matrices come to them and go back.

A matrix and its Gram matrix are solved on one device, their owner: factorisations gain nothing from
a split. All devices over which the params, or the statistics, are spread are owners, each of one
unit at a time: a matrix of a leaf, or a few small ones. On the way there every array is split by
rows over all devices, then dealt out in one exchange; on the way back it is the other way round. So
no device ever holds more than its shares and the unit that it solves, and processes of which each
sees its own devices alone make the same calls.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jprune.graph._statistics.moments import Moments
from jprune.graph._statistics.stats import Use
from jprune.reconstruct._devices import mesh_of, settled


@dataclasses.dataclass(frozen=True)
class Owners:
  """The devices that solve; with one, no mesh is needed unless one is in use around the call."""

  mesh: Mesh | None

  @property
  def count(self) -> int:
    return 1 if self.mesh is None else self.mesh.size

  @property
  def each(self) -> PartitionSpec:
    """First axes split over all devices."""
    return PartitionSpec(None if self.mesh is None else self.mesh.axis_names)

  def apart(self, function: Callable[..., Any], dealt: Any, common: Any) -> Any:
    """``function(dealt, common)`` of what each device was dealt, by itself; ``common`` on all."""
    if self.count == 1:
      return function(dealt, common)
    specs = self.each, PartitionSpec()
    return self._mapped(function, specs, self.each)(dealt, common)

  def everywhere(self, x: jax.Array) -> jax.Array:
    """Whole on all devices, under a trace."""
    return self._constrained(x, PartitionSpec())

  def dealt(self, pieces: Sequence[jax.Array]) -> jax.Array:
    """One piece for each device, as one array whose first axis is split over them."""
    if self.count == 1:
      return jnp.concatenate(pieces)
    if pieces[0].ndim < 3:
      return self._constrained(jnp.concatenate(pieces), self.each)
    axes, rows = self.each[0], pieces[0].shape[1]
    by_rows = lambda x: self._constrained(self._divisible(x), PartitionSpec(None, axes))
    # one by one, lest all of them be whole somewhere on the way
    whole = by_rows(jnp.concatenate([by_rows(piece) for piece in pieces]))
    swap = lambda x: lax.all_to_all(x, axes, 0, 1, tiled=True)
    return self._mapped(swap, PartitionSpec(None, axes), self.each)(whole)[:, :rows]

  def collected(self, dealt: jax.Array) -> jax.Array:
    """What :func:`dealt` made, split by rows again."""
    if self.count == 1:
      return dealt
    axes, rows = self.each[0], dealt.shape[1]
    swap = lambda x: lax.all_to_all(x, axes, 1, 0, tiled=True)
    back = self._mapped(swap, self.each, PartitionSpec(None, axes))
    return back(self._divisible(dealt))[:, :rows]

  def settled(self, tree: Any) -> Any:
    """Arrays at hand on the devices of the mesh, without types that say how they are split."""
    mesh = self.mesh
    return tree if mesh is None else jax.tree.map(lambda x: settled(x, mesh), tree)

  def _divisible(self, x: jax.Array) -> jax.Array:
    more = -x.shape[1] % self.count
    return jnp.pad(x, ((0, 0), (0, more), (0, 0))) if more else x

  def _constrained(self, x: jax.Array, spec: PartitionSpec) -> jax.Array:
    if self.mesh is None or self.count == 1:
      return x
    return lax.with_sharding_constraint(x, NamedSharding(self.mesh, spec))

  def _mapped(self, function: Callable[..., Any], specs: Any, out: Any) -> Callable[..., Any]:
    return jax.shard_map(function, mesh=self.mesh, in_specs=specs, out_specs=out, check_vma=False)


@contextlib.contextmanager
def owners_of(*trees: Any) -> Iterator[Owners]:
  """Those of all arrays: the devices of the one that is spread over most of them."""
  arrays = [x for x in jax.tree.leaves(trees) if isinstance(x, jax.Array)]
  around = not jax.sharding.get_abstract_mesh().empty
  most = max(arrays, key=lambda x: len(x.sharding.device_set), default=None)
  if most is None or (len(most.sharding.device_set) == 1 and not around):
    yield Owners(None)
    return
  mesh = mesh_of(most)
  with jax.set_mesh(mesh):
    yield Owners(mesh)


# ---------------------------------------------------------------------- from leaves to units, back


class Given(NamedTuple):
  """What units are cut from: arrays of one shape, and the moments of a use."""

  leaf: jax.Array
  mask: jax.Array | None
  moments: Moments


class Dealt(NamedTuple):
  """What the owners get, ``(devices * matrices of a unit, ...)``: a part of each for each.

  Attributes:
    weights: ``(..., inputs, outputs)``, of the leaf's dtype.
    mask: of the same shape, or ``None``.
    moments: of the inputs.
  """

  weights: jax.Array
  mask: jax.Array | None
  moments: Moments


@functools.partial(jax.jit, static_argnames=['owners', 'use', 'places', 'per'])
def dealt(
  sources: Sequence[Given],
  starts: jax.Array,
  *,
  owners: Owners,
  use: Use,
  places: tuple[int, ...],
  per: int,
) -> Dealt:
  """A unit for each owner: which source it is cut from, and its first matrix."""

  def all_of(take: Callable[[Given, Any], Any]) -> Any:
    found = [take(sources[place], starts[i]) for i, place in enumerate(places)]
    return jax.tree.map(lambda *pieces: owners.dealt(pieces), *found)

  matrices = lambda leaf, start: None if leaf is None else _cut(use, leaf, start, per)
  some = lambda x, start: lax.dynamic_slice_in_dim(x, start, per)
  return Dealt(
    all_of(lambda source, start: matrices(source.leaf, start)),
    all_of(lambda source, start: matrices(source.mask, start)),
    all_of(lambda source, start: jax.tree.map(lambda x: some(x, start), source.moments)),
  )


@functools.partial(
  jax.jit, static_argnames=['owners', 'use', 'places', 'per', 'where'], donate_argnums=0
)
def put_back(
  held: Sequence[tuple[jax.Array, ...]],
  done: tuple[jax.Array, ...],
  starts: jax.Array,
  *,
  owners: Owners,
  use: Use,
  places: tuple[int, ...],
  per: int,
  where: tuple[Any, ...],
) -> list[tuple[jax.Array, ...]]:
  """The same arrays with the matrices of all owners in place; ``where`` each of them lies."""
  rows = [owners.collected(each) for each in done]
  out = [list(arrays) for arrays in held]
  for i, place in enumerate(places):
    for j, each in enumerate(rows):
      out[place][j] = _put(use, out[place][j], starts[i], each[i * per : (i + 1) * per])
  if owners.mesh is not None:
    out = [
      [lax.with_sharding_constraint(x, sharding) for x in arrays]
      for arrays, sharding in zip(out, where, strict=True)
    ]
  return [tuple(arrays) for arrays in out]


def _cut(use: Use, leaf: jax.Array, start: jax.Array, per: int) -> jax.Array:
  """Some of the matrices of a use, ``(per, inputs, outputs)``."""
  batch, inputs, outputs = use.sizes
  if per > 1 or batch == 1:
    return lax.dynamic_slice_in_dim(use.matrices(leaf), start, per)
  box = leaf[tuple(slice(*bounds) for bounds in use.box)].reshape(use.shape)
  sizes = [1 if i in use.batch else n for i, n in enumerate(use.shape)]
  order = (*use.batch, *use.inputs, *use.outputs)
  piece = lax.dynamic_slice(box, _corner(use, start), sizes)
  return piece.transpose(order).reshape(1, inputs, outputs)


def _put(use: Use, leaf: jax.Array, start: jax.Array, matrices: jax.Array) -> jax.Array:
  """The leaf with some of its matrices replaced."""
  batch, per = use.sizes[0], len(matrices)
  if per == batch:
    return use.placed(leaf, matrices)
  if per > 1:
    return use.placed(leaf, lax.dynamic_update_slice_in_dim(use.matrices(leaf), matrices, start, 0))
  span = tuple(slice(*bounds) for bounds in use.box)
  order = (*use.batch, *use.inputs, *use.outputs)
  sizes = [1 if i in use.batch else n for i, n in enumerate(use.shape)]
  back = sorted(range(len(order)), key=order.__getitem__)
  piece = matrices.reshape([sizes[i] for i in order]).transpose(back)
  box = lax.dynamic_update_slice(leaf[span].reshape(use.shape), piece, _corner(use, start))
  box = box.reshape([high - low for low, high in use.box])
  return box if box.shape == leaf.shape else leaf.at[span].set(box)


def _corner(use: Use, start: jax.Array) -> list[Any]:
  """Where the factors of a use begin that are the matrix with that number."""
  sizes = [use.shape[i] for i in use.batch]
  found = dict(zip(use.batch, jnp.unravel_index(start, sizes), strict=True))
  return [found.get(i, jnp.int32(0)) for i in range(len(use.shape))]
