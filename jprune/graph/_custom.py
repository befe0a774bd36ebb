"""Functions that bring their own derivative rule, which the smaller function keeps.

The rule is traced at full shapes like everything else, coupled and checked like everything else,
and evaluated at the small shapes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jprune.graph._atoms import Dims
from jprune.graph._frame import Frame, single
from jprune.graph._later import couple_later
from jprune.graph._ranges import MADE, REAL
from jprune.graph._rule import ANY, UNIFORM, ZERO, Facts, Site, Status, rule
from jprune.graph._sharding import struct

_FLOAT0 = jax.dtypes.float0


def _floats(variables: Sequence[Any]) -> list[int]:
  """Places of what has a derivative."""
  inexact = lambda v: jnp.issubdtype(v.aval.dtype, jnp.inexact)
  return [i for i, var in enumerate(variables) if inexact(var)]


def _filled(values: Sequence[Any], places: Sequence[int], new: Sequence[Any]) -> list[Any]:
  out = list(values)
  for place, value in zip(places, new):
    out[place] = value
  return out


def _traced(fn: Callable[..., Any], *args: Any) -> tuple[Any, Any]:
  """A closed jaxpr and the tree of shapes that it returns."""
  return jax.make_jaxpr(fn, return_shape=True)(*args)


def _structs(variables: Sequence[Any]) -> list[jax.ShapeDtypeStruct]:
  return [struct(v.aval) for v in variables]


def _couple_body(site: Site, ins: list[Dims]) -> list[Dims]:
  return site.walk.couple_child(site, 'body', site.params['call_jaxpr'], ins)


# ------------------------------------------------------------------------------------ custom_jvp


def _couple_jvp(site: Site, ins: list[Dims]) -> list[Dims]:
  outs = _couple_body(site, ins)
  if site.walk.rules_wanted:
    _couple_jvp_rule(site, ins, outs)
  return outs


def _couple_jvp_rule(site: Site, ins: list[Dims], outs: list[Dims]) -> None:
  eqn = site.eqn
  moving, moved = _floats(eqn.invars), _floats(eqn.outvars)
  call = core.jaxpr_as_fun(single(eqn))

  def differentiated(xs: list[Any], tangents: list[Any]) -> list[Any]:
    whole = lambda *fs: call(*_filled(xs, moving, fs))
    values, found = jax.jvp(whole, [xs[i] for i in moving], tangents)
    return [*values, *(found[i] for i in moved)]

  xs = _structs(eqn.invars)
  jaxpr, _ = _traced(differentiated, xs, [xs[i] for i in moving])
  found = site.walk.couple_child(site, 'jvp', jaxpr, [*ins, *(ins[i] for i in moving)], rule=True)
  _unify_all(site, [*outs, *(outs[i] for i in moved)], found)


def _unify_all(site: Site, these: Sequence[Dims], others: Sequence[Dims]) -> None:
  for dims, other in zip(these, others, strict=True):
    for a, b in zip(dims, other, strict=True):
      site.unify(a, b)


def _status_jvp(site: Site, ins: list[Status]) -> list[Status]:
  """What is left out of a sum must be zero, and so must its tangents, and its value in the rule."""
  outs = site.walk.status_child(site, 'body', ins)
  if 'jvp' in site.frame.children[site.index]:
    outs = _worse_of(outs, _status_jvp_rule(site, ins))
  return outs


def _status_jvp_rule(site: Site, ins: list[Status]) -> list[Status]:
  """Of each result the worse of its value and its tangent."""
  moving, moved = _floats(site.eqn.invars), _floats(site.eqn.outvars)
  found = site.walk.status_child(site, 'jvp', [*ins, *(ins[i] for i in moving)])
  values, tangents = found[: -len(moved) or None], found[len(found) - len(moved) :]
  return _filled(values, moved, _worse_of([values[i] for i in moved], tangents))


def _worse_of(these: Sequence[Status], others: Sequence[Status]) -> list[Status]:
  out = []
  for mine, other in zip(these, others, strict=True):
    of = {atom: max(value, other.get(atom)) for atom, value in mine.of.items()}
    out.append(mine._replace(default=max(mine.default, other.default), of=of))
  return out


def _small_jvp(site: Site, xs: list[Any]) -> list[Any]:
  body = lambda *ys: tuple(site.walk.small_child(site, 'body', list(ys)))
  moving, moved = _floats(site.eqn.invars), _floats(site.eqn.outvars)
  function = jax.custom_jvp(body)

  @function.defjvp
  def _(primals: Any, tangents: Any) -> Any:
    if 'jvp' not in site.frame.children[site.index]:
      couple_later(site, _couple_jvp_rule, _status_jvp_rule)
    found = site.walk.small_child(site, 'jvp', [*primals, *(tangents[i] for i in moving)])
    values = found[: len(site.eqn.outvars)]  # the rule's, which need not be those of the function
    moves = found[len(values) :]
    return tuple(values), tuple(_filled([_no_tangent(v) for v in values], moved, moves))

  return list(function(*xs))


def _no_tangent(value: Any) -> Any:
  return np.zeros(np.shape(value), _FLOAT0)


rule('custom_jvp_call', _couple_jvp, _status_jvp, _small_jvp)


# ------------------------------------------------------------------------------------ custom_vjp


def _couple_vjp(site: Site, ins: list[Dims]) -> list[Dims]:
  outs = _couple_body(site, ins)
  if not site.walk.rules_wanted:
    return outs
  try:
    _couple_vjp_rule(site, ins, outs)
  except Exception:  # that of a rule that closes over values, among others
    if not site.walk.in_rule:
      raise
    # In a rule it may never be differentiated; whoever does so is told then.
    for role in ('forward', 'backward'):
      site.frame.children[site.index].pop(role, None)
  return outs


def _couple_vjp_rule(site: Site, ins: list[Dims], outs: list[Dims]) -> None:
  eqn = site.eqn
  moving, moved = _moving(eqn), _floats(eqn.outvars)
  call = core.jaxpr_as_fun(single(eqn))

  def forward(xs: list[Any]) -> Any:
    split = lambda *fs: _split(call(*_filled(xs, moving, fs)), moved)
    values, back, others = jax.vjp(split, *(xs[i] for i in moving), has_aux=True)
    still = [i for i in range(len(eqn.outvars)) if i not in moved]
    return _filled(_filled([None] * len(eqn.outvars), moved, values), still, others), back

  jaxpr, (_, back) = _traced(forward, _structs(eqn.invars))
  found = _couple_closed(site, 'forward', jaxpr, ins)
  _unify_all(site, outs, found[: len(outs)])
  residuals = found[len(outs) :]
  cotangents = _structs([eqn.outvars[i] for i in moved])
  jaxpr, _ = _traced(lambda back, cts: back(cts), back, cotangents)
  found = _couple_closed(site, 'backward', jaxpr, [*residuals, *(outs[i] for i in moved)])
  _unify_all(site, [ins[i] for i in moving], found)


def _moving(eqn: Any) -> list[int]:
  """Places of the operands that have a derivative: what the function closes over has none."""
  return [i for i in _floats(eqn.invars) if i >= eqn.params.get('num_consts', 0)]


def _couple_closed(site: Site, role: str, jaxpr: Any, ins: list[Dims]) -> list[Dims]:
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
  found = site.walk.couple_child(site, role, jaxpr, [*dims, *ins], rule=True)
  site.frame.children[site.index][role].closed = variables
  return found


def _is_traced(value: Any) -> bool:
  return isinstance(value, jax.core.Tracer)


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


def _status_vjp(site: Site, ins: list[Status]) -> list[Status]:
  outs = site.walk.status_child(site, 'body', ins)
  if 'backward' in site.frame.children[site.index]:
    outs = _worse_of(outs, _status_vjp_rule(site, ins))
  return outs


def _status_vjp_rule(site: Site, ins: list[Status]) -> list[Status]:
  """Of the results' values, as the rule has them."""
  known = lambda role: [site.frame.status[v] for v in site.frame.children[site.index][role].closed]
  found = site.walk.status_child(site, 'forward', [*known('forward'), *ins])
  values, residuals = found[: len(site.eqn.outvars)], found[len(site.eqn.outvars) :]
  unknown = []
  for i in _floats(site.eqn.outvars):
    of = dict.fromkeys(site.live(site.eqn.outvars[i]), ANY)
    unknown.append(Status(ANY, of, Facts(REAL | MADE, dict.fromkeys(of, REAL | MADE))))
  back = site.walk.status_child(site, 'backward', [*known('backward'), *residuals, *unknown])
  sources = [ins[i] for i in _moving(site.eqn)]
  return [_with_cotangents(value, sources, back) for value in values]


def _with_cotangents(value: Status, sources: Sequence[Status], back: Sequence[Status]) -> Status:
  """A value may be left out where what it hands back to its operands, or they, are zero too."""
  of = {}
  for atom, known in value.of.items():
    pairs = [(x.of[atom], ct.get(atom)) for x, ct in zip(sources, back) if atom in x.of]
    of[atom] = max([known, *(max(pair) for pair in pairs if ZERO not in pair)])
  return value._replace(default=max(UNIFORM, value.default), of=of)


def _small_vjp(site: Site, xs: list[Any]) -> list[Any]:
  """What the rule closes over is handed to it as operands without a derivative."""
  children, count = site.frame.children[site.index], len(site.eqn.invars)
  roles = [children[role].closed for role in ('forward', 'backward') if role in children]
  closed = list(dict.fromkeys(itertools.chain(*roles)))
  moving, moved = _moving(site.eqn), _floats(site.eqn.outvars)

  def rule(role: str, known: Sequence[Any], values: Sequence[Any]) -> list[Any]:
    by_variable = dict(zip(closed, known, strict=True))
    found = [by_variable[v] for v in children[role].closed]
    return site.walk.small_child(site, role, [*found, *values])

  @jax.custom_vjp
  def function(*ys: Any) -> Any:
    return tuple(site.walk.small_child(site, 'body', list(ys[:count])))

  def forward(*ys: Any) -> Any:
    if 'backward' not in children:
      couple_later(site, _couple_vjp_rule, _status_vjp_rule)
    found = rule('forward', ys[count:], ys[:count])
    return tuple(found[: len(site.eqn.outvars)]), (found[len(site.eqn.outvars) :], ys[count:])

  def backward(kept: Any, cotangents: Any) -> Any:
    residuals, known = kept
    found = rule('backward', known, [*residuals, *(cotangents[i] for i in moved)])
    return tuple(_filled([None] * (count + len(closed)), moving, found))

  function.defvjp(forward, backward)
  return list(function(*xs, *(site.run.values[var] for var in closed)))


rule('custom_vjp_call custom_vjp_call_jaxpr', _couple_vjp, _status_vjp, _small_vjp)
