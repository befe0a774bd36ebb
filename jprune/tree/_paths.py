"""Canonical leaf paths, exact sizes, and trees walked along the params."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

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
