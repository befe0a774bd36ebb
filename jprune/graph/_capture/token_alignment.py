"""Along which axes of tokens values no longer have each token at its place.

Axes that meet in a sum, a branch or a loop are one and the same to the axis algebra, also where
one of them was permuted before. Weights of tokens need to know.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from jax.extend import core

from jprune.graph._analysis.dependence import ARGUMENTS
from jprune.graph._axes.atoms import Atom, resolve
from jprune.graph._axes.layout import Concat, Take, holds
from jprune.graph._program.dataflow import Analysis, Facts, forward
from jprune.graph._program.frame import Frame
from jprune.graph._program.traits import Trait, has
from jprune.graph._rules.base import RULES
from jprune.graph._rules.sites import Equation

_IN_PLACE: frozenset[Atom] = frozenset()


class _Moved(Analysis[frozenset[Atom]]):
  """Atoms of tokens along which entries are at other places; of one or the other, those of both."""

  nothing = _IN_PLACE

  def __init__(self, tokens: frozenset[Atom], origins: Facts[int]) -> None:
    self._tokens, self._origins = tokens, origins

  def equation(
    self, frame: Frame, index: int, operands: list[frozenset[Atom]]
  ) -> Sequence[frozenset[Atom]]:
    known = self._origins[frame]
    outvars = frame.jaxpr.eqns[index].outvars
    return [_of_eqn(frame, index, var, operands, self._tokens, known) for var in outvars]

  def join(self, one: frozenset[Atom], other: frozenset[Atom]) -> frozenset[Atom]:
    return one | other


def moved(frame: Frame, tokens: Sequence[Any], origins: Facts[int]) -> Facts[frozenset[Atom]]:
  """For every variable the atoms of ``tokens`` along which its entries are at other places.

  What several values are combined in is in place if any of them is: a sum with a shifted copy. What
  is one of several, by a choice, a branch or a turn of a loop, is so only if all of them are.
  """
  atoms = frozenset(atom for dim in tokens for atom in resolve(dim))
  return forward(_Moved(atoms, origins), frame, [_IN_PLACE] * len(frame.jaxpr.invars))


def _of_eqn(
  frame: Frame,
  index: int,
  var: Any,
  ins: list[frozenset[Atom]],
  tokens: frozenset[Atom],
  origins: dict[Any, int],
) -> frozenset[Atom]:
  eqn = frame.jaxpr.eqns[index]
  name, dims = eqn.primitive.name, frame.dims[var]
  given = [not isinstance(v, core.Literal) and bool(origins[v] & ARGUMENTS) for v in eqn.invars]
  inside = lambda axes: frozenset(a for i in axes for a in resolve(dims[i])) & tokens
  if not any(given):
    return _IN_PLACE
  if name not in RULES or index in frame.given_up:
    return inside(range(len(dims)))
  there = [
    frozenset(a for dim in frame.dims_of(v) for a in resolve(dim)) & tokens if yes else _IN_PLACE
    for v, yes in zip(eqn.invars, given)
  ]
  if has(eqn, Trait.CHOOSES):
    return _any(ins[1:])
  combined = frozenset(
    atom
    for atom in _any(ins) & inside(range(len(dims)))
    if all(atom in each for each, own in zip(ins, there) if atom in own)
  )
  return combined | inside(_axes(eqn, len(dims), given))


def _axes(eqn: Any, rank: int, given: Sequence[bool]) -> Sequence[int]:
  """The axes of a result along which an equation moves entries of what is given."""
  if has(eqn, Trait.WRITES):
    return () if given[0] else range(rank)
  if has(eqn, Trait.LOOKS_UP) and not given[0]:  # in what depends on no token
    return ()
  rule = RULES[eqn.primitive.name]
  if rule.reorders is not None:
    return rule.reorders(Equation(eqn))
  if not has(eqn, Trait.MOVES) or rule.layout is None:
    return ()
  layout = rule.layout(Equation(eqn))
  axes = () if layout is None else layout.results[0]
  return [i for i, expr in enumerate(axes) if holds(expr, Take, Concat)]


def _any(sets: Sequence[frozenset[Atom]]) -> frozenset[Atom]:
  return functools.reduce(frozenset.union, sets, _IN_PLACE)
