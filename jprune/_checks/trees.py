"""Trees of params, and the filters that select their leaves."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import numpy as np

from jprune._checks.words import differing, kind, listed, message


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


def nothing_selected(function: str, where: Any, paths: Sequence[str]) -> ValueError:
  near = _near(where, paths) if isinstance(where, str) else []
  got = f'where={where!r}, which selects no weights out of {listed(paths)}'
  fix = (
    f'Did you mean {listed(near)}?'
    if near
    else (
      'By default floating leaves with two or more dimensions are selected.'
      if where is None
      else 'Leaf paths look like those above.'
    )
  )
  return ValueError(message(function, 'where', 'a filter that selects at least one leaf', got, fix))


def _near(where: str, paths: Sequence[str]) -> list[str]:
  matcher = difflib.SequenceMatcher(b=where)
  near = []
  for path in paths:
    matcher.set_seq1(path)
    bounds = (matcher.real_quick_ratio, matcher.quick_ratio, matcher.ratio)  # cheap ones first
    if all(ratio() > 0.5 for ratio in bounds):
      near.append(path)
  return near


def not_floating(function: str, argument: str, path: str, leaf: Any) -> TypeError:
  constraint = (
    'floating where it is pruned' if argument != 'where' else 'a filter of floating leaves'
  )
  return TypeError(
    message(function, argument, constraint, kind(leaf), 'Exclude the leaf with where=.', path)
  )


def bad_regex(function: str, where: Any, error: Exception) -> ValueError:
  fix = 'Escape special characters, or pass a predicate (path, leaf) -> bool.'
  return ValueError(message(function, 'where', 'a regular expression', f'{where!r} ({error})', fix))


def bad_where(function: str, where: Any) -> TypeError:
  constraint = 'a predicate, a regular expression, a non-empty list of these, or a tree of bools'
  return TypeError(message(function, 'where', constraint, repr(where), 'See jprune.typing.Where.'))


def as_bool(function: str, answer: Any, path: str) -> bool:
  """The answer of a user's predicate, refused unless it is a bool."""
  if isinstance(answer, (bool, np.bool_)):
    return bool(answer)
  fix = 'Return True to select the leaf.'
  raise TypeError(
    message(function, 'where', 'a predicate that returns a bool', repr(answer), fix, path)
  )
