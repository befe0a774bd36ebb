"""A traced function, run such that it also returns moments of what its leaves are multiplied by.

Frames in which nothing is recorded run as they are. Steps of a scan that runs over a leaf stack
their moments; what a loop sees of one and the same leaf adds up while it runs, so that memory
doesn't grow with its length; a branch that is not taken has seen no rows.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jprune import _powers
from jprune.graph._analysis.leaf_views import Scale
from jprune.graph._capture.input_rows import Rows, Weighing, Windows, weighed
from jprune.graph._capture.looped_leaves import Pick
from jprune.graph._program.calls import Call, call_of
from jprune.graph._program.evaluate import evaluate_whole
from jprune.graph._program.frame import Frame
from jprune.graph._rules.control import in_lanes
from jprune.graph._statistics.moments import Moments, merged, moments_of, no_rows, scaled
from jprune.graph._statistics.split import Split

if TYPE_CHECKING:
  from jprune.graph._capture.find_products import Survey

Found: TypeAlias = dict[int, Moments]


class Recording:
  """Runs frames; each run returns its results and the moments that were recorded in it."""

  def __init__(
    self,
    survey: Survey,
    wanted: Sequence[int],
    gram: bool,
    weights: Any,
    split: Split | None = None,
  ) -> None:
    self._inputs = survey.inputs
    self._hot = survey.hot
    self._gram = gram
    self._weights = weights
    self._split = split
    self._running: dict[Frame, jax.Array] = {}
    self._numbers: dict[Scale, Any] = {}
    self._here: dict[tuple[Frame, int], list[int]] = {}
    self._factors: dict[tuple[Frame, int], list[Scale]] = {}
    for i in wanted:
      each = survey.inputs[i]
      self._here.setdefault((each.frame, each.index), []).append(i)
      for factor in each.factors:
        self._factors.setdefault((factor.frame, factor.index), []).append(factor)

  def run(self, frame: Frame, xs: Sequence[Any]) -> tuple[list[Any], Found]:
    """All results of a frame."""
    values = dict(frame.consts)
    values.update(zip(frame.jaxpr.invars, xs))
    read = lambda var: var.val if isinstance(var, core.Literal) else values[var]
    found: Found = {}
    for index, eqn in enumerate(frame.jaxpr.eqns):
      operands = [read(var) for var in eqn.invars]
      for i in self._here.get((frame, index), ()):
        with eqn.ctx.manager:
          found[i] = self._moments(self._inputs[i], operands)
      for factor in self._factors.get((frame, index), ()):
        self._numbers[factor] = operands[factor.operand]
      with eqn.ctx.manager:
        outs, inside = self._evaluate(frame, index, operands)
      found.update(inside)
      values.update(zip(eqn.outvars, outs))
    return [read(var) for var in frame.jaxpr.outvars], found

  def _moments(self, each: Input, operands: list[Any]) -> Moments:
    def of(x: Any, numbers: list[Any], *weights: Any) -> Moments:
      rows = [
        weighed(y, how).astype(jnp.float32) for y, how in zip(weights, each.weighing.values())
      ]
      inputs, power = each.layout(x), jnp.int32(0)
      for factor, number in zip(each.factors, numbers):
        by, more = jnp.frexp(_powers.wide(number).ravel()[0])
        inputs = _powers.wide(inputs)
        by = by.astype(inputs.dtype)
        inputs = inputs / by if factor.divides else inputs * by
        power = power - more if factor.divides else power + more
      counted = cast(jax.Array, math.prod(rows)) if rows else None
      by_rows = self._split.by_rows if self._split and self._split.products else None
      return moments_of(inputs, counted, self._gram, power, by_rows)

    weights = [self._weights if body is None else self._running[body] for body in each.weighing]
    numbers = [self._numbers[factor] for factor in each.factors]
    given = jnp.real(jnp.asarray(operands[each.operand]))  # complex ones have no imaginary parts
    return _everywhere(of, each.layout, self._split, given, numbers, *weights)

  def _evaluate(self, frame: Frame, index: int, xs: list[Any]) -> tuple[list[Any], Found]:
    children = frame.children.get(index, {})
    if not any(child in self._hot for child in children.values()):
      return evaluate_whole(frame.jaxpr.eqns[index], xs), {}
    eqn = frame.jaxpr.eqns[index]
    call = call_of(eqn)
    if call.branches:
      return self._cond(list(children.values()), xs)
    if call.waits:
      return self._while(children, call, xs)
    if call.loops:
      return self._scan(children['body'], call, eqn.params['unroll'], xs)
    return self.run(children['body'], xs)

  def _scan(self, body: Frame, call: Call, unroll: Any, xs: list[Any]) -> tuple[list[Any], Found]:
    consts, carry, steps = xs[call.consts], xs[call.carry], xs[call.steps]

    def step(state: Any, x: Any) -> Any:
      carry, before = state
      outs, found = self.run(body, [*consts, *carry, *x])
      apart = {i: m for i, m in found.items() if self._stacks(i, body)}
      after = {i: merged(m, found[i]) for i, m in before.items()}
      return (outs[: len(carry)], after), (outs[len(carry) :], apart)

    one = [jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for x in steps]
    seen = jax.eval_shape(lambda c, x: self.run(body, [*consts, *c, *x])[1], carry, one)
    nothing = {i: _none(m) for i, m in seen.items() if not self._stacks(i, body)}
    (carry, total), (ys, apart) = lax.scan(
      step, (carry, nothing), steps, call.turns, reverse=call.backwards, unroll=unroll
    )
    stacked = {
      i: jax.tree.map(_flat(self._inputs[i].stacked[body]), moments) for i, moments in apart.items()
    }
    return [*carry, *ys], total | stacked

  def _stacks(self, i: int, body: Frame) -> bool:
    return body in self._inputs[i].stacked

  def _while(
    self, children: Mapping[Any, Frame], call: Call, xs: list[Any]
  ) -> tuple[list[Any], Found]:
    running = lambda carry: self.run(children['cond'], call.inputs('cond', xs, carry))[0][0]

    def turn(carry: Any) -> tuple[list[Any], Found]:
      self._running[children['body']] = running(carry)
      outs, found = self.run(children['body'], call.inputs('body', xs, carry))
      return in_lanes(running, carry, outs), found

    def body(state: Any) -> Any:
      outs, found = turn(state[0])
      return outs, {i: merged(m, found[i]) for i, m in state[1].items()}

    carry = xs[call.carry]
    nothing = {i: _none(m) for i, m in jax.eval_shape(lambda c: turn(c)[1], carry).items()}
    return lax.while_loop(lambda state: running(state[0]).any(), body, (carry, nothing))

  def _cond(self, branches: list[Frame], xs: list[Any]) -> tuple[list[Any], Found]:
    index, *operands = xs
    found = [jax.eval_shape(lambda *ys, b=b: self.run(b, ys)[1], *operands) for b in branches]
    seen = {i: m for each in found for i, m in each.items()}

    def branch(frame: Frame) -> Any:
      def run(*ys: Any) -> Any:
        outs, inside = self.run(frame, ys)
        return outs, {i: inside.get(i, _none(m)) for i, m in seen.items()}

      return run

    if len(branches) == 1:
      return branch(branches[0])(*operands)
    return lax.switch(index.astype('int32'), [branch(each) for each in branches], *operands)


def _none(moments: Any) -> Moments:
  def zeros(leaf: Any) -> jax.Array:
    sharding = getattr(leaf, 'sharding', None)
    if sharding is None or AxisType.Explicit not in sharding.mesh.axis_types:
      return jnp.zeros(leaf.shape, leaf.dtype)
    return jnp.zeros(leaf.shape, leaf.dtype, device=sharding)

  return jax.tree.map(zeros, moments)


def _flat(steps: tuple[int, ...] | None) -> Callable[[jax.Array], jax.Array]:
  """Steps, in the order of the leaf, and products side by side as one axis."""

  def flat(stacked: jax.Array) -> jax.Array:
    x = stacked if steps is None else stacked[np.array(steps)]
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])

  return flat


def _everywhere(of: Any, layout: Any, split: Split | None, x: jax.Array, *others: Any) -> Moments:
  """The moments where they belong, where the mesh leaves nothing to the partitioner."""
  mesh = jax.typeof(x).sharding.mesh
  if AxisType.Explicit not in mesh.axis_types:
    return of(x, *others)
  there: Any = NamedSharding(mesh, PartitionSpec())
  if split is not None and split.products:
    plain = jax.ShapeDtypeStruct(x.shape, x.dtype)
    batch, _, inputs = jax.eval_shape(lambda x: layout(x), plain).shape
    like = jax.eval_shape(lambda: no_rows(batch, inputs, True))
    there = split.shardings(dataclasses.replace(like, exponent=like.mean), mesh)
  of = jax.sharding.auto_axes(of, axes=mesh.explicit_axes, out_sharding=there)
  return cast(Callable[..., Moments], of)(x, *others)


class Input(NamedTuple):
  """One thing to record: the operand of an equation that some leaves are multiplied by.

  Attributes:
    frame: in which it is.
    index: of the equation.
    operand: which one.
    layout: how it becomes ``(batch, rows, inputs)``.
    stacked: bodies of the scans whose steps are kept apart, with the steps in the order of the leaf
      if that is another; other loops add up.
    weighing: how weights line up with its rows: those of tokens, under ``None``, and under the body
      of a ``while`` whose lanes end one by one those that tell which are still running.
    factors: numbers that its rows are multiplied by, as the leaves are.
  """

  frame: Frame
  # A field hides tuple.index: an input is never searched.
  index: int  # pyright: ignore[reportIncompatibleMethodOverride]
  operand: int
  layout: Rows | Windows
  stacked: Mapping[Frame, tuple[int, ...] | None]
  weighing: dict[Frame | None, Weighing]
  factors: tuple[Scale, ...] = ()


class InputPart(NamedTuple):
  """What a leaf sees of an input.

  Attributes:
    input: its place.
    scale: the known number that the entries of the leaf are multiplied by: the leaf sees inputs so
      much larger.
    pick: which of the products side by side are by the leaf, if others are by other leaves.
  """

  input: int
  scale: float
  pick: Pick | None = None

  def of(self, found: Mapping[int, Moments]) -> Moments:
    """Its moments, from those of all inputs."""
    moments = found[self.input]
    if self.pick is not None:
      moments = jax.tree.map(self.pick, moments)
    return moments if self.scale == 1 else scaled(moments, self.scale)
