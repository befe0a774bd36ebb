r"""Sparsity over the course of training: ``count -> sparsity``.

- ``constant``, ``one_shot``, ``linear``, ``cubic``, ``cosine``, ``sigmoid``, ``exponential``
- of other schedules: ``joined``, ``delayed``, ``every``

:func:`linear`, :func:`cubic` and :func:`cosine` are one curve :math:`c` each, which falls from 1
to 0 on [0, 1], stretched from ``initial`` to ``final``, and from ``begin`` to ``end``:

.. math:: s(t) = s_1 + (s_0 - s_1)\, c\left(\frac{t - t_0}{t_1 - t_0}\right)

A schedule is exactly ``initial`` up to ``begin``, and exactly ``final`` from ``end`` on. An int
``count`` gives a Python float in double precision, so that ``prune(params, schedule(step))``
prunes as many weights as ``prune(params, final)`` does at the end; an array gives float32 of its
shape, inside ``jit`` too.

A schedule has attributes ``begin`` and ``end``, the last step with its first value and the first
step with its last value: :mod:`jprune.transforms` changes masks in between, and never misses the
last step. Any other ``count -> sparsity`` will do as well, but is then followed for good.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jprune import _checks, tree
from jprune._entry import explicit, public
from jprune.typing import Schedule

__all__ = [
  'constant',
  'cosine',
  'cubic',
  'delayed',
  'every',
  'exponential',
  'joined',
  'linear',
  'one_shot',
  'sigmoid',
]


def __dir__() -> list[str]:
  return [*__all__, *(name for name in globals() if name.startswith('__'))]


@public
def constant(sparsity: float) -> Schedule:
  """One sparsity at every step.

  Args:
    sparsity: fraction of zeros in [0, 1].

  Returns:
    ``count -> sparsity``.

  Raises:
    ValueError: if ``sparsity`` is outside [0, 1].
    TypeError: if it is not a number.

  Examples:
    >>> constant(0.5)(100)
    0.5
  """
  _checks.check_fraction('constant', 'sparsity', sparsity)
  level = lambda xp, t, value: xp.full(xp.shape(t), value)
  return _schedule(f'constant({sparsity})', level, (sparsity,), 0, 0)


@public
def one_shot(final: float, at: int, *, initial: float = 0.0) -> Schedule:
  """A jump from ``initial`` to ``final`` at one step.

  Args:
    final: sparsity at step ``at`` and later, in [0, 1].
    at: the first step with ``final``, at least 0.
    initial: sparsity before it, in [0, 1].

  Returns:
    ``count -> sparsity``.

  Raises:
    ValueError: if a sparsity is outside [0, 1], or ``at`` is not a step.
    TypeError: if a sparsity is not a number.

  Examples:
    >>> schedule = one_shot(0.9, at=1000)
    >>> schedule(999), schedule(1000)
    (0.0, 0.9)
  """
  _checks.check_fraction('one_shot', 'initial', initial)
  _checks.check_fraction('one_shot', 'final', final)
  _checks.check_step('one_shot', 'at', at)
  jump = lambda xp, t, s0, s1: xp.where(t < at, s0, s1)
  return _schedule(f'one_shot({final}, at={at})', jump, (initial, final), max(at - 1, 0), at)


@public
def linear(initial: float, final: float, begin: int, end: int) -> Schedule:
  r"""As many weights at every step: :math:`c(x) = 1 - x`.

  Args:
    initial: sparsity up to step ``begin``, in [0, 1].
    final: sparsity from step ``end`` on, in [0, 1]; it may be below ``initial``.
    begin: last step with ``initial``, at least 0.
    end: first step with ``final``, after ``begin``.

  Returns:
    ``count -> sparsity``.

  Raises:
    ValueError: if a sparsity is outside [0, 1], or the steps are not in order.
    TypeError: if a sparsity is not a number.

  Examples:
    >>> schedule = linear(0.0, 0.8, begin=0, end=100)
    >>> [round(schedule(count), 4) for count in (0, 25, 100)]
    [0.0, 0.2, 0.8]
  """
  curve = lambda xp, x: 1 - x
  return _stretched('linear', initial, final, begin, end, curve)


@public
def cubic(initial: float, final: float, begin: int, end: int) -> Schedule:
  r"""Fast at first, while weights are redundant, then ever slower: :math:`c(x) = (1 - x)^3`.

  Args:
    initial: sparsity up to step ``begin``, in [0, 1].
    final: sparsity from step ``end`` on, in [0, 1]; it may be below ``initial``.
    begin: last step with ``initial``, at least 0.
    end: first step with ``final``, after ``begin``.

  Returns:
    ``count -> sparsity``.

  Raises:
    ValueError: if a sparsity is outside [0, 1], or the steps are not in order.
    TypeError: if a sparsity is not a number.

  Examples:
    >>> schedule = cubic(0.2, 0.8, begin=100, end=110)
    >>> [round(schedule(count), 4) for count in (100, 102, 105, 110)]
    [0.2, 0.4928, 0.725, 0.8]

  References:
    Zhu & Gupta, To prune, or not to prune, 2017, arXiv:1710.01878, equation 1
  """
  curve = lambda xp, x: (1 - x) * (1 - x) * (1 - x)
  return _stretched('cubic', initial, final, begin, end, curve)


@public
def cosine(initial: float, final: float, begin: int, end: int) -> Schedule:
  r"""Slow at both ends: :math:`c(x) = (1 + \cos \pi x) / 2`.

  From ``initial`` down to 0 it is also how RigL anneals its drop fraction.

  Args:
    initial: sparsity up to step ``begin``, in [0, 1].
    final: sparsity from step ``end`` on, in [0, 1]; it may be below ``initial``.
    begin: last step with ``initial``, at least 0.
    end: first step with ``final``, after ``begin``.

  Returns:
    ``count -> sparsity``.

  Raises:
    ValueError: if a sparsity is outside [0, 1], or the steps are not in order.
    TypeError: if a sparsity is not a number.

  Examples:
    >>> schedule = cosine(0.0, 0.8, begin=0, end=100)
    >>> [round(schedule(count), 4) for count in (0, 25, 50, 100)]
    [0.0, 0.1172, 0.4, 0.8]

  References:
    Evci et al., Rigging the lottery, ICML 2020, arXiv:1911.11134, section 3
  """
  curve = lambda xp, x: (1 + xp.cos(math.pi * x)) / 2
  return _stretched('cosine', initial, final, begin, end, curve)


@public
def sigmoid(
  initial: float, final: float, begin: int, end: int, *, steepness: float = 6.0
) -> Schedule:
  r"""Slow at both ends, steep in between, with :math:`\sigma` the logistic function.

  .. math:: c(x) = \frac{\sigma(k (1/2 - x)) - \sigma(-k/2)}{\sigma(k/2) - \sigma(-k/2)}

  The decay of density of sparse training by epitopological learning (CHTss), stretched so that it
  has no jump at either end.

  Args:
    initial: sparsity up to step ``begin``, in [0, 1].
    final: sparsity from step ``end`` on, in [0, 1]; it may be below ``initial``.
    begin: last step with ``initial``, at least 0.
    end: first step with ``final``, after ``begin``.
    steepness: :math:`k`, positive; the larger, the more happens in the middle.

  Returns:
    ``count -> sparsity``.

  Raises:
    ValueError: if a sparsity is outside [0, 1], the steps are not in order, or the steepness is
      not positive.
    TypeError: if a number isn't one.

  Examples:
    >>> schedule = sigmoid(0.0, 0.8, begin=0, end=100)
    >>> [round(schedule(count), 4) for count in (0, 25, 50, 75, 100)]
    [0.0, 0.1193, 0.4, 0.6807, 0.8]

  References:
    Zhang et al., Brain network science modelling of sparse neural networks enables transformers
    and LLMs to perform as fully connected, 2025, arXiv:2501.19107
  """
  k = _checks.positive_number('sigmoid', 'steepness', steepness)
  # a logistic function is half a tanh, which overflows nowhere
  curve = lambda xp, x: (xp.tanh(k / 2 * (0.5 - x)) / math.tanh(k / 4) + 1) / 2
  return _stretched('sigmoid', initial, final, begin, end, curve)


@public
def exponential(initial: float, final: float, begin: int, end: int) -> Schedule:
  r"""The same fraction of the remaining weights at every step.

  The density :math:`1 - s` shrinks by one factor for each step, as in iterative pruning by, say,
  20 % a round:

  .. math:: s(t) = 1 - (1 - s_0) \left(\frac{1 - s_1}{1 - s_0}\right)^{(t - t_0) / (t_1 - t_0)}

  Args:
    initial: sparsity up to step ``begin``, in [0, 1).
    final: sparsity from step ``end`` on, in [0, 1); it may be below ``initial``.
    begin: last step with ``initial``, at least 0.
    end: first step with ``final``, after ``begin``.

  Returns:
    ``count -> sparsity``.

  Raises:
    ValueError: if a sparsity is outside [0, 1), or the steps are not in order.
    TypeError: if a sparsity is not a number.

  Examples:
    >>> schedule = exponential(0.0, 1 - 0.8**3, begin=0, end=3)
    >>> [round(schedule(count), 4) for count in range(4)]
    [0.0, 0.2, 0.36, 0.488]

  References:
    Frankle & Carbin, The lottery ticket hypothesis, ICLR 2019, arXiv:1803.03635
  """
  for argument, sparsity in (('initial', initial), ('final', final)):
    _checks.check_fraction('exponential', argument, sparsity)
    _checks.check_below_one('exponential', argument, sparsity)
  between = lambda xp, x, s0, s1: 1 - (1 - s0) * ((1 - s1) / (1 - s0)) ** x
  return _ramp('exponential', initial, final, begin, end, between)


@public
def joined(schedules: Sequence[Schedule], boundaries: Sequence[int]) -> Schedule:
  """One schedule after another, each with steps of its own, as in ``optax.join_schedules``.

  Args:
    schedules: at least one.
    boundaries: the steps at which the next one starts, at its step 0; one fewer, ascending.

  Returns:
    ``count -> sparsity``.

  Raises:
    ValueError: if there is no schedule, or not one boundary fewer, or they don't ascend.
    TypeError: if a schedule can't be called, or these are no lists.

  Examples:
    >>> schedule = joined([linear(0.0, 0.5, 0, 10), linear(0.5, 0.9, 0, 10)], [20])
    >>> [round(schedule(count), 2) for count in (5, 10, 20, 25, 30)]
    [0.25, 0.5, 0.5, 0.7, 0.9]
  """
  _checks.check_lists('joined', schedules, boundaries)
  schedules, boundaries = list(schedules), list(boundaries)
  _checks.check_joined('joined', schedules, boundaries)
  starts = [0, *boundaries]

  def schedule(count):
    value = schedules[0](count)
    for each, start in zip(schedules[1:], boundaries):
      value = _where(count >= start, each(_later(count, start)), value)
    return value

  ends = [getattr(each, 'end', None) for each in schedules]
  begin = getattr(schedules[0], 'begin', 0)
  call = f'joined([{", ".join(map(_call, schedules))}], {boundaries})'
  return _like(call, schedule, begin, None if ends[-1] is None else starts[-1] + ends[-1])


@public
def delayed(schedule: Schedule, by: int) -> Schedule:
  """A schedule that starts later; until then it is what it is at step 0.

  Args:
    schedule: ``count -> sparsity``.
    by: how many steps later, at least 0.

  Returns:
    ``count -> sparsity``.

  Raises:
    ValueError: if ``by`` is no number of steps.
    TypeError: if the schedule can't be called.

  Examples:
    >>> schedule = delayed(linear(0.0, 0.8, 0, 100), by=50)
    >>> [schedule(count) for count in (0, 50, 100, 150)]
    [0.0, 0.0, 0.4, 0.8]
  """
  _checks.check_schedule('delayed', 'schedule', schedule)
  _checks.check_step('delayed', 'by', by)
  end = getattr(schedule, 'end', None)
  begin = getattr(schedule, 'begin', 0) + by
  later = lambda count: schedule(_later(count, by))
  call = f'delayed({_call(schedule)}, by={by})'
  return _like(call, later, begin, None if end is None else end + by)


@public
def every(schedule: Schedule, steps: int) -> Schedule:
  """A staircase: a schedule's values at multiples of so many steps, each held until the next.

  Its last value comes when the schedule has it, not at the next multiple.

  Args:
    schedule: ``count -> sparsity``.
    steps: the length of a stair, at least 1.

  Returns:
    ``count -> sparsity``.

  Raises:
    ValueError: if ``steps`` isn't an int of at least 1.
    TypeError: if the schedule can't be called.

  Examples:
    >>> schedule = every(linear(0.0, 0.9, 0, 90), 40)
    >>> [round(schedule(count), 2) for count in (0, 39, 40, 79, 80, 90)]
    [0.0, 0.0, 0.4, 0.4, 0.8, 0.9]
  """
  _checks.check_schedule('every', 'schedule', schedule)
  _checks.check_positive_int('every', 'steps', steps)
  end = getattr(schedule, 'end', None)

  def stairs(count):
    value = schedule(count - count % steps)
    return value if end is None else _where(count >= end, schedule(count), value)

  return _like(f'every({_call(schedule)}, {steps})', stairs, getattr(schedule, 'begin', 0), end)


def _where(condition: Any, yes: Any, no: Any) -> Any:
  """One of two values; a Python number if the condition is one."""
  if isinstance(condition, (bool, np.bool_)):
    return yes if condition else no
  return jnp.where(condition, yes, no)


def _later(count: Any, start: int) -> Any:
  """Steps since ``start``, none before it."""
  if isinstance(count, (int, np.integer)):
    return max(count - start, 0)
  return jnp.maximum(count, start) - start


def _call(schedule: Schedule) -> str:
  """How a schedule was made, if it is one of these."""
  return getattr(schedule, '__qualname__', type(schedule).__name__)


def _like(call: str, schedule: Schedule, begin: int, end: int | None) -> Schedule:
  """The function, with the steps between which it changes, if it is known when that ends.

  It shows itself by the call that made it.
  """
  schedule.__name__, schedule.__qualname__ = call.partition('(')[0], call
  schedule = explicit(schedule)
  vars(schedule).update({'begin': begin} if end is None else {'begin': begin, 'end': end})
  return schedule


def _stretched(
  function: str,
  initial: float,
  final: float,
  begin: int,
  end: int,
  curve: Callable[[Any, Any], Any],
) -> Schedule:
  between = lambda xp, x, s0, s1: s1 + (s0 - s1) * curve(xp, x)
  return _ramp(function, initial, final, begin, end, between)


def _ramp(
  function: str,
  initial: float,
  final: float,
  begin: int,
  end: int,
  between: Callable[[Any, Any, Any, Any], Any],
) -> Schedule:
  """From ``initial`` to ``final`` by ``between(xp, x, initial, final)``, exact at both ends."""
  _checks.check_fraction(function, 'initial', initial)
  _checks.check_fraction(function, 'final', final)
  _checks.check_step(function, 'begin', begin)
  _checks.check_step(function, 'end', end)
  _checks.check_later(function, 'end', end, begin)

  def formula(xp, t, s0, s1):
    # The difference is taken between integers: as a float32 the step itself may be rounded.
    x = (xp.clip(t, begin, end) - begin).astype(s0.dtype) / (end - begin)
    value = xp.clip(between(xp, x, s0, s1), xp.minimum(s0, s1), xp.maximum(s0, s1))
    return xp.where(t <= begin, s0, xp.where(t >= end, s1, value))

  call = f'{function}({initial}, {final}, begin={begin}, end={end})'
  return _schedule(call, formula, (initial, final), begin, end)


def _schedule(
  call: str, formula: Callable[..., Any], sparsities: tuple[Any, ...], begin: int, end: int
) -> Schedule:
  """``formula(xp, count, *sparsities)`` in double precision for an int, else in float32."""

  def schedule(count):
    if isinstance(count, (int, np.integer)) and not tree.is_traced(*sparsities):
      return float(formula(np, np.int64(count), *map(np.float64, sparsities)))
    count = jnp.asarray(count)
    if jnp.issubdtype(count.dtype, jnp.integer) and count.dtype.itemsize < 4:
      count = count.astype(jnp.int32)  # so that it can be compared with any step
    single = [jnp.asarray(value, jnp.float32) for value in sparsities]
    return formula(jnp, count, *single).astype(jnp.float32)

  return _like(call, schedule, begin, end)
