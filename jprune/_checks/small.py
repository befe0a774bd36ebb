"""Small models, and what mirrors their params."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jprune._checks.words import kind, listed, message, quoted


def not_shrunk(function: str, small: Any) -> TypeError:
  fix = 'For params and masks there is jprune.save.'
  return TypeError(message(function, 'small', 'what jprune.shrink returns', kind(small), fix))


def no_plan_in_file(function: str, path: str) -> ValueError:
  fix = 'jprune.load reads it.'
  got = f'{quoted(path)}, a file of params alone'
  return ValueError(message(function, 'path', 'a file that jprune.save_shrunk wrote', got, fix))


def bad_filter(function: str, where: Any, argument: str, error: Any = None) -> Exception:
  if error is not None:
    fix = 'Escape special characters, or pass a predicate (path, leaf) -> bool.'
    got = f'{where!r} ({error})'
    return ValueError(message(function, argument, 'a regular expression', got, fix))
  constraint = 'a regular expression, or a predicate (path, leaf) -> bool'
  return TypeError(message(function, argument, constraint, repr(where)))


def no_effect(function: str, path: str, axis: int, why: str) -> ValueError:
  constraint = 'masks of which some units can be left out'
  got = f"masks of whole slices, none of which can: axis {axis} of leaf '{path}' is frozen ({why})"
  fix = (
    'print(jprune.graph.channels(fn, params, *args)) shows which axes can; results may come out '
    'small with small_outputs=; strict=False keeps all.'
  )
  return ValueError(message(function, 'masks', constraint, got, fix))


def nothing_named(function: str, where: Any, paths: Sequence[str], argument: str) -> ValueError:
  constraint = 'a filter that selects a leaf'
  got = f'{where!r}, which selects none of {listed(paths)}'
  return ValueError(message(function, argument, constraint, got))


def flattened(function: str, path: str, size: int) -> ValueError:
  constraint = 'a tree that mirrors the params'
  got = f'a vector of {size} entries, as many as the params have together'
  fix = 'Initialise it anew from the small params; optax.flatten keeps no shapes.'
  return ValueError(message(function, 'other', constraint, got, fix, path))


def several_networks(function: str, one: str, two: str, param: str) -> ValueError:
  constraint = 'a tree of one network, its copies and its states'
  got = f"leaves '{one}' and '{two}', which both fit the param '{param}'"
  fix = "Slice what mirrors the params by itself, or name it, as where='^gen/' does."
  return ValueError(message(function, 'other', constraint, got, fix))
