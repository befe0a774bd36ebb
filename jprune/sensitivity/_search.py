"""The highest sparsity that holds a floor."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from jprune import _checks
from jprune._batches import shown
from jprune.sensitivity import _plot, _text
from jprune.sensitivity._measure import measured

if TYPE_CHECKING:
  from matplotlib.axes import Axes

_NAME = 'search'


@dataclasses.dataclass(frozen=True)
class Trial:
  """One sparsity that was tried.

  Attributes:
    sparsity: fraction of zeros asked for.
    metric: mean over the repeats.
    error: standard error of the metric: as given, or from the repeats.
    holds: whether the metric is at least the floor.

  Examples:
    >>> jprune.sensitivity.search(lambda s: 1 - s, lambda s: s, min_metric=0.5).trials[0]
    Trial(sparsity=0.0, metric=1.0, error=0.0, holds=True)
  """

  sparsity: float
  metric: float
  error: float
  holds: bool


@dataclasses.dataclass(frozen=True, repr=False)
class Search:
  """What :func:`search` found.

  Attributes:
    sparsity: the highest one tried at which the floor was held; ``None`` if it wasn't held even
      at the lowest.
    metric: the metric there; at the lowest sparsity, if the floor wasn't held.
    min_metric: the floor.
    trials: all :class:`Trial`, in the order in which they were made.
    stopped: why no more were made, as a sentence.

  Examples:
    >>> print(jprune.sensitivity.search(lambda s: 1 - s, lambda s: s, min_metric=0.8))
    sparsity  metric  error  holds
    ------------------------------
    0              1      0    yes
    0.125      0.875      0    yes
    0.1875    0.8125      0    yes
    0.1953    0.8047      0    yes
    0.2031    0.7969      0     no
    0.2188    0.7812      0     no
    0.25        0.75      0     no
    0.5          0.5      0     no
    1              0      0     no
    <BLANKLINE>
    Sparsity 0.1953 holds the floor of 0.8 (metric 0.8047).
    The interval is below the tolerance.
  """

  sparsity: float | None
  metric: float
  min_metric: float
  trials: tuple[Trial, ...]
  stopped: str

  @property
  def holds(self) -> bool:
    """Whether the floor can be held at all."""
    return self.sparsity is not None

  @property
  def summary(self) -> str:
    """The result in a sentence."""
    floor = f'the floor of {self.min_metric:.4g}'
    if self.sparsity is None:
      return f'Not even sparsity {self.trials[0].sparsity:g} holds {floor} ({self.metric:.4g}).'
    return f'Sparsity {self.sparsity:.4g} holds {floor} (metric {self.metric:.4g}).'

  def to_dict(self) -> dict[str, Any]:
    """Everything as plain, JSON-serialisable Python values.

    Returns:
      A dict with the fields; the trials are dicts too.
    """
    return {**dataclasses.asdict(self), 'trials': [dataclasses.asdict(t) for t in self.trials]}

  def plot(self, ax: Axes | None = None) -> Axes:
    """Draws the metric over the sparsities that were tried, with errors, and the floor.

    Args:
      ax: matplotlib axes to draw into; by default a new figure.

    Returns:
      The axes; ``axes.figure.savefig(...)`` writes them. Nothing is shown.

    Raises:
      ImportError: if matplotlib isn't installed.
    """
    return _plot.draw_search(self, ax)

  def _cells(self) -> tuple[list[str], list[list[str]]]:
    trials = sorted(self.trials, key=lambda trial: trial.sparsity)
    rows = [
      [f'{t.sparsity:.4g}', f'{t.metric:.4g}', f'{t.error:.2g}', 'yes' if t.holds else 'no']
      for t in trials
    ]
    return ['sparsity', 'metric', 'error', 'holds'], rows

  def __str__(self) -> str:
    return '\n'.join([*_text.table(*self._cells()), '', self.summary, self.stopped])

  def __repr__(self) -> str:
    return f'Search({self.summary} {_text.plural(len(self.trials), "trial")})'

  def _repr_html_(self) -> str:
    lines = (_text.paragraph(line) for line in (self.summary, self.stopped))
    return '\n'.join([_text.html_table(*self._cells()), *lines])


def search(
  evaluate: Callable[[Any], float],
  prune_at: Callable[[float], Any],
  *,
  min_metric: float,
  tolerance: float = 0.01,
  noise: float | None = None,
  repeats: int = 1,
  low: float = 0.0,
  high: float = 1.0,
  progress: bool = True,
) -> Search:
  """The highest sparsity at which the metric holds a floor, by bisection.

  First ``low`` and ``high`` are tried; then the middle between a sparsity that holds the floor and
  one that doesn't, until they lie no more than ``tolerance`` apart, or until the metric in the
  middle differs from the floor by no more than its standard error: which side it belongs to can't
  be told then. What is returned has been measured to hold the floor. If the metric doesn't fall
  steadily, a higher sparsity may hold it too.

  Args:
    evaluate: ``evaluate(prune_at(sparsity)) -> float`` on validation data, higher = better.
    prune_at: from a sparsity to what ``evaluate`` takes: masked params, as a rule.
    min_metric: the floor.
    tolerance: width of the interval, in sparsity, at which to stop; positive.
    noise: standard error of one call of ``evaluate``, at least 0; of an accuracy p on n examples
      about ``sqrt(p * (1 - p) / n)``. The mean of r repeats has ``noise / sqrt(r)``. By default it
      is worked out from the repeats, and is 0 if there is but one.
    repeats: how often to evaluate at each sparsity, for metrics that vary from call to call.
    low: lowest sparsity, in [0, 1].
    high: highest sparsity, above ``low``.
    progress: whether to show a bar, in terminals and notebooks, if it takes long.

  Returns:
    A :class:`Search`; its ``sparsity`` is ``None`` if not even ``low`` holds the floor.

  Raises:
    ValueError: if ``evaluate`` returns no finite number, or a number is out of range.
    TypeError: if a number isn't one, or a function isn't one.

  Examples:
    >>> params = {'w': jnp.arange(1.0, 11.0)[None]}
    >>> prune_at = lambda s: jprune.apply(params, jprune.prune(params, s))
    >>> evaluate = lambda params: params['w'].sum() / 55
    >>> search(evaluate, prune_at, min_metric=0.8)
    Search(Sparsity 0.4453 holds the floor of 0.8 (metric 0.8182). 9 trials)
  """
  _checks.check_evaluate(_NAME, 'evaluate', evaluate)
  _checks.check_evaluate(_NAME, 'prune_at', prune_at)
  floor = _checks.finite_number(_NAME, 'min_metric', min_metric)
  width = _checks.positive_number(_NAME, 'tolerance', tolerance)
  known = None if noise is None else _checks.non_negative_number(_NAME, 'noise', noise)
  _checks.check_positive_int(_NAME, 'repeats', repeats)
  low = _checks.static_fraction(_NAME, 'low', low)
  high = _checks.static_fraction(_NAME, 'high', high)
  if high <= low:
    raise _checks.out_of_order(_NAME, low, high)

  def attempt(sparsity: float) -> Trial:
    params, when = prune_at(sparsity), f'at sparsity {sparsity:g}'
    found = [measured(_NAME, evaluate, params, when) for _ in range(repeats)]
    metric = statistics.fmean(found) if repeats > 1 else found[0]
    spread = known if known is not None else statistics.stdev(found) if repeats > 1 else 0.0
    return Trial(sparsity, metric, spread / math.sqrt(repeats), metric >= floor)

  trials: list[Trial] = []
  steps = _bisected(attempt, trials, floor, low, high, width)
  most = 2 + max(0, math.ceil(math.log2((high - low) / width)))
  reasons = [reason for reason in shown(_NAME, steps, progress, 'trial', most) if reason]
  held = [trial for trial in trials if trial.holds]
  best = max(held, key=lambda trial: trial.sparsity, default=None)
  sparsity = None if best is None else best.sparsity
  return Search(sparsity, (best or trials[0]).metric, floor, tuple(trials), reasons[-1])


def _bisected(
  attempt: Callable[[float], Trial],
  trials: list[Trial],
  floor: float,
  low: float,
  high: float,
  width: float,
) -> Iterator[str]:
  """Adds trials one by one; yields why it stops, or nothing yet, after each."""
  trials.append(attempt(low))
  if not trials[-1].holds:
    yield 'Nothing lower can be tried.'
    return
  yield ''
  trials.append(attempt(high))
  if trials[-1].holds:
    yield 'Nothing higher can be tried.'
    return
  yield 'The interval is below the tolerance.'
  while high - low > width:
    middle = (low + high) / 2
    if not low < middle < high:  # floats have an end
      return
    trial = attempt(middle)
    trials.append(trial)
    low, high = (middle, high) if trial.holds else (low, middle)
    if trial.error and abs(trial.metric - floor) <= trial.error:
      yield f'At {middle:.4g} the floor is within the noise of the metric.'
      return
    yield 'The interval is below the tolerance.'
