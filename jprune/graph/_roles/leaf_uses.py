"""Where a function uses its leaves, and in which form: a walk that needs shapes alone.

Capture follows the entries of a leaf and stops where it would have to guess. Here only the axes
matter, so a leaf is followed further: through masks, norms, quantisation, permutations, padding.
In ``x @ (g * w / |w|)`` both ``w`` and ``g`` are followed as far as the division; then ``w``, which
has the more entries, is the kernel, and ``g`` has ended in ``mul``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from jax.extend import core

from jprune.graph._analysis.leaf_views import View, grown, moved, step_over, view_of
from jprune.graph._analysis.provenance import GIVEN, PARAMS, Source
from jprune.graph._axes.pieces import REPEATED, Piece, Pieces, length
from jprune.graph._program.calls import call_of
from jprune.graph._program.constants import constant
from jprune.graph._program.frame import Frame
from jprune.graph._program.traits import Trait, has
from jprune.graph._roles.notes import (
  PRODUCT,
  STOPPED,
  Notes,
  Views,
  entries,
  laid_out,
  own,
  shape_of,
)
from jprune.graph._roles.products import Products
from jprune.graph._rules.base import joint, multiplies, places_of


def leaf_uses(frame: Frame, shapes: Sequence[tuple[int, ...]]) -> Notes:
  """All uses of all leaves, whose values are the first inputs of a frame."""
  notes = Notes(frame, shapes)
  _Walk(notes).run(frame, shapes)
  return notes


class _Walk:
  """The walk that notes them."""

  def __init__(self, notes: Notes) -> None:
    self._notes = notes
    self._products = Products(notes)

  def run(self, frame: Frame, shapes: Sequence[tuple[int, ...]]) -> None:
    """Follows the leaves through the function."""
    views: list[Views] = [(view_of(i, shape),) for i, shape in enumerate(shapes)]
    outs = self._walk(frame, [*views, *(() for _ in frame.jaxpr.invars[len(views) :])])
    for var, held in zip(frame.jaxpr.outvars, outs):
      if not any(var is each for each in frame.jaxpr.invars):
        self._notes.returned(held)
    self._products.finish()

  # ------------------------------------------------------------------------------------ the walk

  def _walk(self, frame: Frame, ins: Sequence[Views]) -> list[Views]:
    held = dict(zip(frame.jaxpr.invars, ins))
    of = lambda var: () if isinstance(var, core.Literal) else held.get(var, ())
    for index, eqn in enumerate(frame.jaxpr.eqns):
      operands, children = [of(var) for var in eqn.invars], frame.children.get(index, {})
      if children:
        outs = self._call(frame, eqn, children, operands)
      elif multiplies(eqn) is not None:
        outs = [self._products.product(frame, eqn, operands)]
      elif any(operands):
        outs = self._equation(frame, eqn, operands)
      else:
        continue
      held.update(zip(eqn.outvars, outs))
    return [of(var) for var in frame.jaxpr.outvars]

  def _call(
    self, frame: Frame, eqn: Any, children: dict[Any, Frame], ins: list[Views]
  ) -> Sequence[Views]:
    call = call_of(eqn)
    if call.branches:
      branches = [self._walk(children[role], call.inputs(role, ins)) for role in call.roles]
      return [max(outs, key=len) for outs in zip(*branches)]
    if call.waits:
      self._walk(children['cond'], [*ins[call.asked], *(() for _ in ins[call.carry])])
    if call.loops:
      body = children['body']
      steps = [[step_over(view, body) for view in views] for views in ins[call.steps]]
      inside = [tuple(view for view in views if view is not None) for views in steps]
      return self._loop(frame, eqn, body, ins[call.consts], ins[call.carry], inside)
    return self._walk(children['body'], ins)

  def _loop(
    self,
    frame: Frame,
    eqn: Any,
    body: Frame,
    consts: list[Views],
    carry: list[Views],
    steps: list[Views],
  ) -> list[Views]:
    """What is carried round unchanged is followed; what the body changes or collects is not."""
    ins = body.jaxpr.invars[len(consts) :]
    same = [out is var for var, out in zip(ins[: len(carry)], body.jaxpr.outvars)]
    kept = [views if yes else () for views, yes in zip(carry, same)]
    self._notes.end(frame, eqn, [views for views, yes in zip(carry, same) if not yes])
    outs = self._walk(body, [*consts, *kept, *steps])
    self._notes.end(frame, eqn, [v for i, v in enumerate(outs) if i >= len(same) or not same[i]])
    return [*kept, *(() for _ in outs[len(kept) :])]

  def _equation(self, frame: Frame, eqn: Any, held: list[Views]) -> Sequence[Views]:
    out = eqn.outvars[0].aval
    if has(eqn, Trait.STOPS):
      return [tuple(view._replace(via=STOPPED) for view in held[0])]
    if has(eqn, Trait.LOOKS_UP):
      return [self._looked_up(frame, eqn, held)]
    found = moved(frame, eqn, held[0][0]) if held[0] else None
    if found and any(each is not None for each in found):
      return self._moved(frame, eqn, held)
    if has(eqn, Trait.JOINS):
      return [self._side_by_side(frame, eqn, held)]
    if has(eqn, Trait.EACH):
      return held
    if has(eqn, Trait.ELEMENTWISE):
      return [self._combined(frame, eqn, held)]
    if has(eqn, Trait.WRITES) and all(
      self._notes.source(frame, var).level == PARAMS for var in eqn.invars[1:]
    ):
      self._notes.end(frame, eqn, held[1:])
      return [held[0]]
    same_rank = len(out.shape) == len(shape_of(eqn.invars[0]))
    if has(eqn, Trait.KEEPS_AXES) and len(eqn.outvars) == 1 and same_rank:
      return [tuple(_resized(view, out.shape) for view in held[0])]
    self._notes.end(frame, eqn, held)
    return [() for _ in eqn.outvars]

  def _moved(self, frame: Frame, eqn: Any, held: list[Views]) -> list[Views]:
    """Views whose entries an equation only moves; what can't be followed ends here."""
    outs: list[list[View]] = [[] for _ in eqn.outvars]
    for view in held[0]:
      found = moved(frame, eqn, view) or []
      if all(each is None for each in found):
        self._notes.end(frame, eqn, [(view,)])
      for out, each in zip(outs, found):
        out += [] if each is None else [each]
    return [tuple(out) for out in outs]

  # ------------------------------------------------------------------------------- entry by entry

  def _combined(self, frame: Frame, eqn: Any, held: list[Views]) -> Views:
    """The leaves that have the most entries; what changes or scales them has ended here."""
    shape, first = eqn.outvars[0].aval.shape, int(has(eqn, Trait.CHOOSES))
    rest = range(first, len(eqn.invars))
    most = max((entries(view) for i in rest for view in held[i]), default=0)
    if any(view.via == PRODUCT for i in rest for view in held[i]):
      most = math.prod(shape)  # what is added to a product of params is as large, or a bias
    kept: dict[int, View] = {}
    for i in rest:
      others = [(self._notes.source(frame, eqn.invars[j]), held[j]) for j in rest if j != i]
      for view in held[i]:
        followed = all(_is_factor(eqn, view, *other, most) for other in others)
        formed = grown(view, shape, range(len(shape))) if len(view.axes) == len(shape) else None
        whole = entries(view) == most or view.via == PRODUCT
        if followed and formed is not None and whole:
          kept.setdefault(view.leaf, formed)
        elif view.leaf not in kept:
          self._notes.end(frame, eqn, [(view,)])
    return tuple(kept.values())

  def _side_by_side(self, frame: Frame, eqn: Any, held: list[Views]) -> Views:
    """Leaves that lie beside each other, if all are leaves."""
    if not all(held) or self._notes.source(frame, eqn.outvars[0]).level > PARAMS:
      self._notes.end(frame, eqn, held)
      return ()
    axis = joint(eqn)
    views = [view for views in held for view in views]
    if len(eqn.outvars[0].aval.shape) > len(shape_of(eqn.invars[0])):  # stacked
      add = lambda axes: (*axes[:axis], (), *axes[axis:])
      views = [view._replace(axes=add(view.axes)) for view in views]
    found: dict[int, View] = {}
    for view in views:
      before = found.get(view.leaf)
      found[view.leaf] = view if before is None else _together(before, view, axis)
    return tuple(_resized(view, eqn.outvars[0].aval.shape) for view in found.values())

  def _looked_up(self, frame: Frame, eqn: Any, held: list[Views]) -> Views:
    """Some indices of a leaf, or one.

    What is computed may say which, as of experts and words; or the number of a turn of a loop, as
    of layers; or a constant, as of a permutation or of positions.
    """
    self._notes.end(frame, eqn, held[1:])
    shape, sizes = shape_of(eqn.invars[0]), eqn.params['slice_sizes']
    cut = [axis for axis, size in enumerate(sizes) if size != shape[axis]]
    indices = eqn.invars[1:]
    by_data = any(self._notes.source(frame, var).level > PARAMS for var in indices)
    known = all(constant(frame, var) is not None for var in indices)
    places, rows = places_of(eqn)
    listed = known and len(cut) == 1 and len(rows) == 1
    found = []
    for view in held[0]:
      if listed:
        self._notes.tables.add(view.leaf)
      exact = None if by_data else (moved(frame, eqn, view) or [None])[0]
      if exact is not None:
        found.append(exact)
        continue
      whole = [() if axis in cut else pieces for axis, pieces in enumerate(view.axes)]
      axes = laid_out(whole, places, eqn.outvars[0].aval.shape)
      pieces = own(view.axes[axis] for axis in cut)
      if listed:
        axes[rows[0]] = _one_piece(pieces, eqn.outvars[0].aval.shape[rows[0]])
        pieces = ()
      elif by_data or known:
        self._notes.experts.setdefault(view.leaf, set()).update(piece.axis for piece in pieces)
      fixed = (*view.fixed, *(piece._replace(size=1) for piece in pieces))
      found.append(view._replace(axes=tuple(axes), fixed=fixed))
    return tuple(found)


def _is_factor(eqn: Any, view: View, other: Source, views: Views, most: int) -> bool:
  """Whether a leaf is still one after it was combined with this.

  So it is with other params, masks and noise that are arguments, and scales that are computed and
  have fewer entries; not with a larger value, which then is an activation that the leaf shifts.
  """
  if other.level == PARAMS:
    # what was made of other params, and is as large, is no kernel that this one shifts
    return bool(views) or other.of <= {view.leaf} or other.entries < entries(view)
  if other.level == GIVEN:
    return other.entries <= most and _is_linear(eqn)
  return other.entries < most and has(eqn, Trait.SCALES)


def _is_linear(eqn: Any) -> bool:
  """Whether a leaf that others scale, shift or mask is still one."""
  return any(has(eqn, trait) for trait in (Trait.SCALES, Trait.ADDS, Trait.CHOOSES))


def _together(a: View, b: View, axis: int) -> View:
  """Two parts of a leaf side by side: the axis that each is an index of is an axis again."""
  apart = [(x, y) for x, y in zip(a.fixed, b.fixed) if x != y]
  if len(a.fixed) != len(b.fixed) or len(apart) != 1 or a.axes[axis]:
    return a
  piece = apart[0][0]
  axes = (*a.axes[:axis], (piece._replace(offset=0, size=2),), *a.axes[axis + 1 :])
  return a._replace(axes=axes, fixed=tuple(x for x in a.fixed if x != piece))


def _one_piece(pieces: Pieces, size: int) -> Pieces:
  if size == 1:
    return ()
  return (Piece(pieces[0].axis if pieces else REPEATED, 0, 1, size),)


def _resized(view: View, shape: Sequence[int]) -> View:
  """A view of other sizes: each axis is still made of the axes of the leaf that it was made of."""
  axes = []
  for pieces, size in zip(view.axes, shape):
    same = length(pieces) == size
    axes.append(pieces if same else _one_piece(pieces, size))
  return view._replace(axes=tuple(axes))
