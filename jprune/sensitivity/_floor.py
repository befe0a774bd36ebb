"""The second of the five steps: the highest sparsity at which pruned params hold a floor."""

from __future__ import annotations

from jprune.sensitivity import _errors
from jprune.sensitivity._allocation import Allocation
from jprune.sensitivity._rounds import Setup
from jprune.sensitivity._search import Asked, Search, bisect


def within_reach(setup: Setup, asked: Asked) -> Asked:
  """Not above the sparsity at which all leaves of an allocation are pruned, others being dense."""
  if not isinstance(setup.distribution, Allocation):
    return asked
  covered = sum(size for path, size in setup.sizes.items() if path in setup.distribution)
  if not covered:  # the allocation itself says best what is wrong
    return asked
  most = covered / setup.size
  if most <= asked.low:
    raise _errors.allocation_below(setup.function, asked.low, most)
  return asked._replace(high=min(asked.high, most))


def searched(setup: Setup, asked: Asked, dense: float, progress: bool) -> Search:
  """The search, by one round without fine-tuning; where nothing goes, ``dense`` is the metric."""
  prune_at = lambda sparsity: setup.pruned(setup.dense, setup.masks(setup.scores, sparsity))
  known = [dense] if asked.low == 0.0 and setup.nothing_goes(0.0) else []
  found = bisect(setup.function, setup.evaluate, prune_at, asked, progress, known)
  if not found.holds:
    first = found.trials[0]
    at = first.sparsity, first.metric, first.error
    raise _errors.floor_unreachable(setup.function, asked.floor, *at)
  return found
