"""The walk that finds out where leaving pruned channels out changes nothing.

For every value, and every atom in it that may be pruned: are the entries at pruned indices zero;
or all alike, so that one of them, the *ghost*, can stand for all; or anything? Where an atom is
summed away, zeros may be left out, and a ghost added as often as it was pruned; else the atom is
frozen there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from jax.extend import core

from jprune.graph._analysis.facts import undoubted, with_facts
from jprune.graph._analysis.ghosts import carried, is_factor
from jprune.graph._axes.atoms import Atom, Dim, leaves
from jprune.graph._axes.pruned import ANY, SIGNS, UNIFORM, ZERO, Facts, Status
from jprune.graph._program.constants import of_value
from jprune.graph._program.frame import Frame
from jprune.graph._program.traits import Trait, has
from jprune.graph._rules.base import RULES
from jprune.graph._rules.sites import StatusSite

_MOST_GHOSTS = 3


class Exactness:
  """Runs the ``status`` side of every rule."""

  def __init__(self, prunable: Iterable[Atom]) -> None:
    self._prunable = set(prunable)
    self._found: dict[tuple[int, Any], list[Atom]] = {}

  def atoms_of(self, dim: Dim) -> list[Atom]:
    """The atoms of a dimension that may be pruned."""
    found = (atom for atom in leaves(dim) if atom.frozen is None and atom in self._prunable)
    return list(dict.fromkeys(found))

  def prunable(self, frame: Frame, var: Any) -> list[Atom]:
    """The atoms of a value that may be pruned."""
    key = (id(frame), var)
    if key not in self._found:
      dims = frame.dims_of(var)
      self._found[key] = list(dict.fromkeys(a for dim in dims for a in self.atoms_of(dim)))
    return self._found[key]

  def run(self, frame: Frame, ins: list[Status]) -> list[Status]:
    """The statuses of all values of a frame; returns those of its results."""
    status = frame.status
    for var in frame.jaxpr.constvars:
      status[var] = Status(UNIFORM, {}, Facts(of_value(frame.consts[var]), {}))
    for var, found in zip(frame.jaxpr.invars, ins):
      status[var] = found
    for index, eqn in enumerate(frame.jaxpr.eqns):
      frame.ghosts.pop(index, None)
      for var, found in zip(eqn.outvars, self._run_one(StatusSite(self, frame, index))):
        status[var] = found
    return [self.read(frame, var) for var in frame.jaxpr.outvars]

  def _run_one(self, site: StatusSite) -> list[Status]:
    ins = [self.read(site.frame, var) for var in site.eqn.invars]
    if site.index in site.frame.copies:
      return [self._of_copy(site)]
    if site.index in site.frame.given_up:
      outs = [Status(UNIFORM, dict.fromkeys(site.prunable(v), ANY)) for v in site.eqn.outvars]
    else:
      outs = RULES[site.name].status(site, ins)
    # What is called has its own.
    return with_facts(site, ins, outs) if outs and outs[0].facts is None else outs

  def _of_copy(self, site: StatusSite) -> Status:
    """Of a value that depends on no input its axes are known."""
    fixed, (dims,) = site.frame.copies[site.index], site.outs()
    of: dict[Atom, int] = {}
    for dim, value in zip(dims, fixed.axes):
      for atom in self.atoms_of(dim):
        of[atom] = max(of.get(atom, ZERO), value)
    (var,) = site.eqn.outvars
    once = {a: v if v == ZERO or site.times(var, a) == 1 else max(v, ANY) for a, v in of.items()}
    known = self.read(site.frame, site.eqn.invars[0]).known.default
    return Status(fixed.default, once, Facts(known, dict.fromkeys(once, known | SIGNS)))

  def status_child(self, site: StatusSite, role: Any, ins: list[Status]) -> list[Status]:
    """The statuses in a jaxpr that an equation calls."""
    if role in ('jvp', 'forward'):
      ins = [undoubted(status) for status in ins]
    return self.run(site.frame.children[site.index][role], ins)

  def read(self, frame: Frame, var: Any) -> Status:
    """What is known of a variable or a literal."""
    if isinstance(var, core.Literal):
      zero = np.ndim(var.val) == 0 and _is_zero(var.val)
      return Status(ZERO if zero else UNIFORM, {}, Facts(of_value(var.val), {}))
    return frame.status[var]

  # --------------------------------------------------------------------------------------- ghosts

  def ghost(self, site: StatusSite, atom: Atom) -> bool:
    """Notes that the equation needs the ghosts of its operands, if they can be computed."""
    atoms = site.frame.ghosts.get(site.index, ())
    if len(atoms) >= _MOST_GHOSTS and atom not in atoms:
      return False
    if not all(self._ghostable(site.frame, var, atom) for var in site.eqn.invars):
      return False
    site.frame.ghosts[site.index] = tuple(dict.fromkeys((*atoms, atom)))
    return True

  def _ghostable(self, frame: Frame, var: Any, atom: Atom) -> bool:
    """Whether the entries at one pruned index can be computed by themselves."""
    if isinstance(var, core.Literal) or atom not in self.prunable(frame, var):
      return True
    if self.read(frame, var).get(atom) == ZERO:
      return is_factor(frame, var, atom)
    if not is_factor(frame, var, atom):
      return False
    index = frame.maker(var)
    if index is None:
      if frame.outer is None:
        return False
      outer, _, operands = frame.outer
      return self._ghostable(outer, operands[list(frame.jaxpr.invars).index(var)], atom)
    eqn = frame.jaxpr.eqns[index]
    if index in frame.copies:
      return True
    if has(eqn, Trait.INLINE):
      child = frame.children[index]['body']
      return self._ghostable(child, child.jaxpr.outvars[eqn.outvars.index(var)], atom)
    if has(eqn, Trait.APART):
      able = all(carried(child, atom) for child in frame.children[index].values())
    else:
      able = has(eqn, Trait.GHOSTS)
    return able and all(self._ghostable(frame, operand, atom) for operand in eqn.invars)


def _is_zero(value: Any) -> bool:
  return not np.asarray(value).astype(bool).any()
