"""Leaves of which loops take a slice a turn: by its number, or stacked for a scan to run over."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core

from jprune.graph._analysis.leaf_views import View, view_of
from jprune.graph._axes.pieces import REPEATED, each_once
from jprune.graph._program.calls import call_of
from jprune.graph._program.constants import constant, folded
from jprune.graph._program.frame import Frame
from jprune.graph._program.traits import Trait, has
from jprune.graph._rules.base import joint
from jprune.graph._statistics.stats import Use


def counters(frame: Frame, eqn: Any, body: Frame) -> dict[int, np.ndarray]:
  """By their place, the inputs of the body of a scan of which each step is known; their values."""
  call, found = call_of(eqn), {}
  for place, var in enumerate(eqn.invars):
    carried = place - call.carry.start
    if carried < 0 or (value := constant(frame, var)) is None:
      continue
    if place >= call.carry.stop or call.turns is None:
      if value.ndim == 1:
        found[place] = value
    elif value.ndim == 0 and not call.backwards and _adds_one(body, place, carried):
      found[place] = value + np.arange(call.turns)
  return found


def _adds_one(body: Frame, place: int, out: int) -> bool:
  var, result = body.jaxpr.invars[place], body.jaxpr.outvars[out]
  index = None if isinstance(result, core.Literal) else body.maker(result)
  eqn = None if index is None else body.jaxpr.eqns[index]
  if eqn is None or not has(eqn, Trait.ADDS):
    return False
  others = [x for x in eqn.invars if x is not var]
  if len(others) != 1 or not isinstance(others[0], core.Literal):
    return False
  of = lambda turn: [turn if x is var else x.val for x in eqn.invars]
  return [int(folded(eqn, of(turn))[0]) for turn in (0, 1)] == [1, 2]


def step_by_turn(eqn: Any, view: View, starts: list[Any], body: Frame) -> View | None:
  """One slice of a leaf along an axis whose indices the steps of a scan take in order.

  ``starts`` are the index along each axis in each step, or ``None``.
  """
  shape, sizes = eqn.invars[0].aval.shape, eqn.params['slice_sizes']
  cut = [axis for axis, size in enumerate(sizes) if size != shape[axis]]
  if len(cut) != 1 or sizes[cut[0]] != 1:
    return None
  (axis,) = cut
  if starts[axis] is None or not np.array_equal(starts[axis], np.arange(shape[axis])):
    return None
  pieces = view.axes[axis]
  if any(piece.axis == REPEATED for piece in pieces) or not each_once(pieces):
    return None
  axes = (*view.axes[:axis], (), *view.axes[axis + 1 :])
  return view._replace(axes=axes, loops=(*view.loops, (body, pieces)))


class Stack(NamedTuple):
  """Whole leaves side by side along a new axis.

  Attributes:
    leaves: their places; ``None`` is something else.
    axis: the new one.
    shape: of all together.
  """

  leaves: tuple[int | None, ...]
  axis: int
  shape: tuple[int, ...]


class Pick(NamedTuple):
  """Of products side by side, numbered by factors of these sizes, those at an index of one."""

  sizes: tuple[int, ...]
  place: int
  # A field hides tuple.index: what picks is never searched.
  index: int  # pyright: ignore[reportIncompatibleMethodOverride]

  def __call__(self, x: jax.Array) -> jax.Array:
    apart = x.reshape(*self.sizes, *x.shape[1:]).take(self.index, axis=self.place)
    return apart.reshape(-1, *x.shape[1:])


def stack_of(eqn: Any, held: Sequence[Any], shapes: Sequence[tuple[int, ...]]) -> Stack | None:
  """The stack that an equation makes of whole leaves of these shapes; ``None`` if it doesn't."""
  if not has(eqn, Trait.JOINS):
    return None
  views, shape, axis = list(held), eqn.outvars[0].aval.shape, joint(eqn)
  if len(eqn.invars[0].aval.shape) == len(shape):  # concatenated
    if any(var.aval.shape[axis] != 1 for var in eqn.invars):
      return None
    less = lambda view: view._replace(axes=(*view.axes[:axis], *view.axes[axis + 1 :]))
    views = [less(each) if isinstance(each, View) else each for each in held]
  each_shape = (*shape[:axis], *shape[axis + 1 :])
  for view in views:
    whole = isinstance(view, View) and shapes[view.leaf] == each_shape
    if view is not None and not (whole and view == view_of(view.leaf, each_shape)):
      return None
  leaves = tuple(None if view is None else view.leaf for view in views)
  return Stack(leaves, axis, shape)


def unstacked(use: Use, stack: Stack) -> list[tuple[int, Use, Pick | None]] | str:
  """The use of a stack as one of each of its leaves, with the part of its products; or why not."""
  mine = [place for place, axis in enumerate(use.axes) if axis == stack.axis]
  low, high = use.box[stack.axis]
  if len(mine) > 1 or set(mine) & set(use.inputs):
    return 'it is stacked with others along an axis that is contracted or parted'
  bare, out = _without(use, stack.axis, mine), []
  sizes = tuple(use.shape[place] for place in use.batch)
  for index in range(low, high):
    leaf, pick = stack.leaves[index], None
    if mine and mine[0] in use.batch:
      pick = Pick(sizes, use.batch.index(mine[0]), index - low)
    if leaf is not None:
      out.append((leaf, bare, pick))
  return out


def _without(use: Use, axis: int, gone: Sequence[int]) -> Use:
  """A use of one of the leaves of a stack."""
  rest = [place for place in range(len(use.shape)) if place not in gone]
  places = lambda old: tuple(rest.index(place) for place in old if place in rest)
  stepped = use.batch[:1] == tuple(gone)
  return dataclasses.replace(
    use,
    box=(*use.box[:axis], *use.box[axis + 1 :]),
    shape=tuple(use.shape[place] for place in rest),
    axes=tuple(use.axes[place] - (use.axes[place] > axis) for place in rest),
    batch=places(use.batch),
    inputs=places(use.inputs),
    outputs=places(use.outputs),
    loop=None if stepped else use.loop,
    backwards=use.backwards and not stepped,
  )
