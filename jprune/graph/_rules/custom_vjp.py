"""Functions that bring their own rule for reverse mode; its two halves are traced as such."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from jax.core import Tracer
from jax.extend import core

from jprune.graph._axes.atoms import Dims
from jprune.graph._axes.pruned import ANY, MADE, REAL, UNIFORM, ZERO, Facts, Status
from jprune.graph._program.calls import closed_over
from jprune.graph._program.evaluate import single
from jprune.graph._program.frame import Frame
from jprune.graph._program.traits import Trait
from jprune.graph._rules.base import rule
from jprune.graph._rules.custom_jvp import (
  Jaxprs,
  asked_later,
  couple_body,
  filled,
  floats_of,
  full,
  of_choice,
  structs,
  traced,
  unify_all,
  worse_of,
)
from jprune.graph._rules.sites import CoupleSite, SmallSite, StatusSite


def _couple_vjp(site: CoupleSite, ins: list[Dims]) -> list[Dims]:
  outs = couple_body(site, ins)
  if not site.walk.rules_wanted:
    return outs
  found = of_choice(site, _moving(site.eqn), _trace_vjp)
  if found is None:
    return outs
  try:
    _couple_vjp_rule(site, ins, outs, found)
  except Exception:  # that of a rule that closes over values, among others
    if not site.walk.in_rule:
      raise
    # In a rule it may never be differentiated; whoever does so is told then.
    for role in ('forward', 'backward'):
      site.children.pop(role, None)
  return outs


def _trace_vjp(eqn: Any, moving: Sequence[int]) -> Jaxprs:
  moved = floats_of(eqn.outvars)
  call = core.jaxpr_as_fun(single(eqn))

  def forward(xs: list[Any]) -> Any:
    split = lambda *fs: _split(call(*filled(xs, moving, fs)), moved)
    values, back, others = jax.vjp(split, *(xs[i] for i in moving), has_aux=True)
    still = [i for i in range(len(eqn.outvars)) if i not in moved]
    return filled(filled([None] * len(eqn.outvars), moved, values), still, others), back

  first, (_, back) = traced(forward, structs(eqn.invars))
  cotangents = structs([eqn.outvars[i] for i in moved])
  second, _ = traced(lambda back, cts: back(cts), back, cotangents)
  return Jaxprs(tuple(moving), (first, second))


def _couple_vjp_rule(site: CoupleSite, ins: list[Dims], outs: list[Dims], rule: Jaxprs) -> None:
  moving, (forward, backward) = rule
  found = _couple_closed(site, 'forward', forward, ins)
  unify_all(site, outs, found[: len(outs)])
  residuals, moved = found[len(outs) :], floats_of(site.eqn.outvars)
  found = _couple_closed(site, 'backward', backward, [*residuals, *(outs[i] for i in moved)])
  unify_all(site, [ins[i] for i in moving], found)
  site.children['backward'].moving = moving


def _moving(eqn: Any) -> list[int]:
  """Places of the operands that have a derivative: what the function closes over has none."""
  return [i for i in floats_of(eqn.invars) if i >= closed_over(eqn)]


def _couple_closed(site: CoupleSite, role: str, jaxpr: Any, ins: list[Dims]) -> list[Dims]:
  """Couples a rule; values of the traced function over which it closes become its first inputs."""
  closed = {v: x for v, x in zip(jaxpr.jaxpr.constvars, jaxpr.consts) if _is_traced(x)}
  variables = [_variable(site.frame, x) for x in closed.values()]
  rest = [(v, x) for v, x in zip(jaxpr.jaxpr.constvars, jaxpr.consts) if v not in closed]
  inner = jaxpr.jaxpr.replace(
    constvars=[v for v, _ in rest],
    invars=[*closed, *jaxpr.jaxpr.invars],
    debug_info=jaxpr.jaxpr.debug_info._replace(arg_names=None),
  )
  jaxpr = core.ClosedJaxpr(inner, [x for _, x in rest])
  dims = [site.frame.dims[var] for var in variables]
  found = site.child(role, jaxpr, [*dims, *ins], rule=True)
  site.children[role].closed = variables
  return found


def _is_traced(value: Any) -> bool:
  return isinstance(value, Tracer)


def _variable(frame: Frame, tracer: Any) -> Any:
  """The variable of a frame that a tracer stood for.

  Raises:
    LookupError: if it stands for none, as one of a function outside of this one.
  """
  for attribute in ('val', '_var', 'var'):  # private, and renamed from one JAX to the next
    var = getattr(tracer, attribute, None)
    if isinstance(var, core.Var) and var in frame.dims:
      return var
  if frame.caller is not None:
    outer, eqn = frame.caller
    var = _variable(outer, tracer)
    if var in eqn.invars and len(eqn.invars) == len(frame.jaxpr.invars):
      return frame.jaxpr.invars[eqn.invars.index(var)]
  raise LookupError('a derivative rule closes over a value of another function')


def _split(values: Sequence[Any], moved: Sequence[int]) -> tuple[list[Any], list[Any]]:
  return [values[i] for i in moved], [v for i, v in enumerate(values) if i not in moved]


def _status_vjp(site: StatusSite, ins: list[Status]) -> list[Status]:
  outs = site.child('body', ins)
  if 'backward' in site.children:
    outs = worse_of(outs, _status_vjp_rule(site, ins))
  return outs


def _status_vjp_rule(site: StatusSite, ins: list[Status]) -> list[Status]:
  """Of the results' values, as the rule has them."""
  known = lambda role: [site.frame.status[v] for v in site.children[role].closed]
  found = site.child('forward', [*known('forward'), *ins])
  values, residuals = found[: len(site.eqn.outvars)], found[len(site.eqn.outvars) :]
  unknown = []
  for i in floats_of(site.eqn.outvars):
    of = dict.fromkeys(site.prunable(site.eqn.outvars[i]), ANY)
    unknown.append(Status(ANY, of, Facts(REAL | MADE, dict.fromkeys(of, REAL | MADE))))
  back = site.child('backward', [*known('backward'), *residuals, *unknown])
  sources = [ins[i] for i in site.children['backward'].moving]
  return [_with_cotangents(value, sources, back) for value in values]


def _with_cotangents(value: Status, sources: Sequence[Status], back: Sequence[Status]) -> Status:
  """A value may be left out where what it hands back to its operands, or they, are zero too."""
  of = {}
  for atom, known in value.of.items():
    pairs = [(x.of[atom], ct.get(atom)) for x, ct in zip(sources, back) if atom in x.of]
    of[atom] = max([known, *(max(pair) for pair in pairs if ZERO not in pair)])
  return value._replace(default=max(UNIFORM, value.default), of=of)


@jax.tree_util.register_static
class _Rule(NamedTuple):
  """The frames of a rule, handed from its one half to the other."""

  forward: Frame
  backward: Frame


def _small_vjp(site: SmallSite, xs: list[Any]) -> list[Any]:
  """What the rule closes over is handed to it as operands without a derivative."""
  children, count = site.children, len(site.eqn.invars)
  roles = [children[role].closed for role in ('forward', 'backward') if role in children]
  closed = list(dict.fromkeys(itertools.chain(*roles)))
  floats, moved = _moving(site.eqn), floats_of(site.eqn.outvars)
  whole = 'backward' in children and list(children['backward'].moving) == floats

  def run(frame: Frame, known: Sequence[Any], values: Sequence[Any]) -> list[Any]:
    by_variable = dict(zip(closed, known, strict=True))
    found = [by_variable[v] for v in frame.closed]
    return site.child(frame, [*found, *values])

  @jax.custom_vjp
  def function(*ys: Any) -> Any:
    return tuple(site.child('body', list(ys[:count])))

  def forward(*ys: Any) -> Any:
    asked = floats if whole else [i for i in floats if ys[i].perturbed]
    values = ys if whole else [y.value for y in ys]
    rule = children.get('backward')
    asked_later(site, rule, asked, _couple_vjp_rule, _trace_vjp, _status_vjp_rule)
    rule = _Rule(children['forward'], children['backward'])
    known = values[count:]
    found = run(rule.forward, known, values[:count])
    outs, residuals = found[: len(site.eqn.outvars)], found[len(site.eqn.outvars) :]
    return tuple(outs), (residuals, known, rule)

  def backward(kept: Any, cotangents: Any) -> Any:
    residuals, known, rule = kept
    found = run(rule.backward, known, [*residuals, *(full(cotangents[i]) for i in moved)])
    return tuple(filled([None] * (count + len(closed)), rule.backward.moving, found))

  function.defvjp(forward, backward, symbolic_zeros=not whole)
  return list(function(*xs, *(site.run.values[var] for var in closed)))


rule(
  'custom_vjp_call',
  _couple_vjp,
  _status_vjp,
  _small_vjp,
  traits=Trait.OWN_RULE,
)
