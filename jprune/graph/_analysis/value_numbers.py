"""Numbers of values, equal only for equal values: what query, key and value share has one.

Some values are one real number in all entries, known before anything runs: those are told, too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jprune.graph._program.traits import Trait, has


class Numbers:
  """Hands out numbers; the same equation on the same values gets the same one again."""

  def __init__(self) -> None:
    self._fresh = itertools.count()
    self._known: dict[Any, int] = {}
    self._made: dict[int, tuple[Any, tuple[int, ...]]] = {}
    self._values: dict[int, float | None] = {}
    self._equal: dict[int, int | None] = {}

  def fresh(self, values: Sequence[Any]) -> list[int]:
    """A new number for each of some values of which nothing is known."""
    return [next(self._fresh) for _ in values]

  def of_literal(self, var: Any) -> int:
    """Of a scalar that is written in the code."""
    if np.ndim(var.val):
      return next(self._fresh)
    key = ('literal', str(var.aval), repr(var.val))
    number = self._known.setdefault(key, next(self._fresh))
    self._values.setdefault(number, _real(var.val))
    return number

  def of_constant(self, value: Any) -> int:
    """Of what the function closes over."""
    number = next(self._fresh)
    at_hand = getattr(value, 'is_fully_addressable', not isinstance(value, Tracer))
    if np.size(value) == 1 and at_hand:
      self._values[number] = _real(value)
    return number

  def of_results(self, eqn: Any, numbers: Sequence[int]) -> list[int]:
    """Of what an equation that calls no other makes of operands with these numbers."""
    if eqn.effects or has(eqn, Trait.DRAWS):
      return self.fresh(eqn.outvars)
    params = tuple(sorted(eqn.params.items(), key=lambda pair: pair[0]))
    key = (eqn.primitive.name, params, tuple(numbers))
    try:
      found = [self._known.setdefault((key, i), next(self._fresh)) for i in range(len(eqn.outvars))]
    except TypeError:  # a parameter that has no hash
      return self.fresh(eqn.outvars)
    if len(found) == 1:
      self._made.setdefault(found[0], (eqn, tuple(numbers)))
    return found

  def value(self, number: int) -> float | None:
    """The real number that all entries are, if it is known."""
    if number not in self._values:
      made = self._made.get(number)
      self._values[number] = None if made is None else self._computed(*made)
    return self._values[number]

  def equal(self, number: int, shape: Sequence[int]) -> int | None:
    """The number of what all entries of a value of this shape are; ``None`` if they may differ."""
    if number not in self._equal:
      self._equal[number] = self._if_equal(number, shape)
    return self._equal[number]

  def _if_equal(self, number: int, shape: Sequence[int]) -> int | None:
    if number in self._made:
      eqn, operands = self._made[number]
      known = (self.equal(each, var.aval.shape) for each, var in zip(operands, eqn.invars))
      if has(eqn, Trait.SPREADS):
        return next(known)
      if has(eqn, Trait.ELEMENTWISE) and operands and None not in known:
        return number
    return number if math.prod(shape) == 1 else None

  def in_steps(self, number: int, known: Mapping[int, np.ndarray]) -> np.ndarray | None:
    """The real number that all entries are in each step of a loop, where some are known so."""
    if number in known:
      return known[number]
    if (value := self.value(number)) is not None:
      (steps,) = {len(each) for each in known.values()}
      return np.full(steps, value)
    if number not in self._made:
      return None
    eqn, operands = self._made[number]
    return _applied(eqn, [self.in_steps(each, known) for each in operands])

  def _computed(self, eqn: Any, numbers: Sequence[int]) -> float | None:
    found = _applied(eqn, [self.value(number) for number in numbers])
    return None if found is None else _real(found)


def _applied(eqn: Any, values: Sequence[Any]) -> Any:
  """What an equation makes of values that are the same in all entries; ``None`` if unknown."""
  params, spreads = eqn.params, has(eqn, Trait.SPREADS)
  followed = spreads or has(eqn, Trait.ELEMENTWISE)
  if not followed or not values or any(value is None for value in values):
    return None
  if spreads:
    return values[0]
  if 'sharding' in params:  # of a value with axes
    params = params | {'sharding': None}
  with jax.ensure_compile_time_eval():
    operands = [jnp.asarray(x, v.aval.dtype) for v, x in zip(eqn.invars, values)]
    return np.asarray(eqn.primitive.bind(*operands, **params))


def _real(value: Any) -> float | None:
  dtype = jnp.result_type(value)
  real = any(jnp.issubdtype(dtype, kind) for kind in (jnp.bool_, jnp.integer, jnp.floating))
  return float(np.asarray(value).reshape(())) if real else None
