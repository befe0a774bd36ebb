"""Masks lie where the leaves lie that they were made from."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

import jax
from jax.sharding import AxisType, Mesh, NamedSharding

from jprune import _hosts, tree


def following(
  function: Callable[..., list[jax.Array]], xs: Sequence[jax.Array], *args: Any
) -> list[jax.Array]:
  """``function(xs, *args)``, one array for each of ``xs``, of its shape and sharded like it.

  On a mesh with explicit axes arrays carry their sharding in their type, and the types must agree
  in every operation. Within ``function`` the partitioner is left to work the shardings out, as it
  does for all other arrays.
  """
  shardings = [jax.typeof(x).sharding for x in xs]
  explicit = next((i for i, s in enumerate(shardings) if s.mesh.explicit_axes), None)
  if explicit is None:
    masks = function(xs, *args)
    return [
      _tied(mask, x) if tree.is_traced(mask, x) else placed(mask, x) for mask, x in zip(masks, xs)
    ]
  if tree.is_traced(*xs):
    mesh = shardings[explicit].mesh
    # only arrays may be arguments there; counts that are ints stay ints
    held, rest = jax.tree.flatten(args)
    traced = [i for i, each in enumerate(held) if tree.is_traced(each)]

    def inside(xs: Sequence[jax.Array], given: Sequence[jax.Array]) -> list[jax.Array]:
      whole = dict(enumerate(held)) | dict(zip(traced, given))
      masks = function(xs, *rest.unflatten([whole[i] for i in range(len(held))]))
      return [_tied(mask, x) for mask, x in zip(masks, xs)]

    automatic = jax.sharding.auto_axes(inside, axes=mesh.explicit_axes, out_sharding=shardings)
    automatic = cast(Callable[..., list[jax.Array]], automatic)
    return automatic(list(xs), [held[i] for i in traced])
  untyped = [jax.device_put(x, _hosts.automatic(x.sharding)) for x in xs]
  args = jax.tree.map(_without_type, args)
  with jax.set_mesh(_automatic(_mesh(xs[explicit]))):
    masks = function(untyped, *args)
  return [jax.device_put(mask, x.sharding) for mask, x in zip(masks, xs)]


@contextlib.contextmanager
def automatic(xs: Iterable[Any]) -> Iterator[None]:
  """Where arrays at hand lie on a mesh with explicit axes: work on the same mesh without them."""
  arrays = [x for x in xs if isinstance(x, jax.Array)]
  held = next((x for x in arrays if jax.typeof(x).sharding.mesh.explicit_axes), None)
  if held is None or tree.is_traced(*arrays):
    yield
    return
  with jax.set_mesh(_automatic(_mesh(held))):
    yield


def unsharded(x: jax.Array) -> jax.Array:
  """The array with no sharding in its type, so that it may be taken apart and put together."""
  mesh = jax.typeof(x).sharding.mesh
  if not mesh.explicit_axes:
    return x
  if tree.is_traced(x):
    return jax.sharding.reshard(x, jax.sharding.PartitionSpec(*[None] * x.ndim))
  return jax.device_put(x, _hosts.automatic(x.sharding))


def _without_type(x: Any) -> Any:
  if not isinstance(x, jax.Array) or not jax.typeof(x).sharding.mesh.explicit_axes:
    return x  # to put it where it is would tie it to that place
  return jax.device_put(x, _hosts.automatic(x.sharding))


def placed(mask: Any, x: jax.Array) -> jax.Array:
  """A concrete mask where ``x`` lies; left free to be moved if ``x`` is."""
  if x.committed:
    return jax.device_put(mask, x.sharding)
  return jax.numpy.asarray(mask)


def mesh_axes(*trees: Any) -> frozenset[str]:
  """The mesh axes over which any array varies, inside ``shard_map``."""
  return frozenset().union(*map(_mesh_axes, jax.tree.leaves(trees)))


def _mesh_axes(x: Any) -> Any:
  kind = jax.typeof(x) if isinstance(x, jax.Array) else x
  if hasattr(kind, 'manual_axis_type'):
    return getattr(kind.manual_axis_type, 'varying', ())
  return getattr(kind, 'vma', None) or ()  # before jax 0.10


def varying(held: Any, *like: Any) -> Any:
  """Inside ``shard_map`` the same arrays, of the type of what varies as ``like`` does.

  Carries of a loop and the branches of a ``cond`` have to agree in that.
  """
  axes = mesh_axes(held, *like)

  def cast(x: Any) -> Any:
    missing = tuple(sorted(axes - mesh_axes(x)))
    if not missing:
      return x
    if hasattr(jax.lax, 'pcast'):
      return jax.lax.pcast(x, missing, to='varying')
    return getattr(jax.lax, 'pvary')(x, missing)  # noqa: B009  its name before jax 0.9

  return jax.tree.map(cast, held) if axes else held


def _tied(mask: jax.Array, x: jax.Array) -> jax.Array:
  """Under a trace only an operation on both tells the partitioner that they go together."""
  return jax.numpy.where(x == x, mask, mask) if jax.device_count() > 1 else mask


def _mesh(x: jax.Array) -> Mesh:
  """The devices of an array at hand that lies on a mesh."""
  return cast(Mesh, cast(NamedSharding, x.sharding).mesh)


def _automatic(mesh: Mesh) -> Mesh:
  names = mesh.axis_names
  return Mesh(mesh.devices, names, axis_types=(AxisType.Auto,) * len(names))
