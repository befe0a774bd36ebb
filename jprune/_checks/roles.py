"""Roles of leaves."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from jprune._checks.words import listed, message


def words_no_role(path: str, paths: Sequence[str]) -> str:
  """What a lookup of a leaf that there isn't says."""
  near = difflib.get_close_matches(str(path), paths, 2)
  hint = f'did you mean {listed(near)}?' if near else f'there are {listed(paths)}'
  return f"no role of leaf '{path}': {hint}"


def no_roles(function: str, value: Any) -> TypeError:
  fix = 'Pass jprune.graph.roles(fn, params, *args).'
  return TypeError(message(function, 'roles', 'roles of leaves', type(value).__name__, fix))


def other_roles(
  function: str, path: str, shapes: tuple[Any, Any] | None, paths: Sequence[str]
) -> ValueError:
  """Roles of other leaves than those at hand; ``shapes`` are those of the leaf and of the role."""
  near = difflib.get_close_matches(path, paths, 2)
  if shapes is None:
    got = f'none{f", but of {listed(near)}" if near else ""}'
  else:
    got = f'shape {shapes[1]} for a leaf of shape {shapes[0]}'
  fix = 'Make them from these params, with jprune.graph.roles(fn, params, *args).'
  return ValueError(message(function, 'roles', 'those of every leaf', got, fix, path))
