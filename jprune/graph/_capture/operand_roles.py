"""Which axes of a product are batches, inputs and outputs of the leaf that it multiplies by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jax.extend import core

from jprune.graph._analysis.dependence import PARAMS
from jprune.graph._analysis.leaf_views import View
from jprune.graph._axes.atoms import Dim, resolve
from jprune.graph._axes.pieces import REPEATED, Piece, Pieces, apart, each_once, length
from jprune.graph._capture.follow import Held, SideBySide
from jprune.graph._capture.input_rows import AxisMove, Rows, Weighing, Windows, _moves
from jprune.graph._program.frame import Frame
from jprune.graph._rules.base import product, sides
from jprune.graph._statistics.stats import Use


class OperandRoles(NamedTuple):
  """The pieces of a leaf by their roles, and the form of its partner."""

  batch: Pieces
  inputs: Pieces
  outputs: Pieces
  layout: Rows | Windows


def roles_of(eqn: Any, operand: int, view: View) -> OperandRoles | str:
  """The roles of the leaf that is an operand; or why they are not known."""
  how = product(eqn)
  if how.form == 'matrices':
    return _of_matrices(eqn, operand, view)
  if how.form == 'windows' and operand == how.kernel:
    return _of_windows(eqn, view)
  return 'its inputs in this form are not followed'


def _of_matrices(eqn: Any, operand: int, view: View) -> OperandRoles | str:
  leaf, other = sides(eqn, operand), sides(eqn, 1 - operand)
  beside, shape = dict(zip(other.batch, leaf.batch)), eqn.invars[1 - operand].aval.shape
  summed = dict(zip(other.inputs, leaf.inputs))
  factors: list[int] = []
  moves: list[AxisMove] = []
  side: dict[int, list[int]] = {axis: [] for axis in (*other.batch, *other.inputs)}
  rows, whole = [], []
  for axis, size in enumerate(shape):
    if axis in summed:
      pieces = view.axes[summed[axis]]
      found = _moves(pieces, len(factors))
      sizes = [piece.length for piece in pieces] if found else [size]
      moves += found
      side[axis] += range(len(factors), len(factors) + len(sizes))
      factors += sizes
      continue
    pieces = view.axes[beside[axis]] if axis in beside else ()
    if not each_once(pieces):
      return 'other values are beside it where products are made side by side'
    parted = any(piece.axis != REPEATED for piece in pieces)
    for piece in pieces if parted else [None]:
      if piece is not None and piece.axis != REPEATED:
        side[axis].append(len(factors))
        moves += _moves([piece], len(factors))
      else:
        rows.append(len(factors))
      factors.append(size if piece is None else piece.length)
    if not parted:
      whole.append(axis)
  beside_each = [place for axis in other.batch for place in side[axis]]
  order = (*beside_each, *rows, *(place for axis in other.inputs for place in side[axis]))
  axes = tuple(whole) if len(whole) == len(rows) else None
  layout = Rows(tuple(factors), order, len(beside_each), len(rows), axes, tuple(moves))
  axes_of = lambda axes: _real([view.axes[axis] for axis in axes])
  return OperandRoles(axes_of(leaf.batch), axes_of(leaf.inputs), axes_of(leaf.outputs), layout)


def _of_windows(eqn: Any, view: View) -> OperandRoles | str:
  p = eqn.params
  spec, (out, into, *window), _ = p['dimension_numbers']
  if p['batch_group_count'] != 1:
    return 'a convolution with groups of batches'
  inputs = tuple(piece for axis in (into, *window) for piece in view.axes[axis])
  outputs, count = view.axes[out], p['feature_group_count']
  parted = apart(outputs, (count, length(outputs) // count))
  if parted is None:
    return 'a convolution by a kernel that is not divided as its groups are'
  turned = any(piece.order is not None for piece in parted[0])
  if turned and not (len(parted[0]) == 1 and each_once(parted[0])):
    return 'a convolution by a kernel that is not divided as its groups are'
  groups = _moves(parted[0], 0) if turned else ()
  shape, moves = eqn.invars[1].aval.shape, (*groups, *_moves(inputs, 2))
  layout = Windows(
    tuple(spec),
    tuple(shape[axis] for axis in window),
    p['feature_group_count'],
    tuple(p['window_strides']),
    tuple(map(tuple, p['padding'])),
    tuple(p['lhs_dilation']),
    tuple(p['rhs_dilation']),
    tuple(piece.length for piece in inputs) if moves else (),
    moves,
  )
  if _repeated(parted[0]):
    return 'a convolution by a kernel that is repeated over groups'
  return OperandRoles(parted[0], _real([inputs]), _real([parted[1]]), layout)


def _real(axes: Sequence[Pieces]) -> Pieces:
  return tuple(piece for pieces in axes for piece in pieces if piece.axis != REPEATED)


def _repeated(pieces: Pieces) -> bool:
  return any(piece.axis == REPEATED for piece in pieces)


_GAPS = 'entries with gaps between them are multiplied'


def _all_there(piece: Piece) -> bool:
  return piece.order is None or set(range(piece.size)) <= set(piece.order)


def use_of(
  view: View,
  shape: Sequence[int],
  roles: OperandRoles,
  source: int,
  loop: tuple[int | None, bool],
  line: str,
) -> Use | str:
  """The roles as factors of a box of the leaf; or why they are none.

  ``loop`` is the number of the outermost scan that runs over it, and whether it does so backwards.
  """
  batch = (*(piece for _, pieces in view.loops for piece in pieces), *roles.batch)
  if not all(map(_all_there, (*batch, *roles.inputs, *roles.outputs))):
    return _GAPS
  box, factors, axes, where = [], [], [], {}
  for axis, size in enumerate(shape):
    mine = [piece for piece in (*batch, *roles.inputs, *roles.outputs) if piece.axis == axis]
    mine.sort(key=lambda piece: -piece.step)
    start = sum(piece.offset for piece in (*mine, *view.fixed) if piece.axis == axis)
    width = 1
    for piece in reversed(mine):
      if piece.step != width:
        return _GAPS
      width *= piece.size
    if not mine and size != 1 and not any(piece.axis == axis for piece in view.fixed):
      return 'it is multiplied in a form that is not followed'
    box.append((start, start + width))
    for piece in mine:
      where[piece.axis, piece.step] = len(factors)
      factors.append(piece.size)
      axes.append(axis)
  places = lambda pieces: tuple(where[piece.axis, piece.step] for piece in pieces)
  return Use(
    tuple(box),
    tuple(factors),
    tuple(axes),
    places(batch),
    places(roles.inputs),
    places(roles.outputs),
    source,
    loop[0],
    not view.via,
    line,
    loop[1],
  )


# ------------------------------------------------------------------------------ weights of tokens


def weighing(tokens: Sequence[Dim], rows: Sequence[Dim]) -> Weighing | None:
  """How weights of tokens line up with rows, by the atoms of both; ``None`` if they don't."""
  wanted = [atom for dim in tokens for atom in resolve(dim)]
  there = [atom for dim in rows for atom in resolve(dim)]
  if any(there.count(atom) != 1 for atom in wanted) or len(set(wanted)) != len(wanted):
    return None
  order = sorted(range(len(wanted)), key=lambda i: there.index(wanted[i]))
  lined_up = tuple(atom.size if atom in wanted else 1 for atom in there)
  return tuple(atom.size for atom in wanted), tuple(order), lined_up, tuple(a.size for a in there)


def row_dims(frame: Frame, eqn: Any, operand: int, layout: Rows | Windows) -> list[Any] | None:
  """The dimensions of the rows; ``None`` if they are parts of some."""
  if isinstance(layout, Rows):
    dims = frame.dims_of(eqn.invars[operand])
    return None if layout.axes is None else [dims[axis] for axis in layout.axes]
  dims = frame.dims[eqn.outvars[0]]
  first, _, *window = eqn.params['dimension_numbers'].out_spec
  return [dims[axis] for axis in (first, *window)]


def why_not_by_data(origins: Mapping[Any, int], var: Any) -> str | None:
  """Of a partner that no argument has a part in: the product is another weight."""
  origin = 0 if isinstance(var, core.Literal) else origins[var]
  if origin == PARAMS:
    return 'its partner depends on params only'
  return None if origin else 'its partner depends on no argument of fn'


def why_not_joined(eqn: Any, operand: int, held: Held) -> str | None:
  """Of the partner of several leaves that are summed over together, or used in another form."""
  if not isinstance(held, SideBySide):
    return None
  if product(eqn).form != 'matrices':
    return 'it is concatenated with others'
  return (
    None
    if held.axis in sides(eqn, operand).outputs
    else 'it is concatenated with others along an axis that is contracted'
  )
