"""Which entries of a leaf a value holds, axis by axis, after it was moved about.

An axis of the value is a row-major product of pieces, each a run of indices along an axis of the
leaf. Unlike atoms, pieces tell two axes of one leaf apart that are tied to each other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from jprune.graph._program.frame import Frame
from jprune.graph._program.traits import Trait, has
from jprune.graph._rules.base import RULES, Equation
from jprune.graph._rules.layout import Axis, Cut, Expr, Exprs, New, Product
from jprune.graph._rules.layout import Factor as FactorOf

REPEATED = -1  # as the axis of a piece: entries are the same along it


class Piece(NamedTuple):
  """Indices ``offset + i * step``, ``i < size``, of an axis of the leaf; pieces add up."""

  axis: int
  offset: int
  step: int
  size: int


Pieces: TypeAlias = tuple[Piece, ...]


class Factor(NamedTuple):
  """One number by which all entries are multiplied, known only when the function runs.

  Attributes:
    frame: in which that is done.
    index: of the equation that does it.
    operand: which of its operands the number is, perhaps repeated.
    number: as :class:`Numbers` gives it, equal only for equal ones.
    divides: whether it is divided by.
  """

  frame: Frame
  index: int
  operand: int
  number: int
  divides: bool = False


class View(NamedTuple):
  """What a value holds of a leaf.

  Attributes:
    leaf: its place.
    axes: for each axis of the value its pieces, none of size 1.
    fixed: pieces of size 1, of axes that were indexed.
    loops: the bodies of the scans that run over an axis of it, outermost first, with its pieces.
    via: what has changed its entries other than by casts and one number; empty if nothing.
    scale: the number that its entries are multiplied by.
    factors: other such numbers, not known yet.
  """

  leaf: int
  axes: tuple[Pieces, ...]
  fixed: Pieces = ()
  loops: tuple[tuple[Frame, Pieces], ...] = ()
  via: str = ''
  scale: float = 1.0
  factors: tuple[Factor, ...] = ()

  def scaled(self, by: float | Factor) -> View:
    """With all entries multiplied by a number."""
    if self.via:
      return self
    if isinstance(by, Factor):
      return self._replace(factors=(*self.factors, by))
    return self._replace(scale=self.scale * by)

  def changed(self, via: str) -> View:
    """With entries that are no more those of the leaf."""
    return self if self.via else self._replace(via=via, scale=1.0, factors=())


def view_of(leaf: int, shape: Sequence[int]) -> View:
  """The whole leaf."""
  pieces = [(Piece(axis, 0, 1, size),) if size != 1 else () for axis, size in enumerate(shape)]
  return View(leaf, tuple(pieces))


def step_over(view: View, body: Frame) -> View | None:
  """One slice along the first axis, in the body of a scan that runs over it."""
  first, *rest = view.axes
  repeated = [piece.axis == REPEATED for piece in first]
  if any(repeated) and not all(repeated):
    return None
  loops = view.loops if all(repeated) else (*view.loops, (body, first))
  return view._replace(axes=tuple(rest), loops=loops)


def split(piece: Piece, outer: int) -> tuple[Piece, Piece]:
  """A piece as a product of ``outer`` runs of the rest."""
  inner = piece.size // outer
  first = Piece(piece.axis, piece.offset, piece.step * inner, outer)
  return first, Piece(piece.axis, 0, piece.step, inner)


def reshaped(view: View, shape: Sequence[int]) -> View | None:
  """With the same entries in row-major order."""
  axes = _apart([piece for pieces in view.axes for piece in pieces], shape)
  return None if axes is None else view._replace(axes=axes)


def _apart(pieces: Sequence[Piece], sizes: Sequence[int]) -> tuple[Pieces, ...] | None:
  """Pieces as axes of these sizes; ``None`` if they don't come apart like that."""
  left = list(pieces)[::-1]
  axes = []
  for size in sizes:
    mine = []
    while size > 1:
      if not left:
        return None
      piece = left.pop()
      if piece.size > size:
        if piece.size % size:
          return None
        piece, rest = split(piece, size)
        left.append(rest)
      if size % piece.size:
        return None
      size //= piece.size
      mine.append(piece)
    axes.append(tuple(mine))
  return tuple(axes)


def grown(view: View, shape: Sequence[int], places: Sequence[int]) -> View:
  """Broadcast to a shape in which its axes have these places."""
  axes: list[Pieces] = [(Piece(REPEATED, 0, 1, size),) if size != 1 else () for size in shape]
  for place, pieces in zip(places, view.axes):
    if math.prod(piece.size for piece in pieces) == shape[place]:
      axes[place] = pieces
  return view._replace(axes=tuple(axes))


def _window(pieces: Pieces, start: int, size: int, stride: int = 1) -> Pieces | None:
  """Some of the indices of an axis; one alone is a piece of size 1."""
  if size == math.prod(piece.size for piece in pieces):
    return pieces
  if not size:
    return None
  inner = math.prod(piece.size for piece in pieces[1:])
  if inner > 1 and (start % inner or size % inner or stride != 1):
    return None
  first = pieces[0]
  offset = first.offset + start // inner * first.step
  return (Piece(first.axis, offset, first.step * stride, size // inner), *pieces[1:])


class _Laid:
  """What a layout makes of a view; ``None`` instead of any axis that can't be followed."""

  def __init__(self, view: View) -> None:
    self._view = view

  def result(self, exprs: Exprs, at: Mapping[Axis, int]) -> View | None:
    """The view of a result."""
    fixed, axes = list(self._view.fixed), []
    alone = [_window(self._view.axes[axis.index], index, 1) for axis, index in at.items()]
    for pieces in (*map(self._pieces, exprs), *alone):
      if pieces is None:
        return None
      fixed += [piece for piece in pieces if piece.size == 1 and piece.axis != REPEATED]
      axes.append(tuple(piece for piece in pieces if piece.size != 1))
    return self._view._replace(axes=tuple(axes[: len(exprs)]), fixed=tuple(fixed))

  def _pieces(self, expr: Expr) -> Pieces | None:
    match expr:
      case Axis(_, index):
        return self._view.axes[index]
      case Product(factors):
        found = [self._pieces(factor) for factor in factors]
        return None if None in found else tuple(itertools.chain(*found))
      case FactorOf(of, sizes, place):
        whole = self._pieces(of)
        apart = None if whole is None else _apart(whole, sizes)
        return None if apart is None else apart[place]
      case Cut(of, start, stop, stride):
        whole = self._pieces(of)
        size = -(-(stop - start) // stride)
        return None if whole is None else _window(whole, start, size, stride)
      case New(size):
        return (Piece(REPEATED, 0, 1, size),) if size != 1 else ()
    return None


def moved(frame: Frame, eqn: Any, view: View) -> list[View | None] | None:
  """The views of the results of an equation that only moves entries; ``None`` if it doesn't."""
  if not has(eqn, Trait.MOVES) or has(eqn, Trait.CASTS) or has(eqn, Trait.JOINS):
    return None
  layout = RULES[eqn.primitive.name].layout(Equation(eqn, frame))
  if layout is None:  # it looks up what is computed
    return [None] * len(eqn.outvars)
  at = layout.at or ({},) * len(layout.results)
  return [_Laid(view).result(*each) for each in zip(layout.results, at, strict=True)]
