"""Leaves that are stacked before they are used, as layers are for a scan: one leaf for a while."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from jprune.graph._analysis.leaf_views import View, view_of
from jprune.graph._capture.stats import Use
from jprune.graph._program.traits import Trait, has
from jprune.graph._rules.base import joint


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
