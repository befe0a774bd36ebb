"""What a rule says of axes, as data: how those of results are made of those of operands.

``b = reshape[new_sizes=(6, 4)] a`` of ``a: f32[2,3,4]`` has the results
``((Together((Axis(0, 0), Axis(0, 1))), Axis(0, 2)),)``. Each analysis reads these few expressions
instead of the params of each primitive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias


class Axis(NamedTuple):
  """An axis of an operand."""

  operand: int
  # A field hides tuple.index: an axis is never searched.
  index: int  # pyright: ignore[reportIncompatibleMethodOverride]


class Together(NamedTuple):
  """The row-major product of several; of none, an axis of size 1."""

  factors: tuple[Expr, ...]


class Apart(NamedTuple):
  """One of the factors into which an axis comes apart."""

  of: Expr
  sizes: tuple[Any, ...]
  place: int


class Cut(NamedTuple):
  """The indices ``start``, ``start + stride``, ... below ``stop``."""

  of: Expr
  start: int
  stop: int
  stride: int = 1


class Take(NamedTuple):
  """Constant indices, in this order.

  Attributes:
    of: what is taken from.
    indices: at which indices.
    otherwise: why the axis is frozen if its factors don't allow that.
  """

  of: Expr
  indices: tuple[int, ...]
  otherwise: str


class Concat(NamedTuple):
  """Several axes laid one after the other, none of size 0."""

  parts: tuple[Expr, ...]


class New(NamedTuple):
  """An axis that no operand has; frozen if there is a reason why."""

  size: Any
  why: str = ''


class Picked(NamedTuple):
  """Indices of an axis, -1 for what is none of its own."""

  of: Expr
  indices: tuple[int, ...]


Expr: TypeAlias = Axis | Together | Apart | Cut | Take | Concat | New
Exprs: TypeAlias = tuple[Expr, ...]

ONE = Together(())
"""An axis of size 1."""


class Layout(NamedTuple):
  """What an equation does with the axes of its operands.

  Attributes:
    results: for each result its axes.
    same: axes that are one and the same.
    summed: axes of operands over which it sums or reduces: pruned entries must be zero there, or
      all alike.
    frozen: axes of which no index may go, with the reason.
    at: for each result the axes of operands of which it holds a single index, and that index.
  """

  results: tuple[Exprs, ...]
  same: tuple[tuple[Expr, Expr], ...] = ()
  summed: tuple[Axis, ...] = ()
  frozen: Mapping[Axis, str] = MappingProxyType({})
  at: tuple[Mapping[Axis, int], ...] = ()


def axes_of(operand: int, rank: int) -> tuple[Axis, ...]:
  """All axes of an operand."""
  return tuple(Axis(operand, index) for index in range(rank))


def product(factors: Sequence[Expr]) -> Expr:
  """The product of some axes; of one, that axis."""
  return factors[0] if len(factors) == 1 else Together(tuple(factors))


def joined(parts: Iterable[tuple[Expr, Any]]) -> Expr:
  """Axes and their sizes laid one after the other, those of size 0 left out."""
  there = [part for part, size in parts if not (isinstance(size, Integral) and size == 0)]
  return Concat(tuple(there)) if there else New(0)


def frozen_all(
  shapes: Sequence[Sequence[Any]], why: str, operands: Iterable[int]
) -> dict[Axis, str]:
  """No index of any axis of some operands may go."""
  return {axis: why for k in operands for axis in axes_of(k, len(shapes[k]))}


def new_all(shape: Sequence[Any], why: str = '') -> Exprs:
  """Axes that no operand has."""
  return tuple(New(size, why) for size in shape)


def window(axis: Expr, size: Any, start: Any, stop: Any, stride: int = 1) -> Expr:
  """Some indices of an axis of this size; the axis itself if these are all."""
  whole = -(-(stop - start) // stride) == size
  return axis if whole else Cut(axis, start, stop, stride)


def holds(expr: Expr, *kinds: type[Any]) -> bool:
  """Whether an axis is of one of these kinds, or made of one that is."""
  match expr:
    case Together(inside) | Concat(inside):
      within = inside
    case Apart(of) | Cut(of) | Take(of):
      within = (of,)
    case _:
      within = ()
  return isinstance(expr, kinds) or any(holds(each, *kinds) for each in within)


def indices_in(expr: Cut | Take | Concat, size_of: Callable[[Expr], int]) -> Picked | None:
  """What an axis holds of another one: cut out, in another order, several times, beside new ones.

  ``None`` if it holds indices of several.
  """
  whole: Expr | None = None
  found: list[int] = []
  for part in expr.parts if isinstance(expr, Concat) else (expr,):
    match part:
      case New(size):
        found += [-1] * size
        continue
      case Cut(of, start, stop, stride):
        own = range(start, stop, stride)
      case Take(of, own):
        pass
      case of:
        own = range(size_of(of))
    if whole is not None and of != whole:
      return None
    whole = of
    found += own
  return None if whole is None else Picked(whole, tuple(found))
