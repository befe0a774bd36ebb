"""What the results of an equation hold of the leaves that its operands hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
from jax.extend import core

from jprune.graph._analysis.leaf_views import Scale, View, beside, grown, moved, reshaped
from jprune.graph._analysis.provenance import GIVEN, Source
from jprune.graph._program.frame import Frame
from jprune.graph._program.locations import place
from jprune.graph._program.traits import Trait, has
from jprune.graph._rules.base import inverted, joint, multiplies, permutation, scales, sides


class SideBySide(NamedTuple):
  """Several values side by side along an axis; those that are no leaves are ``None``."""

  axis: int
  views: tuple[View | None, ...]


Held: TypeAlias = View | SideBySide | None


def views_in(held: Held) -> list[View]:
  """All views of leaves in what is held."""
  parts = held.views if isinstance(held, SideBySide) else (held,)
  return [view for view in parts if view is not None]


def held_by(
  frame: Frame,
  eqn: Any,
  held: Sequence[Held],
  sources: dict[Any, Source],
  number: Callable[[int], float | Scale | None],
) -> Sequence[Held]:
  """What each result holds; nothing at all if the equation is not followed.

  ``number(operand)`` is the one number that all entries of an operand are, if they are equal.
  """
  first = held[0]
  if has(eqn, Trait.JOINS):
    return _side_by_side(eqn, held)
  if isinstance(first, View) and (found := moved(frame, eqn, first)) is not None:
    return found
  order = permutation(eqn)
  if not has(eqn, Trait.ELEMENTWISE) and order is None and multiplies(eqn) is None:
    return []
  if len(eqn.outvars) > 1:  # an optimization barrier
    return held
  if any(isinstance(each, SideBySide) for each in held):
    return _of_joined(frame, eqn, held, sources, number)
  return [_combined(frame, eqn, held, sources, number)]


def only_scales(eqn: Any, operand: int) -> bool:
  """Whether a product has one number for a partner, as ``einsum`` multiplies by a scalar."""
  how = multiplies(eqn)
  if how is None or how.form != 'matrices' or sides(eqn, operand).inputs:
    return False
  return math.prod(eqn.invars[1 - operand].aval.shape) == 1


def named(eqn: Any, frame: Frame) -> str:
  """An equation and where it comes from, ``add (file.py:12)``."""
  where = place(eqn, frame)
  return f'{eqn.primitive.name} ({where})' if where else eqn.primitive.name


# ----------------------------------------------------------------------------------- side by side


def _side_by_side(eqn: Any, held: Sequence[Held]) -> list[Held]:
  axis, shapes = joint(eqn), [var.aval.shape for var in eqn.invars]
  stacked = len(eqn.outvars[0].aval.shape) > len(shapes[0])
  leaves = {view.leaf for each in held for view in views_in(each)}
  if len(leaves) == 1 and not any(isinstance(each, SideBySide) for each in held):
    sizes = [1 if stacked else shape[axis] for shape in shapes]
    views = [each if isinstance(each, View) else None for each in held]
    if (one := beside(views, sizes, axis, stacked)) is not None:
      return [one]
  return [] if stacked else _concatenated(axis, held)


def _concatenated(axis: int, held: Sequence[Held]) -> list[Held]:
  parts: list[View | None] = []
  for each in held:
    if isinstance(each, SideBySide):
      if each.axis != axis:
        return []
      parts += each.views
    else:
      parts.append(each)
  return [SideBySide(axis, tuple(parts))]


def _of_joined(
  frame: Frame,
  eqn: Any,
  held: Sequence[Held],
  sources: dict[Any, Source],
  number: Callable[[int], float | Scale | None],
) -> list[Held]:
  (place, joined), *more = [(i, x) for i, x in enumerate(held) if isinstance(x, SideBySide)]
  if more:
    return []
  if (order := permutation(eqn)) is not None:
    turned = lambda view: view._replace(axes=tuple(view.axes[i] for i in order))
    return [SideBySide(order.index(joined.axis), _each(joined, turned))]
  if eqn.invars[place].aval.shape != eqn.outvars[0].aval.shape:
    return []
  if (factor := _factor(eqn, place, number)) is not None:
    return [joined._replace(views=_each(joined, lambda view: view.scaled(factor)))]
  others = [var for i, var in enumerate(eqn.invars) if i != place]
  if not scales(eqn, place) or not all(_is_argument(sources, var) for var in others):
    return []
  via = named(eqn, frame)
  return [joined._replace(views=_each(joined, lambda view: view.changed(via)))]


def _each(joined: SideBySide, change: Callable[[View], View]) -> tuple[View | None, ...]:
  return tuple(view and change(view) for view in joined.views)


def _is_argument(sources: dict[Any, Source], var: Any) -> bool:
  """Whether it depends on no leaf, and is no activation."""
  if isinstance(var, core.Literal):
    return True
  return not sources[var].of and sources[var].level <= GIVEN


# --------------------------------------------------------------------------------- entry by entry


def _combined(
  frame: Frame,
  eqn: Any,
  held: Sequence[Any],
  sources: dict[Any, Source],
  number: Callable[[int], float | Scale | None],
) -> View | None:
  """The view of the leaf to which the result belongs."""
  leaf, shape = sources[eqn.outvars[0]].leaf, eqn.outvars[0].aval.shape
  for operand, view in enumerate(held):
    factor = None if view is None else _factor(eqn, operand, number)
    if view is None or (factor is None and view.leaf != leaf):
      continue
    found = _formed(eqn, view, shape)
    if found is None:
      return None
    if factor is None:
      return found.changed(named(eqn, frame))
    return found.scaled(factor)
  return None


def _formed(eqn: Any, view: View, shape: Sequence[int]) -> View | None:
  """In the shape of the result."""
  if multiplies(eqn) is not None:  # all other axes have size 1
    return reshaped(view, shape)
  return grown(view, shape, range(len(shape))) if len(view.axes) == len(shape) else None


def _factor(
  eqn: Any, operand: int, number: Callable[[int], float | Scale | None]
) -> float | Scale | None:
  """The number by which an operand is multiplied; ``None`` if something else is done with it.

  A mask or a factor with several entries is something else: products see other inputs than the
  leaf does, another set for each output.
  """
  if not jnp.issubdtype(eqn.outvars[0].aval.dtype, jnp.floating):
    return None
  if has(eqn, Trait.CASTS):
    return 1.0
  if has(eqn, Trait.NEGATES):
    return -1.0
  if not scales(eqn, operand) and not only_scales(eqn, operand):
    return None
  other, divides = number(1 - operand), inverted(eqn) is not None
  if isinstance(other, Scale):
    return other._replace(divides=divides)
  if other is None or not math.isfinite(other) or (divides and other == 0):
    return None
  return 1 / other if divides else other
