"""When masks change, and how many weights are kept then."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jprune import _checks, schedules
from jprune.masks._selection import wide as _wide
from jprune.transforms import _errors
from jprune.typing import Schedule

MOST = 1024  # rows of counts in a state; of more changes, those in between share a row


@dataclasses.dataclass(frozen=True)
class When:
  """The calls on which masks change.

  Attributes:
    schedule: count -> sparsity.
    every: masks change on calls whose count is a multiple of this,
    end: up to this count, and on it; ``None`` for good.
    own: the end of the schedule, on which they change too.
    rows: counts for which numbers of weights are known, ascending; the first one is 0.
  """

  schedule: Schedule
  every: int
  end: int | None
  own: int
  rows: np.ndarray

  @property
  def final(self) -> float:
    """The last sparsity."""
    return float(self.schedule(int(self.rows[-1])))

  def due(self, count: Any) -> Any:
    """Whether masks change on the call with this count."""
    due = count % self.every == 0
    if self.end is not None:
      due = (due & (count <= self.end)) | (count == self.end)
    return due | (count == self.own)

  def table(self, counts: Callable[[float], np.ndarray]) -> np.ndarray:
    """Wide counts ``(rows, parts, 2)`` from those at a sparsity."""
    known: dict[float, np.ndarray] = {}
    out = []
    for row in self.rows.tolist():
      sparsity = float(self.schedule(row))  # of optax it is an array
      if sparsity not in known:
        known[sparsity] = _wide.constant(counts(sparsity))
      out.append(known[sparsity])
    return np.stack(out)

  def row(self, table: jax.Array, count: Any) -> jax.Array:
    """Wide counts ``(parts, 2)`` on a call."""
    if len(self.rows) == 1:
      return table[0]
    place = jnp.searchsorted(jnp.asarray(self.rows, jnp.int32), count, side='right') - 1
    return table[place]


def when(
  function: str, sparsity: float | Schedule, every: int, end: int | None, regrows: bool
) -> When:
  """The checked calls on which masks change.

  Args:
    function: who asks, for messages.
    sparsity: a number, or a schedule.
    every: steps between changes.
    end: the last change; by default the end of the schedule, or none where weights come back.
    regrows: whether weights come back: the sparsity may fall, and masks change at a constant one.
  """
  _checks.check_positive_int(function, 'every', every)
  _checks.check_step(function, 'every', every)
  if end is not None:
    _checks.check_step(function, 'end', end)
  _errors.check_made(function, sparsity)
  if not callable(sparsity):
    sparsity = schedules.constant(_checks.static_fraction(function, 'sparsity', sparsity))
  begin, own = getattr(sparsity, 'begin', 0), getattr(sparsity, 'end', None)
  if own is None:
    if end is None:
      raise _errors.no_end(function)
    own = end
  if end is not None and end < own:
    raise _errors.ends_early(function, end, own)
  rows = _rows(begin, own, every)
  found = [float(sparsity(row)) for row in rows.tolist()]
  for count, value in zip(rows.tolist(), found):
    _errors.check_scheduled(function, value, count)
  for count, before, value in zip(rows.tolist()[1:], found, found[1:]):
    if value < before and not regrows:
      raise _errors.sparsity_falls(function, before, value, count)
  last = own if end is None and not regrows else end
  return When(sparsity, int(every), last, own, rows)


def _rows(begin: int, end: int, every: int) -> np.ndarray:
  """The calls with numbers of their own: all changes, or evenly spaced ones of them."""
  first = -(-begin // every)
  changes = (end - 1) // every - first + 1 if end > first * every else 0
  stride = max(1, -(-changes // MOST))
  regular = np.arange(first * every, end, every * stride, dtype=np.int64)
  return np.unique(np.concatenate([[0], regular, [end]]))
