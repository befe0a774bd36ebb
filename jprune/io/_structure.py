"""A tree's containers as JSON, and back.

A leaf is its number in tree order and ``None`` is null; a dict with string keys is an object;
every other container is an array that begins with its kind: ``["list", ...]``,
``["tuple", ...]``, ``["dict", [key, child], ...]`` for int keys, and ``["node", [key, child],
...]`` for a container that JSON can't name, which comes back as a dict.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import jax

_SEQUENCES = {'list': list, 'tuple': tuple}


def describe(tree: Any) -> Any:
  """The description of a tree's containers, made of what JSON has.

  Examples:
    >>> describe({'b': [1.0, None], 'a': (2.0,)})
    {'a': ['tuple', 0], 'b': ['list', 1, None]}
  """
  return _describe(tree, itertools.count())


def _describe(tree: Any, count: Iterator[int]) -> Any:
  if tree is None:
    return None
  if jax.tree_util.all_leaves([tree]):
    return next(count)
  flat, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda node: node is not tree)
  if _is_box(flat):
    return _describe(flat[0][1], count)
  items = [(_key(path[0]), _describe(child, count)) for path, child in flat]
  kind = type(tree)
  if kind in (list, tuple):
    return [kind.__name__, *(child for _, child in items)]
  # Only exact types come back: a subclass of str or int as a key would not.
  if kind is dict and all(type(key) is str for key in tree):
    return dict(items)
  if kind is dict and all(type(key) in (int, bool) for key in tree):
    return ['dict', *([key, child] for key, child in items)]
  if len({type(key) for key, _ in items}) > 1:  # no dict that JAX can sort
    items = [(str(key), child) for key, child in items]
  return ['node', *([key, child] for key, child in items)]


def restore(node: Any, leaves: list[Any]) -> Any:
  """The tree that a description describes, with these leaves.

  Raises:
    ValueError, TypeError, LookupError: if it is no description of that many leaves.

  Examples:
    >>> restore({'a': ['tuple', 0], 'b': ['list', 1, None]}, ['x', 'y'])
    {'a': ('x',), 'b': ['y', None]}
  """
  count = itertools.count()
  tree = _restore(node, leaves, count)
  if next(count) != len(leaves):
    raise ValueError('the tree has fewer leaves than the file')
  return tree


def _restore(node: Any, leaves: list[Any], count: Iterator[int]) -> Any:
  if node is None:
    return None
  if type(node) is int:
    if node != next(count):
      raise ValueError('the leaves are out of order')
    return leaves[node]
  if isinstance(node, dict):
    return {key: _restore(child, leaves, count) for key, child in node.items()}
  kind, *items = node
  if kind in _SEQUENCES:
    return _SEQUENCES[kind](_restore(child, leaves, count) for child in items)
  if kind in ('dict', 'node'):
    found = {key: _restore(child, leaves, count) for key, child in items}
    kinds = {type(key) for key in found}
    if len(found) < len(items) or not (kinds <= {int, bool} or kinds <= {str}):
      raise ValueError(f'keys of a dict that can not stand together: {list(found)}')
    return found
  raise ValueError(f'unknown container {kind!r}')


def _is_box(flat: list[Any]) -> bool:
  """NNX variables and linen's boxes, whose ``value`` the canonical path leaves out as well."""
  if len(flat) != 1:
    return False
  (entry,), child = flat[0]
  named = isinstance(entry, jax.tree_util.GetAttrKey) and entry.name == 'value'
  return named and child is not None and jax.tree_util.all_leaves([child])


def _key(entry: Any) -> str | int:
  """What a key path's entry is called in a plain dict."""
  for attribute in ('key', 'name', 'idx'):
    key = getattr(entry, attribute, None)
    if key is not None:
      return key if type(key) in (str, int, bool) else str(key)
  return str(entry)
