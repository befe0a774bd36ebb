"""What is noted of the leaves on the way through a function: products with them, and ends."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

from jax.extend import core

from jprune.graph._analysis.leaf_views import View
from jprune.graph._analysis.provenance import Source, sources
from jprune.graph._axes.atoms import Atom
from jprune.graph._axes.pieces import REPEATED, Piece, Pieces
from jprune.graph._program.frame import Frame
from jprune.graph._program.locations import place

STOPPED, PRODUCT = 'stop_gradient', 'a product of params'
"""What was done to a leaf on the way, as the ``via`` of a view."""
Views: TypeAlias = tuple[View, ...]


class Used(NamedTuple):
  """A product that multiplies by a leaf.

  Attributes:
    layers: pieces of axes that a scan runs over or that are indexed, outermost first.
    experts: pieces of axes that are indexed by what is computed, or by groups of rows.
    batch: pieces of axes along which products are made side by side.
    inputs: pieces that are summed over.
    window: pieces that are summed over as places of a window.
    outputs: all other pieces.
    by_data: whether an argument has a part in what the leaf is multiplied by.
    line: of the user's code.
  """

  layers: Pieces
  experts: Pieces
  batch: Pieces
  inputs: Pieces
  window: Pieces
  outputs: Pieces
  by_data: bool
  line: str


class Ended(NamedTuple):
  """An equation after which a leaf is not followed.

  Attributes:
    name: of its primitive.
    line: of the user's code.
    stopped: whether no gradient passes on the way to it.
    looked_up: whether indices of the leaf were taken on the way to it.
    layers: axes of the leaf that a scan runs over.
  """

  name: str
  line: str
  stopped: bool
  looked_up: bool
  layers: frozenset[int] = frozenset()


class Notes:
  """What is known of all leaves.

  Attributes:
    used: by place of a leaf, the products that multiply by it, in the order in which they run.
    ended: by place of a leaf, all else that is done with it.
    heads: atoms along which the function makes products of two activations side by side.
    experts: by place of a leaf, its axes that what is computed indexes.
    tables: places of leaves of which a list of constant indices is taken.
  """

  def __init__(self, frame: Frame, shapes: Sequence[tuple[int, ...]]) -> None:
    self.used: list[list[Used]] = [[] for _ in shapes]
    self.ended: list[list[Ended]] = [[] for _ in shapes]
    self.heads: set[Atom] = set()
    self.experts: dict[int, set[int]] = {}
    self.tables: set[int] = set()
    self._sources = sources(frame, shapes)

  def source(self, frame: Frame, var: Any) -> Source:
    """Where a value comes from."""
    if isinstance(var, core.Literal):
      return Source(None, 0)
    return self._sources[frame][var]

  def end(self, frame: Frame, eqn: Any, held: Sequence[Views]) -> None:
    """Notes that leaves are not followed beyond an equation."""
    for view in (view for views in held for view in views):
      line = place(eqn, frame)
      looked_up = bool(self.experts.get(view.leaf)) or view.leaf in self.tables
      layers = frozenset(piece.axis for _, pieces in view.loops for piece in pieces)
      end = Ended(eqn.primitive.name, line, view.via == STOPPED, looked_up, layers)
      self.ended[view.leaf].append(end)

  def returned(self, held: Views) -> None:
    """Notes that leaves are results of the function."""
    for view in held:
      self.ended[view.leaf].append(Ended('a result of fn', '', view.via == STOPPED, False))


def laid_out(axes: Sequence[Pieces], places: dict[int, int], shape: Sequence[int]) -> list[Pieces]:
  """The axes of a view at their places in a shape; entries are the same along all others."""
  out: list[Pieces] = [(Piece(REPEATED, 0, 1, n),) if n != 1 else () for n in shape]
  for axis, where in places.items():
    out[where] = axes[axis] or out[where]
  return out


def own(axes: Iterable[Pieces]) -> Pieces:
  """The pieces along which entries are those of the leaf."""
  return tuple(piece for pieces in axes for piece in pieces if piece.axis != REPEATED)


def entries(view: View) -> int:
  """How many entries of the leaf a value holds."""
  return math.prod(piece.size for piece in own(view.axes))


def shape_of(var: Any) -> tuple[int, ...]:
  """The shape of a value; none of tokens."""
  return tuple(getattr(var.aval, 'shape', ()))
