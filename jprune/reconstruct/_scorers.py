"""What a scorer takes, and its call."""

from __future__ import annotations

import inspect
from typing import Any

from jprune import _checks
from jprune.graph._stats import Stats
from jprune.reconstruct._unseen import alike
from jprune.typing import Params, Scorer


def takes_stats(function: str, scorer: Any) -> bool:
  """Whether a scorer takes statistics.

  Raises:
    TypeError: if it is no function, or needs more than params and statistics.
  """
  if not callable(scorer):
    raise _checks.not_a_scorer(function, scorer)
  named, anything = _arguments(scorer)
  missing = [p.name for p in named[1:] if p.default is p.empty and p.name != 'stats']
  if missing:
    raise _checks.scorer_needs(function, scorer, missing)
  return anything or any(p.name == 'stats' for p in named)


def scored(scorer: Scorer, params: Params, stats: Stats | None) -> Any:
  """The scores; inputs of products without a row count as of one size, as they do in repair."""
  if stats is None or not takes_stats('reconstruct.prune', scorer):
    return scorer(params)
  return scorer(params, stats=alike(stats))


def _arguments(scorer: Any) -> tuple[list[inspect.Parameter], bool]:
  """Those with a name, and whether it takes any others by name."""
  try:
    found = list(inspect.signature(scorer).parameters.values())
  except ValueError:  # a builtin without a signature
    return [], False
  several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
  anything = any(p.kind == p.VAR_KEYWORD for p in found)
  return [p for p in found if p.kind not in several], anything
