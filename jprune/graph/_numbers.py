"""Numbers of values, equal only for equal values: what query, key and value share has one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

_DRAWN = frozenset(['rng_uniform'])  # another value each time, though no effect says so


class Numbers:
  """Hands out numbers; the same equation on the same values gets the same one again."""

  def __init__(self) -> None:
    self._fresh = itertools.count()
    self._known: dict[Any, int] = {}

  def fresh(self, values: Sequence[Any]) -> list[int]:
    """A new number for each of some values of which nothing is known."""
    return [next(self._fresh) for _ in values]

  def of_literal(self, var: Any) -> int:
    """Of a scalar that is written in the code."""
    if np.ndim(var.val):
      return next(self._fresh)
    return self._known.setdefault(('literal', str(var.aval), repr(var.val)), next(self._fresh))

  def of_results(self, eqn: Any, numbers: Sequence[int]) -> list[int]:
    """Of what an equation that calls no other makes of operands with these numbers."""
    if eqn.effects or eqn.primitive.name in _DRAWN:
      return self.fresh(eqn.outvars)
    params = tuple(sorted(eqn.params.items(), key=lambda pair: pair[0]))
    key = (eqn.primitive.name, params, tuple(numbers))
    try:
      return [self._known.setdefault((key, i), next(self._fresh)) for i in range(len(eqn.outvars))]
    except TypeError:  # a parameter that has no hash
      return self.fresh(eqn.outvars)
