"""Which entries of a leaf a value holds, axis by axis, after it was moved about.

An axis of the value is a row-major product of pieces, each a run of indices along an axis of the
leaf. Unlike atoms, pieces tell two axes of one leaf apart that are tied to each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from jprune.graph._axes.layout import Apart, Axis, Concat, Cut, Expr, Exprs, New, Take, Together
from jprune.graph._program.frame import Frame
from jprune.graph._program.traits import Trait, has
from jprune.graph._rules.base import layout_of
from jprune.graph._rules.sites import Equation

REPEATED = -1  # as the axis of a piece: entries are the same along it


class Piece(NamedTuple):
  """Indices ``offset + i * step``, ``i < size``, of an axis of the leaf; pieces add up.

  Attributes:
    axis: of the leaf; or ``REPEATED``.
    offset: the first index.
    step: from one index to the next.
    size: how many there are.
    order: for each index of the value which of these, -1 for what is no entry of the leaf; ``None``
      if it has them as they are.
  """

  axis: int
  offset: int
  step: int
  size: int
  order: tuple[int, ...] | None = None

  @property
  def length(self) -> int:
    """Number of indices of the value."""
    return self.size if self.order is None else len(self.order)

  def of_leaf(self) -> tuple[int, ...]:
    """For each index of the value that of the leaf, -1 if there is none."""
    order = range(self.size) if self.order is None else self.order
    return tuple(-1 if i < 0 else self.offset + i * self.step for i in order)

  def ordered(self, order: Sequence[int]) -> Piece | None:
    """With the indices of the value in another order, left out, repeated, or among others (-1).

    ``None`` if none of them is of the leaf.
    """
    if self.axis == REPEATED:
      return Piece(REPEATED, 0, 1, len(order))
    own = self.of_leaf()
    return _at(self.axis, [-1 if i < 0 else own[i] for i in order], self.step)


def _at(axis: int, indices: Sequence[int], step: int = 0) -> Piece | None:
  """Some indices of an axis of the leaf, -1 for what is no entry of it, that are ``step`` apart."""
  known = [i for i in indices if i >= 0]
  if not known:
    return None
  low, high = min(known), max(known)
  step = step or math.gcd(*(i - low for i in known)) or 1
  order = tuple(-1 if i < 0 else (i - low) // step for i in indices)
  size = (high - low) // step + 1
  return Piece(axis, low, step, size, None if order == tuple(range(size)) else order)


Pieces: TypeAlias = tuple[Piece, ...]


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


def steps_of(pieces: Pieces) -> tuple[int, ...] | None:
  """For each index of the leaf the step of a scan over it; ``None`` if they are the same."""
  if all(piece.order is None for piece in pieces):
    return None
  steps = np.arange(length(pieces)).reshape([piece.size for piece in pieces])
  for axis, piece in enumerate(pieces):
    if piece.order is not None:
      steps = steps.take(np.argsort(piece.order), axis=axis)
  return tuple(steps.ravel().tolist())


def each_once(pieces: Pieces) -> bool:
  """Whether an axis has each index of its pieces once, in whatever order."""
  return all(
    piece.order is None or sorted(piece.order) == list(range(piece.size)) for piece in pieces
  )


def split(piece: Piece, outer: int) -> tuple[Piece, Piece] | None:
  """A piece as a product of ``outer`` runs of the rest, each in the same order."""
  if piece.length % outer or piece.size % (inner := piece.length // outer):
    return None
  first = Piece(piece.axis, piece.offset, piece.step * inner, piece.size // inner)
  rest = Piece(piece.axis, 0, piece.step, inner)
  if piece.order is None:
    return first, rest
  if (found := _runs(piece.order, inner)) is None:
    return None
  outer_runs, within = first.ordered(found[0]), rest.ordered(found[1])
  return None if outer_runs is None or within is None else (outer_runs, within)


def _runs(indices: Sequence[int], inner: int) -> tuple[list[int], list[int]] | None:
  """Which runs of ``inner`` indices there are, -1 for none; and what each has of its run."""
  blocks = [indices[i : i + inner] for i in range(0, len(indices), inner)]
  outer = [block[0] // inner if block[0] >= 0 else -1 for block in blocks]
  known = [i for i, run in enumerate(outer) if run >= 0]
  order = [i - outer[known[0]] * inner for i in blocks[known[0]]] if known else []
  if not all(0 <= i < inner for i in order):
    return None
  whole = lambda run: [run * inner + i for i in order] if run >= 0 else [-1] * inner
  same = all(list(block) == whole(run) for block, run in zip(blocks, outer))
  return (outer, order) if same and known else None


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
      if piece.length > size:
        if (parted := split(piece, size)) is None:
          return None
        piece, rest = parted
        left.append(rest)
      if size % piece.length:
        return None
      size //= piece.length
      mine.append(piece)
    axes.append(tuple(mine))
  return tuple(axes)


def grown(view: View, shape: Sequence[int], places: Sequence[int]) -> View:
  """Broadcast to a shape in which its axes have these places."""
  axes: list[Pieces] = [(Piece(REPEATED, 0, 1, size),) if size != 1 else () for size in shape]
  for place, pieces in zip(places, view.axes):
    if length(pieces) == shape[place]:
      axes[place] = pieces
  return view._replace(axes=tuple(axes))


def length(pieces: Pieces) -> int:
  """Number of indices of an axis."""
  return math.prod(piece.length for piece in pieces)


def _taken(pieces: Pieces, indices: Sequence[int]) -> Pieces | None:
  """An axis at some of its indices, -1 for what is no entry of the leaf; ``None`` if none is."""
  if list(indices) == list(range(length(pieces))):
    return pieces
  if not pieces or max(indices, default=-1) < 0:
    return None
  found = _runs(indices, length(pieces[1:]))
  if found is None or (pieces[0].axis == REPEATED and -1 in found[0]):
    whole = _as_one(pieces)
    first = None if whole is None else whole.ordered(indices)
    return None if first is None else (first,)
  first, rest = pieces[0].ordered(found[0]), _taken(pieces[1:], found[1])
  return None if first is None or rest is None else (first, *rest)


def _as_one(pieces: Pieces) -> Piece | None:
  """The product of pieces of one axis of the leaf, perhaps repeated, as one."""
  (axis, *others) = {piece.axis for piece in pieces} - {REPEATED} or {REPEATED}
  if axis == REPEATED or others:
    return None
  total = [0]
  for piece in pieces:
    own = [0] * piece.size if piece.axis == REPEATED else piece.of_leaf()
    total = [-1 if -1 in (a, b) else a + b for a in total for b in own]
  return _at(axis, total)


class _Laid:
  """What a layout makes of a view; ``None`` instead of any axis that can't be followed."""

  def __init__(self, view: View) -> None:
    self._view = view

  def result(self, exprs: Exprs, at: Mapping[Axis, int]) -> View | None:
    """The view of a result."""
    fixed, axes = list(self._view.fixed), []
    alone = [_taken(self._view.axes[axis.index], [index]) for axis, index in at.items()]
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
        apart = None if whole is None else _apart(whole, sizes)
        return None if apart is None else apart[place]
      case Cut(of, start, stop, stride):
        whole = self._pieces(of)
        return None if whole is None else _taken(whole, range(start, stop, stride))
      case Take(of, indices):
        whole = self._pieces(of)
        return None if whole is None else _taken(whole, indices)
      case Concat(parts):
        return self._beside(parts)
      case New(size):
        return (Piece(REPEATED, 0, 1, size),) if size != 1 else ()
    return None

  def _beside(self, parts: Sequence[Expr]) -> Pieces | None:
    """What is laid beside new indices, as by padding."""
    indices: list[int] = []
    mine: Pieces | None = None
    for part in parts:
      if isinstance(part, New):
        indices += [-1] * part.size
      elif mine is not None or (mine := self._pieces(part)) is None:
        return None
      else:
        indices += range(length(mine))
    return None if mine is None else _taken(mine, indices)


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
  piece = _at(along, indices)
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
