"""The state of sparse training, and what can be read from it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jprune import _checks, tree
from jprune._entry import explicit
from jprune.masks._pack import unpack_leaf
from jprune.transforms._held import is_end, is_hole
from jprune.typing import Masks


class SparseState(NamedTuple):
  """State of all methods of sparse training.

  Attributes:
    count: calls of ``update`` so far, int32.
    masks: in force now: structure of the params; each leaf bool of the param's shape, packed, or
      ``None`` where a leaf is not pruned.
    inner: state of the inner optimizer.
    memory: what the method keeps beside its masks, in trees like the masks.
    dense: weights that live on behind their masks, in a tree like the masks, or ``()``.
    clock: when weights came back, a :class:`Clock`, or ``()`` where it makes no difference.
    kept: how many weights each leaf keeps, a row for each change: uint32 words
      ``(changes, leaves, 2)`` of ``high * 2**16 + low``.
    churn: weights that the last change took away or brought in, over all that could be: float32.
    key: data of a random key, or ``()``.

  Examples:
    >>> tx = jprune.transforms.gradual(optax.sgd(0.1), 0.5, every=10)
    >>> params = {'kernel': jnp.array([[1.0, -3.0], [2.0, 0.5]])}
    >>> state = tx.init(params)
    >>> _, state = tx.update(params, state, params)
    >>> int(state.count), state.masks['kernel']
    (1, Array([[False,  True],
           [ True, False]], dtype=bool))
  """

  count: jax.Array
  masks: Masks
  inner: optax.OptState
  memory: Any
  dense: Any
  clock: Any
  kept: jax.Array
  churn: jax.Array
  key: Any = ()


@explicit
def masks_of(state: Any) -> Masks:
  """The masks that an optimizer's state holds, wherever in it they are.

  Args:
    state: of any optimizer that contains a transformation of this library: a chain, a
      ``optax.multi_transform``, an ``nnx.Optimizer``'s ``opt_state``. Where several hold masks for
      different leaves, those are put together.

  Returns:
    Masks with the structure of the params; for :func:`jprune.apply`, :func:`jprune.tally`,
    :func:`jprune.save` and :func:`jprune.shrink`.

  Raises:
    ValueError: if there are no masks in it, or two masks of one leaf.

  Examples:
    >>> tx = optax.chain(optax.clip(1.0), jprune.transforms.gradual(optax.adam(0.1), 0.5, every=10))
    >>> params = {'kernel': jnp.array([[1.0, -3.0], [2.0, 0.5]]), 'bias': jnp.ones(2)}
    >>> masks_of(tx.init(params))
    {'bias': None, 'kernel': Array([[ True,  True],
           [ True,  True]], dtype=bool)}
  """
  found = [node.masks for node in jax.tree.leaves(state, is_leaf=_has_masks) if _has_masks(node)]
  if not found:
    raise _checks.no_masks_held('masks_of', state)
  masks = found[0]
  for other in found[1:]:
    masks = _together(masks, other, ())
  return jax.tree.map(lambda leaf: None if is_hole(leaf) else leaf, masks, is_leaf=is_end)


def _together(one: Any, other: Any, path: tuple[Any, ...]) -> Any:
  """Masks of two trees, each of which hides from the other what it has."""
  if one is None or is_hole(one):
    return other if one is None or other is not None else one
  if other is None or is_hole(other):
    return one
  within = lambda node: jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda x: x is not node)
  (mine, treedef), (theirs, like) = within(one), within(other)
  if is_end(one) or treedef != like or (mine and mine[0][0] == ()):
    raise _checks.masked_twice('masks_of', tree.path_string(path))
  return treedef.unflatten(
    [_together(a, b, (*path, *keys)) for (keys, a), (_, b) in zip(mine, theirs)]
  )


def _has_masks(node: Any) -> bool:
  return isinstance(node, tuple) and hasattr(node, '_fields') and 'masks' in node._fields


@explicit
def metrics(state: Any) -> dict[str, jax.Array]:
  """What there is to see of sparse training, for any logger; usable under ``jit``.

  Args:
    state: as for :func:`masks_of`.

  Returns:
    float32 scalars: ``'sparsity'``, the fraction of zeros over all leaves that have a mask;
    ``'sparsity/<path>'``, that of each of them; and ``'churn'``, the fraction of their weights that
    the last change took away or brought in.

  Raises:
    ValueError: if there are no masks in it.

  Examples:
    >>> params = {'kernel': jnp.array([[1.0, -3.0], [2.0, 0.5]])}
    >>> tx = jprune.transforms.gradual(optax.sgd(0.1), 0.5, every=10)
    >>> _, state = tx.update(params, tx.init(params), params)
    >>> {name: float(value) for name, value in metrics(state).items()}
    {'sparsity': 0.5, 'churn': 0.5, 'sparsity/kernel': 0.5}
  """
  paths, leaves, _ = tree.flatten(masks_of(state), is_end)
  zeros, sizes = {}, {}
  for path, leaf in zip(paths, leaves):
    if leaf is not None:
      mask = unpack_leaf(leaf)
      rows = jnp.sum(~mask, axis=-1, dtype=jnp.int32) if mask.ndim else (~mask).astype(jnp.int32)
      zeros[path], sizes[path] = jnp.sum(rows.astype(jnp.float32)), max(mask.size, 1)
  nodes = jax.tree.leaves(state, is_leaf=_has_masks)
  churns = [(n.churn, n) for n in nodes if _has_masks(n) and 'churn' in n._fields]
  total = sum(sizes.values())
  out = {'sparsity': sum(zeros.values()) / max(total, 1)}
  if churns:
    out['churn'] = sum(churn for churn, _ in churns) / len(churns)
  return out | {f'sparsity/{path}': zeros[path] / sizes[path] for path in zeros}


def size_of(masks: Masks) -> int:
  """How many weights masks are for."""
  leaves = tree.flatten(masks, is_end)[1]
  return sum(tree.size(leaf) for leaf in leaves if leaf is not None and not is_hole(leaf))
