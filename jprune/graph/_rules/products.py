"""Primitives that multiply and add: matrix products and convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from jprune.graph._axes.atoms import Atom, Dims, fresh, size_of
from jprune.graph._program.sharding import divided
from jprune.graph._rules.base import ANY, BAD, UNIFORM, ZERO, Site, Status, rule

_NOT_ZERO = 'summed over, where its pruned entries are not zero'
_NOT_FINITE = 'summed over, where its pruned entries may be infinite or NaN'


def product(a: int, b: int) -> int:
  """The status of a product."""
  if BAD in (a, b):
    return BAD
  return ZERO if ZERO in (a, b) else max(a, b)


def check_summed(site: Site, atom: Atom, value: int, ghostable: bool) -> None:
  """Pruned entries that are summed must be zero, or all alike and added as often as pruned."""
  if value == BAD:
    site.freeze((atom,), _NOT_FINITE)
  elif value == ANY or (value == UNIFORM and not (ghostable and site.walk.ghost(site, atom))):
    site.freeze((atom,), f'{_NOT_ZERO}: {site.name}')


def _couple_dot(site: Site, ins: list[Dims]) -> list[Dims]:
  left, right = ins
  (lc, rc), (lb, rb) = site.params['dimension_numbers']
  for i, j in (*zip(lc, rc), *zip(lb, rb)):
    site.unify(left[i], right[j])
  batch = [left[i] for i in lb]
  rows = [dim for i, dim in enumerate(left) if i not in lc and i not in lb]
  columns = [dim for i, dim in enumerate(right) if i not in rc and i not in rb]
  return [(*batch, *rows, *columns)]


def _status_dot(site: Site, ins: list[Status]) -> list[Status]:
  left, right = ins
  (lc, rc), _ = site.params['dimension_numbers']
  for axis in lc:
    for atom in site.walk.atoms_of(site.ins()[0][axis]):
      check_summed(site, atom, product(left.get(atom), right.get(atom)), ghostable=True)
  return [_status_product(site, left, right, (_besides(site, 0, lc), _besides(site, 1, rc)))]


def _besides(site: Site, operand: int, summed: Sequence[int]) -> set[Atom]:
  """The atoms of the axes that an operand keeps."""
  dims = site.ins()[operand]
  return {a for i, d in enumerate(dims) if i not in summed for a in site.walk.atoms_of(d)}


def _status_product(
  site: Site, left: Status, right: Status, stay: tuple[set[Atom], set[Atom]]
) -> Status:
  """Of entries at pruned indices of the atoms that each operand keeps; others are summed over."""
  (var,) = site.eqn.outvars
  of = {}
  for atom in site.live(var):
    a, b = (
      status.get(atom) if atom in mine else status.default
      for status, mine in zip((left, right), stay, strict=True)
    )
    if site.times(var, atom) == 1:
      of[atom] = product(a, b)
    else:  # at one index by the one operand, at another by the other
      of[atom] = ZERO if a == ZERO and b == ZERO else max(ANY, a, b)
  return Status(product(left.default, right.default), of)


def _small_dot(site: Site, xs: list[Any]) -> list[Any]:
  sharding = divided(site.params['out_sharding'], site.small_shape(site.outs()[0]))
  return [site.eqn.primitive.bind(*xs, **{**site.params, 'out_sharding': sharding})]


def _couple_ragged(site: Site, ins: list[Dims]) -> list[Dims]:
  """Rows sorted by expert, each multiplied with its own expert's matrix."""
  left, right, sizes = ins
  numbers = site.params['ragged_dot_dimension_numbers']
  (lc, rc), (lb, rb) = numbers.dot_dimension_numbers
  ragged, groups = numbers.lhs_ragged_dimensions, numbers.rhs_group_dimensions
  site.freeze_all([sizes], 'the sizes of groups of rows')
  for i in ragged:
    site.freeze(left[i], 'rows in groups')
  for i in groups:
    site.freeze(right[i], 'the matrices of groups of rows')
  for i, j in (*zip(lc, rc), *zip(lb, rb)):
    site.unify(left[i], right[j])
  rows = [dim for i, dim in enumerate(left) if i not in lc and i not in lb]
  columns = [d for i, d in enumerate(right) if i not in rc and i not in rb and i not in groups]
  return [(*(left[i] for i in lb), *rows, *columns)]


def _status_ragged(site: Site, ins: list[Status]) -> list[Status]:
  left, right, _ = ins
  (lc, rc), _ = site.params['ragged_dot_dimension_numbers'].dot_dimension_numbers
  for axis in lc:
    for atom in site.walk.atoms_of(site.ins()[0][axis]):
      check_summed(site, atom, product(left.get(atom), right.get(atom)), ghostable=False)
  return [_status_product(site, left, right, (_besides(site, 0, lc), _besides(site, 1, rc)))]


rule('ragged_dot_general', _couple_ragged, _status_ragged)


def _couple_conv(site: Site, ins: list[Dims]) -> list[Dims]:
  (x, w), p = ins, site.params
  xs, ws, out_axes = p['dimension_numbers']
  groups = p['feature_group_count']
  for i in xs[2:]:
    site.freeze(x[i], 'a spatial axis of a convolution')
  for i in ws[2:]:
    site.freeze(w[i], 'the window of a convolution')
  features, into, out_of = x[xs[1]], w[ws[1]], w[ws[0]]
  if p['batch_group_count'] != 1:
    for dim in (features, into, out_of, x[xs[0]]):
      site.freeze(dim, 'a convolution with grouped batches')
  elif groups == 1:
    site.unify(features, into)
  else:
    group = fresh(groups)
    site.unify(features, (*group, *into))
    site.unify(out_of, (*group, *fresh(size_of(out_of) // groups)))
  out: list[Any] = [None] * len(x)
  for i in out_axes[2:]:
    out[i] = fresh(site.out_shapes[0][i], site.cause('a spatial axis of a convolution'))
  batches = x[xs[0]]
  if size_of(batches) != site.out_shapes[0][out_axes[0]]:
    batches = fresh(
      site.out_shapes[0][out_axes[0]], site.cause('a convolution with grouped batches')
    )
  out[out_axes[0]], out[out_axes[1]] = batches, out_of
  return [tuple(out)]


def _status_conv(site: Site, ins: list[Status]) -> list[Status]:
  x, w = ins
  xs, ws, _ = site.params['dimension_numbers']
  into = site.walk.atoms_of(site.ins()[1][ws[1]])
  for atom in into:
    check_summed(site, atom, product(x.get(atom), w.get(atom)), ghostable=False)
  groups = set(site.walk.atoms_of(site.ins()[0][xs[1]])) - set(into)
  for atom in groups:  # some backends multiply all groups, and add zeros times the others
    if x.get(atom) == BAD:
      site.freeze((atom,), _NOT_FINITE)
  stay = _besides(site, 0, (xs[1],)) | groups, _besides(site, 1, (ws[1],))
  return [_status_product(site, x, w, stay)]


def _small_conv(site: Site, xs: list[Any]) -> list[Any]:
  groups = site.params['feature_group_count']
  if groups > 1:
    _, ws, _ = site.params['dimension_numbers']
    features = site.ins()[0][site.params['dimension_numbers'][0][1]]
    into = site.ins()[1][ws[1]]
    groups = site.small_size(features) // max(site.small_size(into), 1)
    if groups == 0:  # which the primitive refuses
      (out,) = site.outs()
      return [jnp.zeros(site.small_shape(out), site.eqn.outvars[0].aval.dtype)]
  return [site.eqn.primitive.bind(*xs, **{**site.params, 'feature_group_count': groups})]


rule('dot_general', _couple_dot, _status_dot, _small_dot)
rule('conv_general_dilated', _couple_conv, _status_conv, _small_conv)
