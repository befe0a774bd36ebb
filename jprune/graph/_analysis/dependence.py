"""What values depend on at all: the params, the arguments, or both."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any, TypeAlias

import jax.numpy as jnp
from jax.extend import core

from jprune.graph._program.frame import Frame

PARAMS = 1
ARGUMENTS = 2

_AS_THEY_ARE = frozenset(
  [
    'broadcast_in_dim',
    'convert_element_type',
    'copy',
    'expand_dims',
    'reshape',
    'squeeze',
    'transpose',
  ]
)

Origins: TypeAlias = dict[Frame, dict[Any, int]]


def origins(frame: Frame, params: int) -> Origins:
  """Bits for all variables of a function whose first inputs are that many params."""
  found: Origins = {}
  rest = len(frame.jaxpr.invars) - params
  _walk(found, frame, [PARAMS] * params + [ARGUMENTS] * rest)
  return found


def is_real(frame: Frame, var: Any) -> bool:
  """Whether a value has no imaginary parts, as real numbers have that were made complex ones."""
  while jnp.issubdtype(var.aval.dtype, jnp.complexfloating):
    index = None if isinstance(var, core.Literal) else frame.maker(var)
    if index is None or frame.jaxpr.eqns[index].primitive.name not in _AS_THEY_ARE:
      return False
    var = frame.jaxpr.eqns[index].invars[0]
  return True


def _walk(found: Origins, frame: Frame, ins: Sequence[int]) -> list[int]:
  known = found[frame] = dict.fromkeys(frame.jaxpr.constvars, 0)
  known.update(zip(frame.jaxpr.invars, ins))
  of = lambda var: 0 if isinstance(var, core.Literal) else known[var]
  for index, eqn in enumerate(frame.jaxpr.eqns):
    operands = [of(var) for var in eqn.invars]
    children = frame.children.get(index, {})
    if children:
      outs = _called(found, eqn, children, operands)
    else:
      outs = [_any(operands)] * len(eqn.outvars)
    known.update(zip(eqn.outvars, outs))
  return [of(var) for var in frame.jaxpr.outvars]


def _called(
  found: Origins, eqn: Any, children: dict[Any, Frame], ins: Sequence[int]
) -> Sequence[int]:
  name, p = eqn.primitive.name, eqn.params
  if name == 'cond':
    branches = [_walk(found, child, ins[1:]) for child in children.values()]
    return [_any([ins[0], *outs]) for outs in zip(*branches)]
  if name == 'scan':
    start, end = p['num_consts'], p['num_consts'] + p['num_carry']
    carry, outs = list(ins[start:end]), []
    before = None
    while before != carry:
      before, outs = carry, _walk(found, children['body'], [*ins[:start], *carry, *ins[end:]])
      carry = [a | b for a, b in zip(carry, outs)]
    return [*carry, *outs[len(carry) :]]
  if name == 'while':
    start = p['cond_nconsts']
    end = start + p['body_nconsts']
    carry, before = list(ins[end:]), None
    while before != carry:
      before, outs = carry, _walk(found, children['body'], [*ins[start:end], *carry])
      (turns,) = _walk(found, children['cond'], [*ins[:start], *carry])
      carry = [a | b | turns for a, b in zip(carry, outs)]
    return carry
  return _walk(found, children['body'], ins)


def _any(bits: Sequence[int]) -> int:
  return functools.reduce(operator.or_, bits, 0)
