"""Products that multiply by a leaf: which operand is the kernel, and what its axes are for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from jprune.graph._analysis.leaf_views import View
from jprune.graph._analysis.provenance import PARAMS, Source
from jprune.graph._axes.atoms import resolve
from jprune.graph._axes.pieces import REPEATED
from jprune.graph._program.frame import Frame
from jprune.graph._program.locations import place
from jprune.graph._roles.notes import (
  PRODUCT,
  Ended,
  Notes,
  Used,
  Views,
  entries,
  laid_out,
  own,
  shape_of,
)
from jprune.graph._rules.base import product, sides


class Products:
  """The products on the way through a function; those of params alone wait for the next one."""

  def __init__(self, notes: Notes) -> None:
    self._notes = notes
    self._chained: dict[int, Used] = {}  # leaves in a product of params alone
    self._kernels: set[int] = set()  # of those, the ones that others are multiplied by
    self._left: set[int] = set()  # of those, the ones whose outputs are followed by others'

  def finish(self) -> None:
    """Notes the leaves whose products with others nothing else is multiplied by."""
    for leaf, use in self._chained.items():
      if leaf in self._kernels:
        self._notes.used[leaf].append(use)

  def product(self, frame: Frame, eqn: Any, held: list[Views]) -> Views:
    """Notes which leaves are kernels; what results is one only if no argument has a part in it."""
    known = [self._notes.source(frame, var) for var in eqn.invars[:2]]
    levels = [source.level for source in known]
    if not any(held[:2]):
      self._note_heads(frame, eqn, levels)
      return ()
    owner = self._owner(held, levels)
    partner = 1 - owner
    chained = levels[owner] == levels[partner] == PARAMS
    if held[owner] and self._are_activations(eqn, owner, held[owner], chained):
      self._notes.end(frame, eqn, held[partner : partner + 1])
      return ()
    for view in held[owner]:
      use = self._used(frame, eqn, owner, view, known[partner])
      if chained:
        self._chained.setdefault(view.leaf, use)
        self._kernels.add(view.leaf)
      else:
        self._note(view, use, eqn.primitive.name)
    if not chained:
      self._notes.end(frame, eqn, held[partner : partner + 1])
      return ()
    return self._chain(frame, eqn, held, owner)

  def _owner(self, held: Sequence[Views], levels: Sequence[int]) -> int:
    """The operand that is the kernel: the one nearer to the params, else with more entries."""
    if not (held[0] and held[1]):
      return int(not held[0])
    if levels[0] != levels[1]:
      return int(levels[1] < levels[0])
    made = [all(view.via == PRODUCT for view in views) for views in held[:2]]
    if made[0] != made[1]:
      return int(made[0])
    sizes = [max(map(entries, views)) for views in held[:2]]
    return int(sizes[1] >= sizes[0])

  def _are_activations(self, eqn: Any, owner: int, views: Views, chained: bool) -> bool:
    """Whether a product of params stands for activations, as learned queries do.

    In ``x @ (a @ b)`` the sum is over axes of ``a``; queries ``(tokens @ w)`` are summed over with
    keys along the outputs of ``w``.
    """
    if any(view.via != PRODUCT for view in views):
      return False
    inputs = sides(eqn, owner).inputs
    summed = {view.leaf for view in views if any(own([view.axes[axis]]) for axis in inputs)}
    return chained or not summed or not summed <= self._left

  def _note(self, view: View, use: Used, name: str) -> None:
    """A leaf that was multiplied by another one before keeps the inputs that it had there."""
    leaf = view.leaf
    before = self._chained.pop(leaf, None) if view.via == PRODUCT else None
    if before is not None and not use.inputs:
      use = before._replace(by_data=True, layers=use.layers or before.layers)
    elif before is not None:
      use = use._replace(outputs=(*use.outputs, *before.inputs))
    if len(use.experts) and _long(use) < 2:  # rows of a table
      self._notes.ended[leaf].append(Ended(name, use.line, False, True))
      return
    self._notes.used[leaf].append(use)

  def _chain(self, frame: Frame, eqn: Any, held: list[Views], owner: int) -> Views:
    """The leaves in a product of params: of both, the axes that are not summed over."""
    both = [sides(eqn, operand) for operand in (0, 1)]
    shape, found = eqn.outvars[0].aval.shape, []
    sizes = [_free(eqn, operand, both[operand].outputs) for operand in (0, 1)]
    if product(eqn).form != 'matrices' or 1 in sizes:  # one token, or one output
      self._notes.end(frame, eqn, held[1 - owner : 2 - owner])
      return ()
    for operand in (0, 1):
      batch, outputs = both[operand].batch, both[operand].outputs
      before = len(both[0].outputs) if operand else 0
      places = {axis: i for i, axis in enumerate(batch)}
      places |= {axis: len(batch) + before + i for i, axis in enumerate(outputs)}
      for view in held[operand]:
        self._left |= {view.leaf} if operand == 0 else set()
        if operand != owner:
          use = self._used(frame, eqn, operand, view, Source(None, 0))
          self._chained.setdefault(view.leaf, use._replace(by_data=False))
        axes = tuple(laid_out(view.axes, places, shape))
        found.append(view._replace(axes=axes, via=PRODUCT))
    return tuple(found)

  def _used(self, frame: Frame, eqn: Any, operand: int, view: View, partner: Source) -> Used:
    mine = sides(eqn, operand)
    pieces = lambda axes: own(view.axes[axis] for axis in axes)
    indexed = self._notes.experts.get(view.leaf, set())
    fixed = [piece._replace(size=0) for piece in view.fixed if piece.axis != REPEATED]
    return Used(
      layers=(
        *own(pieces for _, pieces in view.loops),
        *(piece for piece in fixed if piece.axis not in indexed),
      ),
      experts=(*(piece for piece in fixed if piece.axis in indexed), *pieces(mine.groups)),
      batch=pieces(mine.batch),
      inputs=pieces(mine.inputs),
      window=pieces(mine.window),
      outputs=pieces(mine.outputs),
      by_data=partner.level > PARAMS,
      line=place(eqn, frame),
    )

  def _note_heads(self, frame: Frame, eqn: Any, levels: Sequence[int]) -> None:
    if product(eqn).form == 'matrices' and min(levels) > PARAMS:
      left, dims = sides(eqn, 0), frame.dims_of(eqn.invars[0])
      if left.inputs:  # else it multiplies entry by entry
        self._notes.heads.update(atom for axis in left.batch for atom in resolve(dims[axis]))


def _free(eqn: Any, operand: int, axes: Sequence[int]) -> int:
  return math.prod(shape_of(eqn.invars[operand])[axis] for axis in axes)


def _long(use: Used) -> int:
  return len({piece.axis for piece in (*use.inputs, *use.window, *use.outputs)})
