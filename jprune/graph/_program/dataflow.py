"""The one traversal of frames: what is known of values, forwards, through calls and loops.

An analysis says what an equation makes of what is known of its operands, and what may be either of
two things. Of ``c = scan[body] a b`` it is asked for the body with ``a`` and ``b``; where the body
hands on something else than ``b``, for either of the two, until nothing changes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

from jax.extend import core

from jprune.graph._program.calls import Call, call_of
from jprune.graph._program.frame import Frame

_T = TypeVar('_T')

Facts: TypeAlias = dict[Frame, dict[Any, _T]]
"""What is known of each variable, frame by frame."""


class Analysis(Generic[_T]):
  """What is known of values, and how it is followed.

  Attributes:
    nothing: what is known of literals and constants.
  """

  nothing: _T

  def equation(self, frame: Frame, index: int, operands: list[_T]) -> Sequence[_T]:
    """Of the results of an equation that calls no jaxpr."""
    raise NotImplementedError

  def join(self, one: _T, other: _T) -> _T:
    """Of what is one or the other: by a branch, or in a turn of a loop."""
    raise NotImplementedError

  def step(self, whole: _T, call: Call) -> _T:
    """Of a slice of what a scan runs over."""
    return whole

  def collected(self, step: _T) -> _T:
    """Of all that a scan collects, from what is known of each step."""
    return step

  def guarded(self, value: _T, by: _T) -> _T:
    """Of what a predicate decides upon."""
    return value

  def written(self, var: Any, value: _T) -> _T:
    """Of a variable that is a result."""
    return value


def settled(
  turn: Callable[[list[_T]], Sequence[_T]], carry: Sequence[_T], join: Callable[[_T, _T], _T]
) -> tuple[list[_T], Sequence[_T]]:
  """What a loop carries into any of its turns, and what a turn then gives.

  The only fixpoint: ``join`` must lead to the same in the end, however often it is asked.
  """
  now = list(carry)
  while True:
    outs = turn(now)
    joined = [join(a, b) for a, b in zip(now, outs)]  # a scan collects more than it carries
    if joined == now:
      return now, outs
    now = joined


def forward(analysis: Analysis[_T], frame: Frame, ins: Sequence[_T]) -> Facts[_T]:
  """What is known of all values of a frame, and of all that it calls.

  Args:
    analysis: what to follow.
    frame: of a function.
    ins: what is known of its inputs.
  """
  facts: Facts[_T] = {}
  _run(analysis, frame, ins, facts)
  return facts


def _run(analysis: Analysis[_T], frame: Frame, ins: Sequence[_T], facts: Facts[_T]) -> list[_T]:
  """What is known of the results of a frame; of the others it is written into ``facts``."""
  known = facts[frame] = dict.fromkeys(frame.jaxpr.constvars, analysis.nothing)
  known.update(zip(frame.jaxpr.invars, ins, strict=True))

  def read(var: Any) -> _T:
    return analysis.nothing if isinstance(var, core.Literal) else known[var]

  for index, eqn in enumerate(frame.jaxpr.eqns):
    operands = [read(var) for var in eqn.invars]
    if children := frame.children.get(index):
      outs = _through(analysis, call_of(eqn), children, operands, facts)
    else:
      outs = analysis.equation(frame, index, operands)
    for var, out in zip(eqn.outvars, outs, strict=True):
      known[var] = analysis.written(var, out)
  return [read(var) for var in frame.jaxpr.outvars]


def _through(
  analysis: Analysis[_T],
  call: Call,
  children: dict[Any, Frame],
  operands: list[_T],
  facts: Facts[_T],
) -> Sequence[_T]:
  """What is known of the results of an equation that calls jaxprs."""

  def run(role: Any, xs: Sequence[_T]) -> list[_T]:
    return _run(analysis, children[role], xs, facts)

  if call.branches:
    found = [run(role, call.inputs(role, operands)) for role in call.roles]
    joined = [functools.reduce(analysis.join, outs) for outs in zip(*found, strict=True)]
    return [analysis.guarded(out, operands[0]) for out in joined]
  if not call.loops:
    return run('body', operands)
  inside = list(operands)
  inside[call.steps] = [analysis.step(x, call) for x in operands[call.steps]]

  def turn(carry: list[_T]) -> list[_T]:
    outs = run('body', call.inputs('body', inside, carry))
    if not call.waits:
      return outs
    (again,) = run('cond', call.inputs('cond', inside, carry))
    return [analysis.guarded(out, again) for out in outs]

  carry, outs = settled(turn, operands[call.carry], analysis.join)
  return [*carry, *map(analysis.collected, outs[len(carry) :])]
