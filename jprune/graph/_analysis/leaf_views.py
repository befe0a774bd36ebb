"""Which entries of a leaf a value holds, axis by axis, after it was moved about.

An axis of the value is a row-major product of pieces, each a run of indices along an axis of the
leaf.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

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
from jprune.graph._axes.pieces import (
  REPEATED,
  Piece,
  Pieces,
  apart,
  each_once,
  length,
  run_at,
  taken,
)
from jprune.graph._program.frame import Frame
from jprune.graph._program.traits import Trait, has
from jprune.graph._rules.base import layout_of
from jprune.graph._rules.sites import Equation


class Scale(NamedTuple):
  """One number by which all entries are multiplied, known only when the function runs.

  Attributes:
    frame: in which that is done.
    index: of the equation that does it.
    operand: which of its operands the number is, perhaps repeated.
    number: as :class:`Numbers` gives it, equal only for equal ones.
    divides: whether it is divided by.
  """

  frame: Frame
  # A field hides tuple.index: a scale is never searched.
  index: int  # pyright: ignore[reportIncompatibleMethodOverride]
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
  factors: tuple[Scale, ...] = ()

  def scaled(self, by: float | Scale) -> View:
    """With all entries multiplied by a number."""
    if self.via:
      return self
    if isinstance(by, Scale):
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
  if (any(repeated) and not all(repeated)) or not each_once(first):
    return None
  loops = view.loops if all(repeated) else (*view.loops, (body, first))
  return view._replace(axes=tuple(rest), loops=loops)


def reshaped(view: View, shape: Sequence[int]) -> View | None:
  """With the same entries in row-major order."""
  axes = apart([piece for pieces in view.axes for piece in pieces], shape)
  return None if axes is None else view._replace(axes=axes)


def grown(view: View, shape: Sequence[int], places: Sequence[int]) -> View:
  """Broadcast to a shape in which its axes have these places."""
  axes: list[Pieces] = [(Piece(REPEATED, 0, 1, size),) if size != 1 else () for size in shape]
  for place, pieces in zip(places, view.axes):
    if length(pieces) == shape[place]:
      axes[place] = pieces
  return view._replace(axes=tuple(axes))


class _Laid:
  """What a layout makes of a view; ``None`` instead of any axis that can't be followed."""

  def __init__(self, view: View) -> None:
    self._view = view

  def result(self, exprs: Exprs, at: Mapping[Axis, int]) -> View | None:
    """The view of a result."""
    fixed, axes = list(self._view.fixed), []
    alone = [taken(self._view.axes[axis.index], [index]) for axis, index in at.items()]
    for pieces in (*map(self._pieces, exprs), *alone):
      if pieces is None:
        return None
      fixed += [piece for piece in pieces if piece.length == 1 and piece.axis != REPEATED]
      axes.append(tuple(piece for piece in pieces if piece.length != 1))
    return self._view._replace(axes=tuple(axes[: len(exprs)]), fixed=tuple(fixed))

  def _pieces(self, expr: Expr) -> Pieces | None:
    match expr:
      case Axis(_, index):
        return self._view.axes[index]
      case Together(factors):
        out: list[Piece] = []
        for factor in factors:
          if (found := self._pieces(factor)) is None:
            return None
          out += found
        return tuple(out)
      case Apart(of, sizes, place):
        whole = self._pieces(of)
        found = None if whole is None else apart(whole, sizes)
        return None if found is None else found[place]
      case Cut() | Take() | Concat():
        return self._picked(expr)
      case New(size):
        return (Piece(REPEATED, 0, 1, size),) if size != 1 else ()
    return None

  def _picked(self, expr: Cut | Take | Concat) -> Pieces | None:
    """Some indices of an axis, perhaps beside new ones, as by padding."""
    found = indices_in(expr, lambda of: length(self._pieces(of) or ()))
    whole = None if found is None else self._pieces(found.of)
    return None if found is None or whole is None else taken(whole, found.indices)


def moved(frame: Frame, eqn: Any, view: View) -> list[View | None] | None:
  """The views of the results of an equation that only moves entries; ``None`` if it doesn't."""
  if not has(eqn, Trait.MOVES) or has(eqn, Trait.CASTS) or has(eqn, Trait.JOINS):
    return None
  layout = layout_of(Equation(eqn, frame))
  if layout is None:  # it looks up what is computed
    return [None for _ in eqn.outvars]
  at = layout.at or ({},) * len(layout.results)
  return [_Laid(view).result(*each) for each in zip(layout.results, at, strict=True)]


def beside(
  views: Sequence[View | None], sizes: Sequence[int], axis: int, stacked: bool
) -> View | None:
  """The view of parts of one leaf that are laid side by side, or of one among other values.

  Args:
    views: of each part; ``None`` of what is no entry of the leaf.
    sizes: of each part along the axis, 1 where they are stacked.
    axis: along which they lie.
    stacked: whether it is a new one.

  Returns:
    ``None`` if they are of several leaves, or the same axis of the leaf doesn't tell them apart.
  """
  if stacked:
    grow = lambda axes: (*axes[:axis], (), *axes[axis:])
    views = [view and view._replace(axes=grow(view.axes)) for view in views]
  there = [view for view in views if view is not None]
  common = set(there[0].fixed).intersection(*(view.fixed for view in there))
  around = {_around(view, axis, common) for view in there}
  indexed = [_indices(view, axis, common) for view in there]
  found = [each for each in indexed if each is not None]
  if len(around) != 1 or len(found) < len(there) or len({each[:2] for each in found}) != 1:
    return None
  (along, rest, _), first = found[0], there[0]
  inner, of_leaf, indices = length(rest), iter(found), []
  for view, size in zip(views, sizes, strict=True):
    if view is None and size % inner:
      return None
    indices += [-1] * (size // inner) if view is None else next(of_leaf)[2]
  piece = run_at(along, indices)
  axes = (*first.axes[:axis], (piece, *rest), *first.axes[axis + 1 :])
  return first._replace(axes=axes, fixed=tuple(each for each in first.fixed if each in common))


def _around(view: View, axis: int, common: set[Piece]) -> View:
  """All of a view but what it has along an axis."""
  kept = tuple(piece for piece in view.fixed if piece in common)
  return view._replace(axes=(*view.axes[:axis], (), *view.axes[axis + 1 :]), fixed=kept)


def _indices(
  view: View, axis: int, common: set[Piece]
) -> tuple[int, Pieces, tuple[int, ...]] | None:
  """Along an axis: of the leaf which, what lies inside of it, and its indices of the leaf."""
  own = [piece for piece in view.fixed if piece not in common]
  pieces = view.axes[axis] or tuple(own)
  if len(own) > (0 if view.axes[axis] else 1) or not pieces or pieces[0].axis == REPEATED:
    return None
  first, *rest = pieces
  return first.axis, tuple(rest), first.of_leaf()
