"""Where values come from: which of them are the entries of a leaf, in another form.

A weight reaches its product through reshapes, casts, masks, scales, loops. Each value of a frame
gets a :class:`Source`, from those of the operands that made it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jax.extend import core

from jprune.graph._analysis.masks_moved import moves
from jprune.graph._program.calls import Call
from jprune.graph._program.dataflow import Analysis, Facts, forward
from jprune.graph._program.frame import Frame
from jprune.graph._program.traits import Trait, has
from jprune.graph._rules.base import RULES, inverted, joint, multiplies

# What a value depends on, besides constants.
PARAMS = 0
GIVEN = 1  # also arguments of the function
COMPUTED = 2  # also products of those: an activation


class MaskStep(NamedTuple):
  """How a mask of a leaf follows the leaf.

  Attributes:
    before: the step before, or ``None``.
    apply: from a mask to those that follow from it: several, where a loop runs over an axis.
    cuts: whether this step or one before it leaves entries out.
  """

  before: MaskStep | None
  apply: Callable[[np.ndarray], Sequence[np.ndarray]]
  cuts: bool


class SourcePart(NamedTuple):
  """One of several leaves that were concatenated: its source, and the value that it was then."""

  source: Source
  frame: Frame
  var: Any


class Source(NamedTuple):
  """Where a value comes from.

  Attributes:
    leaf: the place of the leaf whose entries it holds, each in the form of one of the leaf.
    entries: how many different entries it may have; 0 if it is known or a bool, which changes
      nothing about where its partner comes from.
    of: the places of all leaves that it depends on.
    level: what else it depends on.
    steps: from the leaf to here.
    followed: whether ``steps`` tell exactly which entries of the leaf it holds.
    parts: the leaves whose entries it holds side by side, all of them, if ``leaf`` is ``None``.
  """

  leaf: int | None
  entries: int
  of: frozenset[int] = frozenset()
  level: int = PARAMS
  steps: MaskStep | None = None
  followed: bool = True
  parts: tuple[SourcePart, ...] = ()


_KNOWN = Source(None, 0)
Sources: TypeAlias = Facts[Source]


class _Provenance(Analysis[Source]):
  """Sources; a scan runs over a leaf one slice after another."""

  nothing = _KNOWN

  def equation(self, frame: Frame, index: int, operands: list[Source]) -> Sequence[Source]:
    return _of_eqn(frame, frame.jaxpr.eqns[index], operands)

  def join(self, one: Source, other: Source) -> Source:
    return _either(one, other)

  def step(self, whole: Source, call: Call) -> Source:
    entries = -(-whole.entries // max(call.turns or 0, 1))
    return _then(whole, _one_by_one)._replace(entries=entries)

  def collected(self, step: Source) -> Source:
    return step._replace(followed=False)

  def written(self, var: Any, value: Source) -> Source:
    return _KNOWN if _is_bool(var) else value._replace(entries=min(value.entries, _size(var)))


def sources(frame: Frame, shapes: Sequence[tuple[int, ...]]) -> Sources:
  """The sources of all values of a function whose first inputs are leaves of these shapes."""
  ins = [Source(i, math.prod(shape), frozenset([i])) for i, shape in enumerate(shapes)]
  rest = frame.jaxpr.invars[len(ins) :]
  ins += [Source(None, _size(var), level=GIVEN) for var in rest]
  known = [_KNOWN if _is_bool(var) else x for var, x in zip(frame.jaxpr.invars, ins, strict=True)]
  return forward(_Provenance(), frame, known)


def owner(found: Sources, frame: Frame, eqn: Any) -> Source | None:
  """The source of the operand of a product that is a leaf, or several; ``None`` if neither is."""
  operands = [_of(found[frame], var) for var in eqn.invars[:2]]
  named = [source for source in operands if source.leaf is not None or source.parts]
  best = [source for source in named if source.level == min(each.level for each in named)]
  how = multiplies(eqn)
  if how is not None and how.kernel is not None and operands[how.kernel] in best:
    return operands[how.kernel]
  return max(reversed(best), key=lambda source: source.entries, default=None)


def _of(known: dict[Any, Source], var: Any) -> Source:
  return _KNOWN if isinstance(var, core.Literal) else known[var]


def _either(a: Source, b: Source) -> Source:
  """One or the other: of one leaf only if both are the same."""
  if a == b:
    return a
  leaf = a.leaf if a.leaf == b.leaf else None
  return Source(
    leaf, max(a.entries, b.entries), a.of | b.of, max(a.level, b.level), None, followed=False
  )


def _one_by_one(mask: np.ndarray) -> Sequence[np.ndarray]:
  return list(mask)


# ------------------------------------------------------------------------------- single equations


def _of_eqn(frame: Frame, eqn: Any, ins: list[Source]) -> list[Source]:
  if (found := moves(frame, eqn)) is not None:
    return [_then(ins[0], move, move.cuts) for move in found]
  rule = RULES.get(eqn.primitive.name)
  if rule is not None and rule.indices is not None:
    return [_indexed(ins[: rule.indices], ins[rule.indices :])]
  if has(eqn, Trait.JOINS):
    return [_side_by_side(frame, eqn, ins)]
  if has(eqn, Trait.ELEMENTWISE):
    if len(eqn.outvars) > 1:
      return ins
    used = [i for i in range(len(ins)) if not (has(eqn, Trait.CHOOSES) and i == 0)]
    shape = eqn.outvars[0].aval.shape
    grown = [_grown(ins[i], eqn.invars[i], shape) for i in used]
    return [_joined(grown, has(eqn, Trait.SCALES) and inverted(eqn) is None)]
  level = max([source.level for source in ins], default=PARAMS)
  if multiplies(eqn) is not None and level == GIVEN:
    level = COMPUTED
  of = frozenset().union(*(source.of for source in ins))
  return [Source(None, _size(var) if of or level else 0, of, level) for var in eqn.outvars]


def _indexed(data: Sequence[Source], indices: Sequence[Source]) -> Source:
  """Entries at indices that depend on the inputs, read or written."""
  out = _joined(data)
  level = max([out.level, *(min(each.level, GIVEN) for each in indices)])
  return out._replace(level=level, followed=False, parts=())


def _joined(sources: Sequence[Source], multiplies: bool = False) -> Source:
  """Entry by entry combined: what has the most entries decides, as a kernel over its scales.

  A leaf decides among equals if the others come from it alone or, where all are multiplied, if
  they are arguments (a mask).
  """
  level = max((source.level for source in sources), default=PARAMS)
  entries = max((source.entries for source in sources), default=0)
  of = frozenset().union(*(source.of for source in sources))
  top = [source for source in sources if source.entries == entries > 0]
  named = [source for source in top if source.leaf is not None]
  one = {source.leaf for source in named}
  others = [source for source in top if source.leaf is None]
  factor = lambda each: not each.of and multiplies
  if (
    len(one) != 1
    or level == COMPUTED
    or not all(factor(each) or (each.of <= one and each.level == PARAMS) for each in others)
  ):
    parts = top[0].parts if len(top) == 1 and level < COMPUTED else ()
    return Source(None, entries, of, level, parts=parts)
  same = all(each.steps is named[0].steps and each.followed for each in named)
  return Source(named[0].leaf, entries, of, level, named[0].steps, same)


def _side_by_side(frame: Frame, eqn: Any, ins: list[Source]) -> Source:
  out = _joined(ins)._replace(followed=False, parts=())
  leaves = {source.leaf for source in ins}
  if out.leaf is not None and leaves <= {out.leaf, None} and all(map(_lies_still, ins)):
    return out._replace(steps=MaskStep(None, _laid(eqn, ins), cuts=True), followed=True)
  if None in leaves or len(leaves) == 1:
    return out
  return out._replace(
    leaf=None,
    entries=_size(eqn.outvars[0]),
    parts=tuple(SourcePart(source, frame, var) for source, var in zip(ins, eqn.invars)),
  )


def _lies_still(source: Source) -> bool:
  """Whether all of its entries are known: constants, or those of a leaf."""
  return source.followed if source.leaf is not None else not source.of and source.level == PARAMS


def _laid(eqn: Any, ins: Sequence[Source]) -> Callable[[np.ndarray], Sequence[np.ndarray]]:
  """What becomes of a mask of the leaf that lies beside itself and constants, which are kept."""
  axis, shapes = joint(eqn), [var.aval.shape for var in eqn.invars]
  lay = np.stack if len(eqn.outvars[0].aval.shape) > len(shapes[0]) else np.concatenate

  def apply(mask: np.ndarray) -> Sequence[np.ndarray]:
    each = [None if x.leaf is None else masks_after(x.steps, mask) for x in ins]
    times = max(len(masks) for masks in each if masks is not None)
    kept = [[np.ones(s, bool)] * times if m is None else m for m, s in zip(each, shapes)]
    return [lay(parts, axis) for parts in zip(*kept, strict=True)]

  return apply


def masks_after(steps: MaskStep | None, mask: np.ndarray) -> list[np.ndarray]:
  """What a mask becomes on the way of its leaf: several, where a loop runs over an axis."""
  way = []
  while steps is not None:
    way.append(steps)
    steps = steps.before
  found = [mask]
  for step in reversed(way):
    found = [after for before in found for after in step.apply(before)]
  return found


def _grown(source: Source, var: Any, shape: tuple[int, ...]) -> Source:
  if source.leaf is None or getattr(var.aval, 'shape', ()) in ((), shape):
    return source
  return _then(source, lambda mask: [np.broadcast_to(mask, shape)])


def _then(
  source: Source, apply: Callable[[np.ndarray], Sequence[np.ndarray]], cuts: bool = False
) -> Source:
  if source.leaf is None or not source.followed:
    return source._replace(parts=()) if cuts else source
  cuts = cuts or (source.steps is not None and source.steps.cuts)
  return source._replace(steps=MaskStep(source.steps, apply, cuts))


def _size(var: Any) -> int:
  return math.prod(getattr(var.aval, 'shape', ()))


def _is_bool(var: Any) -> bool:
  return getattr(var.aval, 'dtype', None) == np.bool_
