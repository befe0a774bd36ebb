"""The five steps in one call: set up, choose thresholds, prune, test, analyse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jprune import _checks, distributions, schedules, scores
from jprune._entry import public
from jprune._signature import readable
from jprune.distributions._needs import needs_of
from jprune.graph._macs.count import count_macs
from jprune.masks import NOfM, Unstructured
from jprune.report import tally
from jprune.sensitivity import _errors
from jprune.sensitivity._floor import searched, within_reach
from jprune.sensitivity._measure import EVALUATE, check_params, measured
from jprune.sensitivity._result import Result
from jprune.sensitivity._rounds import Setup, in_rounds
from jprune.sensitivity._search import asked_for
from jprune.sensitivity._thresholds import cuts
from jprune.typing import Distribution, Masks, Params, Pattern, Schedule, Scorer, Scores, Where

_NAME = 'run'
_SCHEDULE = 'schedule(0.0, sparsity, 0, rounds) -> schedule'
_FINETUNE = 'finetune(params, masks, round) -> params'


@readable
@public
def run(
  evaluate: Callable[[Params], float],
  params: Params,
  *,
  sparsity: float | None = None,
  min_metric: float | None = None,
  scorer: Scorer | Scores = scores.magnitude,
  distribution: Distribution = distributions.uniform,
  pattern: Pattern | NOfM = Unstructured(),
  where: Where = None,
  test: Callable[[Params], float] | None = None,
  finetune: Callable[[Params, Masks, int], Params] | None = None,
  rounds: int = 1,
  schedule: Callable[[float, float, int, int], Schedule] = schedules.exponential,
  tolerance: float = 0.01,
  noise: float | None = None,
  repeats: int = 1,
  low: float = 0.0,
  high: float = 1.0,
  fn: Callable[..., Any] | None = None,
  args: tuple[Any, ...] = (),
  progress: bool = True,
) -> Result:
  """Prunes by what validation data say, and reports what it cost and saved.

  1. Set up: the metric of the dense params, on validation and on test data.
  2. Thresholds: with ``min_metric``, the highest sparsity that holds the floor, by :func:`search`
     with one round and no fine-tuning.
  3. Prune, in one round or several; after each, fine-tune if there is a function for it. Each round
     scores anew; what is pruned stays pruned. Each is evaluated on validation data.
  4. Test: once more on test data, which nothing was chosen by.
  5. Analyse: weights, bytes, and (with ``fn``) multiply-adds.

  Args:
    evaluate: ``evaluate(params) -> float`` on validation data, higher = better. It is called with
      params of the same shapes and dtypes every time, so what it compiles, it compiles once.
    params: tree of arrays.
    sparsity: fraction of zeros over the selected leaves, in [0, 1].
    min_metric: instead: the floor that ``evaluate`` must hold. Without rounds and fine-tuning the
      result holds it (of an ``evaluate`` without noise); with them, ``result.holds`` says. A
      sparsity at which the metric is NaN or infinite doesn't hold it.
    scorer: ``scorer(params) -> scores``, higher = keep; or the scores themselves. Bind further
      arguments (``key``, ``stats``) with ``functools.partial``.
    distribution: what each leaf contributes, as for :func:`jprune.prune`; an :class:`Allocation`
      too, with the pattern with which it was measured.
    pattern: which weights live and die together. :class:`~jprune.masks.NOfM` has its own sparsity,
      as some distributions have: give neither ``sparsity`` nor ``min_metric`` then.
    where: selects leaves, as for :func:`jprune.prune`.
    test: ``test(params) -> float``, as ``evaluate`` but on data that nothing is chosen by.
    finetune: ``finetune(params, masks, round) -> params`` with rounds counted from 0. It should
      keep pruned weights at 0, with :func:`jprune.keep_pruned`; masks are applied to what it
      returns, and weights that were not 0 are counted in the result. It may donate what it is
      given: these are copies.
    rounds: how many, at least 1.
    schedule: the sparsities of the rounds, ``schedule(0.0, sparsity, 0, rounds)``, such as
      :func:`jprune.schedules.exponential` (the same fraction of what is left in each round) or
      :func:`jprune.schedules.cubic`, which also stands in where all weights go, for no exponential
      ends there.
    tolerance: of the search, in sparsity.
    noise: standard error of ``evaluate``, for the search.
    repeats: how often the search evaluates at each sparsity.
    low: lowest sparsity of the search.
    high: highest sparsity of the search; that of an :class:`Allocation` ends where all of the
      leaves that it covers are pruned.
    fn: ``fn(params, *args)``, whose multiply-adds are counted, as by :func:`jprune.tally`.
    args: its further arguments.
    progress: whether to show bars, in terminals and notebooks, if it takes long.

  Returns:
    A :class:`Result`: ``print`` it, ``.plot()`` it, ``.save('report.html')``; it holds masks and
    params.

  Raises:
    ValueError: if a number is out of range, nothing is selected, the floor isn't held even by the
      dense params (or at ``low``), ``evaluate`` returns no finite number, or an allocation was
      measured with another pattern.
    TypeError: if not exactly one of ``sparsity`` and ``min_metric`` is given where one is needed,
      an argument is of another kind, params are traced, or ``fn`` can't be traced with ``args``.
      All arguments are checked before the first evaluation.

  Examples:
    >>> params = {'w': jnp.arange(1.0, 11.0).reshape(2, 5), 'b': jnp.zeros(1)}
    >>> evaluate = lambda params: params['w'].sum() / 55
    >>> result = run(evaluate, params, min_metric=0.8)
    >>> result.sparsity, result.thresholds, round(result.after, 4)
    (0.4, {'w': 5.0}, 0.8182)
  """
  _check_functions(evaluate, test, finetune, schedule)
  check_params(_NAME, params)
  sparsity = _budget(sparsity, min_metric, distribution, pattern, rounds)
  setup = Setup(_NAME, params, where, scorer, distribution, pattern, evaluate)
  plan, asked = _plan(sparsity, rounds, schedule), None
  if min_metric is not None:
    asked = asked_for(_NAME, min_metric, tolerance, noise, repeats, low, high)
    asked = within_reach(setup, asked)
    _plan(asked.high, rounds, schedule)
  setup.masks(setup.scores, sparsity if asked is None else asked.high)  # so that is known to work
  _check_fn(fn, params, args)
  dense = measured(_NAME, evaluate, setup.dense, 'of the dense params')
  tested = lambda params: None if test is None else measured(_NAME, test, params, 'of test', 'test')
  test_before = tested(setup.dense)
  found = None
  if asked is not None:
    found = searched(setup, asked, dense, progress)
    plan = _plan(found.sparsity, rounds, schedule)
  pruned = in_rounds(setup, dense, plan, finetune, progress)
  return Result(
    pruned.params,
    pruned.masks,
    pruned.steps,
    cuts(params, pruned.scores, pruned.masks, pattern, pruned.before),
    tally(pruned.params, pruned.masks, fn=fn, args=args),
    test_before,
    tested(pruned.params),
    None if asked is None else asked.floor,
    found,
  )


def _check_functions(evaluate: Any, test: Any, finetune: Any, schedule: Any) -> None:
  _errors.check_called(_NAME, 'evaluate', evaluate, EVALUATE)
  _errors.check_called(_NAME, 'schedule', schedule, _SCHEDULE)
  fix = f'Pass what makes one, schedule=jprune.schedules.cubic: {_SCHEDULE}.'
  _errors.check_takes(_NAME, 'schedule', schedule, 4, fix)
  if test is not None:
    _errors.check_called(_NAME, 'test', test, 'test(params) -> float, higher = better')
  if finetune is not None:
    _errors.check_called(_NAME, 'finetune', finetune, _FINETUNE)
    _errors.check_takes(_NAME, 'finetune', finetune, 3, f'Pass a function {_FINETUNE}.')


def _check_fn(fn: Any, params: Params, args: Any) -> None:
  """Whether the tally will be able to count; there may be hours of training before it."""
  if not isinstance(args, (tuple, list)) or (args and fn is None):
    raise _checks.bad_args(_NAME, args)
  if fn is not None:
    count_macs(_NAME, fn, params, args, None)


def _budget(
  sparsity: Any, min_metric: Any, distribution: Any, pattern: Any, rounds: Any
) -> float | None:
  """The sparsity, checked: that it is given where it must be, and nowhere else."""
  _checks.check_distribution(_NAME, distribution)
  _checks.check_pattern(_NAME, pattern)
  needs = needs_of(distribution)
  if isinstance(pattern, NOfM) and not needs.shares_alike:
    raise _checks.pattern_shares_alike(_NAME, pattern)
  _checks.check_measured_pattern(_NAME, distribution, pattern)
  given = {'sparsity': sparsity, 'min_metric': min_metric}
  named = [name for name, value in given.items() if value is not None]
  _checks.check_positive_int(_NAME, 'rounds', rounds)
  own = isinstance(pattern, NOfM) or needs.needs_sparsity is False
  if own and named:
    which = repr(pattern) if isinstance(pattern, NOfM) else 'this distribution'
    raise _errors.own_sparsity(_NAME, named[0], which)
  needed = not own and needs.needs_sparsity
  if len(named) > 1 or (needed and not named):
    raise _errors.one_budget(_NAME, named)
  if not named and rounds > 1:
    raise _errors.own_sparsity(_NAME, 'rounds', 'what is pruned')
  return None if sparsity is None else _checks.static_fraction(_NAME, 'sparsity', sparsity)


def _plan(
  sparsity: float | None, rounds: int, schedule: Callable[..., Schedule]
) -> list[float | None]:
  """The sparsity of each round; the last one's is exact."""
  if sparsity is None or rounds == 1:
    return [sparsity]
  if sparsity == 1.0 and schedule is schedules.exponential:
    schedule = schedules.cubic
  at = schedule(0.0, sparsity, 0, rounds)
  _errors.check_called(_NAME, 'schedule(0.0, sparsity, 0, rounds)', at, 'round -> sparsity')
  before = [_checks.static_fraction(_NAME, 'schedule', at(count)) for count in range(1, rounds)]
  return [*before, sparsity]
