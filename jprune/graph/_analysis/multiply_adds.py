"""Multiply-adds, counted from the sizes of axes."""

from __future__ import annotations

from typing import Any

from jprune.graph._axes.sizes import Sizes
from jprune.graph._program.calls import call_of
from jprune.graph._program.frame import Frame
from jprune.graph._rules.base import multiplies
from jprune.graph._rules.sites import Equation


def macs_of(frame: Frame, index: int, sizes: Sizes) -> int:
  """Multiply-adds of one equation; 0 if it doesn't multiply and add."""
  eqn = frame.jaxpr.eqns[index]
  how = multiplies(eqn)
  if how is None:
    return 0

  def size_of(operand: int | None, axis: int) -> int:
    var = eqn.outvars[0] if operand is None else eqn.invars[operand]
    return sizes.small_size(frame.dims_of(var)[axis])

  return how.count(Equation(eqn, frame), size_of)


def total_macs(frame: Frame, sizes: Sizes) -> int:
  """Multiply-adds of a frame and of all that it calls."""
  total = 0
  for index, eqn in enumerate(frame.jaxpr.eqns):
    total += macs_of(frame, index, sizes)
    if index in frame.children:
      total += of_children(eqn, frame.children[index], sizes)
  return total


def of_children(eqn: Any, children: dict[Any, Frame], sizes: Sizes) -> int:
  """Those of the jaxprs that an equation calls; of branches the most."""
  call = call_of(eqn)
  totals = [total_macs(children[role], sizes) for role in call.roles]
  return max(totals) if call.branches else sum(totals) * (1 if call.turns is None else call.turns)
