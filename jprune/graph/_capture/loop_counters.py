"""Loops that take a slice of a leaf by the number of the turn, ``w[i]``."""

from __future__ import annotations

from typing import Any

import numpy as np
from jax.extend import core

from jprune.graph._analysis.leaf_views import View
from jprune.graph._axes.pieces import REPEATED, each_once
from jprune.graph._program.calls import call_of
from jprune.graph._program.constants import constant, folded
from jprune.graph._program.frame import Frame
from jprune.graph._program.traits import Trait, has


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
