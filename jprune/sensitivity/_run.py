"""The five steps in one call: set up, choose thresholds, prune, test, analyse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jprune import _checks, distributions, schedules, scores
from jprune.masks import NOfM, Unstructured
from jprune.report import tally
from jprune.sensitivity._measure import measured
from jprune.sensitivity._result import Result
from jprune.sensitivity._rounds import Setup, in_rounds
from jprune.sensitivity._search import Search, search
from jprune.sensitivity._thresholds import cuts
from jprune.typing import Distribution, Masks, Params, Pattern, Schedule, Scorer, Scores, Where

_NAME = 'run'
_NEED_SPARSITY = (
  distributions.uniform,
  distributions.er,
  distributions.erk,
  distributions.owl,
  distributions.global_,
)


def run(
  params: Params,
  evaluate: Callable[[Params], float],
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
    params: tree of arrays.
    evaluate: ``evaluate(params) -> float`` on validation data, higher = better. It is called with
      params of the same shapes and dtypes every time, so what it compiles, it compiles once.
    sparsity: fraction of zeros over the selected leaves, in [0, 1].
    min_metric: instead: the floor that ``evaluate`` must hold. Without rounds and fine-tuning the
      result holds it (of an ``evaluate`` without noise); with them, ``result.holds`` says.
    scorer: ``scorer(params) -> scores``, higher = keep; or the scores themselves. Bind further
      arguments (``key``, ``stats``) with ``functools.partial``.
    distribution: what each leaf contributes, as for :func:`jprune.prune`; an :class:`Allocation`
      too.
    pattern: which weights live and die together. :class:`~jprune.masks.NOfM` has its own sparsity,
      as some distributions have: give neither ``sparsity`` nor ``min_metric`` then.
    where: selects leaves, as for :func:`jprune.prune`.
    test: ``test(params) -> float``, as ``evaluate`` but on data that nothing is chosen by.
    finetune: ``finetune(params, masks, round) -> params`` with rounds counted from 0. It should
      keep pruned weights at 0, with :func:`jprune.keep_pruned`; masks are applied to what it
      returns, and weights that were not 0 are counted in the result.
    rounds: how many, at least 1.
    schedule: the sparsities of the rounds, ``schedule(0.0, sparsity, 0, rounds)``, such as
      :func:`jprune.schedules.exponential` (the same fraction of what is left in each round) or
      :func:`jprune.schedules.cubic`.
    tolerance: of the search, in sparsity.
    noise: standard error of ``evaluate``, for the search.
    fn: ``fn(params, *args)``, whose multiply-adds are counted, as by :func:`jprune.tally`.
    args: its further arguments.
    progress: whether to show bars, in terminals and notebooks, if it takes long.

  Returns:
    A :class:`Result`: ``print`` it, ``.plot()`` it, ``.save('report.html')``; it holds masks and
    params.

  Raises:
    ValueError: if a number is out of range, nothing is selected, the floor isn't held even by the
      dense params, or ``evaluate`` returns no finite number.
    TypeError: if not exactly one of ``sparsity`` and ``min_metric`` is given where one is needed,
      or an argument is of another kind.

  Examples:
    >>> params = {'w': jnp.arange(1.0, 11.0)[None], 'b': jnp.zeros(1)}
    >>> evaluate = lambda params: params['w'].sum() / 55
    >>> result = run(params, evaluate, min_metric=0.8)
    >>> result.sparsity, result.thresholds, round(result.after, 4)
    (0.4, {'w': 5.0}, 0.8182)
  """
  for name, function in (('evaluate', evaluate), ('test', test), ('finetune', finetune)):
    if function is not None or name == 'evaluate':
      _checks.check_evaluate(_NAME, name, function)
  _check_budget(sparsity, min_metric, distribution, pattern, rounds)
  setup = Setup(_NAME, params, where, scorer, distribution, pattern, evaluate)
  dense = measured(_NAME, evaluate, setup.dense, 'of the dense params')
  tested = lambda params: None if test is None else measured(_NAME, test, params, 'of test', 'test')
  test_before = tested(setup.dense)
  found = None
  if min_metric is not None:
    found = _searched(setup, min_metric, dense, tolerance, noise, progress)
    sparsity = found.sparsity
  plan = _plan(sparsity, rounds, schedule)
  pruned = in_rounds(setup, dense, plan, finetune, progress)
  return Result(
    pruned.params,
    pruned.masks,
    pruned.steps,
    cuts(params, pruned.scores, pruned.masks, pattern, pruned.before),
    tally(pruned.params, pruned.masks, fn=fn, args=args),
    test_before,
    tested(pruned.params),
    min_metric,
    found,
  )


def _check_budget(
  sparsity: Any, min_metric: Any, distribution: Any, pattern: Any, rounds: Any
) -> None:
  if not callable(distribution):
    raise _checks.bad_distribution(_NAME, distribution)
  if isinstance(pattern, NOfM) and distribution is not distributions.uniform:
    raise _checks.pattern_shares_alike(_NAME, pattern)
  given = {'sparsity': sparsity, 'min_metric': min_metric}
  named = [name for name, value in given.items() if value is not None]
  _checks.check_positive_int(_NAME, 'rounds', rounds)
  needed = getattr(distribution, 'func', distribution) in _NEED_SPARSITY
  if isinstance(pattern, NOfM):
    needed = False
    if named:
      raise _checks.own_sparsity(_NAME, named[0], repr(pattern))
  if len(named) > 1 or (needed and not named):
    raise _checks.one_budget(_NAME, named)
  if not named and rounds > 1:
    raise _checks.own_sparsity(_NAME, 'rounds', 'what is pruned')
  if sparsity is not None:
    _checks.static_fraction(_NAME, 'sparsity', sparsity)
  if min_metric is not None:
    _checks.finite_number(_NAME, 'min_metric', min_metric)


def _searched(
  setup: Setup, floor: float, dense: float, tolerance: Any, noise: Any, progress: bool
) -> Search:
  """Step 2: the sparsity."""
  prune_at = lambda sparsity: setup.pruned(setup.dense, setup.masks(setup.scores, sparsity))
  found = search(
    setup.evaluate,
    prune_at,
    min_metric=floor,
    tolerance=tolerance,
    noise=noise,
    progress=progress,
  )
  if not found.holds:
    raise _checks.floor_unreachable(_NAME, floor, dense)
  return found


def _plan(sparsity: float | None, rounds: int, schedule: Callable[..., Schedule]) -> list[Any]:
  """The sparsity of each round; the last one's is exact."""
  if rounds == 1:
    return [sparsity]
  at = schedule(0.0, sparsity, 0, rounds)
  return [at(count) for count in range(1, rounds)] + [sparsity]
