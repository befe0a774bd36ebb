"""The walk that evaluates a traced function with the pruned channels left out.

Every value is computed at the indices that stay. Where pruned entries are not zero but all alike,
a reduction over them adds one of them, the ghost, as often as it was pruned. A ghost is a value of
the same equations in another *world*: one in which an atom is represented by a single pruned index
of it. Worlds are computed only where they are asked for.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jprune.graph import _errors
from jprune.graph._analysis.ghosts import carried
from jprune.graph._axes.atoms import Dims, leaves
from jprune.graph._axes.pruned import ZERO
from jprune.graph._axes.sizes import NOWHERE, Sizes, World
from jprune.graph._program.evaluate import evaluate_whole
from jprune.graph._program.frame import Frame
from jprune.graph._program.locations import place
from jprune.graph._program.sharding import explicit, placed, take_axis, zeros
from jprune.graph._rules.base import RULES, Joins
from jprune.graph._rules.sites import Role, SmallSite
from jprune.graph._shrunk.extremes import extreme
from jprune.graph._shrunk.later_rules import couple_later


class _Run:
  """The values of one run of a frame, in the world in which its equation was asked for."""

  def __init__(self, frame: Frame, outer: _Run | None = None, world: World = NOWHERE) -> None:
    self.frame = frame
    self.outer = outer
    self.world = world
    self.values: dict[Any, Any] = {}
    self.ghosts: dict[tuple[Any, World], Any] = {}
    self.children: dict[int, _Run] = {}

  def outwards(self) -> Iterator[_Run]:
    """This run, that in which it is inlined, and so on."""
    run: _Run | None = self
    while run is not None:
      yield run
      run = run.outer


class Small(Sizes):
  """Runs the ``small`` side of every rule."""

  def take(self, x: Any, dims: Dims, world: World = NOWHERE) -> Any:
    """The entries that stay."""
    for axis, dim in enumerate(dims):
      keep = self.keep(dim, world)
      if keep is not None:
        x = take_axis(x, np.flatnonzero(keep), axis)
    return x

  def __call__(self, frame: Frame, xs: list[Any], run: _Run | None = None) -> list[Any]:
    """The results of a frame, from the small values of its inputs."""
    run = run or _Run(frame)
    for var in frame.jaxpr.constvars:
      run.values[var] = frame.consts[var]
    for var, x in zip(frame.jaxpr.invars, xs):
      run.values[var] = x
    for index, eqn in enumerate(frame.jaxpr.eqns):
      for var, out in zip(eqn.outvars, self._evaluate(run, index, run.world)):
        run.values[var] = out
    return [self._value(run, var, run.world) for var in frame.jaxpr.outvars]

  def small_child(self, site: SmallSite, role: Role | Frame, xs: list[Any]) -> list[Any]:
    """The results of a jaxpr that an equation calls, by its role or as the frame that it is."""
    frame = role if isinstance(role, Frame) else site.children[role]
    for atom in site.world:
      if not carried(frame, atom):  # a rule that was coupled later
        raise _errors.other_rule(place(site.eqn, site.frame))
    outer = cast(_Run, site.run)  # it was made here
    run = _Run(frame, outer if frame.outer is not None else None, site.world)
    if frame.outer is not None:
      outer.children[site.index] = run
    return self(frame, xs, run)

  def couple_later(self, site: SmallSite, couple: Any, status: Any) -> None:
    """Couples a derivative rule that nobody asked for before; see :mod:`later_rules`."""
    couple_later(site, couple, status)

  def _evaluate(self, run: _Run, index: int, world: World) -> list[Any]:
    eqn = run.frame.jaxpr.eqns[index]
    with eqn.ctx.manager:  # such as the mesh under which it was traced
      outs = self._in_context(run, index, world)
      # Split as it was, where that divides its size: then what meets it is split alike.
      return [placed(x, explicit(v.aval, np.shape(x))) for x, v in zip(outs, eqn.outvars)]

  def _in_context(self, run: _Run, index: int, world: World) -> list[Any]:
    site = SmallSite(self, run.frame, index, run, world)
    rule = RULES.get(site.name)
    if index in run.frame.copies:
      (dims,), (var,) = site.outs(), site.eqn.invars
      return [self.take(jnp.asarray(run.values[var]), dims, world)]
    if rule is None or index in run.frame.given_up:
      xs = [self._value(run, var, world) for var in site.eqn.invars]
      return evaluate_whole(site.eqn, xs)
    needed = run.frame.ghosts.get(index, ())
    ghosts = [atom for atom in needed if atom in self.keeps and atom not in world]
    parts = []
    for chosen in itertools.product((False, True), repeat=len(ghosts)):
      extra = frozenset(atom for atom, yes in zip(ghosts, chosen) if yes)
      inner = SmallSite(self, run.frame, index, run, world | extra)
      xs = [self._value(run, var, world | extra) for var in site.eqn.invars]
      times = math.prod(int((~self.keeps[atom]).sum()) for atom in extra)
      parts.append(_Part(rule.small(inner, xs), xs[0] if xs else None, times))
    return parts[0].outs if len(parts) == 1 else [_combined(site, parts)]

  def _value(self, run: _Run, var: Any, world: World) -> Any:
    if isinstance(var, core.Literal):
      return var.val
    if world:
      world = world & {atom for dim in run.frame.dims[var] for atom in leaves(dim)}
    here = run.world and run.world & {atom for dim in run.frame.dims[var] for atom in leaves(dim)}
    if world == here:
      return run.values[var]
    key = (var, world)
    if key not in run.ghosts:
      run.ghosts[key] = self._ghost(run, var, world)
    return run.ghosts[key]

  def _ghost(self, run: _Run, var: Any, world: World) -> Any:
    """A value in another world: zeros, or what its equation gives there."""
    frame = run.frame
    if any(frame.status[var].get(atom) == ZERO for atom in world):
      shape = tuple(self.small_size(dim, world) for dim in frame.dims[var])
      return zeros(var.aval, shape)
    index = frame.maker(var)
    if index is None:
      # Only what is inlined has ghosts of inputs, and those are its caller's.
      (_, _, operands), outer = cast(tuple[Any, ...], frame.outer), cast(_Run, run.outer)
      return self._value(outer, operands[list(frame.jaxpr.invars).index(var)], world)
    eqn = frame.jaxpr.eqns[index]
    if index in run.children:
      child = run.children[index]
      return self._value(child, child.frame.jaxpr.outvars[eqn.outvars.index(var)], world)
    return self._evaluate(run, index, world)[eqn.outvars.index(var)]


class _Part(NamedTuple):
  """Results of a reduction over what stays, or over ghosts; its operand; how often it counts."""

  outs: list[Any]
  operand: Any
  times: int


def _combined(site: SmallSite, parts: Sequence[_Part]) -> Any:
  """The result of a reduction from those of its parts."""
  how = cast(Joins, RULES[site.name].joins)  # as has all that asks for ghosts of a sum
  values = [part.outs[0] for part in parts]
  if how.picks and jnp.issubdtype(jnp.result_type(values[0]), jnp.inexact):
    operands, times = [part.operand for part in parts], tuple(part.times for part in parts)
    return extreme(how.combine, tuple(site.params['axes']), times, values, operands)
  each = (how.repeated(value, part.times) for value, part in zip(values[1:], parts[1:]))
  return functools.reduce(how.combine, each, values[0])
