"""Primitives that call other functions: calls, loops, branches, recomputation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import lax

from jprune.graph._axes.atoms import Dims, fresh, size_of
from jprune.graph._axes.pruned import ANY, UNIFORM, ZERO, Facts, Status
from jprune.graph._program.calls import call_of, called
from jprune.graph._program.dataflow import settled
from jprune.graph._program.sharding import struct
from jprune.graph._program.traits import NONE, Trait
from jprune.graph._rules.base import rule
from jprune.graph._rules.sites import CoupleSite, SmallSite, StatusSite

# ------------------------------------------------------------------------------------------ calls


def _couple_call(site: CoupleSite, ins: list[Dims]) -> list[Dims]:
  return site.child('body', called(site.eqn), ins, inline=True)


def _status_call(site: StatusSite, ins: list[Status]) -> list[Status]:
  return site.child('body', ins)


def _small_call(site: SmallSite, xs: list[Any]) -> list[Any]:
  return site.child('body', xs)


def _small_remat(site: SmallSite, xs: list[Any]) -> list[Any]:
  def body(*ys: Any) -> list[Any]:
    # Ghosts that are computed in here belong to another trace, so nobody outside may find them.
    runs = list(site.run.outwards())
    before = [dict(run.ghosts) for run in runs]
    outs = site.child('body', list(ys))
    for run, ghosts in zip(runs, before, strict=True):
      run.ghosts = ghosts
    return outs

  p = site.params
  return list(jax.checkpoint(body, prevent_cse=p['prevent_cse'], policy=p['policy'])(*xs))


for _name, _folds in (('jit', Trait.FOLDS), ('closed_call', NONE)):
  rule(_name, _couple_call, _status_call, _small_call, traits=Trait.INLINE | _folds)
rule('remat2', _couple_call, _status_call, _small_remat)


# ------------------------------------------------------------------------------------------- scan


def _couple_scan(site: CoupleSite, ins: list[Dims]) -> list[Dims]:
  call = call_of(site.eqn)
  inside = list(ins)
  for dims in ins[call.steps]:
    site.freeze(dims[0], 'the axis of a scan')
  inside[call.steps] = [dims[1:] for dims in ins[call.steps]]
  outs = site.child('body', site.params['jaxpr'], inside)
  carry = ins[call.carry]
  for before, after in zip(carry, outs):
    _unify_all(site, before, after)
  steps = fresh(cast(int, call.turns), site.cause('the axis of a scan'))
  return [*carry, *((steps, *dims) for dims in outs[len(carry) :])]


def _status_scan(site: StatusSite, ins: list[Status]) -> list[Status]:
  call = call_of(site.eqn)
  turn = lambda carry: site.child('body', call.inputs('body', ins, carry))
  carry, outs = settled(turn, ins[call.carry], _worse)
  return [*carry, *outs[len(carry) :]]


def _small_scan(site: SmallSite, xs: list[Any]) -> list[Any]:
  call, p = call_of(site.eqn), site.params
  scanned, count = xs[call.steps], len(xs[call.carry])

  def body(carry: Any, x: Any) -> Any:
    outs = site.child('body', [*xs[call.consts], *carry, *x])
    return outs[:count], outs[count:]

  length = None if scanned else call.turns  # with one, scan refuses sizes that are symbolic
  carry, stacked = lax.scan(
    body, xs[call.carry], scanned, length=length, reverse=call.backwards, unroll=p['unroll']
  )
  return [*carry, *stacked]


rule('scan', _couple_scan, _status_scan, _small_scan)


# ------------------------------------------------------------------------------------------ while


def _couple_while(site: CoupleSite, ins: list[Dims]) -> list[Dims]:
  call, p = call_of(site.eqn), site.params
  carry = ins[call.carry]
  (running,) = site.child('cond', p['cond_jaxpr'], call.inputs('cond', ins))
  for dims in carry:  # under vmap there is a condition for each lane
    _unify_all(site, running, dims[: len(running)])
  outs = site.child('body', p['body_jaxpr'], call.inputs('body', ins))
  for before, after in zip(carry, outs):
    _unify_all(site, before, after)
  return carry


def _status_while(site: StatusSite, ins: list[Status]) -> list[Status]:
  call = call_of(site.eqn)

  def turn(carry: list[Status]) -> list[Status]:
    (running,) = site.child('cond', call.inputs('cond', ins, carry))
    outs = site.child('body', call.inputs('body', ins, carry))
    return [_of_lanes(running, _worse(a, b)) for a, b in zip(carry, outs, strict=True)]

  return settled(turn, ins[call.carry], lambda _, after: after)[0]


def _of_lanes(running: Status, carry: Status) -> Status:
  """Lanes that differ in when they end hold different values, unless these are zero."""
  ragged = [atom for atom, value in running.of.items() if value > UNIFORM]
  of = {a: max(v, ANY) if a in ragged and v != ZERO else v for a, v in carry.of.items()}
  return carry._replace(of=of)


def _small_while(site: SmallSite, xs: list[Any]) -> list[Any]:
  call = call_of(site.eqn)
  child = lambda role, carry: site.child(role, call.inputs(role, xs, carry))
  running = lambda carry: child('cond', carry)[0]
  body = lambda carry: in_lanes(running, carry, child('body', carry))
  return list(lax.while_loop(lambda carry: running(carry).any(), body, xs[call.carry]))


def in_lanes(running: Callable[[Any], jax.Array], before: list[Any], after: list[Any]) -> list[Any]:
  """What a turn of a loop leaves: under ``vmap``, lanes that have ended keep what they had."""
  if jax.eval_shape(running, before).ndim == 0:
    return after
  now = running(before)
  spread = lambda x: lax.broadcast_in_dim(now, jnp.shape(x), range(now.ndim))
  return [lax.select(spread(new), new, old) for new, old in zip(after, before)]


rule('while', _couple_while, _status_while, _small_while)


# ------------------------------------------------------------------------------------------- cond


def _couple_cond(site: CoupleSite, ins: list[Dims]) -> list[Dims]:
  outs: list[Dims] = []
  for role, branch in enumerate(site.params['branches']):
    found = site.child(role, branch, ins[1:])
    for first, other in zip(outs, found):
      _unify_all(site, first, other)
    outs = outs or found
  return outs


def _status_cond(site: StatusSite, ins: list[Status]) -> list[Status]:
  branches = range(len(site.params['branches']))
  found = [site.child(role, ins[1:]) for role in branches]
  outs = found[0]
  for other in found[1:]:
    outs = [_worse(a, b) for a, b in zip(outs, other)]
  return outs


def _small_cond(site: SmallSite, xs: list[Any]) -> list[Any]:
  index, *operands = xs
  branch = lambda role: lambda *ys: site.child(role, list(ys))
  branches = [branch(role) for role in range(len(site.params['branches']))]
  if len(branches) == 1:
    return branches[0](*operands)
  return list(lax.switch(index.astype('int32'), branches, *operands))


rule('cond', _couple_cond, _status_cond, _small_cond)


def _unify_all(site: CoupleSite, a: Dims, b: Dims) -> None:
  for x, y in zip(a, b):
    if size_of(x) == size_of(y):
      site.unify(x, y)


def _worse(a: Status, b: Status) -> Status:
  atoms = a.of.keys() | b.of.keys()
  of = {atom: max(a.get(atom), b.get(atom)) for atom in atoms}
  flags = {atom: a.known.get(atom) | b.known.get(atom) for atom in atoms}
  facts = Facts(a.known.default | b.known.default, flags, a.known.lost | b.known.lost)
  return Status(max(a.default, b.default), of, facts)


# --------------------------------------------------------------------------------- other packages

# They are computed as JAX would compute them, and JAX finds their derivatives.
_CALLED = frozenset(['maybe_set', 'vprim'])


def _couple_called(site: CoupleSite, ins: list[Dims]) -> list[Dims]:
  primitive, params = site.eqn.primitive, site.params
  while primitive.name == 'vprim':  # another one under vmap
    primitive, params = params['prim'], dict(params['params'])
  if primitive.name not in _CALLED:
    raise NotImplementedError(primitive.name)
  run = lambda *xs: site.eqn.primitive.impl(*xs, **site.params)
  jaxpr = jax.make_jaxpr(run)(*(struct(var.aval) for var in site.eqn.invars))
  return site.child('body', jaxpr, ins, inline=True)


def _status_called(site: StatusSite, ins: list[Status]) -> list[Status]:
  return site.child('body', ins)


def _small_called(site: SmallSite, xs: list[Any]) -> list[Any]:
  return site.child('body', xs)


rule(' '.join(_CALLED), _couple_called, _status_called, _small_called, traits=Trait.INLINE)
