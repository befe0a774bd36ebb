"""Functions that bring their own derivative rule, which the smaller function keeps.

The rule is traced at full shapes like everything else, coupled and checked like everything else,
and evaluated at the small shapes. It is one by all operands that have a derivative; or, where a
rule may ask and refuse some, by those that the params have a part in. One that can't be traced is
left out, as are rules by other operands: coupled, or refused, where a derivative asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jprune.graph._axes.atoms import Dims
from jprune.graph._axes.pruned import Status
from jprune.graph._program.evaluate import single
from jprune.graph._program.foreign import without_foreign
from jprune.graph._program.frame import Frame
from jprune.graph._program.perturbed import is_float, perturbed
from jprune.graph._program.sharding import struct
from jprune.graph._program.traits import Trait
from jprune.graph._rules.base import RULES, rule
from jprune.graph._rules.sites import CoupleSite, Site, SmallSite, StatusSite

_FLOAT0 = jax.dtypes.float0


_SYMBOLIC = jax.custom_derivatives.SymbolicZero


def floats_of(variables: Sequence[Any]) -> list[int]:
  """Places of what has a derivative."""
  return [i for i, var in enumerate(variables) if is_float(var)]


def filled(values: Sequence[Any], places: Sequence[int], new: Sequence[Any]) -> list[Any]:
  out = list(values)
  for place, value in zip(places, new):
    out[place] = value
  return out


def traced(fn: Callable[..., Any], *args: Any) -> tuple[Any, Any]:
  """A closed jaxpr and the tree of shapes that it returns."""
  jaxpr, shapes = jax.make_jaxpr(fn, return_shape=True)(*args)
  return without_foreign(jaxpr, RULES), shapes


def structs(variables: Sequence[Any]) -> list[jax.ShapeDtypeStruct]:
  return [struct(v.aval) for v in variables]


def couple_body(site: CoupleSite, ins: list[Dims]) -> list[Dims]:
  return site.child('body', site.params['call_jaxpr'], ins)


class Jaxprs(NamedTuple):
  """A rule as jaxprs, and the operands by which it is one."""

  moving: tuple[int, ...]
  jaxprs: tuple[Any, ...]


def of_choice(
  site: Site, floats: Sequence[int], trace: Callable[[Any, Sequence[int]], Jaxprs]
) -> Jaxprs | None:
  """The rule by all operands, or by those that the params have a part in if it can tell them.

  ``None`` if it can't be traced: whoever differentiates traces it again, and is told. What JAX
  itself would not ask for is not tried: a trace that fails takes others of the rule with it.
  """
  if site.params.get('symbolic_zeros'):
    known = perturbed(site.frame, site.eqn.invars)
    floats = [i for i in floats if known[i]]
  try:
    return trace(site.eqn, floats) if floats else None
  except Exception:  # whatever the rule of somebody else raises
    return None


def asked_later(
  site: SmallSite, rule: Frame | None, asked: Sequence[int], couple: Any, trace: Any, status: Any
) -> None:
  """Couples the rule by the operands that a derivative asks for, unless it was by those before."""
  if rule is None or not set(asked) <= set(rule.moving):
    traced = lambda site, ins, outs: couple(site, ins, outs, trace(site.eqn, asked))
    site.walk.couple_later(site, traced, status)


def full(zero: Any) -> Any:
  """A tangent or cotangent as an array, also one of which only the shape was handed on."""
  if not isinstance(zero, _SYMBOLIC):
    return zero
  return jnp.zeros(zero.shape, cast(np.dtype, zero.dtype))


# ------------------------------------------------------------------------------------ custom_jvp


def _couple_jvp(site: CoupleSite, ins: list[Dims]) -> list[Dims]:
  outs = couple_body(site, ins)
  if site.walk.rules_wanted:
    found = of_choice(site, floats_of(site.eqn.invars), _trace_jvp)
    if found is not None:
      _couple_jvp_rule(site, ins, outs, found)
  return outs


def _trace_jvp(eqn: Any, moving: Sequence[int]) -> Jaxprs:
  moved = floats_of(eqn.outvars)
  call = core.jaxpr_as_fun(single(eqn))

  def differentiated(xs: list[Any], tangents: list[Any]) -> list[Any]:
    whole = lambda *fs: call(*filled(xs, moving, fs))
    values, found = jax.jvp(whole, [xs[i] for i in moving], tangents)
    return [*values, *(found[i] for i in moved)]

  xs = structs(eqn.invars)
  jaxpr, _ = traced(differentiated, xs, [xs[i] for i in moving])
  return Jaxprs(tuple(moving), (jaxpr,))


def _couple_jvp_rule(site: CoupleSite, ins: list[Dims], outs: list[Dims], rule: Jaxprs) -> None:
  moving, (jaxpr,) = rule
  found = site.child('jvp', jaxpr, [*ins, *(ins[i] for i in moving)], rule=True)
  site.children['jvp'].moving = moving
  unify_all(site, [*outs, *(outs[i] for i in floats_of(site.eqn.outvars))], found)


def unify_all(site: CoupleSite, these: Sequence[Dims], others: Sequence[Dims]) -> None:
  for dims, other in zip(these, others, strict=True):
    for a, b in zip(dims, other, strict=True):
      site.unify(a, b)


def _status_jvp(site: StatusSite, ins: list[Status]) -> list[Status]:
  """What is left out of a sum must be zero, and so must its tangents, and its value in the rule."""
  outs = site.child('body', ins)
  if 'jvp' in site.children:
    outs = worse_of(outs, _status_jvp_rule(site, ins))
  return outs


def _status_jvp_rule(site: StatusSite, ins: list[Status]) -> list[Status]:
  """Of each result the worse of its value and its tangent."""
  moving, moved = site.children['jvp'].moving, floats_of(site.eqn.outvars)
  found = site.child('jvp', [*ins, *(ins[i] for i in moving)])
  values, tangents = found[: -len(moved) or None], found[len(found) - len(moved) :]
  return filled(values, moved, worse_of([values[i] for i in moved], tangents))


def worse_of(these: Sequence[Status], others: Sequence[Status]) -> list[Status]:
  out = []
  for mine, other in zip(these, others, strict=True):
    of = {atom: max(value, other.get(atom)) for atom, value in mine.of.items()}
    out.append(mine._replace(default=max(mine.default, other.default), of=of))
  return out


def _small_jvp(site: SmallSite, xs: list[Any]) -> list[Any]:
  body = lambda *ys: tuple(site.child('body', list(ys)))
  floats, moved = floats_of(site.eqn.invars), floats_of(site.eqn.outvars)
  children = site.children
  function = jax.custom_jvp(body)

  def differentiated(primals: Any, tangents: Any) -> Any:
    asked = [i for i in floats if not isinstance(tangents[i], _SYMBOLIC)]
    rule = children.get('jvp')
    asked_later(site, rule, asked, _couple_jvp_rule, _trace_jvp, _status_jvp_rule)
    rule = children['jvp']
    moves = [full(tangents[i]) for i in rule.moving]
    found = site.child(rule, [*primals, *moves])
    values = found[: len(site.eqn.outvars)]  # the rule's, which need not be those of the function
    moves = found[len(values) :]
    return tuple(values), tuple(filled([_no_tangent(v) for v in values], moved, moves))

  whole = 'jvp' in children and list(children['jvp'].moving) == floats
  function.defjvp(differentiated, symbolic_zeros=not whole)
  return list(function(*xs))


def _no_tangent(value: Any) -> Any:
  return np.zeros(np.shape(value), _FLOAT0)


rule('custom_jvp_call', _couple_jvp, _status_jvp, _small_jvp, traits=Trait.APART | Trait.OWN_RULE)
