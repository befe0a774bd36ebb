"""What is said when something is wrong; every message names function, argument, value and fix."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from jprune._checks.words import kind, listed, message, shown
from jprune._text.words import as_regex


def nothing_selected(
  function: str, where: Any, paths: Sequence[str], argument: str = 'where'
) -> ValueError:
  near = _near(where, paths) if isinstance(where, str) else []
  got = f'{argument}={shown(where)}, which selects no weights out of {listed(paths)}'
  fix = (
    f'Did you mean {listed(near)}?'
    if near
    else (
      'By default floating leaves with two axes longer than 1 are, unless their names speak '
      'against it: jprune.tree.skipped(params) says why. A predicate chooses exactly.'
      if where is None
      else 'Leaf paths look like those above.'
    )
  )
  return ValueError(
    message(function, _whole(argument), 'a filter that selects at least one leaf', got, fix)
  )


def _near(where: str, paths: Sequence[str]) -> list[str]:
  matcher = difflib.SequenceMatcher(b=where)
  near = []
  for path in paths:
    matcher.set_seq1(path)
    bounds = (matcher.real_quick_ratio, matcher.quick_ratio, matcher.ratio)  # cheap ones first
    if all(ratio() > 0.5 for ratio in bounds):
      near.append(path)
  return near


def only_skipped(
  function: str, where: Any, found: Sequence[tuple[str, str | None]], argument: str = 'where'
) -> ValueError:
  """A pattern narrows the default, and of what it finds nothing is in that."""
  shown = ', '.join(f"'{path}' ({why})" for path, why in found[:3])
  more = f' and {len(found) - 3} more' if len(found) > 3 else ''
  got = f'{argument}={getattr(where, "pattern", where)!r}, which finds only {shown}{more}'
  fix = (
    'A regular expression narrows the default. To choose these all the same, pass a list of their '
    'paths, a predicate (path, leaf) -> bool, or a tree of bools.'
  )
  constraint = 'a filter that selects at least one leaf of those that the default takes'
  return ValueError(message(function, _whole(argument), constraint, got, fix))


def quantised(function: str, path: str, leaf: Any, scales: str) -> ValueError:
  """Weights whose scales stand in another leaf: by themselves they don't say how large they are."""
  fix = (
    'Dequantise the weights first (weight times scale, in a floating dtype), or leave them out '
    "with where=, such as where='^(?!.*NAME)'."
  )
  got = f"{kind(leaf)} with scales '{scales}'"
  return ValueError(message(function, 'params', 'weights that are not quantised', got, fix, path))


def bad_regex(function: str, where: Any, error: Exception, argument: str = 'where') -> ValueError:
  fix = 'Escape special characters, or pass a predicate (path, leaf) -> bool.'
  if isinstance(where, str) and (part := as_regex(where)):
    fix = f"It is looked for anywhere in a path: write '{part}'."
  got = f'{_entry(argument)}{where!r} ({error})'
  return ValueError(message(function, _whole(argument), 'a regular expression', got, fix))


def bad_where(function: str, where: Any, argument: str = 'where') -> TypeError:
  constraint = 'a predicate, a regular expression, a non-empty list of these, or a tree of bools'
  return TypeError(
    message(
      function,
      _whole(argument),
      constraint,
      f'{_entry(argument)}{shown(where)}',
      'See jprune.typing.Where.',
    )
  )


def _whole(argument: str) -> str:
  """The argument that an entry, such as ``where[1]``, is of."""
  return argument.split('[')[0]


def _entry(argument: str) -> str:
  """How a message begins to show a filter: an entry of a list by its place."""
  return f'{argument}=' if '[' in argument else ''
