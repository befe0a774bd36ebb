"""Filters of leaves by their paths, where every leaf that they select is meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from jprune import _checks
from jprune.graph import _errors

Filter = str | re.Pattern[str] | Callable[[str, Any], bool] | None


def chosen(
  function: str, argument: str, where: Filter, paths: Sequence[str], leaves: Sequence[Any]
) -> list[bool]:
  """For each leaf whether a regular expression on its path, or a predicate, selects it.

  Raises:
    ValueError: if a regular expression is malformed, or nothing is selected.
    TypeError: if the filter is of no known kind.
  """
  if isinstance(where, (str, re.Pattern)):
    try:
      search = re.compile(where).search
    except re.error as error:
      raise _errors.bad_filter(function, where, argument, error) from None
    out = [bool(search(path)) for path in paths]
  elif callable(where):
    out = [_checks.as_bool(function, where(*each), each[0]) for each in zip(paths, leaves)]
  else:
    raise _errors.bad_filter(function, where, argument)
  if paths and not any(out):
    raise _errors.nothing_named(function, where, paths, argument)
  return out
