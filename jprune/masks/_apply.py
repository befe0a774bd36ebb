"""What masks do to params, and to each other."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jprune import _checks, tree
from jprune._entry import explicit, public
from jprune.masks import _errors
from jprune.masks._pack import PackedMask, unpack_leaf
from jprune.tree._along import along_for
from jprune.typing import Masks, Params


def aligned(function: str, params: Params, masks: Masks) -> list[Any]:
  """The mask leaves along the params' leaves, checked: bool or packed, of the same shape.

  Returns:
    In tree order: a bool array, a :class:`PackedMask`, or ``None``.

  Raises:
    ValueError: for another structure or another shape.
    TypeError: for a leaf that is neither bool nor packed nor ``None``.
  """
  paths, leaves, _ = tree.flatten(params)
  if not leaves:
    raise _checks.empty_tree(function)
  found = along_for(function, 'masks', params, masks)
  for path, leaf, mask in zip(paths, leaves, found):
    if mask is None:
      continue
    if not isinstance(mask, PackedMask):
      _checks.check_bool(function, 'masks', path, mask)
    _checks.check_shape(function, 'masks', path, mask, jnp.shape(leaf))
  return found


@public
def apply(params: Params, masks: Masks) -> Params:
  """Params with exactly 0.0 where a mask is ``False``; the rest bit for bit as it was.

  A selection, not a product: NaN, infinities and ``-0.0`` under a ``False`` become ``0.0`` too.

  Args:
    params: tree of arrays; leaves of :func:`jprune.io.open` are read.
    masks: tree of the same structure; leaves bool or packed, of the param's shape, or ``None``.

  Returns:
    Params of the same structure, shapes and dtypes.

  Raises:
    ValueError: if structure or shapes differ.
    TypeError: if a mask is not bool.

  Examples:
    >>> params = {'w': jnp.array([1.0, jnp.inf]), 'b': jnp.array(3.0)}
    >>> apply(params, {'w': jnp.array([True, False]), 'b': None})
    {'b': Array(3., dtype=float32, weak_type=True), 'w': Array([1., 0.], dtype=float32)}
  """
  paths, leaves, treedef = tree.flatten(params)
  found = aligned('apply', params, masks)
  for path, leaf in zip(paths, leaves):
    _checks.check_values('apply', path, leaf)
  return treedef.unflatten(
    [zero_where_pruned(_at_hand(leaf), mask) for leaf, mask in zip(leaves, found)]
  )


def _at_hand(leaf: Any) -> Any:
  """An array that lies elsewhere, such as in a file, is fetched; others stay what they are."""
  known = isinstance(leaf, (jax.Array, np.ndarray, np.generic))
  return leaf if known or not tree.is_array(leaf) else jnp.asarray(leaf)


def zero_where_pruned(leaf: Any, mask: Any) -> Any:
  """One leaf of :func:`apply`, without the checks."""
  if mask is None:
    return leaf
  return jnp.where(unpack_leaf(mask), leaf, jnp.zeros_like(leaf))


@explicit
def combine(*masks: Masks) -> Masks:
  """Keeps what every mask keeps: the element-wise *and* of masks of one structure.

  Args:
    *masks: at least one tree of masks. ``None`` keeps everything, so it yields to the others.

  Returns:
    Bool masks; ``None`` where all are ``None``.

  Raises:
    ValueError: if none is given, or structures or shapes differ.

  Examples:
    >>> combine({'w': jnp.array([True, True])}, {'w': jnp.array([True, False])})
    {'w': Array([ True, False], dtype=bool)}
  """
  if not masks:
    raise _errors.none_given('combine', 'masks')
  is_leaf = lambda leaf: leaf is None or isinstance(leaf, PackedMask)
  paths, first, treedef = tree.flatten(masks[0], is_leaf)
  out = list(first)
  for other in masks[1:]:
    other_paths, leaves, _ = tree.flatten(other, is_leaf)
    if other_paths != paths:
      raise _checks.other_structure('combine', 'masks', paths, other_paths)
    out = [_both(path, one, two) for path, one, two in zip(paths, out, leaves)]
  return treedef.unflatten(
    [None if mask is None else unpack_leaf(mask, p, 'combine') for p, mask in zip(paths, out)]
  )


def _both(path: str, one: Any, two: Any) -> Any:
  if one is None or two is None:
    return two if one is None else one
  one, two = (unpack_leaf(each, path, 'combine') for each in (one, two))
  _checks.check_shape('combine', 'masks', path, two, one.shape)
  return one & two


@explicit
def invert(masks: Masks) -> Masks:
  """Keeps what was pruned and prunes what was kept; ``None`` stays ``None``.

  Examples:
    >>> invert({'w': jnp.array([True, False]), 'b': None})
    {'b': None, 'w': Array([False,  True], dtype=bool)}
  """
  paths, leaves, treedef = tree.flatten(masks, is_leaf=lambda leaf: isinstance(leaf, PackedMask))
  return treedef.unflatten(
    [~unpack_leaf(mask, path, 'invert') for path, mask in zip(paths, leaves)]
  )


@public
def straight_through(params: Params, masks: Masks) -> Params:
  r"""Masked params whose gradient passes to the pruned weights as if nothing were masked.

  .. math:: y = m \odot \theta, \qquad \partial y / \partial \theta := 1

  For training a dense copy under a mask; a weight that was pruned can come back. The value is
  that of :func:`apply`, exactly.

  Args:
    params: tree of arrays.
    masks: as for :func:`apply`.

  Returns:
    Params of the same structure, shapes and dtypes.

  Examples:
    >>> masks = {'w': jnp.array([True, False])}
    >>> loss = lambda p: jnp.sum(straight_through(p, masks)['w'] * 3)
    >>> jax.grad(loss)({'w': jnp.array([1.0, 2.0])})['w']
    Array([3., 3.], dtype=float32)

  References:
    Bengio et al., Estimating or propagating gradients through stochastic neurons, 2013,
    arXiv:1308.3432
  """
  leaves, treedef = jax.tree.flatten(params)
  found = aligned('straight_through', params, masks)
  return treedef.unflatten([_through(leaf, mask) for leaf, mask in zip(leaves, found)])


@jax.custom_jvp
def _masked(leaf: jax.Array, mask: jax.Array) -> jax.Array:
  return zero_where_pruned(leaf, mask)


@_masked.defjvp
def _masked_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
  return _masked(*primals), tangents[0]


def _through(leaf: Any, mask: Any) -> Any:
  return leaf if mask is None else _masked(leaf, unpack_leaf(mask))
