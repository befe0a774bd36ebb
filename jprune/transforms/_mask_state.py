"""Masks as optimizer state: checked against the params, copied, laid out as the params are."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import mlir

from jprune import _checks, _hosts, tree
from jprune._entry import check_dtypes
from jprune.masks._apply import aligned
from jprune.masks._in_state import is_end as is_end
from jprune.masks._in_state import is_hole as is_hole
from jprune.masks._pack import PackedMask, unpack_leaf
from jprune.transforms import _errors
from jprune.tree._along import along_for
from jprune.typing import Masks, Params


def held_masks(function: str, params: Params, masks: Masks) -> Masks:
  """A copy of the masks with the structure of the params, holes included.

  ``optax.masked`` and ``optax.partition`` hide leaves or whole subtrees of the params behind an
  ``optax.MaskedNode``; what the masks say there is dropped.

  Raises:
    ValueError: for another structure or another shape.
    TypeError: for a mask that is neither bool nor packed nor ``None``, or that prunes a param
      that is not floating.
  """
  if params is None:
    raise _checks.empty_tree(function)
  paths, leaves, treedef = tree.flatten(params, is_end)
  check_dtypes(function, params)
  if is_placeholder(params) or (leaves and all(map(is_hole, leaves))):
    return params
  mask_paths, found, _ = tree.flatten(masks, is_end)
  if paths == [''] and len(getattr(leaves[0], 'shape', ())) == 1 and mask_paths != paths:
    raise _errors.flattened(function)
  if mask_paths != paths:  # an error, or masks below a hole
    found = along_for(function, 'masks', treedef.unflatten(range(len(leaves))), masks)
  found = [leaf if is_hole(leaf) else mask for leaf, mask in zip(leaves, found, strict=True)]
  found = aligned(function, params, treedef.unflatten(found))
  paths, leaves, treedef = tree.flatten(params)
  for path, leaf, mask in zip(paths, leaves, found, strict=True):
    if mask is not None and not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
      raise _checks.not_floating(function, 'masks', path, leaf)
  copies = [_copy(function, mask, leaf) for mask, leaf in zip(found, leaves, strict=True)]
  return unwrapped(treedef.unflatten(copies))


def along_masks(function: str, argument: str, masks: Masks, other: Any) -> tuple[list[Any], Any]:
  """Leaves of ``other``, one for each mask leaf, and the tree definition that puts them back.

  By path, not by container: NNX inits an optimizer with variables and updates it with arrays.

  Raises:
    ValueError: if the paths differ.
  """
  expected, _, _ = tree.flatten(masks, is_end)
  paths, leaves, treedef = tree.flatten(other, is_end)
  if paths != expected:
    raise _errors.other_than_init(function, argument, expected, paths)
  return leaves, treedef


def laid_out_as(array: jax.Array, mask: jax.Array) -> jax.Array:
  """The mask where the array is: on a mesh with explicit axes, XLA doesn't see to that."""
  sharding = jax.typeof(array).sharding
  if sharding.mesh.empty or jax.typeof(mask).sharding == sharding:
    return mask
  return jax.sharding.reshard(mask, sharding)


def kept_update(update: Any, mask: Any, param: Any) -> Any:
  """The update of one leaf, which takes its pruned weights to zero."""
  if mask is None or is_hole(update):
    return update
  param = jnp.asarray(param)
  if update is None:  # "stays as it is", as equinox has it; adding -0.0 changes no bit
    update = -jnp.zeros_like(param)
  update = jnp.asarray(update)
  dtype = _exact_dtype(update.dtype, param.dtype)
  if dtype != update.dtype:
    # Else XLA drops the rounding to the narrow dtype, and kept weights move a little differently.
    narrow = jnp.finfo(update.dtype)
    update = jax.lax.reduce_precision(update.astype(dtype), narrow.nexp, narrow.nmant)
  return jnp.where(laid_out_as(update, unpack_leaf(mask)), update, -param.astype(dtype))


def _exact_dtype(update: jnp.dtype, param: jnp.dtype) -> jnp.dtype:
  """The update's dtype if it holds every value of the param's, else one that does."""
  if update == param or update.itemsize > param.itemsize:
    return update
  # Two formats of one size (float16 and bfloat16, or two kinds of float8): neither holds the
  # other, float32 holds both.
  return param if param.itemsize > update.itemsize else jnp.dtype(jnp.float32)


def is_placeholder(params: Any) -> bool:
  """Whether this is the childless node that ``optax.tree_map_params`` passes to ``init``.

  Its answer is the state with that node wherever the state holds a tree like the params.
  """
  containers = (dict, list, tuple, type(None))
  return jax.tree.structure(params).num_nodes == 1 and not (
    jax.tree.leaves(params) or isinstance(params, containers)
  )


def _copy(function: str, mask: Any, param: Any) -> Any:
  """The caller's masks must outlive a donated state; they go where the param is."""
  if mask is None:
    return None
  if tree.is_traced(param) and _hosts.spans(mask):
    return jax.tree.map(lambda array: _enclosed(function, array), mask)
  if isinstance(mask, PackedMask):
    return PackedMask(_copy_array(mask.bits, param, packed=True), mask.length)
  return _copy_array(mask, param)


def _enclosed(function: str, array: jax.Array) -> Any:
  """What no compiled program can hold, though its shape may be asked for: refused when compiled."""
  aval = jax.typeof(array)
  return _ENCLOSED.bind(function=function, aval=aval)


def _refused(_: Any, *, function: str, aval: Any) -> Any:
  raise _errors.enclosed_masks(function, aval)


_ENCLOSED = Primitive('masks_of_all_processes')
_ENCLOSED.def_abstract_eval(lambda *, function, aval: aval)
mlir.register_lowering(_ENCLOSED, _refused)


def _wraps_packed(node: Any) -> bool:
  """Whether the node is a packed mask in a box that adds nothing to its path, as NNX's do."""
  if isinstance(node, PackedMask):
    return False
  inside = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda child: child is not node)[0]
  return [tree.path_string(path) for path, child in inside if isinstance(child, PackedMask)] == ['']


def unwrapped(masks: Masks) -> Masks:
  """Masks with packed ones out of the boxes that would take them apart."""
  return jax.tree.map(_unwrapped, masks, is_leaf=_wraps_packed)


def _unwrapped(node: Any) -> Any:
  # A flax.nnx.Variable takes a packed mask in, but gives back a dict of its fields.
  return jax.tree.leaves(node, is_leaf=is_end)[0] if _wraps_packed(node) else node


def _copy_array(array: Any, param: Any, packed: bool = False) -> jax.Array:
  # Without a home of its own, a mask would be moved by every step, and come back from the first
  # one with another sharding, for which the second step would compile anew.
  if tree.is_traced(array, param) or getattr(array, 'committed', False):
    return jnp.array(array, copy=True)
  if not getattr(param, 'committed', False):
    return jnp.array(array, copy=True)
  sharding = param.sharding
  if packed and isinstance(sharding, jax.sharding.NamedSharding):
    # Eight weights share a byte, so only the leading axes are sure to divide as the param's do.
    spec = jax.sharding.PartitionSpec(*sharding.spec[: max(param.ndim - 1, 0)])
    sharding = sharding.update(spec=spec)
  return jax.device_put(array, sharding, may_alias=False)
