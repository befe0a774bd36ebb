"""Where a function multiplies by its leaves: a walk over the frames, before anything is run.

Each value is numbered such that equal numbers mean equal values, so that what query, key and value
share is recorded once, also after each has cast it for itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from jax.extend import core

from jprune.graph._elementwise import ELEMENTWISE
from jprune.graph._frame import Frame, place
from jprune.graph._roles import Roles, Rows, Weighing, Windows, roles_of, use_of, weighing
from jprune.graph._sources import PRODUCTS, sources
from jprune.graph._stats import Use
from jprune.graph._trace import Traced
from jprune.graph._views import View, grown, moved, step_over, view_of

_CASTS = ['convert_element_type', 'copy', 'copy_p', 'reduce_precision', 'optimization_barrier']
_PLACED = ['sharding_constraint', 'layout_constraint', 'mesh_cast', 'reshard', 'pvary', 'name']
_AS_IT_IS = frozenset([*_CASTS, *_PLACED, 'stop_gradient'])
_SCALED = frozenset(['mul', 'div', 'select_n'])
_PARAMS = 0  # as the level of a source: it depends on params alone


class Joined(NamedTuple):
  """Several values side by side along an axis."""

  axis: int
  views: tuple[View | None, ...]


class Input(NamedTuple):
  """One thing to record: the operand of an equation that some leaves are multiplied by.

  Attributes:
    frame: in which it is.
    index: of the equation.
    operand: which one.
    layout: how it becomes ``(batch, rows, inputs)``.
    stacked: bodies of the scans whose steps are kept apart; other loops add up.
    weighing: how weights of tokens line up with its rows, if there are any.
  """

  frame: Frame
  index: int
  operand: int
  layout: Rows | Windows
  stacked: frozenset[Frame]
  weighing: Weighing | None


class Survey:
  """All products by the selected leaves.

  Attributes:
    inputs: what is to be recorded, each once.
    uses: by place of a leaf, its uses; their ``source`` is a place in ``inputs``.
    ends: by place of a leaf, the other equations that use it, as text.
    hot: frames in which, or below which, something is recorded.
  """

  def __init__(
    self, traced: Traced, selected: Sequence[bool], tokens: Sequence[Any] | None
  ) -> None:
    self.inputs: list[Input] = []
    self.uses: dict[int, list[Use]] = {i: [] for i, yes in enumerate(selected) if yes}
    self.ends: dict[int, list[str]] = {i: [] for i in self.uses}
    self.hot: set[Frame] = set()
    self._traced = traced
    self._tokens = tokens
    self._sources = sources(traced.frame, [leaf.shape for leaf in traced.leaves])
    self._numbers: dict[Any, int] = {}
    self._fresh = itertools.count()
    self._known: dict[Any, int] = {}
    self._loops: dict[Frame, int] = {}
    self._above: list[Frame] = []
    views = [
      view_of(i, leaf.shape) if i in self.uses else None for i, leaf in enumerate(traced.leaves)
    ]
    rest = traced.frame.jaxpr.invars[len(views) :]
    numbers = [next(self._fresh) for _ in traced.frame.jaxpr.invars]
    self._walk(traced.frame, [*views, *(None for _ in rest)], numbers, traced.frame)

  # ------------------------------------------------------------------------------------ the walk

  def _walk(
    self, frame: Frame, views: Sequence[Any], numbers: Sequence[int], region: Frame
  ) -> tuple[list[Any], list[int]]:
    """Views and numbers of the results; ``region`` is what runs as one: no loop, no branch."""
    view = dict(zip(frame.jaxpr.invars, views))
    number = dict(zip(frame.jaxpr.invars, numbers))
    number.update({var: next(self._fresh) for var in frame.jaxpr.constvars})
    self._above.append(frame)
    for index, eqn in enumerate(frame.jaxpr.eqns):
      seen = [None if isinstance(v, core.Literal) else view.get(v) for v in eqn.invars]
      known = [self._literal(v) if isinstance(v, core.Literal) else number[v] for v in eqn.invars]
      outs, found = self._equation(frame, index, seen, known, region)
      for i, var in enumerate(eqn.outvars):
        view[var] = outs[i] if outs else None
        number[var] = found[i] if found else self._number(frame, index, known, i)
    self._above.pop()
    of = lambda table, var, other: other if isinstance(var, core.Literal) else table.get(var, other)
    results = frame.jaxpr.outvars
    return [of(view, v, None) for v in results], [of(number, v, next(self._fresh)) for v in results]

  def _equation(
    self, frame: Frame, index: int, views: list[Any], numbers: list[int], region: Frame
  ) -> tuple[list[Any] | None, list[int] | None]:
    eqn, children = frame.jaxpr.eqns[index], frame.children.get(index, {})
    if index in frame.copies:
      return None, numbers
    if children:
      return self._call(eqn, children, views, numbers, region)
    if not any(views):
      return None, None
    if eqn.primitive.name in PRODUCTS:
      self._product(frame, index, views, numbers, region)
      return None, None
    outs = self._moved(frame, eqn, views)
    for view in views:
      for each in view.views if isinstance(view, Joined) else [view]:
        if each is not None and not any(outs):
          self.ends[each.leaf].append(_named(eqn, frame))
    return outs, None

  def _call(
    self, eqn: Any, children: dict[Any, Frame], views: list[Any], numbers: list[int], region: Frame
  ) -> tuple[list[Any] | None, list[int] | None]:
    name, p = eqn.primitive.name, eqn.params
    anew = lambda values: [next(self._fresh) for _ in values]
    if name == 'cond':
      for child in children.values():
        self._walk(child, views[1:], numbers[1:], child)
      return None, None
    if name == 'scan':
      body, start = children['body'], p['num_consts']
      end = start + p['num_carry']
      self._loops[body] = len(self._loops)
      steps = [step_over(v, body) if isinstance(v, View) else None for v in views[end:]]
      kept = _kept_views(body, start, views[start:end])
      inside = [*views[:start], *kept, *steps]
      self._walk(body, inside, anew(inside), body)
      return [*kept, *(None for _ in eqn.outvars[len(kept) :])], None
    if name == 'while':
      start = p['cond_nconsts']
      end = start + p['body_nconsts']
      body = children['body']
      kept = _kept_views(body, end - start, views[end:])
      inside = [*views[start:end], *kept]
      self._walk(body, inside, anew(inside), body)
      return kept, None
    return self._walk(children['body'], views, numbers, region)

  def _moved(self, frame: Frame, eqn: Any, views: list[Any]) -> list[Any]:
    name = eqn.primitive.name
    if name == 'concatenate':
      return [Joined(eqn.params['dimension'], tuple(views))]
    if isinstance(views[0], Joined):
      return [views[0]] if name in _AS_IT_IS and len(eqn.outvars) == 1 else []
    if isinstance(views[0], View) and (found := moved(frame, eqn, views[0])) is not None:
      return found
    if name not in ELEMENTWISE or any(isinstance(view, Joined) for view in views):
      return []
    if len(eqn.outvars) > 1:  # an optimization barrier
      return views
    return [self._combined(frame, eqn, views)]

  def _combined(self, frame: Frame, eqn: Any, views: list[Any]) -> View | None:
    """Entry by entry: the view of the leaf to which the result belongs."""
    source = self._sources[frame][eqn.outvars[0]]
    shape = eqn.outvars[0].aval.shape
    for var, view in zip(eqn.invars, views):
      if view is None or view.leaf != source.leaf:
        continue
      found = grown(view, shape, range(len(shape))) if len(view.axes) == len(shape) else None
      if found is not None and not self._keeps_entries(frame, eqn, var, source):
        found = found._replace(direct=False)
      return found
    return None

  def _keeps_entries(self, frame: Frame, eqn: Any, var: Any, source: Any) -> bool:
    if eqn.primitive.name in _AS_IT_IS:
      return True
    if eqn.primitive.name not in _SCALED or (
      eqn.primitive.name == 'div' and var is not eqn.invars[0]
    ):
      return False
    others = [v for v in eqn.invars if v is not var and not isinstance(v, core.Literal)]
    known = self._sources[frame]
    return all(not known[v].of or v.aval.size == 1 for v in others)

  # ------------------------------------------------------------------------------------- products

  def _product(
    self, frame: Frame, index: int, views: list[Any], numbers: list[int], region: Frame
  ) -> None:
    eqn = frame.jaxpr.eqns[index]
    for operand, other in ((0, 1), (1, 0)):
      view = views[operand]
      parts = view.views if isinstance(view, Joined) else (view,)
      for part in parts:
        if part is None or part.leaf not in self.uses:
          continue
        why = self._by_params(frame, eqn, other)
        if isinstance(view, Joined):
          why = why or _why_not_joined(eqn, operand, view)
        found = why or self._record(frame, index, operand, part, numbers[other], region)
        if isinstance(found, str):
          self.ends[part.leaf].append(f'{_named(eqn, frame)}: {found}')
        else:
          self.uses[part.leaf].append(found)

  def _by_params(self, frame: Frame, eqn: Any, other: int) -> str | None:
    var = eqn.invars[other]
    source = None if isinstance(var, core.Literal) else self._sources[frame][var]
    alone = source is not None and source.of and source.level == _PARAMS
    return 'its partner depends on params only' if alone else None

  def _record(
    self, frame: Frame, index: int, operand: int, view: View, number: int, region: Frame
  ) -> Use | str:
    eqn = frame.jaxpr.eqns[index]
    roles = roles_of(eqn, operand, view)
    if isinstance(roles, str):
      return roles
    stacked = frozenset(body for body, _ in view.loops)
    how = self._weighing(frame, eqn, 1 - operand, roles)
    if isinstance(how, str):
      return how
    key = (region, number, roles.layout, stacked)
    loop = self._loops[view.loops[0][0]] if view.loops else None
    source = self._known.get(key, len(self.inputs))
    use = use_of(view, self._traced.leaves[view.leaf].shape, roles, source, loop, place(eqn, frame))
    if isinstance(use, Use) and source == len(self.inputs):
      self._known[key] = source
      self.inputs.append(Input(frame, index, 1 - operand, roles.layout, stacked, how))
      self.hot.update(self._above)
    return use

  def _weighing(self, frame: Frame, eqn: Any, operand: int, roles: Roles) -> Weighing | str | None:
    if self._tokens is None:
      return None
    if isinstance(roles.layout, Rows):
      if roles.layout.axes is None:
        return 'its rows are not the tokens that weights are given for'
      dims = frame.dims_of(eqn.invars[operand])
      rows = [dims[axis] for axis in roles.layout.axes]
    else:
      dims = frame.dims[eqn.outvars[0]]
      first, _, *window = eqn.params['dimension_numbers'].out_spec
      rows = [dims[axis] for axis in (first, *window)]
    return weighing(self._tokens, rows) or 'its rows are not the tokens that weights are given for'

  # -------------------------------------------------------------------------------------- numbers

  def _literal(self, var: Any) -> int:
    return self._numbers.setdefault(('literal', str(var.aval), repr(var.val)), next(self._fresh))

  def _number(self, frame: Frame, index: int, numbers: list[int], out: int) -> int:
    eqn = frame.jaxpr.eqns[index]
    if frame.children.get(index) or eqn.effects:
      return next(self._fresh)
    key = (eqn.primitive.name, tuple(sorted(eqn.params.items(), key=lambda pair: pair[0])))
    try:
      return self._numbers.setdefault((key, tuple(numbers), out), next(self._fresh))
    except TypeError:  # a parameter that has no hash
      return next(self._fresh)


def _kept_views(body: Frame, start: int, views: Sequence[Any]) -> list[Any]:
  """The views of what is carried, where a loop carries it round unchanged."""
  carried = body.jaxpr.invars[start : start + len(views)]
  return [
    view if out is var else None for view, var, out in zip(views, carried, body.jaxpr.outvars)
  ]


def _why_not_joined(eqn: Any, operand: int, joined: Joined) -> str | None:
  if eqn.primitive.name != 'dot_general':
    return 'it is concatenated with others'
  contract, batch = eqn.params['dimension_numbers']
  outer = joined.axis not in (*contract[operand], *batch[operand])
  return None if outer else 'it is concatenated with others along an axis that is contracted'


def _named(eqn: Any, frame: Frame) -> str:
  where = place(eqn, frame)
  return f'{eqn.primitive.name} ({where})' if where else eqn.primitive.name
