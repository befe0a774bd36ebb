"""Which entries of a leaf a value holds, axis by axis, after it was moved about.

An axis of the value is a row-major product of pieces, each a run of indices along an axis of the
leaf. Unlike atoms, pieces tell two axes of one leaf apart that are tied to each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from jprune.graph._program.frame import Frame

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
  left = [piece for pieces in view.axes for piece in pieces][::-1]
  axes = []
  for size in shape:
    pieces = []
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
      pieces.append(piece)
    axes.append(tuple(pieces))
  return view._replace(axes=tuple(axes))


def grown(view: View, shape: Sequence[int], places: Sequence[int]) -> View:
  """Broadcast to a shape in which its axes have these places."""
  axes: list[Pieces] = [(Piece(REPEATED, 0, 1, size),) if size != 1 else () for size in shape]
  for place, pieces in zip(places, view.axes):
    if math.prod(piece.size for piece in pieces) == shape[place]:
      axes[place] = pieces
  return view._replace(axes=tuple(axes))


def cut(view: View, axis: int, start: int, size: int, stride: int = 1) -> View | None:
  """Some of the indices of one axis."""
  start, size = int(start), int(size)
  pieces = view.axes[axis]
  whole = math.prod(piece.size for piece in pieces)
  if size == whole:
    return view
  if not size:
    return None
  inner = math.prod(piece.size for piece in pieces[1:])
  if inner > 1 and (start % inner or size % inner or stride != 1):
    return None
  first = pieces[0]
  offset = first.offset + start // inner * first.step
  piece = Piece(first.axis, offset, first.step * stride, size // inner)
  kept = (piece, *pieces[1:])
  fixed = view.fixed
  if piece.size == 1:
    kept, fixed = pieces[1:], (*fixed, piece) if piece.axis != REPEATED else fixed
  return view._replace(axes=(*view.axes[:axis], kept, *view.axes[axis + 1 :]), fixed=fixed)


def moved(frame: Frame, eqn: Any, view: View) -> list[View | None] | None:
  """The views of the results of an equation that only moves entries; ``None`` if it doesn't."""
  move = _MOVES.get(eqn.primitive.name)
  return None if move is None else move(frame, eqn, view)


# ---------------------------------------------------------------------------------- single moves


def _transpose(frame: Frame, eqn: Any, view: View) -> list[View | None]:
  return [view._replace(axes=tuple(view.axes[i] for i in eqn.params['permutation']))]


def _reshape(frame: Frame, eqn: Any, view: View) -> list[View | None]:
  order = eqn.params.get('dimensions') if eqn.primitive.name == 'reshape' else None
  if order is not None:
    view = view._replace(axes=tuple(view.axes[i] for i in order))
  return [reshaped(view, eqn.outvars[0].aval.shape)]


def _broadcast(frame: Frame, eqn: Any, view: View) -> list[View | None]:
  return [grown(view, eqn.params['shape'], eqn.params['broadcast_dimensions'])]


def _slice(frame: Frame, eqn: Any, view: View) -> list[View | None]:
  p = eqn.params
  found: View | None = view
  strides = p['strides'] or [1] * len(p['start_indices'])
  for axis, (start, stride) in enumerate(zip(p['start_indices'], strides)):
    size = eqn.outvars[0].aval.shape[axis]
    found = None if found is None else cut(found, axis, start, size, stride)
  return [found]


def _split(frame: Frame, eqn: Any, view: View) -> list[View | None]:
  axis, start, out = eqn.params['axis'], 0, []
  for size in eqn.params['sizes']:
    out.append(cut(view, axis, start, size))
    start += size
  return out


def _unstack(frame: Frame, eqn: Any, view: View) -> list[View | None]:
  axis, out = eqn.params['axis'], []
  for i, var in enumerate(eqn.outvars):
    found = cut(view, axis, i, 1)
    out.append(None if found is None else reshaped(found, var.aval.shape))
  return out


def _dynamic_slice(frame: Frame, eqn: Any, view: View) -> list[View | None]:
  found: View | None = view
  full = eqn.invars[0].aval.shape
  for axis, size in enumerate(eqn.params['slice_sizes']):
    start = frame.constant(eqn.invars[1 + axis])
    if found is None or (start is None and size != full[axis]):
      return [None]
    begin = 0 if start is None else min(max(int(start), 0), full[axis] - size)
    found = cut(found, axis, begin, size)
  return [found]


def _gather(frame: Frame, eqn: Any, view: View) -> list[View | None]:
  """One constant index along each of some axes, which then are gone: ``w[3]``."""
  numbers, sizes = eqn.params['dimension_numbers'], eqn.params['slice_sizes']
  indices, shape = frame.constant(eqn.invars[1]), eqn.invars[0].aval.shape
  if indices is None or indices.ndim != 1 or numbers.operand_batching_dims:
    return [None]
  indexed = dict(zip(numbers.start_index_map, indices.tolist()))
  found: View | None = view
  for axis, size in enumerate(sizes):
    start = indexed.get(axis, 0)
    inside = 0 <= start <= shape[axis] - size
    found = cut(found, axis, start, size) if found is not None and inside else None
  return [None if found is None else reshaped(found, eqn.outvars[0].aval.shape)]


_MOVES: dict[str, Callable[[Frame, Any, View], list[View | None]]] = {
  'transpose': _transpose,
  'reshape': _reshape,
  'squeeze': _reshape,
  'expand_dims': _reshape,
  'broadcast_in_dim': _broadcast,
  'slice': _slice,
  'split': _split,
  'unstack': _unstack,
  'dynamic_slice': _dynamic_slice,
  'gather': _gather,
}
