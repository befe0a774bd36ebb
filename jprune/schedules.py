r"""Sparsity over the course of training: ``count -> sparsity``.

:func:`linear`, :func:`cubic` and :func:`cosine` are one curve :math:`c` each, which falls from 1
to 0 on [0, 1], stretched from ``initial`` to ``final``, and from ``begin`` to ``end``:

.. math:: s(t) = s_1 + (s_0 - s_1)\, c\left(\frac{t - t_0}{t_1 - t_0}\right)

A schedule is exactly ``initial`` up to ``begin``, and exactly ``final`` from ``end`` on. An int
``count`` gives a Python float in double precision, so that ``prune(params, schedule(step))``
prunes as many weights as ``prune(params, final)`` does at the end; an array gives float32 of its
shape, inside ``jit`` too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from jprune import _checks, tree
from jprune._entry import explicit
from jprune.typing import Schedule


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
  return _schedule(lambda xp, t, value: xp.full(xp.shape(t), value), sparsity)


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
  return _schedule(lambda xp, t, s0, s1: xp.where(t < at, s0, s1), initial, final)


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

  return _schedule(formula, initial, final)


def _schedule(formula: Callable[..., Any], *sparsities: Any) -> Schedule:
  """``formula(xp, count, *sparsities)`` in double precision for an int, else in float32."""

  @explicit
  def schedule(count):
    if isinstance(count, (int, np.integer)) and not tree.is_traced(*sparsities):
      return float(formula(np, np.int64(count), *map(np.float64, sparsities)))
    count = jnp.asarray(count)
    if jnp.issubdtype(count.dtype, jnp.integer) and count.dtype.itemsize < 4:
      count = count.astype(jnp.int32)  # so that it can be compared with any step
    single = [jnp.asarray(value, jnp.float32) for value in sparsities]
    return formula(jnp, count, *single).astype(jnp.float32)

  return schedule
