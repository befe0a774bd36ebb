"""The highest sparsity that holds a floor."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from jprune import _checks
from jprune._batches import shown
from jprune._text import html
from jprune._text.table import table, wrapped
from jprune._text.words import number, percent, plural, uncertainty
from jprune.sensitivity import _errors, _plot
from jprune.sensitivity._measure import measured

if TYPE_CHECKING:
  from matplotlib.axes import Axes

_NAME = 'search'


@dataclasses.dataclass(frozen=True)
class Trial:
  """One sparsity that was tried.

  Attributes:
    sparsity: fraction of zeros asked for.
    metric: mean over the repeats; the first one that is NaN or infinite, if one is.
    error: standard error of the metric: as given, or from the repeats.
    holds: whether the metric is finite and at least the floor.

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
       0.00%       1      0  yes
      12.50%   0.875      0  yes
      18.75%  0.8125      0  yes
      19.53%  0.8047      0  yes
      20.31%  0.7969      0  no
      21.88%  0.7812      0  no
      25.00%    0.75      0  no
      50.00%     0.5      0  no
     100.00%       0      0  no
    <BLANKLINE>
    Sparsity 19.53% holds the floor of 0.8 (metric 0.8047).
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
    floor, first = f'the floor of {number(self.min_metric)}', self.trials[0]
    if self.sparsity is not None:
      sparsity = percent(self.sparsity, 1)
      return f'Sparsity {sparsity} holds {floor} (metric {number(self.metric)}).'
    sparsity = percent(first.sparsity, 1)
    if _within_noise(first, self.min_metric):
      metric = f'metric {number(self.metric)}, standard error {uncertainty(first.error)}'
      return f"Whether sparsity {sparsity} holds {floor} can't be told ({metric})."
    return f'Not even sparsity {sparsity} holds {floor} (metric {number(self.metric)}).'

  def to_dict(self) -> dict[str, Any]:
    """Everything as plain, JSON-serialisable Python values.

    Returns:
      A dict with the fields; the trials are dicts too, a metric that isn't finite is ``None``.
    """
    trials = [dataclasses.asdict(trial) for trial in self.trials]
    for trial in trials:
      trial['metric'] = trial['metric'] if math.isfinite(trial['metric']) else None
    return {**dataclasses.asdict(self), 'trials': trials}

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
      [percent(t.sparsity, 1), number(t.metric), uncertainty(t.error), 'yes' if t.holds else 'no']
      for t in trials
    ]
    return ['sparsity', 'metric', 'error', 'holds'], rows

  def __str__(self) -> str:
    sentences = [*wrapped(self.summary), *wrapped(self.stopped)]
    return '\n'.join([*table(*self._cells(), words=(3,)), '', *sentences])

  def __repr__(self) -> str:
    return f'Search({self.summary} {plural(len(self.trials), "trial")})'

  def _repr_html_(self) -> str:
    lines = (html.paragraph(line) for line in (self.summary, self.stopped))
    return '\n'.join([html.table(*self._cells(), words=(3,)), *lines])


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
  steadily, a higher sparsity may hold it too. A metric that is NaN or infinite, as a model with
  next to no weights may have, doesn't hold the floor; at ``low`` it is an error.

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
    A :class:`Search`; its ``sparsity`` is ``None`` if ``low`` wasn't measured to hold the floor;
    its ``summary`` says so if that may be the noise.

  Raises:
    ValueError: if ``evaluate`` returns no finite number at ``low``, or a number is out of range.
    TypeError: if ``evaluate`` returns something else than a number, a number isn't one, or a
      function isn't one.

  Examples:
    >>> params = {'w': jnp.arange(1.0, 11.0).reshape(2, 5)}
    >>> prune_at = lambda s: jprune.apply(params, jprune.prune(params, s))
    >>> evaluate = lambda params: params['w'].sum() / 55
    >>> search(evaluate, prune_at, min_metric=0.8)
    Search(Sparsity 44.53% holds the floor of 0.8 (metric 0.8182). 9 trials)
  """
  _errors.check_called(_NAME, 'evaluate', evaluate, 'evaluate(prune_at(sparsity)) -> float')
  _errors.check_called(_NAME, 'prune_at', prune_at, 'prune_at(sparsity) -> what evaluate takes')
  asked = asked_for(_NAME, min_metric, tolerance, noise, repeats, low, high)
  return bisect(_NAME, evaluate, prune_at, asked, progress)


class Asked(NamedTuple):
  """The numbers that say what is searched for, as plain Python."""

  floor: float
  tolerance: float
  noise: float | None
  repeats: int
  low: float
  high: float


def asked_for(
  function: str, min_metric: Any, tolerance: Any, noise: Any, repeats: Any, low: Any, high: Any
) -> Asked:
  """The numbers, checked."""
  floor = _errors.finite_number(function, 'min_metric', min_metric)
  width = _checks.positive_number(function, 'tolerance', tolerance)
  error = None if noise is None else _checks.non_negative_number(function, 'noise', noise)
  _checks.check_positive_int(function, 'repeats', repeats)
  low = _checks.static_fraction(function, 'low', low)
  high = _checks.static_fraction(function, 'high', high)
  if high <= low:
    raise _errors.out_of_order(function, low, high)
  return Asked(floor, width, error, int(repeats), low, high)


def bisect(
  function: str,
  evaluate: Callable[[Any], float],
  prune_at: Callable[[float], Any],
  asked: Asked,
  progress: bool,
  measured_at_low: Sequence[float] = (),
) -> Search:
  """The search itself; what was measured at ``low`` already isn't measured again."""

  def attempt(sparsity: float) -> Trial:
    found = list(measured_at_low) if sparsity == asked.low else []
    params = prune_at(sparsity) if len(found) < asked.repeats else None
    when, must = f'at sparsity {sparsity:g}', sparsity == asked.low
    while len(found) < asked.repeats:
      found.append(measured(function, evaluate, params, when, finite=must))
      if not math.isfinite(found[-1]):
        return Trial(sparsity, found[-1], 0.0, False)
    metric = statistics.fmean(found) if len(found) > 1 else found[0]
    spread = statistics.stdev(found) if len(found) > 1 else 0.0
    error = (spread if asked.noise is None else asked.noise) / math.sqrt(len(found))
    return Trial(sparsity, metric, error, metric >= asked.floor)

  trials: list[Trial] = []
  steps = _bisected(attempt, trials, asked)
  most = 2 + max(0, math.ceil(math.log2((asked.high - asked.low) / asked.tolerance)))
  reasons = [reason for reason in shown(function, steps, progress, 'trial', most) if reason]
  held = [trial for trial in trials if trial.holds]
  best = max(held, key=lambda trial: trial.sparsity, default=None)
  sparsity = None if best is None else best.sparsity
  return Search(sparsity, (best or trials[0]).metric, asked.floor, tuple(trials), reasons[-1])


def _bisected(
  attempt: Callable[[float], Trial], trials: list[Trial], asked: Asked
) -> Iterator[str]:
  """Adds trials one by one; yields why it stops, or nothing yet, after each."""
  noisy = 'At {} the floor is within the noise of the metric.'
  low, high = asked.low, asked.high
  trials.append(attempt(low))
  if not trials[-1].holds:
    within = _within_noise(trials[-1], asked.floor)
    yield noisy.format(percent(low, 1)) if within else 'Nothing lower can be tried.'
    return
  yield ''
  trials.append(attempt(high))
  if trials[-1].holds:
    yield 'Nothing higher can be tried.'
    return
  yield 'The interval is below the tolerance.'
  while high - low > asked.tolerance:
    middle = (low + high) / 2
    if not low < middle < high:  # floats have an end
      return
    trials.append(attempt(middle))
    low, high = (middle, high) if trials[-1].holds else (low, middle)
    if _within_noise(trials[-1], asked.floor):
      yield noisy.format(percent(middle, 1))
      return
    yield 'The interval is below the tolerance.'


def _within_noise(trial: Trial, floor: float) -> bool:
  return trial.error > 0 and abs(trial.metric - floor) <= trial.error
