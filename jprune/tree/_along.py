"""Second trees along the params: what stands in them at each leaf of the params.

Each walk is there twice: for users, and, by the name ``..._for``, for calls that say in a message
who asks, and what the trees are called there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from jprune import _checks
from jprune.tree._paths import flatten, is_array, path_string
from jprune.typing import Params


def along(params: Params, other: Any) -> list[Any]:
  """The leaves of ``other`` in the order of the params' leaves; ``None`` stays ``None``.

  Args:
    params: tree whose leaves give the order.
    other: tree of the same structure; where the params have a leaf, anything may stand.

  Returns:
    What stands in ``other`` at each leaf of the params, in tree order.

  Raises:
    ValueError: if ``other`` hasn't the structure of the params.

  Examples:
    >>> along({'w': 1.0, 'b': 2.0}, {'w': True, 'b': None})
    [None, True]
  """
  return along_for('along', 'other', params, other)


def along_for(
  function: str, argument: str, params: Params, other: Any, reference: str = 'params'
) -> list[Any]:
  """:func:`along` for a function with an argument; ``reference`` is what it calls the params."""
  leaves, treedef = jax.tree.flatten(params)
  if argument == 'masks':
    _checks.check_not_swapped(function, leaves, other, reference)
  try:
    return treedef.flatten_up_to(other)
  except (ValueError, TypeError, KeyError):
    if argument == 'masks' and (error := _checks.not_a_tree(function, argument, other)):
      raise error from None
    none = lambda x: x is None
    found = jax.tree_util.tree_flatten_with_path(other, is_leaf=none)[0]
    paths = [path_string(path) for path, _ in found]
    expected = flatten(params)[0]
    raise _checks.other_structure(
      function, argument, expected, paths, reference, trees=(params, other)
    ) from None


def by_leaf(params: Params, values: Any) -> list[Any]:
  """One value for each leaf of the params, in tree order.

  Args:
    params: tree whose leaves give the order.
    values: a single number, a dict from leaf path to number (others get ``None``), or a tree
      with the structure of the params.

  Returns:
    A number or ``None`` for each leaf.

  Raises:
    ValueError: if ``values`` is a tree of another structure.

  Examples:
    >>> params = {'a': {'w': 1.0}, 'b': 2.0}
    >>> by_leaf(params, 0.5), by_leaf(params, {'a/w': 0.5})
    ([0.5, 0.5], [0.5, None])
  """
  return by_leaf_for('by_leaf', 'values', params, values)


def by_leaf_for(
  function: str, argument: str, params: Params, values: Any, reference: str = 'params'
) -> list[Any]:
  """:func:`by_leaf` for a function with an argument; ``reference`` is what it calls the params."""
  paths, _, _ = flatten(params)
  if isinstance(values, str):
    raise _checks.not_a_number(function, argument, values)
  if isinstance(values, (int, float)) or (is_array(values) and values.shape == ()):
    return [values] * len(paths)
  by_path = isinstance(values, Mapping) and values and set(values) <= set(paths)
  # linen's boxes are nodes whose own path is a leaf's
  if by_path and all(_is_leaf(value) for value in values.values()):
    return [values.get(path) for path in paths]
  return along_for(function, argument, params, values, reference)


def _is_leaf(value: Any) -> bool:
  return value is None or jax.tree_util.treedef_is_leaf(jax.tree.structure(value))
