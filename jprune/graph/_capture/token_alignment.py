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
from jprune.graph._program.dataflow import Analysis, Facts, forward
from jprune.graph._program.frame import Frame
from jprune.graph._rules.base import RULES

_IN_PLACE: frozenset[Atom] = frozenset()
_ALONG = {'sort': 'dimension', 'concatenate': 'dimension', 'top_k': 'axis'}
_INTO = ('dynamic_update_slice', 'scatter')


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
  has = [
    frozenset(a for dim in frame.dims_of(v) for a in resolve(dim)) & tokens if yes else _IN_PLACE
    for v, yes in zip(eqn.invars, given)
  ]
  if name in ('select_n', 'select_if_vmap'):
    return _any(ins[1:])
  combined = frozenset(
    atom
    for atom in _any(ins) & inside(range(len(dims)))
    if all(atom in each for each, there in zip(ins, has) if atom in there)
  )
  return combined | inside(_axes(eqn, dims, given))


def _axes(eqn: Any, dims: Sequence[Any], given: Sequence[bool]) -> Sequence[int]:
  """The axes of a result along which an equation moves entries of what is given."""
  name, p = eqn.primitive.name, eqn.params
  if name == 'rev':
    return p['dimensions']
  if name in _ALONG:
    return [p.get(_ALONG[name], len(dims) - 1)]
  if name == 'pad':
    return [i for i, config in enumerate(p['padding_config']) if any(config)]
  everywhere = range(len(dims))
  if name == 'gather' and given[0]:  # not where it looks up in what depends on no token
    numbers, shape = p['dimension_numbers'], eqn.invars[0].aval.shape
    gone = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    kept = [i for i in range(len(shape)) if i not in gone]
    whole = [p['slice_sizes'][i] == shape[i] for i in kept]
    stays = {at for at, yes in zip(numbers.offset_dims, whole) if yes}
    batch = [at for at in everywhere if at not in numbers.offset_dims]
    beside = numbers.start_indices_batching_dims
    return [at for at in everywhere if at not in stays and not _is_batch(at, batch, beside)]
  if name.startswith(_INTO) and not given[0]:
    return everywhere
  return ()


def _is_batch(at: int, batch: Sequence[int], beside: Sequence[int]) -> bool:
  """Whether an axis of a gather runs beside one of its operand."""
  return at in batch and batch.index(at) in beside


def _any(sets: Sequence[frozenset[Atom]]) -> frozenset[Atom]:
  return functools.reduce(frozenset.union, sets, _IN_PLACE)
