"""Trees of params, and the filters that select their leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jprune._checks.words import differing, kind, message


def empty_tree(function: str, argument: str = 'params') -> ValueError:
  return ValueError(
    message(
      function,
      argument,
      'a tree with at least one leaf',
      'an empty tree',
      "Pass the model's parameters.",
    )
  )


def other_structure(
  function: str,
  argument: str,
  expected: Sequence[str],
  found: Sequence[str],
  error: Exception,
  reference: str = 'params',
) -> ValueError:
  """``argument`` hasn't the structure of ``reference``: says which paths differ."""
  got = differing(expected, found) or f'the same leaf paths in other containers ({error})'
  fix = f'Build it with jax.tree.map over the {reference}; None leaves are allowed.'
  constraint = f'a tree with the structure of `{reference}`'
  return ValueError(message(function, argument, constraint, got, fix))


def not_floating(function: str, argument: str, path: str, leaf: Any) -> TypeError:
  constraint = (
    'floating where it is pruned' if argument != 'where' else 'a filter of floating leaves'
  )
  return TypeError(
    message(function, argument, constraint, kind(leaf), 'Exclude the leaf with where=.', path)
  )


def as_bool(function: str, answer: Any, path: str, argument: str = 'where') -> bool:
  """The answer of a user's predicate, refused unless it is a bool."""
  if isinstance(answer, (bool, np.bool_)):
    return bool(answer)
  fix = 'Return True to select the leaf.'
  raise TypeError(
    message(function, argument, 'a predicate that returns a bool', repr(answer), fix, path)
  )
