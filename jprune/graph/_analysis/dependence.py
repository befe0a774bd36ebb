"""What values depend on at all: the params, the arguments, or both."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax.extend import core

from jprune.graph._program.dataflow import Analysis, Facts, forward
from jprune.graph._program.frame import Frame
from jprune.graph._program.traits import Trait, has

PARAMS = 1
ARGUMENTS = 2


class _Dependence(Analysis[int]):
  """Bits: what any operand depends on, and what decides whether it is taken."""

  nothing = 0

  def equation(self, frame: Frame, index: int, operands: list[int]) -> Sequence[int]:
    return [functools.reduce(operator.or_, operands, 0)] * len(frame.jaxpr.eqns[index].outvars)

  def join(self, one: int, other: int) -> int:
    return one | other

  def guarded(self, value: int, by: int) -> int:
    return value | by


def origins(frame: Frame, params: int) -> Facts[int]:
  """Bits for all variables of a function whose first inputs are that many params."""
  rest = len(frame.jaxpr.invars) - params
  return forward(_Dependence(), frame, [PARAMS] * params + [ARGUMENTS] * rest)


def is_real(frame: Frame, var: Any) -> bool:
  """Whether a value has no imaginary parts, as real numbers have that were made complex ones."""
  while jnp.issubdtype(var.aval.dtype, jnp.complexfloating):
    index = None if isinstance(var, core.Literal) else frame.maker(var)
    if index is None or not has(frame.jaxpr.eqns[index], Trait.RESHAPES):
      return False
    var = frame.jaxpr.eqns[index].invars[0]
  return True
