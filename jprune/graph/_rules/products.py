"""Primitives that multiply and add: matrix products and convolutions."""

from __future__ import annotations

import collections
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jprune.graph._axes.atoms import Atom
from jprune.graph._axes.layout import Apart, Axis, Expr, Layout, New, frozen_all
from jprune.graph._axes.pruned import ANY, BAD, UNIFORM, ZERO, Status
from jprune.graph._program.sharding import even, zeros
from jprune.graph._program.traits import Trait
from jprune.graph._rules.base import Joins, Multiplies, Sides, SizeOf, multiplied, rule, same_params
from jprune.graph._rules.sites import Equation, SmallSite, StatusSite

_NOT_ZERO = 'summed over, where its pruned entries are not zero'
_NOT_FINITE = 'summed over, where its pruned entries may be infinite or NaN'


def _multiple(one: Any, times: int) -> Any:
  """A multiple, of the same dtype; integers wrap as their sums do."""
  dtype = jnp.result_type(one)
  if jnp.issubdtype(dtype, jnp.integer):
    return one * np.asarray(times).astype(dtype)
  wide = jnp.float32 if dtype.itemsize < 4 else dtype  # 16 bits hold no more than 65,504
  return (one.astype(wide) * jnp.asarray(times, wide)).astype(dtype)


SUM = Joins(jnp.add, _multiple)


def product(a: int, b: int) -> int:
  """The status of a product."""
  if BAD in (a, b):
    return BAD
  return ZERO if ZERO in (a, b) else max(a, b)


def check_summed(site: StatusSite, atom: Atom, value: int, ghostable: bool) -> None:
  """Pruned entries that are summed must be zero, or all alike and added as often as pruned."""
  if value == BAD:
    site.freeze((atom,), _NOT_FINITE)
  elif value == ANY or (value == UNIFORM and not (ghostable and site.ghost(atom))):
    site.freeze((atom,), f'{_NOT_ZERO}: {site.name}')


# --------------------------------------------------------------------------------------- matrices


def _dot(eqn: Equation) -> Layout:
  (lc, rc), (lb, rb) = _numbers(eqn.params)
  same = [(Axis(0, i), Axis(1, j)) for i, j in (*zip(lc, rc), *zip(lb, rb))]
  left, right = (_matrix_sides(eqn, operand) for operand in (0, 1))
  result = [
    *(Axis(0, i) for i in (*left.batch, *left.outputs)),
    *(Axis(1, i) for i in right.outputs),
  ]
  summed = tuple(Axis(0, i) for i in lc)
  return Layout((tuple(result),), tuple(same), summed)


def _numbers(params: Any) -> Any:
  """The axes that are contracted, and those of batches."""
  if 'dimension_numbers' in params:
    return params['dimension_numbers']
  return params['ragged_dot_dimension_numbers'].dot_dimension_numbers


def _matrix_sides(eqn: Equation, operand: int) -> Sides:
  contracted, batch = _numbers(eqn.params)
  ragged = eqn.params.get('ragged_dot_dimension_numbers')
  groups = tuple(ragged.rhs_group_dimensions) if ragged and operand else ()
  taken = {*contracted[operand], *batch[operand], *groups}
  rest = tuple(i for i in range(len(eqn.in_shapes[operand])) if i not in taken)
  return Sides(tuple(batch[operand]), tuple(contracted[operand]), (), rest, groups)


def _count_of_matrices(eqn: Equation, size_of: SizeOf) -> int:
  layout = (_ragged if 'ragged_dot_dimension_numbers' in eqn.params else _dot)(eqn)
  results = [size_of(None, i) for i in range(len(eqn.out_shapes[0]))]
  return math.prod([*results, *(size_of(axis.operand, axis.index) for axis in layout.summed)])


def _status_dot(site: StatusSite, ins: list[Status]) -> list[Status]:
  left, right = ins
  (lc, rc), _ = _numbers(site.params)
  for axis in lc:
    for atom in site.atoms_of(site.ins()[0][axis]):
      check_summed(site, atom, product(left.get(atom), right.get(atom)), ghostable=True)
  return [_status_product(site, left, right, (_besides(site, 0, lc), _besides(site, 1, rc)))]


def _besides(site: StatusSite, operand: int, summed: Sequence[int]) -> set[Atom]:
  """The atoms of the axes that an operand keeps."""
  dims = site.ins()[operand]
  return {a for i, d in enumerate(dims) if i not in summed for a in site.atoms_of(d)}


def _status_product(
  site: StatusSite, left: Status, right: Status, stay: tuple[set[Atom], set[Atom]]
) -> Status:
  """Of entries at pruned indices of the atoms that each operand keeps; others are summed over."""
  (var,) = site.eqn.outvars
  of = {}
  for atom in site.prunable(var):
    a, b = (
      status.get(atom) if atom in mine else status.default
      for status, mine in zip((left, right), stay, strict=True)
    )
    if site.times(var, atom) == 1:
      of[atom] = product(a, b)
    else:  # at one index by the one operand, at another by the other
      of[atom] = ZERO if a == ZERO and b == ZERO else max(ANY, a, b)
  return Status(product(left.default, right.default), of)


def _ragged(eqn: Equation) -> Layout:
  """Rows sorted by expert, each multiplied with its own expert's matrix."""
  numbers = eqn.params['ragged_dot_dimension_numbers']
  frozen = frozen_all(eqn.in_shapes, 'the sizes of groups of rows', [2])
  frozen |= {Axis(0, i): 'rows in groups' for i in numbers.lhs_ragged_dimensions}
  frozen |= {Axis(1, i): 'the matrices of groups of rows' for i in numbers.rhs_group_dimensions}
  return _dot(eqn)._replace(frozen=frozen)


def _status_ragged(site: StatusSite, ins: list[Status]) -> list[Status]:
  left, right, _ = ins
  (lc, rc), _ = _numbers(site.params)
  for axis in lc:
    for atom in site.atoms_of(site.ins()[0][axis]):
      check_summed(site, atom, product(left.get(atom), right.get(atom)), ghostable=False)
  return [_status_product(site, left, right, (_besides(site, 0, lc), _besides(site, 1, rc)))]


rule(
  'dot_general',
  joins=SUM,
  layout=_dot,
  status=_status_dot,
  multiplies=Multiplies('matrices', _matrix_sides, _count_of_matrices),
  ranges=multiplied,
  traits=Trait.ABSORBS | Trait.WRAPS | Trait.GHOSTS,
)
rule(
  'ragged_dot_general',
  layout=_ragged,
  status=_status_ragged,
  multiplies=Multiplies('groups', _matrix_sides, _count_of_matrices),
  ranges=multiplied,
  traits=Trait.ABSORBS,
)


# ---------------------------------------------------------------------------------------- windows

_SPATIAL = 'a spatial axis of a convolution'
_BATCHES = 'a convolution with grouped batches'


def _conv(eqn: Equation) -> Layout:
  p, (x, w), (out,) = eqn.params, eqn.in_shapes, eqn.out_shapes
  (batch, features, *places), (out_of, into, *window), spec = p['dimension_numbers']
  groups = p['feature_group_count']
  frozen = {Axis(0, i): _SPATIAL for i in places}
  frozen |= {Axis(1, i): 'the window of a convolution' for i in window}
  same: list[tuple[Expr, Expr]] = []
  if p['batch_group_count'] != 1:
    kernel = (Axis(1, into), Axis(1, out_of))
    frozen |= dict.fromkeys((Axis(0, features), *kernel, Axis(0, batch)), _BATCHES)
  elif groups == 1:
    same.append((Axis(0, features), Axis(1, into)))
  else:
    parts = (groups, x[features] // groups)
    group, inside = (Apart(Axis(0, features), parts, place) for place in (0, 1))
    led = Apart(Axis(1, out_of), (groups, w[out_of] // groups), 0)
    same += [(inside, Axis(1, into)), (group, led)]
  axes: list[Expr] = [New(size, _SPATIAL) for size in out]
  axes[spec[0]] = Axis(0, batch) if x[batch] == out[spec[0]] else New(out[spec[0]], _BATCHES)
  axes[spec[1]] = Axis(1, out_of)
  return Layout((tuple(axes),), tuple(same), (Axis(1, into),), frozen)


def _window_sides(eqn: Equation, operand: int) -> Sides:
  first, second, *window = eqn.params['dimension_numbers'][operand]
  return Sides((), (second,), tuple(window), (first,))


def _count_of_windows(eqn: Equation, size_of: SizeOf) -> int:
  _, (_, into, *window), (batch, features, *places) = eqn.params['dimension_numbers']
  each = [(size_of(None, i), size_of(1, j)) for i, j in zip(places, window, strict=True)]
  met = math.prod(_met(eqn.params, axis, *pair) for axis, pair in enumerate(each))
  return met * math.prod((size_of(None, batch), size_of(None, features), size_of(1, into)))


def _met(params: Any, axis: int, places: int, window: int) -> int:
  """How often a window meets a pixel along one axis, the padding's included.

  Between pixels that are moved apart, as a transposed convolution does it, lie zeros that nobody
  multiplies by; pixels of the padding lie as far apart.
  """
  apart, (before, _) = params['lhs_dilation'][axis], params['padding'][axis]
  if apart == 1:
    return places * window
  stride, step = params['window_strides'][axis], params['rhs_dilation'][axis]
  starts = collections.Counter((i * stride - before) % apart for i in range(places))
  return sum(starts[-i * step % apart] for i in range(window))


def _status_conv(site: StatusSite, ins: list[Status]) -> list[Status]:
  x, w = ins
  xs, ws, _ = site.params['dimension_numbers']
  into = site.atoms_of(site.ins()[1][ws[1]])
  for atom in into:
    check_summed(site, atom, product(x.get(atom), w.get(atom)), ghostable=False)
  groups = set(site.atoms_of(site.ins()[0][xs[1]])) - set(into)
  for atom in groups:  # some backends multiply all groups, and add zeros times the others
    if x.get(atom) == BAD:
      site.freeze((atom,), _NOT_FINITE)
  stay = _besides(site, 0, (xs[1],)) | groups, _besides(site, 1, (ws[1],))
  return [_status_product(site, x, w, stay)]


def _small_conv(site: SmallSite, xs: list[Any]) -> list[Any]:
  groups = site.params['feature_group_count']
  if groups > 1:
    _, ws, _ = site.params['dimension_numbers']
    features = site.ins()[0][site.params['dimension_numbers'][0][1]]
    into = site.ins()[1][ws[1]]
    groups = site.small_size(features) // max(site.small_size(into), 1)
    if groups == 0:  # which the primitive refuses
      (out,) = site.outs()
      return [zeros(site.eqn.outvars[0].aval, site.small_shape(out))]
  if not site.params['out_sharding']:  # then it is that of the pixels
    xs = [even(xs[0], site.small_shape(site.outs()[0])), xs[1]]
  return same_params(site, xs, feature_group_count=groups)


rule(
  'conv_general_dilated',
  layout=_conv,
  status=_status_conv,
  small=_small_conv,
  multiplies=Multiplies('windows', _window_sides, _count_of_windows, kernel=1),
  ranges=multiplied,
  traits=Trait.ABSORBS,
)
