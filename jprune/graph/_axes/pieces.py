"""Runs of indices along the axes of a leaf, of which the axes of a value are made.

Unlike atoms, pieces tell two axes of one leaf apart that are tied to each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

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
    return run_at(self.axis, [-1 if i < 0 else own[i] for i in order], self.step)


def run_at(axis: int, indices: Sequence[int], step: int = 0) -> Piece | None:
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

  def whole(run: int) -> list[int]:
    return [run * inner + i for i in order] if run >= 0 else [-1] * inner

  same = all(list(block) == whole(run) for block, run in zip(blocks, outer))
  return (outer, order) if same and known else None


def apart(pieces: Sequence[Piece], sizes: Sequence[int]) -> tuple[Pieces, ...] | None:
  """Pieces as axes of these sizes; ``None`` if they don't come apart like that."""
  left = list(pieces)[::-1]
  axes: list[Pieces] = []
  for size in sizes:
    mine: list[Piece] = []
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


def length(pieces: Pieces) -> int:
  """Number of indices of an axis."""
  return math.prod(piece.length for piece in pieces)


def taken(pieces: Pieces, indices: Sequence[int]) -> Pieces | None:
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
  first, rest = pieces[0].ordered(found[0]), taken(pieces[1:], found[1])
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
  return run_at(axis, total)
