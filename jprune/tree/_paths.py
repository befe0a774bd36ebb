"""Canonical leaf paths, exact sizes, and trees walked along the params."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jprune import _checks
from jprune.typing import Params


def path_string(path: tuple[Any, ...]) -> str:
  """The canonical name of a leaf: its keys joined by ``/``.

  The ``.value`` under which NNX variables and linen's boxes hold their array is left out.

  Args:
    path: key path, as ``jax.tree_util.tree_flatten_with_path`` gives it.

  Returns:
    The name, ``''`` for a tree that is one leaf.

  Examples:
    >>> flat, _ = jax.tree_util.tree_flatten_with_path({'Dense_0': {'kernel': 1.0}})
    >>> path_string(flat[0][0])
    'Dense_0/kernel'
  """
  if path and isinstance(path[-1], jax.tree_util.GetAttrKey) and path[-1].name == 'value':
    path = path[:-1]
  return jax.tree_util.keystr(path, simple=True, separator='/')


def flatten(
  tree: Any, is_leaf: Callable[[Any], bool] | None = None
) -> tuple[list[str], list[Any], Any]:
  """Paths, leaves and tree definition, in tree order.

  Args:
    tree: any tree.
    is_leaf: what else counts as a leaf, as for ``jax.tree.flatten``.

  Returns:
    ``(paths, leaves, treedef)``: two lists of one length, and what puts the leaves back.

  Examples:
    >>> flatten({'b': 2, 'a': [1]})[:2]
    (['a/0', 'b'], [1, 2])
  """
  flat, treedef = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_leaf)
  return [path_string(path) for path, _ in flat], [leaf for _, leaf in flat], treedef


def is_array(leaf: Any) -> bool:
  """Whether a leaf is an array or a shape struct (typed keys are; functions, strings not).

  Args:
    leaf: anything.

  Returns:
    A Python bool.

  Examples:
    >>> is_array(jax.ShapeDtypeStruct((2, 3), jnp.float32)), is_array('relu')
    (True, False)
  """
  return hasattr(leaf, 'shape') and hasattr(leaf, 'dtype')


def is_floating(leaf: Any) -> bool:
  """Whether a leaf is a floating array (real; float8 and bfloat16 included).

  Args:
    leaf: anything.

  Returns:
    A Python bool.

  Examples:
    >>> is_floating(jnp.ones(2, jnp.bfloat16)), is_floating(jnp.arange(2))
    (True, False)
  """
  return is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.floating)


def is_complex(leaf: Any) -> bool:
  """Whether a leaf is an array of complex numbers.

  Args:
    leaf: anything.

  Returns:
    A Python bool.

  Examples:
    >>> is_complex(jnp.ones(2, jnp.complex64)), is_complex(jnp.ones(2))
    (True, False)
  """
  return is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.complexfloating)


def is_inexact(leaf: Any) -> bool:
  """Whether a leaf is a floating or a complex array: what has scores, and can be pruned.

  Args:
    leaf: anything.

  Returns:
    A Python bool.

  Examples:
    >>> is_inexact(jnp.ones(2, jnp.complex64)), is_inexact(jnp.arange(2))
    (True, False)
  """
  return is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def is_traced(*leaves: Any) -> bool:
  """Whether any of the leaves is a tracer, so that its values can't be looked at.

  Args:
    *leaves: anything.

  Returns:
    A Python bool.

  Examples:
    >>> is_traced(jnp.ones(2)), jax.jit(lambda x: is_traced(x))(jnp.ones(2)).item()
    (False, True)
  """
  return any(isinstance(leaf, Tracer) for leaf in leaves)


def size(leaf: Any) -> int:
  """Number of elements, exact at any size.

  Args:
    leaf: an array or a shape struct.

  Returns:
    A Python int.

  Examples:
    >>> size(jax.ShapeDtypeStruct((2**20, 2**20), jnp.float32))
    1099511627776
  """
  return math.prod(int(n) for n in leaf.shape)


def shapes(params: Params) -> dict[str, tuple[int, ...]]:
  """The shape of each leaf by its path; ``()`` of what is no array.

  Args:
    params: any tree.

  Returns:
    A dict in tree order.

  Examples:
    >>> shapes({'kernel': jnp.ones((2, 3)), 'steps': 7})
    {'kernel': (2, 3), 'steps': ()}
  """
  paths, leaves, _ = flatten(params)
  return {path: tuple(getattr(leaf, 'shape', ())) for path, leaf in zip(paths, leaves)}


def along(
  function: str, argument: str, params: Params, other: Any, reference: str = 'params'
) -> list[Any]:
  """The leaves of ``other`` in the order of the params' leaves; ``None`` stays ``None``.

  Args:
    function: who asks, for the message.
    argument: what ``other`` is called there.
    params: tree whose leaves give the order.
    other: tree of the same structure; where the params have a leaf, anything may stand.
    reference: what ``params`` is called there.

  Returns:
    What stands in ``other`` at each leaf of the params, in tree order.

  Raises:
    ValueError: if ``other`` hasn't the structure of the params.

  Examples:
    >>> along('apply', 'masks', {'w': 1.0, 'b': 2.0}, {'w': True, 'b': None})
    [None, True]
  """
  treedef = jax.tree.structure(params)
  try:
    return treedef.flatten_up_to(other)
  except (ValueError, TypeError, KeyError) as error:
    none = lambda x: x is None
    found = jax.tree_util.tree_flatten_with_path(other, is_leaf=none)[0]
    paths = [path_string(path) for path, _ in found]
    expected = flatten(params)[0]
    raise _checks.other_structure(function, argument, expected, paths, error, reference) from None


def by_leaf(
  function: str, argument: str, params: Params, values: Any, reference: str = 'params'
) -> list[Any]:
  """One value for each leaf of the params, in tree order.

  Args:
    function: who asks, for the message.
    argument: what ``values`` is called there.
    params: tree whose leaves give the order.
    values: a single number, a dict from leaf path to number (others get ``None``), or a tree
      with the structure of the params.
    reference: what ``params`` is called there.

  Returns:
    A number or ``None`` for each leaf.

  Raises:
    ValueError: if ``values`` is a tree of another structure.

  Examples:
    >>> params = {'a': {'w': 1.0}, 'b': 2.0}
    >>> by_leaf('f', 'x', params, 0.5), by_leaf('f', 'x', params, {'a/w': 0.5})
    ([0.5, 0.5], [0.5, None])
  """
  paths, _, _ = flatten(params)
  if isinstance(values, (int, float)) or (is_array(values) and values.shape == ()):
    return [values] * len(paths)
  by_path = isinstance(values, Mapping) and values and set(values) <= set(paths)
  # linen's boxes are nodes whose own path is a leaf's
  if by_path and all(_is_leaf(value) for value in values.values()):
    return [values.get(path) for path in paths]
  return along(function, argument, params, values, reference)


def _is_leaf(value: Any) -> bool:
  return value is None or jax.tree_util.treedef_is_leaf(jax.tree.structure(value))
