"""A traced function as one list of operations: calls are inlined, scans over leaves unrolled.

Of ``scan`` over layers the body stands there once for each step, with the part of each leaf that
the step uses; nothing is traced or compiled for that. Values are numbered. What is computed from
leaves and constants alone belongs to no place: whoever needs it computes it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from jax.extend import core
from jax.sharding import PartitionSpec

from jprune.graph._analysis.multiply_adds import macs_of, of_children
from jprune.graph._analysis.traced import Traced
from jprune.graph._axes.sizes import Sizes
from jprune.graph._program.calls import call_of
from jprune.graph._program.frame import Frame
from jprune.graph._program.traits import Trait, has
from jprune.graph._rules.base import permutation
from jprune.graph._segments.operations import Evaluate, How, StackSteps, TakeStep, Transpose

Ref: TypeAlias = int | core.Literal
"""The number of a value, or a literal."""

_NONE: frozenset[int] = frozenset()


class LeafPart(NamedTuple):
  """A leaf of the params by its place, or its part at an index along an axis."""

  place: int
  axis: int | None = None
  step: int | None = None


def overlap(one: LeafPart, other: LeafPart) -> bool:
  """Whether they are, or may be, of the same weights."""
  steps = one.step, other.step
  apart = None not in steps and one.axis == other.axis and one.step != other.step
  return one.place == other.place and not apart


class Value(NamedTuple):
  """What is known of a value.

  Attributes:
    aval: its type.
    made: number of the operation that makes it; -1 of what is given.
    by_data: whether arguments have a part in it.
    leaves: values that are leaves and that it is computed from, if arguments have none.
    at: the frame and the variable that it is; ``None`` if it is none.
  """

  aval: Any
  made: int
  by_data: bool
  leaves: frozenset[int] = _NONE
  at: tuple[Frame, Any] | None = None


class Operation(NamedTuple):
  """One operation.

  Attributes:
    how: what it does.
    ins: its operands.
    outs: its results.
    leaves: leaves among what its operands are computed from without data.
    macs: its multiply-adds.
    whole: whether it is one equation that calls nothing.
  """

  how: How
  ins: tuple[Ref, ...]
  outs: tuple[int, ...]
  leaves: frozenset[int]
  macs: int
  whole: bool


class Unrolled:
  """A function as operations.

  Attributes:
    values: all of them, by number.
    operations: in the order in which they run.
    leaves: the values that are given as leaves, or parts of them.
    arguments: the values that are given as arguments, with their places.
    constants: the values that are known.
    steps: the values that are numbers of steps.
  """

  def __init__(self, traced: Traced, unrolled: AbstractSet[Frame]) -> None:
    self.values: list[Value] = []
    self.operations: list[Operation] = []
    self.leaves: dict[int, LeafPart] = {}
    self.arguments: dict[int, int] = {}
    self.constants: dict[int, Any] = {}
    self.steps: dict[int, int] = {}
    self._unrolled = unrolled
    self._at: dict[Any, list[int]] = {}
    self._parts: dict[Any, int | None] = {}
    self._numbers: dict[int, int] = {}
    self._equations: dict[tuple[Frame, int], tuple[Evaluate, int]] = {}
    self._sizes = Sizes({})
    count = len(traced.leaves)
    ins: list[Ref] = []
    for place, var in enumerate(traced.frame.jaxpr.invars):
      if place < count:
        ins.append(self._leaf(LeafPart(place), var.aval))
      else:
        ins.append(self._value(Value(var.aval, -1, True, at=(traced.frame, var))))
        self.arguments[len(self.values) - 1] = place - count
    self._walk(traced.frame, ins)

  def at(self, frame: Frame, index: int) -> Sequence[int]:
    """The operations that are an equation, or in which it is run."""
    return self._at.get((frame, index)) or self._at.get(frame, ())

  def used(self, operation: int) -> list[LeafPart]:
    """The leaves, or parts, that an operation reads without data having a part in it."""
    return [self.leaves[value] for value in self.operations[operation].leaves]

  def by_data(self, operation: int) -> bool:
    """Whether arguments have a part in what it gives."""
    return self.values[self.operations[operation].outs[0]].by_data

  # ------------------------------------------------------------------------------------ the walk

  def _value(self, value: Value) -> int:
    self.values.append(value)
    return len(self.values) - 1

  def _leaf(self, leaf: LeafPart, aval: Any) -> int:
    number = len(self.values)
    self.leaves[number] = leaf
    return self._value(Value(aval, -1, False, frozenset([number])))

  def _constant(self, value: Any, aval: Any) -> int:
    self.constants[len(self.values)] = value
    return self._value(Value(aval, -1, False))

  def _walk(self, frame: Frame, ins: Sequence[Ref]) -> list[Ref]:
    """Lays out a frame; the values that are its results."""
    known: dict[Any, Ref] = dict(zip(frame.jaxpr.invars, ins, strict=True))
    for var, value in frame.consts.items():
      known[var] = self._constant(value, var.aval)
    read = lambda var: var if isinstance(var, core.Literal) else known[var]
    for index, eqn in enumerate(frame.jaxpr.eqns):
      operands = [read(var) for var in eqn.invars]
      known.update(zip(eqn.outvars, self._equation(frame, index, operands)))
    return [read(var) for var in frame.jaxpr.outvars]

  def _equation(self, frame: Frame, index: int, ins: list[Ref]) -> Sequence[Ref]:
    eqn, children = frame.jaxpr.eqns[index], frame.children.get(index, {})
    call = call_of(eqn)
    if 'body' in children and not call.branches and not call.loops:
      return self._walk(children['body'], ins)
    if children.get('body') in self._unrolled:
      return self._scan(eqn, children['body'], ins)
    if (frame, index) not in self._equations:
      macs = macs_of(frame, index, self._sizes)
      macs += of_children(eqn, children, self._sizes) if children else 0
      self._equations[frame, index] = Evaluate(eqn), macs
    how, macs = self._equations[frame, index]
    at = [(frame, var) for var in eqn.outvars]
    moves = bool(eqn.effects) or has(eqn, Trait.DRAWS)
    avals = [var.aval for var in eqn.outvars]
    outs = self._operation(how, ins, avals, at, moves, macs, not children)
    self._at.setdefault((frame, index), []).append(len(self.operations) - 1)
    for child in children.values():
      self._note(child)
    return outs

  def _note(self, frame: Frame) -> None:
    """Says that a frame and all that it calls run in the last operation."""
    self._at.setdefault(frame, []).append(len(self.operations) - 1)
    for roles in frame.children.values():
      for child in roles.values():
        self._note(child)

  def _operation(
    self,
    how: How,
    ins: Sequence[Ref],
    avals: Sequence[Any],
    at: Sequence[tuple[Frame, Any]] | None = None,
    by_data: bool = False,
    macs: int = 0,
    whole: bool = True,
  ) -> list[int]:
    given = [self.values[ref] for ref in ins if not isinstance(ref, core.Literal)]
    by_data = by_data or any(value.by_data for value in given)
    leaves = functools.reduce(frozenset.union, (value.leaves for value in given), _NONE)
    made, kept = len(self.operations), _NONE if by_data else leaves
    outs = [
      self._value(Value(aval, made, by_data, kept, where))
      for aval, where in zip(avals, at or [None] * len(avals))
    ]
    self.operations.append(Operation(how, tuple(ins), tuple(outs), leaves, macs, whole))
    return outs

  # ------------------------------------------------------------------------------------ the scans

  def _scan(self, eqn: Any, body: Frame, ins: list[Ref]) -> list[Ref]:
    call = call_of(eqn)
    carry, turns = ins[call.carry], call.turns or 0
    count = len(carry)
    collected: dict[int, list[Ref]] = {}
    for step in reversed(range(turns)) if call.backwards else range(turns):
      xs = [self._step(x, step) for x in ins[call.steps]]
      outs = self._walk(body, [*ins[call.consts], *carry, *xs])
      carry, collected[step] = outs[:count], outs[count:]
    stacked: list[Ref] = []
    for place, var in enumerate(eqn.outvars[count:]):
      each = [collected[step][place] for step in range(turns)]
      stacked += self._operation(StackSteps(var.aval.dtype), each, [var.aval])
    return [*carry, *stacked]

  def _step(self, x: Ref, step: int) -> int:
    if isinstance(x, core.Literal):
      raise TypeError('a literal has no axis to run over')
    if not self.values[x].by_data and (part := self._part(x, 0, step)) is not None:
      return part
    if step not in self._numbers:
      number = self._value(Value(jax.ShapeDtypeStruct((), np.int32), -1, False))
      self._numbers[step], self.steps[number] = number, step
    smaller = _without(self.values[x].aval, 0)
    return self._operation(TakeStep(), [x, self._numbers[step]], [smaller])[0]

  def _part(self, x: int, axis: int, step: int) -> int | None:
    """A value at an index along an axis, from parts of leaves; ``None`` if it takes whole ones."""
    key = x, axis, step
    if key not in self._parts:
      self._parts[key] = self._new_part(x, axis, step)
    return self._parts[key]

  def _new_part(self, x: int, axis: int, step: int) -> int | None:
    value = self.values[x]
    shape, smaller = value.aval.shape, _without(value.aval, axis)
    if x in self.leaves:
      leaf = self.leaves[x]
      return self._leaf(LeafPart(leaf.place, axis, step), smaller) if leaf.step is None else None
    how = self.operations[value.made].how if value.made >= 0 else None
    if not isinstance(how, Evaluate) or len(how.eqn.outvars) > 1:
      return None
    ins = self.operations[value.made].ins
    if (order := permutation(how.eqn)) is not None and isinstance(ins[0], int):
      part = self._part(ins[0], order[axis], step)
      rest = [each - (each > order[axis]) for each in order if each != order[axis]]
      if part is None or rest == sorted(rest):
        return part
      return self._operation(Transpose(tuple(rest)), [part], [smaller])[0]
    if not has(how.eqn, Trait.ELEMENTWISE) or how.eqn.params.get('sharding') is not None:
      return None
    parts = [self._operand_part(ref, shape, axis, step) for ref in ins]
    if any(part is None for part in parts):
      return None
    return self._operation(how, [part for part in parts if part is not None], [smaller])[0]

  def _operand_part(self, ref: Ref, shape: tuple[int, ...], axis: int, step: int) -> Ref | None:
    """That of an operand of what works entry by entry; of a number, that number."""
    if isinstance(ref, core.Literal) or not self.values[ref].aval.shape:
      return ref
    return self._part(ref, axis, step) if self.values[ref].aval.shape == shape else None


def _without(aval: Any, axis: int) -> jax.ShapeDtypeStruct:
  """The type of a value at an index along an axis."""
  rest = lambda each: (*each[:axis], *each[axis + 1 :])
  sharding = getattr(aval, 'sharding', None)
  if sharding is None or sharding.mesh.empty or sharding.mesh.are_all_axes_auto:
    return jax.ShapeDtypeStruct(rest(aval.shape), aval.dtype)
  spec = PartitionSpec(*rest([*sharding.spec, *[None] * (len(aval.shape) - len(sharding.spec))]))
  return jax.ShapeDtypeStruct(rest(aval.shape), aval.dtype, sharding=sharding.update(spec=spec))
