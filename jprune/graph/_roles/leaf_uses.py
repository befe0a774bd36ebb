"""Where a function uses its leaves, and in which form: a walk that needs shapes alone.

Capture follows the entries of a leaf and stops where it would have to guess. Here only the axes
matter, so a leaf is followed further: through masks, norms, quantisation, permutations, padding.
In ``x @ (g * w / |w|)`` both ``w`` and ``g`` are followed as far as the division; then ``w``, which
has the more entries, is the kernel, and ``g`` has ended in ``mul``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from jax.extend import core

from jprune.graph._analysis.leaf_views import (
  REPEATED,
  Piece,
  Pieces,
  View,
  grown,
  length,
  moved,
  step_over,
  view_of,
)
from jprune.graph._analysis.provenance import Source, sources
from jprune.graph._axes.atoms import Atom, resolve
from jprune.graph._program.calls import call_of
from jprune.graph._program.constants import constant
from jprune.graph._program.frame import Frame
from jprune.graph._program.locations import place
from jprune.graph._program.traits import Trait, has
from jprune.graph._rules.base import RULES, Equation, joint, multiplies, sides

_PARAMS, _GIVEN = 0, 1  # the levels of a source
# what was done to a leaf on the way, as the `via` of a view
_STOPPED = 'stop_gradient'
_PRODUCT = 'a product of params'
Views: TypeAlias = tuple[View, ...]


class Used(NamedTuple):
  """A product that multiplies by a leaf.

  Attributes:
    layers: pieces of axes that a scan runs over or that are indexed, outermost first.
    experts: pieces of axes that are indexed by what is computed, or by groups of rows.
    batch: pieces of axes along which products are made side by side.
    inputs: pieces that are summed over.
    window: pieces that are summed over as places of a window.
    outputs: all other pieces.
    by_data: whether an argument has a part in what the leaf is multiplied by.
    line: of the user's code.
  """

  layers: Pieces
  experts: Pieces
  batch: Pieces
  inputs: Pieces
  window: Pieces
  outputs: Pieces
  by_data: bool
  line: str


class Ended(NamedTuple):
  """An equation after which a leaf is not followed.

  Attributes:
    name: of its primitive.
    line: of the user's code.
    stopped: whether no gradient passes on the way to it.
    looked_up: whether indices of the leaf were taken on the way to it.
    layers: axes of the leaf that a scan runs over.
  """

  name: str
  line: str
  stopped: bool
  looked_up: bool
  layers: frozenset[int] = frozenset()


class LeafUses:
  """All uses of all leaves.

  Attributes:
    used: by place of a leaf, the products that multiply by it, in the order in which they run.
    ended: by place of a leaf, all else that is done with it.
    heads: atoms along which the function makes products of two activations side by side.
  """

  def __init__(self, frame: Frame, shapes: Sequence[tuple[int, ...]]) -> None:
    self.used: list[list[Used]] = [[] for _ in shapes]
    self.ended: list[list[Ended]] = [[] for _ in shapes]
    self.heads: set[Atom] = set()
    self._sources = sources(frame, shapes)
    self._experts: dict[int, set[int]] = {}  # axes of a leaf that what is computed indexes
    self._chained: dict[int, Used] = {}  # leaves in a product of params alone
    self._kernels: set[int] = set()  # of those, the ones that others are multiplied by
    self._left: set[int] = set()  # of those, the ones whose outputs are followed by others'
    self._tables: set[int] = set()  # leaves of which constant indices are taken
    views: list[Views] = [(view_of(i, shape),) for i, shape in enumerate(shapes)]
    outs = self._walk(frame, [*views, *(() for _ in frame.jaxpr.invars[len(views) :])])
    for var, held in zip(frame.jaxpr.outvars, outs):
      if not any(var is each for each in frame.jaxpr.invars):
        self._returned(held)
    for leaf, use in self._chained.items():
      if leaf in self._kernels:
        self.used[leaf].append(use)

  # ------------------------------------------------------------------------------------ the walk

  def _walk(self, frame: Frame, ins: Sequence[Views]) -> list[Views]:
    held = dict(zip(frame.jaxpr.invars, ins))
    of = lambda var: () if isinstance(var, core.Literal) else held.get(var, ())
    for index, eqn in enumerate(frame.jaxpr.eqns):
      operands, children = [of(var) for var in eqn.invars], frame.children.get(index, {})
      if children:
        outs = self._call(frame, eqn, children, operands)
      elif multiplies(eqn) is not None:
        outs = [self._product(frame, eqn, operands)]
      elif any(operands):
        outs = self._equation(frame, eqn, operands)
      else:
        continue
      held.update(zip(eqn.outvars, outs))
    return [of(var) for var in frame.jaxpr.outvars]

  def _call(
    self, frame: Frame, eqn: Any, children: dict[Any, Frame], ins: list[Views]
  ) -> Sequence[Views]:
    call = call_of(eqn)
    if call.branches:
      branches = [self._walk(children[role], call.inputs(role, ins)) for role in call.roles]
      return [max(outs, key=len) for outs in zip(*branches)]
    if call.waits:
      self._walk(children['cond'], [*ins[call.asked], *(() for _ in ins[call.carry])])
    if call.loops:
      body = children['body']
      steps = [[step_over(view, body) for view in views] for views in ins[call.steps]]
      inside = [tuple(view for view in views if view is not None) for views in steps]
      return self._loop(frame, eqn, body, ins[call.consts], ins[call.carry], inside)
    return self._walk(children['body'], ins)

  def _loop(
    self,
    frame: Frame,
    eqn: Any,
    body: Frame,
    consts: list[Views],
    carry: list[Views],
    steps: list[Views],
  ) -> list[Views]:
    """What is carried round unchanged is followed; what the body changes or collects is not."""
    ins = body.jaxpr.invars[len(consts) :]
    same = [out is var for var, out in zip(ins[: len(carry)], body.jaxpr.outvars)]
    kept = [views if yes else () for views, yes in zip(carry, same)]
    self._end(frame, eqn, [views for views, yes in zip(carry, same) if not yes])
    outs = self._walk(body, [*consts, *kept, *steps])
    self._end(frame, eqn, [v for i, v in enumerate(outs) if i >= len(same) or not same[i]])
    return [*kept, *(() for _ in outs[len(kept) :])]

  def _end(self, frame: Frame, eqn: Any, held: Sequence[Views]) -> None:
    for view in (view for views in held for view in views):
      line = place(eqn, frame)
      looked_up = bool(self._experts.get(view.leaf)) or view.leaf in self._tables
      layers = frozenset(piece.axis for _, pieces in view.loops for piece in pieces)
      end = Ended(eqn.primitive.name, line, view.via == _STOPPED, looked_up, layers)
      self.ended[view.leaf].append(end)

  def _equation(self, frame: Frame, eqn: Any, held: list[Views]) -> Sequence[Views]:
    name, out = eqn.primitive.name, eqn.outvars[0].aval
    if has(eqn, Trait.STOPS):
      return [tuple(view._replace(via=_STOPPED) for view in held[0])]
    if has(eqn, Trait.LOOKS_UP):
      return [self._looked_up(frame, eqn, held)]
    found = moved(frame, eqn, held[0][0]) if held[0] else None
    if found and any(each is not None for each in found):
      return self._moved(frame, eqn, held)
    if has(eqn, Trait.JOINS) or name == 'select_and_gather_add':
      return [self._side_by_side(frame, eqn, held)]
    if has(eqn, Trait.EACH):
      return held
    if has(eqn, Trait.ELEMENTWISE):
      return [self._combined(frame, eqn, held)]
    if has(eqn, Trait.WRITES) and all(
      self._source(frame, var).level == _PARAMS for var in eqn.invars[1:]
    ):
      self._end(frame, eqn, held[1:])
      return [held[0]]
    same_rank = len(out.shape) == len(_shape(eqn.invars[0]))
    if has(eqn, Trait.KEEPS_AXES) and len(eqn.outvars) == 1 and same_rank:
      return [tuple(_resized(view, out.shape) for view in held[0])]
    self._end(frame, eqn, held)
    return [() for _ in eqn.outvars]

  def _moved(self, frame: Frame, eqn: Any, held: list[Views]) -> list[Views]:
    """Views whose entries an equation only moves; what can't be followed ends here."""
    outs: list[list[View]] = [[] for _ in eqn.outvars]
    for view in held[0]:
      found = moved(frame, eqn, view) or []
      if all(each is None for each in found):
        self._end(frame, eqn, [(view,)])
      for out, each in zip(outs, found):
        out += [] if each is None else [each]
    return [tuple(out) for out in outs]

  def _returned(self, held: Views) -> None:
    for view in held:
      self.ended[view.leaf].append(Ended('a result of fn', '', view.via == _STOPPED, False))

  def _source(self, frame: Frame, var: Any) -> Source:
    if isinstance(var, core.Literal):
      return Source(None, 0)
    return self._sources[frame][var]

  # ------------------------------------------------------------------------------- entry by entry

  def _combined(self, frame: Frame, eqn: Any, held: list[Views]) -> Views:
    """The leaves that have the most entries; what changes or scales them has ended here."""
    shape, first = eqn.outvars[0].aval.shape, int(has(eqn, Trait.CHOOSES))
    rest = range(first, len(eqn.invars))
    most = max((_entries(view) for i in rest for view in held[i]), default=0)
    if any(view.via == _PRODUCT for i in rest for view in held[i]):
      most = math.prod(shape)  # what is added to a product of params is as large, or a bias
    kept: dict[int, View] = {}
    for i in rest:
      others = [(self._source(frame, eqn.invars[j]), held[j]) for j in rest if j != i]
      for view in held[i]:
        followed = all(_is_factor(eqn, view, *other, most) for other in others)
        formed = grown(view, shape, range(len(shape))) if len(view.axes) == len(shape) else None
        whole = _entries(view) == most or view.via == _PRODUCT
        if followed and formed is not None and whole:
          kept.setdefault(view.leaf, formed)
        elif view.leaf not in kept:
          self._end(frame, eqn, [(view,)])
    return tuple(kept.values())

  def _side_by_side(self, frame: Frame, eqn: Any, held: list[Views]) -> Views:
    """Leaves that lie beside each other, if all are leaves."""
    if not all(held) or self._source(frame, eqn.outvars[0]).level > _PARAMS:
      self._end(frame, eqn, held)
      return ()
    axis = joint(eqn) if has(eqn, Trait.JOINS) else 0
    views = [view for views in held for view in views]
    if len(eqn.outvars[0].aval.shape) > len(_shape(eqn.invars[0])):  # stacked
      add = lambda axes: (*axes[:axis], (), *axes[axis:])
      views = [view._replace(axes=add(view.axes)) for view in views]
    found: dict[int, View] = {}
    for view in views:
      before = found.get(view.leaf)
      found[view.leaf] = view if before is None else _together(before, view, axis)
    return tuple(_resized(view, eqn.outvars[0].aval.shape) for view in found.values())

  def _looked_up(self, frame: Frame, eqn: Any, held: list[Views]) -> Views:
    """Some indices of a leaf, or one.

    What is computed may say which, as of experts and words; or the number of a turn of a loop, as
    of layers; or a constant, as of a permutation or of positions.
    """
    self._end(frame, eqn, held[1:])
    shape, sizes = _shape(eqn.invars[0]), eqn.params['slice_sizes']
    cut = [axis for axis, size in enumerate(sizes) if size != shape[axis]]
    indices = eqn.invars[1:]
    by_data = any(self._source(frame, var).level > _PARAMS for var in indices)
    constant = all(constant(frame, var) is not None for var in indices)
    places, rows = RULES[eqn.primitive.name].places(Equation(eqn))
    found = []
    for view in held[0]:
      exact = None if by_data else (moved(frame, eqn, view) or [None])[0]
      if exact is not None:
        found.append(exact)
        continue
      whole = [() if axis in cut else pieces for axis, pieces in enumerate(view.axes)]
      axes = _laid_out(whole, places, eqn.outvars[0].aval.shape)
      pieces = _own(view.axes[axis] for axis in cut)
      if constant and len(cut) == 1 and len(rows) == 1:
        self._tables.add(view.leaf)
        axes[rows[0]] = _one_piece(pieces, eqn.outvars[0].aval.shape[rows[0]])
        pieces = ()
      elif by_data or constant:
        self._experts.setdefault(view.leaf, set()).update(piece.axis for piece in pieces)
      fixed = (*view.fixed, *(piece._replace(size=1) for piece in pieces))
      found.append(view._replace(axes=tuple(axes), fixed=fixed))
    return tuple(found)

  # ------------------------------------------------------------------------------------- products

  def _product(self, frame: Frame, eqn: Any, held: list[Views]) -> Views:
    """Notes which leaves are kernels; what results is one only if no argument has a part in it."""
    known = [self._source(frame, var) for var in eqn.invars[:2]]
    levels = [source.level for source in known]
    if not any(held[:2]):
      self._note_heads(frame, eqn, levels)
      return ()
    owner = self._owner(held, levels)
    partner = 1 - owner
    chained = levels[owner] == levels[partner] == _PARAMS
    if held[owner] and self._are_activations(eqn, owner, held[owner], chained):
      self._end(frame, eqn, held[partner : partner + 1])
      return ()
    for view in held[owner]:
      use = self._used(frame, eqn, owner, view, known[partner])
      if chained:
        self._chained.setdefault(view.leaf, use)
        self._kernels.add(view.leaf)
      else:
        self._note(view, use)
    if not chained:
      self._end(frame, eqn, held[partner : partner + 1])
      return ()
    return self._chain(frame, eqn, held, owner)

  def _owner(self, held: Sequence[Views], levels: Sequence[int]) -> int:
    """The operand that is the kernel: the one nearer to the params, else with more entries."""
    if not (held[0] and held[1]):
      return int(not held[0])
    if levels[0] != levels[1]:
      return int(levels[1] < levels[0])
    made = [all(view.via == _PRODUCT for view in views) for views in held[:2]]
    if made[0] != made[1]:
      return int(made[0])
    sizes = [max(map(_entries, views)) for views in held[:2]]
    return int(sizes[1] >= sizes[0])

  def _are_activations(self, eqn: Any, owner: int, views: Views, chained: bool) -> bool:
    """Whether a product of params stands for activations, as learned queries do.

    In ``x @ (a @ b)`` the sum is over axes of ``a``; queries ``(tokens @ w)`` are summed over with
    keys along the outputs of ``w``.
    """
    if any(view.via != _PRODUCT for view in views):
      return False
    inputs = sides(eqn, owner).inputs
    summed = {view.leaf for view in views if any(_own([view.axes[axis]]) for axis in inputs)}
    return chained or not summed or not summed <= self._left

  def _note(self, view: View, use: Used) -> None:
    """A leaf that was multiplied by another one before keeps the inputs that it had there."""
    leaf = view.leaf
    before = self._chained.pop(leaf, None) if view.via == _PRODUCT else None
    if before is not None and not use.inputs:
      use = before._replace(by_data=True, layers=use.layers or before.layers)
    elif before is not None:
      use = use._replace(outputs=(*use.outputs, *before.inputs))
    if len(use.experts) and _long(use) < 2:  # rows of a table
      self.ended[leaf].append(Ended('dot_general', use.line, False, True))
      return
    self.used[leaf].append(use)

  def _chain(self, frame: Frame, eqn: Any, held: list[Views], owner: int) -> Views:
    """The leaves in a product of params: of both, the axes that are not summed over."""
    both = [sides(eqn, operand) for operand in (0, 1)]
    shape, found = eqn.outvars[0].aval.shape, []
    sizes = [_free(eqn, operand, both[operand].outputs) for operand in (0, 1)]
    if multiplies(eqn).form != 'matrices' or 1 in sizes:  # one token, or one output
      self._end(frame, eqn, held[1 - owner : 2 - owner])
      return ()
    for operand in (0, 1):
      batch, outputs = both[operand].batch, both[operand].outputs
      before = len(both[0].outputs) if operand else 0
      places = {axis: i for i, axis in enumerate(batch)}
      places |= {axis: len(batch) + before + i for i, axis in enumerate(outputs)}
      for view in held[operand]:
        self._left |= {view.leaf} if operand == 0 else set()
        if operand != owner:
          use = self._used(frame, eqn, operand, view, Source(None, 0))
          self._chained.setdefault(view.leaf, use._replace(by_data=False))
        axes = tuple(_laid_out(view.axes, places, shape))
        found.append(view._replace(axes=axes, via=_PRODUCT))
    return tuple(found)

  def _used(self, frame: Frame, eqn: Any, operand: int, view: View, partner: Source) -> Used:
    mine = sides(eqn, operand)
    pieces = lambda axes: _own(view.axes[axis] for axis in axes)
    indexed = self._experts.get(view.leaf, set())
    fixed = [piece._replace(size=0) for piece in view.fixed if piece.axis != REPEATED]
    return Used(
      layers=(
        *_own(pieces for _, pieces in view.loops),
        *(piece for piece in fixed if piece.axis not in indexed),
      ),
      experts=(*(piece for piece in fixed if piece.axis in indexed), *pieces(mine.groups)),
      batch=pieces(mine.batch),
      inputs=pieces(mine.inputs),
      window=pieces(mine.window),
      outputs=pieces(mine.outputs),
      by_data=partner.level > _PARAMS,
      line=place(eqn, frame),
    )

  def _note_heads(self, frame: Frame, eqn: Any, levels: Sequence[int]) -> None:
    if multiplies(eqn).form == 'matrices' and min(levels) > _PARAMS:
      left, dims = sides(eqn, 0), frame.dims_of(eqn.invars[0])
      if left.inputs:  # else it multiplies entry by entry
        self.heads.update(atom for axis in left.batch for atom in resolve(dims[axis]))


def _is_factor(eqn: Any, view: View, other: Source, views: Views, most: int) -> bool:
  """Whether a leaf is still one after it was combined with this.

  So it is with other params, masks and noise that are arguments, and scales that are computed and
  have fewer entries; not with a larger value, which then is an activation that the leaf shifts.
  """
  if other.level == _PARAMS:
    # what was made of other params, and is as large, is no kernel that this one shifts
    return bool(views) or other.of <= {view.leaf} or other.entries < _entries(view)
  if other.level == _GIVEN:
    return other.entries <= most and _is_linear(eqn)
  return other.entries < most and has(eqn, Trait.SCALES)


def _is_linear(eqn: Any) -> bool:
  """Whether a leaf that others scale, shift or mask is still one."""
  return any(has(eqn, trait) for trait in (Trait.SCALES, Trait.ADDS, Trait.CHOOSES))


def _laid_out(axes: Sequence[Pieces], places: dict[int, int], shape: Sequence[int]) -> list[Pieces]:
  """The axes of a view at their places in a shape; entries are the same along all others."""
  out: list[Pieces] = [(Piece(REPEATED, 0, 1, n),) if n != 1 else () for n in shape]
  for axis, where in places.items():
    out[where] = axes[axis] or out[where]
  return out


def _together(a: View, b: View, axis: int) -> View:
  """Two parts of a leaf side by side: the axis that each is an index of is an axis again."""
  apart = [(x, y) for x, y in zip(a.fixed, b.fixed) if x != y]
  if len(a.fixed) != len(b.fixed) or len(apart) != 1 or a.axes[axis]:
    return a
  piece = apart[0][0]
  axes = (*a.axes[:axis], (piece._replace(offset=0, size=2),), *a.axes[axis + 1 :])
  return a._replace(axes=axes, fixed=tuple(x for x in a.fixed if x != piece))


def _one_piece(pieces: Pieces, size: int) -> Pieces:
  if size == 1:
    return ()
  return (Piece(pieces[0].axis if pieces else REPEATED, 0, 1, size),)


def _free(eqn: Any, operand: int, axes: Sequence[int]) -> int:
  return math.prod(_shape(eqn.invars[operand])[axis] for axis in axes)


def _resized(view: View, shape: Sequence[int]) -> View:
  """A view of other sizes: each axis is still made of the axes of the leaf that it was made of."""
  axes = []
  for pieces, size in zip(view.axes, shape):
    same = length(pieces) == size
    axes.append(pieces if same else _one_piece(pieces, size))
  return view._replace(axes=tuple(axes))


def _own(axes: Any) -> Pieces:
  return tuple(piece for pieces in axes for piece in pieces if piece.axis != REPEATED)


def _entries(view: View) -> int:
  return math.prod(piece.size for piece in _own(view.axes))


def _long(use: Used) -> int:
  return len({piece.axis for piece in (*use.inputs, *use.window, *use.outputs)})


def _shape(var: Any) -> tuple[int, ...]:
  return tuple(getattr(var.aval, 'shape', ()))


def _hashed(var: Any) -> Any:
  return None if isinstance(var, core.Literal) else var
