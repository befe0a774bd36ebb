"""Which values have a derivative by the params: what a rule that asks for it may be told.

A rule of a function with several operands need not be one by all of them: some refuse, such as
those that Equinox makes. Of the values of a frame those are perturbed that JAX would hand tangents
along with, were the function differentiated by its params.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax.extend import core

from jprune.graph._program.calls import Call, call_of, called
from jprune.graph._program.dataflow import settled
from jprune.graph._program.frame import Frame, closed
from jprune.graph._program.traits import Trait, has

Flags = list[bool]


def perturbed(frame: Frame, variables: Sequence[Any]) -> Flags:
  """Of each variable of a frame whether it is perturbed; in derivative rules all floats are."""
  if frame.perturbed is None:
    frame.perturbed = _values(frame.jaxpr, _inputs(frame))
  return [_read(frame.perturbed, var) for var in variables]


def is_float(var: Any) -> bool:
  """Whether a value may have a derivative."""
  return jnp.issubdtype(var.aval.dtype, jnp.inexact)


def _inputs(frame: Frame) -> Flags:
  variables = frame.jaxpr.invars
  if frame.caller is None:
    return [i < frame.params and is_float(var) for i, var in enumerate(variables)]
  outer, eqn = frame.caller
  if frame.is_rule:
    return [is_float(var) for var in variables]
  return _inside(eqn, frame.role, perturbed(outer, eqn.invars))


def _values(jaxpr: Any, inputs: Flags) -> dict[Any, bool]:
  known = dict(zip(jaxpr.invars, inputs, strict=True))
  for eqn in jaxpr.eqns:
    found = _results(eqn, [_read(known, var) for var in eqn.invars])
    known.update((var, yes and is_float(var)) for var, yes in zip(eqn.outvars, found))
  return known


def _read(known: dict[Any, bool], var: Any) -> bool:
  return not isinstance(var, core.Literal) and known.get(var, False)


def _of(jaxpr: Any, inputs: Flags) -> Flags:
  """Of the results of a jaxpr."""
  inner, _ = closed(jaxpr)
  known = _values(inner, inputs) if any(inputs) else {}
  return [_read(known, var) for var in inner.outvars]


def _results(eqn: Any, flags: Flags) -> Flags:
  p = eqn.params
  if not any(flags) or has(eqn, Trait.STOPS):
    return [False] * len(eqn.outvars)
  call = call_of(eqn)
  if call.branches:
    found = [_of(branch, call.inputs(0, flags)) for branch in p['branches']]
    return [any(each) for each in zip(*found, strict=True)]
  if call.waits:
    return _carried(eqn, call, flags)
  inner = None if has(eqn, Trait.OWN_RULE) else called(eqn)
  if inner is None or len(closed(inner)[0].invars) != len(flags):
    return [True] * len(eqn.outvars)
  return _of(inner, _inside(eqn, 'body', flags))


def _inside(eqn: Any, role: Any, flags: Flags) -> Flags:
  """Of the inputs of a jaxpr that an equation calls; of what a loop carries, in any turn."""
  call = call_of(eqn)
  carry = _carried(eqn, call, flags) if call.loops else None
  return call.inputs(role, flags, carry)


def _carried(eqn: Any, call: Call, flags: Flags) -> Flags:
  """Of what a loop carries, in any turn."""
  body = eqn.params['body_jaxpr' if call.waits else 'jaxpr']

  def turn(carry: Flags) -> Flags:
    return _of(body, call.inputs('body', flags, carry))

  return list(settled(turn, flags[call.carry], _either)[0])


def _either(one: bool, other: bool) -> bool:
  return one or other
