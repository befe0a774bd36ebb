"""What moving entries does to a mask, in NumPy: nothing is compiled."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from jprune.graph._axes.layout import (
  Apart,
  Axis,
  Concat,
  Cut,
  Expr,
  Exprs,
  New,
  Take,
  Together,
  indices_in,
)
from jprune.graph._program.constants import constant
from jprune.graph._program.frame import Frame
from jprune.graph._program.traits import Trait, has
from jprune.graph._rules.base import layout_of
from jprune.graph._rules.sites import Equation


class Move:
  """One result of an equation that moves the entries of its first operand.

  What it puts beside them, as padding, is not pruned: ``True``.

  Attributes:
    cuts: whether it may leave entries out, take some twice, or put others beside them.
  """

  def __init__(self, exprs: Exprs, at: Mapping[Axis, int], shape: Sequence[int]) -> None:
    self._exprs, self._at, self._shape = exprs, at, tuple(shape)
    self.cuts = bool(at) or any(isinstance(expr, (Concat, Cut, Take)) for expr in exprs)

  def __call__(self, mask: np.ndarray) -> Sequence[np.ndarray]:
    for axis, index in self._at.items():
      mask = mask.take([index], axis.index)
    exprs = list(self._exprs)
    for place, expr in enumerate(exprs):
      if isinstance(expr, (Concat, Cut, Take)) and (found := _picked(expr, mask.shape)):
        along, indices = found
        # New entries are the last index, which is -1.
        beside = [(0, int(axis == along.index)) for axis in range(mask.ndim)]
        mask = np.pad(mask, beside, constant_values=True).take(indices, along.index)
        exprs[place] = along
    return [_Flat(mask.shape, exprs)(mask).reshape(self._shape)]


def _picked(expr: Cut | Take | Concat, shape: Sequence[int]) -> tuple[Axis, Sequence[int]] | None:
  """What is taken from a whole axis, and at which indices; ``None`` of anything else."""
  found = indices_in(expr, lambda of: shape[of.index] if isinstance(of, Axis) else 0)
  return (found.of, found.indices) if found and isinstance(found.of, Axis) else None


class _Flat:
  """Axes of results as products: the axes of an array in another order, repeated, cut up anew.

  Factors that come apart lie one after another in the results, as a reshape has them.
  """

  def __init__(self, shape: Sequence[int], exprs: Sequence[Expr]) -> None:
    self._sizes = shape
    self._order: list[int] = []
    self._apart: list[int] = []
    self._full: list[int] = []
    for expr in exprs:
      self._visit(expr)
    self._order += [axis for axis in range(len(shape)) if axis not in self._order]

  def _visit(self, expr: Expr) -> None:
    match expr:
      case Axis(_, index):
        self._order.append(index)
        self._add(self._sizes[index])
      case Together(factors):
        for factor in factors:
          self._visit(factor)
      case Apart(of, sizes, place):
        if place == 0:
          factors = of.factors if isinstance(of, Together) else (of,)
          self._order += [cast(Axis, each).index for each in factors]
        self._add(sizes[place])
      case New(size):
        self._add(size, apart=1)
      case _:
        raise TypeError(f'{expr} moves nothing that is followed')

  def _add(self, size: int, apart: int | None = None) -> None:
    self._apart.append(size if apart is None else apart)
    self._full.append(size)

  def __call__(self, x: np.ndarray) -> np.ndarray:
    return np.broadcast_to(x.transpose(self._order).reshape(self._apart), self._full)


def moves(frame: Frame, eqn: Any) -> list[Any] | None:
  """One function for each result of an equation that moves its first operand; ``None`` of others.

  They make of a mask those that follow from it. Looked up at indices that depend on the inputs,
  nothing is known.
  """
  if not has(eqn, Trait.MOVES) or has(eqn, Trait.JOINS) or has(eqn, Trait.ELEMENTWISE):
    return None
  layout = layout_of(Equation(eqn, frame))
  if layout is None:
    return _bound(frame, eqn)
  if not all(map(_is_followed, itertools.chain(*layout.results))):
    return _bound(frame, eqn)
  at = layout.at or ({},) * len(layout.results)
  shapes = [var.aval.shape for var in eqn.outvars]
  return [Move(*each) for each in zip(layout.results, at, shapes, strict=True)]


def _is_followed(expr: Expr) -> bool:
  """Whether an axis of a result is made of whole axes, or of indices of one."""
  match expr:
    case Cut() | Take() | Concat():
      found = indices_in(expr, lambda of: 0)
      return found is not None and isinstance(found.of, Axis)
    case Together(factors):
      return not any(isinstance(each, (Cut, Take, Concat)) for each in factors)
    case Apart(of):
      return not isinstance(of, (Cut, Take, Concat)) and _is_followed(of)
    case _:
      return True


def _bound(frame: Frame, eqn: Any) -> list[Any] | None:
  """What taking entries at constant indices of any form does to a mask."""
  indices = [constant(frame, var) for var in eqn.invars[1:]]
  if any(index is None for index in indices):
    return None

  return [_Bound(eqn, indices)]


class _Bound(NamedTuple):
  """An equation, run on a mask."""

  eqn: Any
  indices: Sequence[Any]
  cuts: bool = True

  def __call__(self, mask: np.ndarray) -> Sequence[np.ndarray]:
    eqn = self.eqn
    with jax.ensure_compile_time_eval():
      places = [jnp.asarray(i, var.aval.dtype) for i, var in zip(self.indices, eqn.invars[1:])]
      return [np.asarray(eqn.primitive.bind(jnp.asarray(mask), *places, **eqn.params))]
