"""Primitives that multiply and add: matrix products and convolutions."""

from __future__ import annotations

from typing import Any

from jprune.graph._atoms import Atom, Dims, fresh, fresh_all, size_of
from jprune.graph._rule import ANY, BAD, UNIFORM, ZERO, Site, Status, rule, same_params
from jprune.graph._sharding import divided

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
  (lc, _), _ = site.params['dimension_numbers']
  for axis in lc:
    for atom in site.walk.atoms_of(site.ins()[0][axis]):
      check_summed(site, atom, product(left.get(atom), right.get(atom)), ghostable=True)
  return [_status_product(site, left, right)]


def _status_product(site: Site, left: Status, right: Status) -> Status:
  (var,) = site.eqn.outvars
  of = {}
  for atom in site.live(var):
    a, b = left.get(atom), right.get(atom)
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
  (lc, _), _ = site.params['ragged_dot_dimension_numbers'].dot_dimension_numbers
  for axis in lc:
    for atom in site.walk.atoms_of(site.ins()[0][axis]):
      check_summed(site, atom, product(left.get(atom), right.get(atom)), ghostable=False)
  return [_status_product(site, left, right)]


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
  into = site.ins()[1][site.params['dimension_numbers'][1][1]]
  for atom in site.walk.atoms_of(into):
    check_summed(site, atom, product(x.get(atom), w.get(atom)), ghostable=False)
  return [_status_product(site, x, w)]


def _small_conv(site: Site, xs: list[Any]) -> list[Any]:
  groups = site.params['feature_group_count']
  if groups > 1:
    _, ws, _ = site.params['dimension_numbers']
    features = site.ins()[0][site.params['dimension_numbers'][0][1]]
    into = site.ins()[1][ws[1]]
    groups = site.small_size(features) // max(site.small_size(into), 1)
  return [site.eqn.primitive.bind(*xs, **{**site.params, 'feature_group_count': groups})]


rule('dot_general', _couple_dot, _status_dot, _small_dot)
rule('conv_general_dilated', _couple_conv, _status_conv, _small_conv)


# --------------------------------------------------------------------------------------- reductions


def _couple_reduce(site: Site, ins: list[Dims]) -> list[Dims]:
  axes = site.params['axes']
  return [tuple(dim for i, dim in enumerate(ins[0]) if i not in axes)]


def _status_reduce(site: Site, ins: list[Status]) -> list[Status]:
  for axis in site.params['axes']:
    for atom in site.walk.atoms_of(site.ins()[0][axis]):
      value = ins[0].get(atom)
      if not (value == ZERO and site.name == 'reduce_sum'):
        check_summed(site, atom, max(value, UNIFORM), ghostable=True)
  (var,) = site.eqn.outvars
  return [Status(ins[0].default, {atom: ins[0].get(atom) for atom in site.live(var)})]


rule(
  'reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or',
  _couple_reduce,
  _status_reduce,
)


def _couple_order(site: Site, ins: list[Dims]) -> list[Dims]:
  """What depends on the order or the number of indices along an axis freezes it."""
  axes = site.params['dimensions' if site.name == 'reduce' else 'axes']
  for dims in ins:
    for axis in axes:
      if axis < len(dims):
        site.freeze(dims[axis], f'{site.name} along it')
  first = next(dims for dims in ins if dims)
  for dims in ins:
    if len(dims) == len(first):
      for a, b in zip(first, dims):
        site.unify(a, b)
  out = tuple(dim for i, dim in enumerate(first) if i not in axes)
  return [out for _ in site.out_shapes]


def _at_least_uniform(site: Site, ins: list[Status]) -> list[Status]:
  worst = lambda atom: max([UNIFORM, *(status.get(atom) for status in ins)])
  return [
    Status(UNIFORM, {atom: worst(atom) for atom in site.live(var)}) for var in site.eqn.outvars
  ]


rule('argmax argmin reduce reduce_xor', _couple_order, _at_least_uniform)


def _couple_along(site: Site, ins: list[Dims]) -> list[Dims]:
  site.freeze(ins[0][site.params['axis']], f'{site.name} along it')
  return [ins[0]]


rule('cumsum cumprod cummax cummin', _couple_along)
rule('cumlogsumexp', _couple_along, _at_least_uniform)


def _couple_fft(site: Site, ins: list[Dims]) -> list[Dims]:
  """The last axes are transformed, each of them with its own length."""
  (dims,) = ins
  first = len(dims) - len(site.params['fft_lengths'])
  for dim in dims[first:]:
    site.freeze(dim, 'Fourier transformed along it')
  waves = fresh_all(site.out_shapes[0][first:], site.cause('frequencies of a Fourier transform'))
  return [(*dims[:first], *waves)]


rule('fft', _couple_fft)


def _couple_sort(site: Site, ins: list[Dims]) -> list[Dims]:
  axis = site.params['dimension']
  for dims in ins:
    site.freeze(dims[axis], 'sorted along it')
    for a, b in zip(ins[0], dims):
      site.unify(a, b)
  ranks = fresh(size_of(ins[0][axis]), site.cause('ranks of what is sorted'))
  return [tuple(ranks if i == axis else dim for i, dim in enumerate(dims)) for dims in ins]


def _status_sort(site: Site, ins: list[Status]) -> list[Status]:
  """Zeros stay zeros in any order; other entries follow the keys."""
  worst = lambda atom: max(status.get(atom) for status in ins)
  return [
    Status(
      mine.default,
      {a: ZERO if mine.get(a) == ZERO else max(worst(a), UNIFORM) for a in site.live(var)},
    )
    for mine, var in zip(ins, site.eqn.outvars)
  ]


def _couple_top_k(site: Site, ins: list[Dims]) -> list[Dims]:
  (dims,) = ins
  axis = site.params.get('axis', -1) % len(dims)
  site.freeze(dims[axis], 'top_k along it')
  best = fresh(site.out_shapes[0][axis], site.cause('the best of top_k'))
  out = tuple(best if i == axis else dim for i, dim in enumerate(dims))
  return [out for _ in site.out_shapes]


rule('sort', _couple_sort, _status_sort)
rule('top_k', _couple_top_k, _at_least_uniform)


def _couple_window(site: Site, ins: list[Dims]) -> list[Dims]:
  """An axis on which the window is a single index passes; the others are frozen."""
  p, shape = site.params, site.out_shapes[0]
  data = [dims for dims in ins if len(dims) == len(shape)]
  out = []
  for i, size in enumerate(shape):
    passes = _is_whole(p, i) and all(size_of(dims[i]) == size for dims in data)
    for dims in data:
      if passes:
        site.unify(data[0][i], dims[i])
      else:
        site.freeze(dims[i], f'the window of {site.name}')
    out.append(data[0][i] if passes else fresh(size, site.cause(f'the window of {site.name}')))
  return [tuple(out) for _ in site.out_shapes]


def _is_whole(params: dict[str, Any], axis: int) -> bool:
  """Whether the windows along an axis are its indices, one after another."""
  shift = (params['window_dimensions'][axis], params['window_strides'][axis])
  return shift == (1, 1) and tuple(params['padding'][axis]) == (0, 0)


rule('reduce_window_sum reduce_window_max reduce_window_min', _couple_window)
rule('reduce_window', _couple_window, _at_least_uniform)
rule('select_and_gather_add', _couple_window, _at_least_uniform)


def _couple_scatter_window(site: Site, ins: list[Dims]) -> list[Dims]:
  source, operand = ins
  for i in range(len(operand)):
    if _is_whole(site.params, i) and size_of(source[i]) == size_of(operand[i]):
      site.unify(source[i], operand[i])
    else:
      site.freeze(source[i], f'the window of {site.name}')
      site.freeze(operand[i], f'the window of {site.name}')
  return [operand]


rule('select_and_scatter_add', _couple_scatter_window, small=same_params)
