"""Sparse training on many devices: a state lies where the params do, whatever their mesh.

On a mesh with explicit axes arrays carry their sharding in their type, and the types must agree in
every operation. The frame and its methods are written without such types: they go before a call,
and come back after it. The update of the inner optimizer sees them, as it would by itself.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, cast

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jprune import tree
from jprune.masks._auto import automatic, unsharded
from jprune.masks._pack import PackedMask
from jprune.transforms import _moments
from jprune.transforms._along import Along, is_by_path, nested_memory
from jprune.transforms._frame import MethodFrame
from jprune.transforms._method import each
from jprune.transforms._state import SparseState
from jprune.typing import Params


@dataclasses.dataclass(frozen=True)
class OnMeshes:
  """A frame for params on any mesh.

  Attributes:
    frame: of a method, which knows of no types.
  """

  frame: MethodFrame

  def init(self, params: Params) -> SparseState:
    """The state with which training starts, laid out as it comes back from every step."""
    leaves = jax.tree.leaves(params)
    mesh = _explicit(params)
    if tree.is_traced(*leaves):
      return self.frame.init(params) if mesh is None else self._traced_init(params, mesh)
    with automatic(leaves):
      state = self._untyped.init(params if mesh is None else jax.tree.map(unsharded, params))
    along = Along(self.frame.method.name, state.masks, params)
    return self._laid_out(state, along, _put, _put_on_mesh_of(leaves), _typed_like(leaves))

  def update(
    self, updates: Any, state: SparseState, params: Any = None, **extra_args: Any
  ) -> tuple[Any, SparseState]:
    """A step of the inner optimizer."""
    mesh = _explicit(params)
    if mesh is None:
      return self.frame.update(updates, state, params, **extra_args)
    axes = mesh.explicit_axes
    along = Along(self.frame.method.name, state.masks, params, updates)
    updates = along.updates_with(along.updates)
    inner = lambda *args: self.frame.inner.update(*args, **extra_args)
    given = _shardings((updates, state.inner, params), mesh)
    typed = jax.sharding.explicit_axes(inner, axes=axes, in_sharding=given)
    typed = cast(Callable[..., tuple[Any, Any]], typed)

    def untyped(updates: Any, state: SparseState, params: Any) -> tuple[Any, SparseState]:
      automatic = jax.sharding.get_abstract_mesh()

      def moved(*args: Any) -> tuple[Any, Any]:
        with jax.sharding.use_abstract_mesh(automatic):  # branches of a `cond` forget it
          return typed(*args)

      own = self.frame.inner._replace(update=moved)
      return dataclasses.replace(self._untyped, inner=own).update(updates, state, params)

    out = _shardings((along.updates_with(along.weights), state), mesh)
    run = jax.sharding.auto_axes(untyped, axes=axes, out_sharding=out)
    run = cast(Callable[..., tuple[Any, SparseState]], run)
    traced = tree.is_traced(*jax.tree.leaves((updates, state, params)))
    return (run if traced else jax.jit(run))(updates, state, params)

  def _traced_init(self, params: Params, mesh: Any) -> SparseState:
    plain = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    like = jax.eval_shape(self._untyped.init, plain)
    along = Along(self.frame.method.name, like.masks, params)
    split = lambda spec: NamedSharding(mesh, PartitionSpec(*spec))
    as_weight = lambda _, weight, axes: split(jax.typeof(weight).sharding.spec[:axes])
    alone = lambda held: jax.tree.map(lambda _: split(()), held)
    inner = lambda held: _inner_shardings(held, params, mesh)
    out = self._laid_out(like, along, as_weight, alone, inner)
    run = jax.sharding.auto_axes(self._untyped.init, axes=mesh.explicit_axes, out_sharding=out)
    return cast(Callable[[Params], SparseState], run)(params)

  def _laid_out(
    self,
    state: SparseState,
    along: Along,
    as_weight: Callable[[Any, Any, int], Any],
    alone: Callable[[Any], Any],
    inner: Callable[[Any], Any],
  ) -> SparseState:
    """The state with each leaf as a function has it.

    Args:
      state: any.
      along: its masks, and the params.
      as_weight: from a leaf that lies along a weight, that weight, and how many axes they share.
      alone: from trees of other leaves.
      inner: from the inner optimizer's state.
    """

    def one(leaf: Any, weight: Any) -> Any:
      if isinstance(leaf, PackedMask):  # eight weights share a byte: leading axes alone are split
        bits = as_weight(leaf.bits, weight, max(weight.ndim - 1, 0))
        return PackedMask(bits, leaf.length)
      return as_weight(leaf, weight, weight.ndim) if leaf.shape == weight.shape else alone(leaf)

    leaves = lambda by_path: each(one, by_path, along.weights)
    nested = lambda held: along.nested(leaves(along.flat(held)))
    memory, clock = state.memory, state.clock
    if along.masks:
      memory = jax.tree.map(
        lambda node: leaves(node) if is_by_path(node) else alone(node),
        self.frame.memory(along, along.weights, memory),
        is_leaf=is_by_path,
      )
      memory = nested_memory(along, memory)
    if clock != ():
      clock = clock._replace(
        ticks=nested(clock.ticks), times=alone(clock.times), betas=alone(clock.betas)
      )
    return SparseState(
      alone(state.count),
      nested(state.masks),
      inner(state.inner),
      memory,
      nested(state.dense) if self.frame.method.dense else (),
      clock,
      alone(state.kept),
      alone(state.churn),
      alone(state.key),
    )

  @functools.cached_property
  def _untyped(self) -> MethodFrame:
    """The frame with the user's arrays, without types."""
    frame, how = self.frame, self.frame.how
    masks, scorer = jax.tree.map(_concrete_untyped, (frame.masks, how.scorer))
    data, impl = how.key
    if _explicit(data) and not tree.is_traced(data):
      data = np.asarray(data)
    how = dataclasses.replace(how, scorer=scorer, key=(data, impl))
    return dataclasses.replace(frame, masks=masks, how=how)


def _explicit(held: Any) -> Any:
  """The mesh whose axes any of these arrays has in its type, or ``None``."""
  arrays = (x for x in jax.tree.leaves(held) if isinstance(x, jax.Array))
  meshes = (jax.typeof(x).sharding.mesh for x in arrays)
  return next((mesh for mesh in meshes if mesh.explicit_axes), None)


def _shardings(held: Any, mesh: Any) -> Any:
  """How arrays are split over the mesh, in a tree like theirs."""
  return jax.tree.map(lambda x: NamedSharding(mesh, jax.typeof(x).sharding.spec), held)


def _inner_shardings(inner: Any, params: Params, mesh: Any) -> Any:
  """How a state is to be split: what lies along a param, as it is."""
  paths, leaves, _ = tree.flatten(params)
  split = {path: jax.typeof(x).sharding.spec for path, x in zip(paths, leaves)}
  shapes = {path: tuple(x.shape) for path, x in zip(paths, leaves)}
  held, treedef = jax.tree.flatten(inner)
  out = []
  for place, leaf in zip(_moments.places(inner, shapes), held):
    spec = () if place is None else split[place]
    lead = 0 if place is None else leaf.ndim - len(shapes[place])
    out.append(NamedSharding(mesh, PartitionSpec(*[None] * lead, *spec)))
  return treedef.unflatten(out)


def _concrete_untyped(x: Any) -> Any:
  return unsharded(x) if isinstance(x, jax.Array) and not tree.is_traced(x) else x


def _put(leaf: Any, weight: jax.Array, axes: int) -> jax.Array:
  """The leaf where the weight lies, unless that may be moved."""
  if not weight.committed:
    return leaf
  sharding = weight.sharding
  if isinstance(sharding, NamedSharding):
    sharding = sharding.update(spec=PartitionSpec(*sharding.spec[:axes]))
  return jax.device_put(leaf, sharding)


def _put_on_mesh_of(params: list[Any]) -> Callable[[Any], Any]:
  """What has no place among the params goes to all of their devices, if these are the same."""
  arrays = [x for x in params if isinstance(x, jax.Array) and x.committed]
  if len({frozenset(x.sharding.device_set) for x in arrays}) != 1:
    return lambda held: held
  found = [x.sharding for x in arrays]
  sharding = next((each for each in found if isinstance(each, NamedSharding)), found[0])
  if isinstance(sharding, NamedSharding):
    sharding = sharding.update(spec=PartitionSpec())
  elif len(sharding.device_set) > 1:
    return lambda held: held
  return lambda held: jax.device_put(held, sharding)


def _typed_like(params: list[Any]) -> Callable[[Any], Any]:
  """An inner optimizer's state, split as it is, on the mesh of the params with its types."""
  explicit = [x.sharding.mesh for x in params if _explicit(x) is not None]
  if not explicit:
    return lambda held: held

  def typed(x: Any) -> Any:
    if not isinstance(x, jax.Array) or not isinstance(x.sharding, NamedSharding):
      return x
    return jax.device_put(x, NamedSharding(explicit[0], x.sharding.spec))

  return lambda held: jax.tree.map(typed, held)
