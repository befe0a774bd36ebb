"""What modules that run a smaller function have in common, whatever library they are of."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import jax

from jprune import tree

Module = TypeVar('Module')
"""A module of a framework's, of a type of the user's."""


class Rest(NamedTuple):
  """What is no array of the arguments of a call, and where the arrays were: hashable.

  Attributes:
    treedef: structure of the arguments.
    values: what is no array, ``None`` elsewhere.
    dynamic: whether each leaf is an array.
  """

  treedef: Any
  values: tuple[Any, ...]
  dynamic: tuple[bool, ...]

  def merged(self, arrays: list[Any]) -> Any:
    """The arguments, with these arrays."""
    found = iter(arrays)
    pairs = zip(self.values, self.dynamic)
    return self.treedef.unflatten([next(found) if yes else value for value, yes in pairs])


def arrays_and_rest(arguments: Any) -> tuple[list[Any], Rest]:
  """The arrays of a call's arguments, which are traced, and the rest, for which it is compiled."""
  leaves, treedef = jax.tree.flatten(arguments)
  dynamic = tuple(map(tree.is_array, leaves))
  values = tuple(None if yes else leaf for leaf, yes in zip(leaves, dynamic))
  return [leaf for leaf, yes in zip(leaves, dynamic) if yes], Rest(treedef, values, dynamic)
