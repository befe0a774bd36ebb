"""The measured points that meet a budget with the least predicted loss."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from jprune import _checks
from jprune._text.words import percent
from jprune.graph import MacCount
from jprune.sensitivity import _errors
from jprune.sensitivity._allocation import Allocation, Share
from jprune.sensitivity._knapsack import MOST_STATES, solve
from jprune.sensitivity._sensitivity import Curve, Sensitivity

_NAME = 'allocate'


def allocate(
  sensitivity: Sensitivity,
  *,
  sparsity: float | None = None,
  params: float | None = None,
  macs: float | None = None,
  count: MacCount | None = None,
  most_states: int = MOST_STATES,
) -> Allocation:
  r"""One measured sparsity for each group, such that a budget is met with the least loss.

  The predicted loss is the sum over the groups of how far the metric fell when each was pruned
  alone. Among all choices of one measured point for each group (leaving it dense is one), the
  choice

  .. math:: \min \sum_g \left( m_0 - m_g(s_g) \right) \quad \text{such that} \quad
     \sum_g n_g(s_g) \ge N

  is found by dynamic programming, exactly; counts are integers. Groups don't add up in truth:
  what the prediction is worth, evaluate it.

  A hundred groups of twenty points usually take less than a second, counts in the millions or
  not. Where nearly all choices are equally good, as when drops are proportional to counts, there
  are too many of them: those with the best bounds are kept (which takes up to some 20 seconds),
  ``exact`` is false, and ``bound`` says how much smaller the loss could be at most.

  Args:
    sensitivity: what :func:`curves` measured. Metrics are taken as they are: a point that came out
      above the dense metric, maybe by noise, counts as a gain.
    sparsity: at least ``round(sparsity * size)`` weights go, of the measured leaves together; for
      channel groups, so many of all their channels.
    params: at most so many weights stay of all params, those not measured included: an int, or a
      float in (0, 1], a fraction of them.
    macs: at most so many multiply-adds stay when pruned weights are left out: an int, or a float in
      (0, 1], a fraction of the dense ones. A leaf of which a part is pruned saves that part of its
      multiply-adds, rounded down.
    count: the dense multiply-adds, for ``macs``: ``jprune.graph.macs(fn, params, *args)``.
    most_states: how many states of the search are kept, at least 1.

  Returns:
    An :class:`Allocation`: a dict from leaf path to sparsity that is a ``distribution`` of
    :func:`jprune.prune` too.

  Raises:
    ValueError: if a budget is out of range, or can't be met by any choice; if ``params`` or
      ``macs`` is given for channel groups.
    TypeError: if not exactly one budget is given, or ``count`` is missing or not wanted.

  Examples:
    >>> params = {'a': jnp.array([[3.0, 1.0]] * 2), 'b': jnp.array([[2.0, 0.5]] * 2)}
    >>> evaluate = lambda params: (params['a'] + params['b']).sum() / 2
    >>> found = jprune.sensitivity.curves(evaluate, params, [0.0, 0.5, 1.0])
    >>> print(allocate(found, params=2))
    group            weights  pruned  sparsity  drop
    ------------------------------------------------
    a                      4       2    50.00%     1
    b                      4       4   100.00%   2.5
    total, 2 groups        8       6    75.00%   3.5
    <BLANKLINE>
    For at most 2 weights: predicted drop 3.5 (the least possible), metric 3.
  """
  if not isinstance(sensitivity, Sensitivity):
    raise _errors.no_sensitivity(_NAME, sensitivity)
  given = {'sparsity': sparsity, 'params': params, 'macs': macs}
  named = [name for name, value in given.items() if value is not None]
  _checks.check_one_target(_NAME, named, list(given))
  _checks.check_positive_int(_NAME, 'most_states', most_states)
  budget, curves = named[0], sensitivity.curves
  if sensitivity.unit != 'weights' and budget != 'sparsity':
    raise _errors.channels_multiply(_NAME, budget)
  if count is not None and budget != 'macs':
    raise _errors.count_not_wanted(_NAME)
  need, saved, words, unit = _budget(sensitivity, budget, given[budget], count)
  places = _places(sensitivity)
  costs = [[0, *(saved(curve, j) for j in places)] for curve in curves]
  drops = [[0.0, *(row[j] for j in places)] for row in sensitivity.drops]
  most = sum(max(row) for row in costs)
  if need > most:
    raise _errors.budget_unreachable(_NAME, budget, given[budget], need, most, unit)
  if most >= 2**62:
    raise _errors.too_many_to_count(_NAME, budget)
  found = solve(costs, drops, need, most_states)
  chosen = [None if option == 0 else places[option - 1] for option in found.choice]
  rows = tuple(_row(sensitivity, i, point) for i, point in enumerate(chosen))
  return Allocation(
    {name: row.sparsity for curve, row in zip(curves, rows) for name in curve.sizes},
    rows,
    found.loss,
    found.bound,
    found.exact,
    sensitivity.baseline - found.loss,
    words,
    sensitivity.unit,
    sensitivity.pattern,
    sensitivity.scorer,
  )


def _places(sensitivity: Sensitivity) -> list[int]:
  """The measured points but sparsity 0, for which the dense metric stands."""
  return [j for j, s in enumerate(sensitivity.sparsities) if s]


def _row(sensitivity: Sensitivity, i: int, point: int | None) -> Share:
  curve = sensitivity.curves[i]
  if point is None:
    return Share(curve.name, curve.size, 0, 0.0, 0.0)
  drop = sensitivity.baseline - curve.metrics[point]
  return Share(curve.name, curve.size, curve.pruned_at(point), sensitivity.sparsities[point], drop)


def _budget(
  sensitivity: Sensitivity, budget: str, value: Any, count: Any
) -> tuple[int, Callable[[Curve, int], int], str, str]:
  """What has to go, what a point of a curve saves, the budget in words, and what is counted."""
  if budget == 'sparsity':
    fraction = _checks.static_fraction(_NAME, 'sparsity', value)
    size = sum(curve.size for curve in sensitivity.curves)
    words = f'sparsity {percent(fraction, 1)}'
    return round(fraction * size), Curve.pruned_at, words, sensitivity.unit
  if budget == 'params':
    left = _amount('params', value, sensitivity.size)
    words = f'at most {left:,} weight{"" if left == 1 else "s"}'
    return max(sensitivity.size - left, 0), Curve.pruned_at, words, 'weights'
  if not isinstance(count, MacCount):
    raise _errors.count_needed(_NAME, count)
  if missing := [p for curve in sensitivity.curves for p in curve.sizes if p not in count.leaves]:
    raise _errors.count_of_others(_NAME, missing)
  left = _amount('macs', value, count.dense)
  words = f'at most {left:,} multiply-adds'
  return max(count.dense - left, 0), _saver(count), words, 'multiply-adds'


def _saver(count: MacCount) -> Callable[[Curve, int], int]:
  def saved(curve: Curve, point: int) -> int:
    return sum(
      count.leaves[path].dense * counts[point] // max(curve.sizes[path], 1)
      for path, counts in curve.pruned.items()
    )

  return saved


def _amount(argument: str, value: Any, dense: int) -> int:
  """What may stay: the number itself, or a fraction of the dense model."""
  if isinstance(value, bool) or not isinstance(value, numbers.Real):
    raise _errors.bad_amount(_NAME, argument, value)
  if isinstance(value, numbers.Integral):
    if int(value) < 0:
      raise _errors.bad_amount(_NAME, argument, value)
    return int(value)
  if not 0.0 < float(value) <= 1.0:
    raise _errors.bad_amount(_NAME, argument, value)
  return math.floor(Fraction(str(float(value))) * dense)  # .29 of 100 is 29
