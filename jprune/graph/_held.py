"""What the results of an equation hold of the leaves that its operands hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
from jax.extend import core

from jprune.graph._elementwise import ELEMENTWISE
from jprune.graph._frame import Frame, place
from jprune.graph._sources import Source
from jprune.graph._views import REPEATED, View, grown, moved

_CASTS = ['convert_element_type', 'copy', 'copy_p', 'reduce_precision', 'optimization_barrier']
_PLACED = ['sharding_constraint', 'layout_constraint', 'mesh_cast', 'reshard', 'pvary', 'name']
_AS_IT_IS = frozenset([*_CASTS, *_PLACED, 'stop_gradient'])
_ARGUMENTS = 1  # as the level of a source: no product of the function is in it


class Joined(NamedTuple):
  """Several values side by side along an axis; those that are no leaves are ``None``."""

  axis: int
  views: tuple[View | None, ...]


Held: TypeAlias = View | Joined | None


def views_in(held: Held) -> list[View]:
  """All views of leaves in what is held."""
  parts = held.views if isinstance(held, Joined) else (held,)
  return [view for view in parts if view is not None]


def held_by(
  frame: Frame, eqn: Any, held: Sequence[Held], sources: dict[Any, Source]
) -> Sequence[Held]:
  """What each result holds; nothing at all if the equation is not followed."""
  first, name = held[0], eqn.primitive.name
  if name == 'concatenate':
    return _concatenated(eqn.params['dimension'], held)
  if isinstance(first, View) and (found := moved(frame, eqn, first)) is not None:
    return found
  if name not in ELEMENTWISE and name != 'transpose':
    return []
  if len(eqn.outvars) > 1:  # an optimization barrier
    return held
  if any(isinstance(each, Joined) for each in held):
    return _of_joined(eqn, held, sources)
  return [_combined(frame, eqn, held, sources)]


def named(eqn: Any, frame: Frame) -> str:
  """An equation and where it comes from, ``add (file.py:12)``."""
  where = place(eqn, frame)
  return f'{eqn.primitive.name} ({where})' if where else eqn.primitive.name


# ----------------------------------------------------------------------------------- side by side


def _concatenated(axis: int, held: Sequence[Held]) -> list[Held]:
  parts: list[View | None] = []
  for each in held:
    if isinstance(each, Joined):
      if each.axis != axis:
        return []
      parts += each.views
    else:
      parts.append(each)
  return [Joined(axis, tuple(parts))]


def _of_joined(eqn: Any, held: Sequence[Held], sources: dict[Any, Source]) -> list[Held]:
  name = eqn.primitive.name
  (place, joined), *more = [(i, x) for i, x in enumerate(held) if isinstance(x, Joined)]
  if more:
    return []
  if name == 'transpose':
    order = eqn.params['permutation']
    turned = lambda view: view._replace(axes=tuple(view.axes[i] for i in order))
    views = [view and turned(view) for view in joined.views]
    return [Joined(order.index(joined.axis), tuple(views))]
  if eqn.invars[place].aval.shape != eqn.outvars[0].aval.shape:
    return []
  if name == 'convert_element_type' and not _is_floating(eqn.outvars[0]):
    return []
  if name in _AS_IT_IS or name == 'neg':
    return [joined]
  others = [var for i, var in enumerate(eqn.invars) if i != place]
  factors = name == 'mul' or (name == 'div' and place == 0)
  return [joined] if factors and all(_is_factor(sources, var) for var in others) else []


def _is_factor(sources: dict[Any, Source], var: Any) -> bool:
  """Whether it is a mask or a scale that depends on no leaf."""
  if isinstance(var, core.Literal):
    return True
  return not sources[var].of and sources[var].level <= _ARGUMENTS


# --------------------------------------------------------------------------------- entry by entry


def _combined(
  frame: Frame, eqn: Any, held: Sequence[Any], sources: dict[Any, Source]
) -> View | None:
  """The view of the leaf to which the result belongs."""
  leaf, shape = sources[eqn.outvars[0]].leaf, eqn.outvars[0].aval.shape
  for operand, view in enumerate(held):
    if view is None or view.leaf != leaf:
      continue
    if len(view.axes) != len(shape):
      return None
    found = grown(view, shape, range(len(shape)))
    if not found.via and not _keeps_entries(frame, eqn, operand, found, sources):
      found = found._replace(via=named(eqn, frame))
    return found
  return None


def _keeps_entries(
  frame: Frame, eqn: Any, operand: int, view: View, sources: dict[Any, Source]
) -> bool:
  """Whether entries are those of the operand but for casts, masks and scales."""
  name = eqn.primitive.name
  if name in _AS_IT_IS or name == 'neg':
    return _is_floating(eqn.outvars[0])
  others = [var for i, var in enumerate(eqn.invars) if i != operand]
  if name == 'select_n':
    return operand > 0 and all(frame.scalar(var) == 0 for var in others[1:])
  if name != 'mul' and (name != 'div' or operand != 0):
    return False
  return all(_scales(var, view, sources) for var in others)


def _scales(var: Any, view: View, sources: dict[Any, Source]) -> bool:
  """Whether it depends on no leaf, or is a single number, and is the same where the leaf is."""
  if isinstance(var, core.Literal) or var.aval.size == 1:
    return True
  repeated = [any(piece.axis == REPEATED for piece in pieces) for pieces in view.axes]
  same = all(size == 1 or not yes for size, yes in zip(var.aval.shape, repeated))
  return same and not sources[var].of


def _is_floating(var: Any) -> bool:
  return jnp.issubdtype(var.aval.dtype, jnp.floating)
