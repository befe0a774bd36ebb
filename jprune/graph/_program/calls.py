"""Which operands of an equation go where in the jaxprs that it calls.

Nothing else reads from the params of ``scan``, ``while`` and ``cond`` what goes where.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

from jax.extend.core import JaxprEqn

_T = TypeVar('_T')

_NONE = slice(0, 0)


class Call(NamedTuple):
  """How an equation calls jaxprs.

  Of ``scan[num_consts=1 num_carry=2] a b c d`` the operand ``a`` goes into each turn, ``b`` and
  ``c`` go from one turn to the next, and ``d`` is handed in slice by slice. The jaxprs are told
  apart by their roles: ``'body'``, of a while also ``'cond'``, and the number of a branch.

  Attributes:
    branches: how many there are of which operand 0 selects one; else 0.
    consts: operands of the body, the same in each turn of a loop.
    asked: operands of the condition of a while, the same in each turn.
    carry: operands that a loop carries from one turn to the next.
    steps: operands that a scan runs over.
    turns: how often the body of a scan runs; ``None`` of anything else.
    backwards: whether a scan begins at the end.
    waits: whether a condition says if there is another turn.
  """

  branches: int = 0
  consts: slice = slice(0, None)
  asked: slice = _NONE
  carry: slice = _NONE
  steps: slice = _NONE
  turns: int | None = None
  backwards: bool = False
  waits: bool = False

  @property
  def loops(self) -> bool:
    """Whether the body may run more than once."""
    return self.waits or self.turns is not None

  @property
  def roles(self) -> Sequence[Any]:
    """Of the jaxprs that run, in the order in which they do."""
    if self.branches:
      return range(self.branches)
    return ('cond', 'body') if self.waits else ('body',)

  def inputs(
    self, role: Any, operands: Sequence[_T], carry: Sequence[_T] | None = None
  ) -> list[_T]:
    """Of the operands those that a jaxpr is given, in its order; of steps whole operands.

    Args:
      role: of the jaxpr.
      operands: of the equation, or what is known of them.
      carry: what goes into a turn instead of what went into the first.
    """
    carry = operands[self.carry] if carry is None else carry
    if role == 'cond':
      return [*operands[self.asked], *carry]
    if self.branches:
      return list(operands[1:])
    return [*operands[self.consts], *carry, *operands[self.steps]]

  def given(self, role: Any, operands: Sequence[_T]) -> Sequence[_T]:
    """Of the operands those that a jaxpr has for its first inputs, whenever it runs."""
    if role == 'cond':
      return operands[self.asked]
    return operands[1:] if self.branches else operands[self.consts]


def call_of(eqn: JaxprEqn) -> Call:
  """How an equation calls what it calls."""
  p = eqn.params
  match eqn.primitive.name:
    case 'cond':
      return Call(branches=len(p['branches']), consts=slice(1, None))
    case 'scan':
      if 'ft_in' in p:  # from jax 0.11 on a tree: of what is constant, carried, run over
        consts, carry, _ = map(len, p['ft_in'].unpack())
      else:
        consts, carry = p['num_consts'], p['num_carry']
      first, last = consts, consts + carry
      return Call(
        consts=slice(0, first),
        carry=slice(first, last),
        steps=slice(last, None),
        turns=p['length'],
        backwards=p['reverse'],
      )
    case 'while':
      first, last = p['cond_nconsts'], p['cond_nconsts'] + p['body_nconsts']
      return Call(
        consts=slice(first, last), asked=slice(0, first), carry=slice(last, None), waits=True
      )
    case _:
      return Call()


def called(eqn: JaxprEqn) -> Any:
  """The jaxpr that an equation runs once, where it calls one and no more; else ``None``."""
  return eqn.params.get('jaxpr', eqn.params.get('call_jaxpr'))


def closed_over(eqn: JaxprEqn) -> int:
  """How many operands of a function with a rule of its own are what it closes over."""
  return eqn.params.get('num_consts', 0)
