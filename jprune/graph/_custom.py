"""Functions that bring their own derivative rule, which the smaller function keeps.

The rule is traced at full shapes like everything else, coupled and checked like everything else,
and evaluated at the small shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jprune.graph._atoms import Dims
from jprune.graph._facts import MADE, REAL
from jprune.graph._frame import single
from jprune.graph._later import couple_later
from jprune.graph._rule import ANY, Facts, Site, Status, rule
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
  worse = lambda mine, other: {a: max(v, other.get(a)) for a, v in mine.of.items()}
  return [mine._replace(of=worse(mine, other)) for mine, other in zip(these, others, strict=True)]


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
  if site.walk.rules_wanted:
    _couple_vjp_rule(site, ins, outs)
  return outs


def _couple_vjp_rule(site: Site, ins: list[Dims], outs: list[Dims]) -> None:
  eqn = site.eqn
  moving, moved = _floats(eqn.invars), _floats(eqn.outvars)
  call = core.jaxpr_as_fun(single(eqn))

  def forward(xs: list[Any]) -> Any:
    split = lambda *fs: _split(call(*_filled(xs, moving, fs)), moved)
    values, back, others = jax.vjp(split, *(xs[i] for i in moving), has_aux=True)
    still = [i for i in range(len(eqn.outvars)) if i not in moved]
    return _filled(_filled([None] * len(eqn.outvars), moved, values), still, others), back

  jaxpr, (_, back) = _traced(forward, _structs(eqn.invars))
  found = site.walk.couple_child(site, 'forward', jaxpr, ins, rule=True)
  _unify_all(site, outs, found[: len(outs)])
  residuals = found[len(outs) :]
  cotangents = _structs([eqn.outvars[i] for i in moved])
  jaxpr, _ = _traced(lambda back, cts: back(cts), back, cotangents)
  found = site.walk.couple_child(
    site, 'backward', jaxpr, [*residuals, *(outs[i] for i in moved)], rule=True
  )
  _unify_all(site, [ins[i] for i in moving], found)


def _split(values: Sequence[Any], moved: Sequence[int]) -> tuple[list[Any], list[Any]]:
  return [values[i] for i in moved], [v for i, v in enumerate(values) if i not in moved]


def _status_vjp(site: Site, ins: list[Status]) -> list[Status]:
  outs = site.walk.status_child(site, 'body', ins)
  if 'backward' in site.frame.children[site.index]:
    outs = _worse_of(outs, _status_vjp_rule(site, ins))
  return outs


def _status_vjp_rule(site: Site, ins: list[Status]) -> list[Status]:
  """Of the results' values, as the rule has them."""
  found = site.walk.status_child(site, 'forward', ins)
  values, residuals = found[: len(site.eqn.outvars)], found[len(site.eqn.outvars) :]
  unknown = []
  for i in _floats(site.eqn.outvars):
    of = dict.fromkeys(site.live(site.eqn.outvars[i]), ANY)
    unknown.append(Status(ANY, of, Facts(REAL | MADE, dict.fromkeys(of, REAL | MADE))))
  site.walk.status_child(site, 'backward', [*residuals, *unknown])
  return values


def _small_vjp(site: Site, xs: list[Any]) -> list[Any]:
  body = lambda *ys: tuple(site.walk.small_child(site, 'body', list(ys)))
  moving, moved = _floats(site.eqn.invars), _floats(site.eqn.outvars)
  function = jax.custom_vjp(body)

  def forward(*ys: Any) -> Any:
    if 'backward' not in site.frame.children[site.index]:
      couple_later(site, _couple_vjp_rule, _status_vjp_rule)
    found = site.walk.small_child(site, 'forward', list(ys))
    return tuple(found[: len(site.eqn.outvars)]), found[len(site.eqn.outvars) :]

  def backward(residuals: Any, cotangents: Any) -> Any:
    wanted = [cotangents[i] for i in moved]
    found = site.walk.small_child(site, 'backward', [*residuals, *wanted])
    return tuple(_filled([None] * len(site.eqn.invars), moving, found))

  function.defvjp(forward, backward)
  return list(function(*xs))


rule('custom_vjp_call custom_vjp_call_jaxpr', _couple_vjp, _status_vjp, _small_vjp)
