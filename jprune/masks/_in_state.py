"""Masks in the state of an optimizer: where they are, and what can be read from them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jprune import _checks, tree
from jprune._checks.results import has_masks as has_masks
from jprune._checks.results import holds_masks as holds_masks
from jprune._entry import check_dtypes, explicit
from jprune.masks import _errors
from jprune.masks._pack import PackedMask, unpack_leaf
from jprune.typing import Masks, Params


def is_hole(node: Any) -> bool:
  """Whether optax hides a part of a tree here, as ``optax.masked`` and ``optax.partition`` do."""
  # by its name: what doesn't train must not import optax
  return isinstance(node, tuple) and type(node).__name__ == 'MaskedNode'


def is_end(node: Any) -> bool:
  """Whether a tree of masks, or one beside it, ends here."""
  return node is None or isinstance(node, PackedMask) or is_hole(node)


@explicit
def masks_of(state: Any, params: Params | None = None) -> Masks:
  """The masks that an optimizer's state holds, wherever in it they are.

  Args:
    state: of any optimizer that contains a transformation of this library: a chain, a
      ``optax.multi_transform``, an ``nnx.Optimizer``'s ``opt_state``. Where several hold masks for
      different leaves, those are put together; those of :func:`mask_updates` count where no others
      are.
    params: in whose containers the masks come, leaf by path; by default in those of the state.
      An ``nnx.Optimizer`` has variables of its own there, where the params have ``nnx.Param``, and
      an ``optax.partition`` whose labels are for whole subtrees one ``None`` for each it hides.

  Returns:
    Masks with the structure of the params; for :func:`jprune.apply`, :func:`jprune.tally`,
    :func:`jprune.save` and :func:`jprune.shrink`.

  Raises:
    ValueError: if there are no masks in it, two masks of one leaf, or other leaves than in the
      params.

  Examples:
    >>> gradual = jprune.transforms.gradual(optax.adam(0.1), 0.5, every=10)
    >>> tx = optax.chain(optax.clip(1.0), gradual)
    >>> params = {'kernel': jnp.array([[1.0, -3.0], [2.0, 0.5]]), 'bias': jnp.ones(2)}
    >>> masks_of(tx.init(params))
    {'bias': None, 'kernel': Array([[ True,  True],
           [ True,  True]], dtype=bool)}
  """
  return masks_in('masks_of', state, params)


def masks_in(
  function: str, state: Any, params: Params | None = None, argument: str = 'state'
) -> Masks:
  """:func:`masks_of` under the caller's name, and that of its argument."""
  check_dtypes(function, params)
  found = [node.masks for node in _nodes(state)]
  if not found:
    raise _errors.no_masks_held(function, state)
  masks = found[0]
  for other in found[1:]:
    masks = _together(function, masks, other, ())
  masks = jax.tree.map(_plain, masks, is_leaf=is_end)
  if params is None:
    return masks
  expected, _, treedef = tree.flatten(params)
  by_path = dict(zip(*tree.flatten(masks, is_end)[:2]))
  hidden = {path for path, mask in by_path.items() if mask is None}
  missing = [path for path in expected if path not in by_path and not _within(path, hidden)]
  if missing:
    named = list(by_path)
    raise _checks.other_structure(
      function, argument, expected, named, trees=(params, masks), held=True
    )
  return treedef.unflatten([by_path.get(path) for path in expected])


def _within(path: str, hidden: set[str]) -> bool:
  """Whether a leaf is in a subtree that optax hides as a whole."""
  keys = path.split('/')
  return any('/'.join(keys[:i]) in hidden for i in range(len(keys)))


def _plain(mask: Any) -> Any:
  if is_hole(mask):
    return None
  if isinstance(mask, PackedMask):  # an nnx.Optimizer puts each array in a box, these bits too
    return PackedMask(jax.tree.leaves(mask.bits)[0], mask.length)
  return mask


def states_in(function: str, state: Any, argument: str = 'state') -> list[Any]:
  """What :func:`metrics` reads of a state, and no more: for programs that are compiled for it."""
  found = _nodes(state)
  if not found:
    raise _errors.no_masks_held(function, state, argument)
  read = ('count', 'masks', 'churn')
  rest = lambda node: {name: () for name in node._fields if name not in read}
  return [node._replace(**rest(node)) for node in found]


def _nodes(state: Any) -> list[Any]:
  """The states that have masks; of those that only mask updates, none if there are others."""
  found = [node for node in jax.tree.leaves(state, is_leaf=has_masks) if has_masks(node)]
  return [node for node in found if type(node).__name__ != 'MaskUpdatesState'] or found


def _together(function: str, one: Any, other: Any, path: tuple[Any, ...]) -> Any:
  """Masks of two trees, each of which hides from the other what it has."""
  if one is None or is_hole(one):
    return other if one is None or other is not None else one
  if other is None or is_hole(other):
    return one
  within = lambda node: jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda x: x is not node)
  (mine, treedef), (theirs, like) = within(one), within(other)
  if is_end(one) or treedef != like or (mine and mine[0][0] == ()):
    raise _errors.masked_twice(function, tree.path_string(path))
  return treedef.unflatten(
    [_together(function, a, b, (*path, *keys)) for (keys, a), (_, b) in zip(mine, theirs)]
  )


@explicit
def metrics(state: Any) -> dict[str, jax.Array]:
  """What there is to see of sparse training, for any logger; usable under ``jit``.

  Of many agents or seeds, whose states are stacked along a first axis, ``jax.vmap(metrics)(state)``
  gives each its own numbers. Nothing is waited for: the scalars are on the device until somebody
  looks at them, as :class:`jprune.report.Recorder` does in the end.

  Args:
    state: as for :func:`masks_of`.

  Returns:
    A dict of float32 scalars. ``'sparsity'`` is the fraction of zeros over all leaves that have a
    mask, ``'sparsity/<path>'`` that of each of them; ``'churn'``, where masks change, is the
    fraction of their weights that the last change took away or brought in. Sizes and bytes of the
    whole model: :func:`jprune.report.metrics`.

  Raises:
    ValueError: if there are no masks in it, or two masks of one leaf.

  Examples:
    >>> params = {'kernel': jnp.array([[1.0, -3.0], [2.0, 0.5]])}
    >>> tx = jprune.transforms.gradual(optax.sgd(0.1), 0.5, every=10)
    >>> _, state = tx.update(params, tx.init(params), params)
    >>> {name: float(value) for name, value in metrics(state).items()}
    {'sparsity': 0.5, 'churn': 0.5, 'sparsity/kernel': 0.5}
    >>> many = jax.tree.map(lambda x: jnp.stack([x, x]), state)
    >>> jax.vmap(metrics)(many)['sparsity']
    Array([0.5, 0.5], dtype=float32)
  """
  paths, leaves, _ = tree.flatten(masks_in('metrics', state), is_end)
  zeros, sizes = {}, {}
  for path, leaf in zip(paths, leaves):
    if leaf is not None:
      zeros[path], sizes[path] = _zeros(unpack_leaf(leaf)), tree.size(leaf)
  out = {'sparsity': _share(zeros.values(), sizes.values())}
  changing = [node for node in _nodes(state) if 'churn' in node._fields]
  if changing:
    weights = [_size(node.masks) for node in changing]
    churns = [jax.tree.leaves(node.churn)[0] for node in changing]
    changed = [churn * float(weight) for churn, weight in zip(churns, weights)]
    out['churn'] = _share(changed, weights)
  return out | {f'sparsity/{path}': _share([zeros[path]], [sizes[path]]) for path in zeros}


def _zeros(mask: jax.Array) -> jax.Array:
  """How many weights a mask prunes: exact along the last axis, then in float32."""
  pruned = jnp.atleast_1d(~mask)
  return jnp.sum(jnp.sum(pruned, axis=-1, dtype=jnp.int32).astype(jnp.float32))


def _share(parts: Any, sizes: Any) -> jax.Array:
  # a float: of more than 2**31 weights the number is no int32
  return jnp.asarray(sum(parts) / float(max(sum(sizes), 1)), jnp.float32)


def _size(masks: Masks) -> int:
  """How many weights masks are for."""
  leaves = tree.flatten(masks, is_end)[1]
  return sum(tree.size(leaf) for leaf in leaves if leaf is not None and not is_hole(leaf))
