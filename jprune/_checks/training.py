"""Transforms and schedules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jax.core import Tracer

from jprune._checks.words import message, shown, whole


def check_step(function: str, argument: str, value: Any) -> None:
  """A training step: what an int32 counter can reach."""
  is_int = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
  if not is_int or not 0 <= value < 2**31:
    raise ValueError(
      message(function, argument, 'an int in [0, 2**31)', shown(value), whole(value))
    )


def check_later(function: str, argument: str, value: int, begin: int) -> None:
  if value <= begin:
    fix = 'Use one_shot for a jump.'
    raise ValueError(message(function, argument, f'greater than begin={begin}', shown(value), fix))


def check_below_one(function: str, argument: str, value: Any) -> None:
  """Where a logarithm of the density is taken."""
  if not isinstance(value, Tracer) and float(value) == 1.0:
    fix = 'A density that shrinks by one factor never is 0; use cubic.'
    raise ValueError(message(function, argument, 'below 1', '1.0', fix))


def check_schedule(function: str, argument: str, value: Any) -> None:
  if not callable(value):
    raise TypeError(message(function, argument, 'a function count -> sparsity', shown(value)))


def check_lists(function: str, schedules: Any, boundaries: Any) -> None:
  """Several schedules, and the steps between them."""
  for argument, value in (('schedules', schedules), ('boundaries', boundaries)):
    if not isinstance(value, Iterable):
      fix = 'Write joined([one, two], [step]).'
      raise TypeError(message(function, argument, 'a list', shown(value), fix))


def check_joined(function: str, schedules: Sequence[Any], boundaries: Sequence[Any]) -> None:
  """Schedules one after another."""
  if not schedules:
    raise ValueError(message(function, 'schedules', 'at least one schedule', '[]'))
  for i, each in enumerate(schedules):
    check_schedule(function, f'schedules[{i}]', each)
  for i, each in enumerate(boundaries):
    check_step(function, f'boundaries[{i}]', each)
  if len(boundaries) != len(schedules) - 1 or list(boundaries) != sorted(set(boundaries)):
    constraint = f'{len(schedules) - 1} ascending steps, one less than schedules'
    raise ValueError(message(function, 'boundaries', constraint, repr(list(boundaries))))
