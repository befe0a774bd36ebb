"""What a scorer takes, and its call."""

from __future__ import annotations

import inspect
from typing import Any

from jprune import _checks
from jprune.graph._statistics.stats import Stats
from jprune.reconstruct import _errors
from jprune.reconstruct._empty_statistics import alike
from jprune.typing import Params, Scorer


def takes_stats(function: str, scorer: Any) -> bool:
  """Whether a scorer takes statistics.

  Raises:
    TypeError: if it is no function, or needs more than params and statistics.
  """
  wrong = _checks.is_distribution(scorer) or _errors.is_solver(scorer)
  if not callable(scorer) or wrong:
    raise _errors.not_a_scorer(function, scorer)
  if missing := _checks.missing_arguments(scorer, ('stats',)):
    raise _errors.scorer_needs(function, scorer, missing)
  try:
    found = inspect.signature(scorer).parameters.values()
  except ValueError:  # a builtin without a signature
    return False
  return any(p.kind == p.VAR_KEYWORD or p.name == 'stats' for p in found)


def scored(scorer: Scorer, params: Params, stats: Stats | None) -> Any:
  """The scores; inputs of products without a row count as of one size, as they do in repair."""
  if stats is None or not takes_stats('reconstruct.prune', scorer):
    return scorer(params)
  return scorer(params, stats=alike(stats))
