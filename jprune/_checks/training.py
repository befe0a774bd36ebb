"""Transforms and schedules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jprune._checks.words import differing, message


def missing_params(function: str) -> ValueError:
  fix = 'Call tx.update(updates, state, params).'
  return ValueError(message(function, 'params', 'the params that the updates are for', 'None', fix))


def other_than_init(
  function: str, argument: str, expected: Sequence[str], found: Sequence[str]
) -> ValueError:
  """``update`` got another tree than the one that ``init`` saw."""
  got = differing(expected, found) or 'the same leaves in another order'
  constraint = 'a tree with the structure of the params that `init` saw'
  return ValueError(message(function, argument, constraint, got, 'Call tx.init(params) anew.'))


def not_finite_where_pruned(function: str, path: str, count: int) -> ValueError:
  fix = 'No update takes them to 0.0: start from jprune.apply(params, masks).'
  got = f'{count} infinite or NaN'
  return ValueError(message(function, 'params', 'finite where they are pruned', got, fix, path))


def check_step(function: str, argument: str, value: Any) -> None:
  """A training step: what an int32 counter can reach."""
  whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
  if not whole or not 0 <= value < 2**31:
    raise ValueError(message(function, argument, 'an int in [0, 2**31)', repr(value)))


def check_later(function: str, argument: str, value: int, begin: int) -> None:
  if value <= begin:
    fix = 'Use one_shot for a jump.'
    raise ValueError(message(function, argument, f'greater than begin={begin}', repr(value), fix))


def check_below_one(function: str, argument: str, value: Any) -> None:
  """Where a logarithm of the density is taken."""
  if not isinstance(value, jax.core.Tracer) and float(value) == 1.0:
    fix = 'A density that shrinks by one factor never is 0; use cubic.'
    raise ValueError(message(function, argument, 'below 1', '1.0', fix))
