"""Derivative rules of higher orders: coupled when a derivative asks for them.

A rule may call its own function, whose derivative is the rule again, and so on for ever. Two levels
are coupled with the function. By the time that a third is asked for, the sizes of all axes are
chosen, so it must not tie or freeze what has been pruned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from jprune.graph import _errors
from jprune.graph._analysis.coupling import Coupling
from jprune.graph._analysis.pruned_values import Exactness
from jprune.graph._axes.atoms import Atom, Dims, leaves, resolve
from jprune.graph._axes.pruned import Status
from jprune.graph._program.frame import Frame
from jprune.graph._program.locations import place
from jprune.graph._rules.sites import CoupleSite, SmallSite, StatusSite


def couple_later(
  site: SmallSite,
  couple: Callable[[CoupleSite, list[Dims], list[Dims]], None],
  status: Callable[[StatusSite, list[Status]], list[Status]],
) -> None:
  """Couples a rule of an equation that is being evaluated at small sizes, and checks it.

  Args:
    site: the equation.
    couple: couples the rule.
    status: what is known of the equation's results when the rule computes them.

  Raises:
    ValueError: if the rule ties pruned channels to others, or freezes them.
  """
  frame, pruned = site.frame, site.walk.keeps
  known = dict.fromkeys(_atoms(_outermost(frame)))
  couple(CoupleSite(Coupling(rules_wanted=1), frame, site.index), site.ins(), site.outs())
  # Of an old and a new name for the same axis, the old one is that under which facts are filed.
  same = all(_keeps_its_name(atom, known) for atom in known)
  exactness = Exactness(pruned)
  if same:
    ins = [exactness.read(frame, var) for var in site.eqn.invars]
    found = status(StatusSite(exactness, frame, site.index), ins)
    outs = [exactness.read(frame, var) for var in site.eqn.outvars]
    same = all(new.get(a) <= old.get(a) for new, old in zip(found, outs) for a in old.of)
  if not same or not all(map(_is_as_it_was, pruned)):
    children = frame.children[site.index]
    # Without them the next try is checked too.
    for role in [each for each in children if each != 'body']:
      del children[role]
    raise _errors.other_rule(place(site.eqn, frame))


def _keeps_its_name(atom: Atom, known: dict[Atom, None]) -> bool:
  found = resolve((atom,))
  if found == (atom,):
    return True
  if len(found) != 1 or found[0] in known or found[0].segments is not None:
    return False
  (new,) = found
  atom.bound, new.bound, atom.frozen = None, (atom,), new.frozen
  return True


def _is_as_it_was(atom: Atom) -> bool:
  return atom.frozen is None and atom.segments is None and atom.bound is None


def _outermost(frame: Frame) -> Frame:
  while frame.caller is not None:
    frame = frame.caller[0]
  return frame


def _atoms(frame: Frame) -> Iterable[Atom]:
  """The atoms of all values of a frame, and of those that it calls."""
  for dims in frame.dims.values():
    for dim in dims:
      yield from leaves(dim)
  for roles in frame.children.values():
    for child in roles.values():
      yield from _atoms(child)
