"""Which equations can be computed at one pruned index alone, as ghosts are."""

from __future__ import annotations

from typing import Any

from jax.extend import core

from jprune.graph._axes.atoms import Atom, resolve
from jprune.graph._program.frame import Frame
from jprune.graph._program.traits import Trait, has


def carried(frame: Frame, atom: Atom) -> bool:
  """Whether all that a frame does along an atom can be done at one index of it by itself."""
  for index, eqn in enumerate(frame.jaxpr.eqns):
    variables = [*eqn.invars, *eqn.outvars]
    having = [var for var in variables if _has(frame, var, atom)]
    if not having or index in frame.copies:
      continue
    if not all(_has(frame, var, atom) and is_factor(frame, var, atom) for var in eqn.outvars):
      return False
    if not all(is_factor(frame, var, atom) for var in having):
      return False
    if index in frame.children:
      children = frame.children[index].values()
      runs = has(eqn, Trait.INLINE) or has(eqn, Trait.APART)
      if not runs or not all(carried(child, atom) for child in children):
        return False
    elif not has(eqn, Trait.GHOSTS):
      return False
  return True


def _has(frame: Frame, var: Any, atom: Atom) -> bool:
  return not isinstance(var, core.Literal) and frame.counts(var).get(atom, 0) > 0


def is_factor(frame: Frame, var: Any, atom: Atom) -> bool:
  """Whether the atom is a factor of just one dimension, not a segment of one."""
  factors = sum(each is atom for dim in frame.dims_of(var) for each in resolve(dim))
  return factors == 1 and frame.counts(var).get(atom) == 1
