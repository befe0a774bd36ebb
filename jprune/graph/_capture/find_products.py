"""Where a function multiplies by its leaves: a walk over the frames, before anything is run.

What several leaves are multiplied by is recorded once, also after each has cast it for itself:
equal values are known by their numbers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from jax.extend import core

from jprune.graph._analysis.dependence import is_real, origins
from jprune.graph._analysis.leaf_views import Scale, View, step_over, view_of
from jprune.graph._analysis.provenance import sources
from jprune.graph._analysis.traced import Traced
from jprune.graph._analysis.value_numbers import Numbers
from jprune.graph._axes.pieces import steps_of
from jprune.graph._capture.follow import Held, held_by, named, only_scales, views_in
from jprune.graph._capture.input_rows import Weighing
from jprune.graph._capture.looped_leaves import Stack, counters, stack_of, step_by_turn, unstacked
from jprune.graph._capture.operand_roles import (
  OperandRoles,
  roles_of,
  row_dims,
  use_of,
  weighing,
  why_not_by_data,
  why_not_joined,
)
from jprune.graph._capture.recorder import Input, InputPart
from jprune.graph._capture.token_alignment import moved
from jprune.graph._program.calls import call_of
from jprune.graph._program.frame import Frame
from jprune.graph._program.locations import place
from jprune.graph._program.traits import Trait, has
from jprune.graph._rules.base import multiplies
from jprune.graph._statistics.stats import Use


class Survey:
  """All products by the selected leaves.

  Attributes:
    inputs: what is to be recorded, each once.
    parts: what leaves see of it, each once.
    uses: by place of a leaf, its uses; their ``source`` is a place in ``parts``.
    ends: by place of a leaf, the other equations that use it, as text.
    vectors: places of leaves of which each step of a scan uses a vector, such as stacked biases.
    changed: by place of a leaf, what changes its entries before a product, as text.
    hot: frames in which, or below which, something is recorded.
    places: by place of a leaf, the frames and equations of all products of its uses.
    moved: for values, the atoms of tokens along which their entries are at other places.
    loops: by their bodies, numbers of loops, and whether they run backwards.
  """

  def __init__(
    self, traced: Traced, selected: Sequence[bool], tokens: Sequence[Any] | None
  ) -> None:
    self.inputs: list[Input] = []
    self.parts: list[InputPart] = []
    self.uses: dict[int, list[Use]] = {i: [] for i, yes in enumerate(selected) if yes}
    self.ends: dict[int, list[str]] = {i: [] for i in self.uses}
    self.vectors: set[int] = set()
    self.changed: dict[int, list[str]] = {i: [] for i in self.uses}
    self.hot: set[Frame] = set()
    self.places: dict[int, list[tuple[Frame, int]]] = {i: [] for i in self.uses}
    self.loops: dict[Frame, tuple[int, bool]] = {}
    self._shapes = [leaf.shape for leaf in traced.leaves]
    self._stacks: dict[int, Stack] = {}
    self._weights: dict[Frame | None, Sequence[Any]] = {} if tokens is None else {None: tokens}
    self._sources = sources(traced.frame, self._shapes[:])
    self._origins = origins(traced.frame, len(traced.leaves))
    self.moved = {} if tokens is None else moved(traced.frame, tokens, self._origins)
    self._numbers = Numbers()
    self._known: dict[Any, int] = {}
    self._known_steps: dict[Frame, dict[int, np.ndarray]] = {}
    self._above: list[Frame] = []
    views = [view_of(i, shape) if i in self.uses else None for i, shape in enumerate(self._shapes)]
    rest = traced.frame.jaxpr.invars[len(views) :]
    numbers = self._numbers.fresh(traced.frame.jaxpr.invars)
    self._walk(traced.frame, [*views, *(None for _ in rest)], numbers, traced.frame)

  # ------------------------------------------------------------------------------------ the walk

  def _walk(
    self, frame: Frame, views: Sequence[Held], numbers: Sequence[int], region: Frame
  ) -> tuple[list[Held], list[int]]:
    """What results hold, and their numbers; ``region`` runs as one: no loop, no branch."""
    held = dict(zip(frame.jaxpr.invars, views))
    number = dict(zip(frame.jaxpr.invars, numbers))
    number.update((var, self._numbers.of_constant(x)) for var, x in frame.consts.items())
    of = lambda var: None if isinstance(var, core.Literal) else held.get(var)
    known = lambda var: (
      self._numbers.of_literal(var) if isinstance(var, core.Literal) else number[var]
    )
    self._above.append(frame)
    for index, eqn in enumerate(frame.jaxpr.eqns):
      ins = [of(v) for v in eqn.invars], [known(v) for v in eqn.invars]
      outs, found = self._equation(frame, index, *ins, region)
      held.update(zip(eqn.outvars, outs))
      number.update(zip(eqn.outvars, found))
    self._above.pop()
    return [of(var) for var in frame.jaxpr.outvars], [known(var) for var in frame.jaxpr.outvars]

  def _equation(
    self, frame: Frame, index: int, held: list[Held], numbers: list[int], region: Frame
  ) -> tuple[Sequence[Held], list[int]]:
    eqn, children = frame.jaxpr.eqns[index], frame.children.get(index, {})
    if index in frame.copies:
      return [], numbers
    if children:
      return self._call(frame, eqn, children, held, numbers, region)
    found = self._numbers.of_results(eqn, numbers)
    if not any(held):
      return [], found
    scaled = any(each and only_scales(eqn, i) for i, each in enumerate(held))
    if multiplies(eqn) is not None and not scaled:
      self._product(frame, index, held, numbers, region)
      return [], found
    if (stack := stack_of(eqn, held, self._shapes)) is not None:
      self._stacks[len(self._shapes)] = stack
      self._shapes.append(stack.shape)
      return [view_of(len(self._shapes) - 1, stack.shape)], found
    if (step := self._step(frame, eqn, held[0], numbers)) is not None:
      return [step], found
    value = lambda operand: self._value(frame, index, operand, held, numbers)
    outs = held_by(frame, eqn, held, self._sources[frame], value)
    if not any(outs):
      self._end(held, frame, eqn)
    return outs, found

  def _value(
    self, frame: Frame, index: int, operand: int, held: Sequence[Held], numbers: list[int]
  ) -> float | Scale | None:
    """The one number that all entries of an operand are, of two of which the other is a leaf."""
    var, leaf = (frame.jaxpr.eqns[index].invars[place] for place in (operand, 1 - operand))
    value = self._numbers.value(numbers[operand])
    if value is not None or isinstance(var, core.Literal) or math.prod(leaf.aval.shape) == 1:
      return value
    number = self._numbers.equal(numbers[operand], var.aval.shape)
    own = {x for view in views_in(held[1 - operand]) for x in self._members(view)}
    if number is None or own & self._sources[frame][var].of:  # such as a norm: not linear
      return None
    self.hot.update(self._above)
    return Scale(frame, index, operand, number)

  def _step(self, frame: Frame, eqn: Any, held: Held, numbers: list[int]) -> View | None:
    """The slice of a leaf that a turn of a loop takes by its number."""
    if not has(eqn, Trait.AT_STARTS) or not isinstance(held, View):
      return None
    for body, known in self._known_steps.items():
      inside = body in self._above and all(
        self._above.index(each) < self._above.index(body) for each, _ in held.loops
      )
      if inside:
        starts = [self._numbers.in_steps(number, known) for number in numbers[1:]]
        if (found := step_by_turn(eqn, held, starts, body)) is not None:
          return found
    return None

  def _end(self, held: Sequence[Held], frame: Frame, eqn: Any) -> None:
    """Notes an equation after which leaves are not followed any further."""
    for view in (view for each in held for view in views_in(each)):
      for leaf in self._members(view):
        self.ends[leaf].append(named(eqn, frame))
        if view.loops and sum(map(bool, view.axes)) < 2 and call_of(eqn).turns is None:
          self.vectors.add(leaf)

  def _members(self, view: View) -> list[int]:
    """The leaf, or those that are stacked to it."""
    stack = self._stacks.get(view.leaf)
    return [view.leaf] if stack is None else [x for x in stack.leaves if x is not None]

  def _call(
    self,
    frame: Frame,
    eqn: Any,
    children: dict[Any, Frame],
    held: list[Held],
    numbers: list[int],
    region: Frame,
  ) -> tuple[Sequence[Held], list[int]]:
    call = call_of(eqn)
    if not call.branches and not call.loops:
      return self._walk(children['body'], held, numbers, region)
    if call.branches:
      found = [self._walk(each, held[1:], numbers[1:], each)[0] for each in children.values()]
      outs = [each[0] if len(set(each)) == 1 else None for each in zip(*found)]
      lost = [x for each, out in zip(zip(*found), outs) for x in each if out is None]
    else:
      body, inside = children['body'], (held[call.consts], held[call.carry])
      if call.waits:
        self._note_lanes(children)
      steps: list[Held] = []
      for x in held[call.steps]:
        steps.append(step_over(x, body) if isinstance(x, View) else None)
      known = {} if call.waits else counters(frame, eqn, body)
      outs, lost = self._loop(body, *inside, steps, numbers[call.consts], call.backwards, known)
      lost += [x for x, step in zip(held[call.steps], steps) if step is None]
      if call.waits:
        lost += _asked_for(children['cond'], [*held[call.asked], *outs])
    self._end(lost, frame, eqn)
    return outs, self._numbers.fresh(eqn.outvars)

  def _note_lanes(self, children: dict[Any, Frame]) -> None:
    """Under ``vmap`` a loop has a condition for each lane: that of its rows that still count."""
    (go_on,) = children['cond'].jaxpr.outvars
    if go_on.aval.shape:
      self._weights[children['body']] = children['cond'].dims_of(go_on)

  def _loop(
    self,
    body: Frame,
    consts: list[Held],
    carry: list[Held],
    steps: list[Held],
    numbers: list[int],
    backwards: bool = False,
    known: Mapping[int, np.ndarray] = MappingProxyType({}),
  ) -> tuple[list[Held], list[Held]]:
    """What is carried round unchanged; and what is lost, as the body changes or collects it."""
    self.loops[body] = len(self.loops), backwards
    ins = body.jaxpr.invars[len(consts) :]
    same = [out is var for var, out in zip(ins[: len(carry)], body.jaxpr.outvars)]
    kept = [x if yes else None for x, yes in zip(carry, same)]
    inside = [*consts, *kept, *steps]
    places = [*numbers, *self._numbers.fresh(inside[len(consts) :])]
    if known:
      self._known_steps[body] = {places[place]: values for place, values in known.items()}
    outs, _ = self._walk(body, inside, places, body)
    changed = [x for values in (carry, outs) for x, yes in zip(values, same) if not yes]
    return kept, [*changed, *outs[len(carry) :]]

  # ------------------------------------------------------------------------------------- products

  def _product(
    self, frame: Frame, index: int, held: list[Held], numbers: list[int], region: Frame
  ) -> None:
    eqn = frame.jaxpr.eqns[index]
    for operand, other in ((0, 1), (1, 0)):
      for view in views_in(held[operand]):
        why = why_not_by_data(self._origins[frame], eqn.invars[other])
        why = why or why_not_joined(eqn, operand, held[operand])
        found = why or self._record(frame, index, operand, view, numbers[other], region)
        found = found if isinstance(found, str) else self._apart(found, view)
        if isinstance(found, str):
          for leaf in self._members(view):
            self.ends[leaf].append(f'{named(eqn, frame)}: {found}')
          continue
        for leaf, use in found:
          self.uses[leaf].append(use)
          self.places[leaf].append((frame, index))
          if view.via:
            self.changed[leaf].append(view.via)

  def _apart(self, use: Use, view: View) -> list[tuple[int, Use]] | str:
    """The uses of single leaves that are in one of several leaves together."""
    if view.leaf not in self._stacks:
      return [(view.leaf, use)]
    found = unstacked(use, self._stacks[view.leaf])
    if isinstance(found, str):
      return found
    part = self.parts[use.source]
    number = lambda pick: self._part(part._replace(pick=pick))
    return [(leaf, dataclasses.replace(each, source=number(pick))) for leaf, each, pick in found]

  def _part(self, part: InputPart) -> int:
    """The place of what a leaf sees."""
    if part not in self.parts:
      self.parts.append(part)
    return self.parts.index(part)

  def _record(
    self, frame: Frame, index: int, operand: int, view: View, number: int, region: Frame
  ) -> Use | str:
    eqn = frame.jaxpr.eqns[index]
    if not is_real(frame, eqn.invars[1 - operand]):
      return 'its inputs are complex'
    roles = roles_of(eqn, operand, view)
    if isinstance(roles, str):
      return roles
    stacked = {body: steps_of(pieces) for body, pieces in view.loops}
    how = self._weighing(frame, eqn, 1 - operand, roles)
    if isinstance(how, str):
      return how
    factors = tuple(sorted((factor.number, factor.divides) for factor in view.factors))
    key = (region, number, roles.layout, frozenset(stacked.items()), factors)
    first = next(iter(stacked), None)  # the outermost
    loop = self.loops[first] if first and stacked[first] is None else (None, False)
    part = InputPart(self._known.get(key, len(self.inputs)), view.scale)
    use = use_of(view, self._shapes[view.leaf], roles, 0, loop, place(eqn, frame))
    if isinstance(use, str):
      return use
    if part.input == len(self.inputs):
      self._known[key] = part.input
      self.inputs.append(Input(frame, index, 1 - operand, roles.layout, stacked, how, view.factors))
      self.hot.update(self._above)
    return dataclasses.replace(use, source=self._part(part))

  def _weighing(
    self, frame: Frame, eqn: Any, operand: int, roles: OperandRoles
  ) -> dict[Frame | None, Weighing] | str:
    rows = row_dims(frame, eqn, operand, roles.layout)
    found = {}
    for body, dims in self._weights.items():
      if body is None or body in self._above:
        away = body is None and self.moved[frame].get(eqn.invars[operand])
        how = None if rows is None or away else weighing(dims, rows)
        if how is None:
          these = 'those of a vmapped while' if body else 'the tokens that weights are given for'
          return f'its rows are not {these}'
        found[body] = how
    return found


def _asked_for(condition: Frame, held: Sequence[Held]) -> list[Held]:
  """What the condition of a loop is computed from."""
  eqns = condition.jaxpr.eqns
  read = {v for eqn in eqns for v in eqn.invars if not isinstance(v, core.Literal)}
  return [x for var, x in zip(condition.jaxpr.invars, held, strict=True) if var in read]
