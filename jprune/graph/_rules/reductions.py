"""Primitives that reduce, order or transform along axes, or slide windows over them."""

from __future__ import annotations

import operator
from typing import Any

import jax.numpy as jnp
import numpy as np

from jprune.graph._axes.atoms import Dims, fresh, fresh_all, size_of
from jprune.graph._axes.pruned import UNIFORM, ZERO, Status
from jprune.graph._program.traits import NONE, Trait
from jprune.graph._rules.base import (
  Joins,
  either,
  largest,
  multiplied,
  no_sign,
  powers,
  rule,
  summed,
  window,
)
from jprune.graph._rules.products import SUM, check_summed
from jprune.graph._rules.sites import CoupleSite, Equation, Site, StatusSite


def _couple_reduce(site: CoupleSite, ins: list[Dims]) -> list[Dims]:
  axes = site.params['axes']
  return [tuple(dim for i, dim in enumerate(ins[0]) if i not in axes)]


def _status_reduce(site: StatusSite, ins: list[Status]) -> list[Status]:
  for axis in site.params['axes']:
    for atom in site.atoms_of(site.ins()[0][axis]):
      value = ins[0].get(atom)
      if not (value == ZERO and site.name == 'reduce_sum'):
        check_summed(site, atom, max(value, UNIFORM), ghostable=True)
  (var,) = site.eqn.outvars
  least = UNIFORM if _gives_identity(site) else ZERO
  of = {atom: max(ins[0].get(atom), least) for atom in site.prunable(var)}
  return [Status(max(ins[0].default, least), of)]


def _gives_identity(site: Site) -> bool:
  """Whether nothing is reduced, to something else than zero: to -inf, inf, one or true."""
  nothing = 0 in (site.in_shapes[0][axis] for axis in site.params['axes'])
  return nothing and site.name not in ('reduce_sum', 'reduce_or')


def _reduces(name: str, joins: Joins, traits: Trait = NONE, found: Any = None) -> None:
  traits |= Trait.GHOSTS
  rule(name, _couple_reduce, _status_reduce, ranges=found, joins=joins, traits=traits)


_reduces('reduce_sum', SUM, Trait.KEEPS_SIGN | Trait.WRAPS, summed)
_reduces('reduce_prod', Joins(jnp.multiply, operator.pow), Trait.WRAPS, powers)
_reduces('reduce_max', Joins(jnp.maximum, picks=True), Trait.KEEPS_SIGN, largest)
_reduces('reduce_min', Joins(jnp.minimum, picks=True), found=largest)
_reduces('reduce_and', Joins(jnp.bitwise_and))
_reduces('reduce_or', Joins(jnp.bitwise_or))


def _couple_collective(site: CoupleSite, ins: list[Dims]) -> list[Dims]:
  """Over an axis that ``vmap`` has named it is a reduction like any other."""
  p = site.params
  if p['axis_index_groups'] is not None or any(isinstance(axis, str) for axis in p['axes']):
    site.freeze_all(ins, f'{site.name} over devices')
    return [fresh_all(shape, site.cause(f'{site.name} over devices')) for shape in site.out_shapes]
  return [tuple(dim for i, dim in enumerate(dims) if i not in p['axes']) for dims in ins]


def _status_collective(site: StatusSite, ins: list[Status]) -> list[Status]:
  outs = []
  for dims, mine, var in zip(site.ins(), ins, site.eqn.outvars):
    for axis in site.params['axes']:
      for atom in site.atoms_of(dims[axis]) if isinstance(axis, int) else ():
        value = mine.get(atom) if site.name == 'psum' else max(mine.get(atom), UNIFORM)
        check_summed(site, atom, value, ghostable=False)
    outs.append(Status(mine.default, {atom: mine.get(atom) for atom in site.prunable(var)}))
  return outs


_collects = lambda names, found, traits=NONE: rule(
  names, _couple_collective, _status_collective, ranges=found, traits=traits
)
_collects('psum', summed, Trait.KEEPS_SIGN)
_collects('pmax pmin', either)


def _couple_order(site: CoupleSite, ins: list[Dims]) -> list[Dims]:
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


def _at_least_uniform(site: StatusSite, ins: list[Status]) -> list[Status]:
  worst = lambda atom: max([UNIFORM, *(status.get(atom) for status in ins)])
  return [
    Status(UNIFORM, {atom: worst(atom) for atom in site.prunable(var)}) for var in site.eqn.outvars
  ]


rule('argmax argmin reduce reduce_xor', _couple_order, _at_least_uniform)


def _couple_along(site: CoupleSite, ins: list[Dims]) -> list[Dims]:
  site.freeze(ins[0][site.params['axis']], f'{site.name} along it')
  return [ins[0]]


rule('cumsum', _couple_along, ranges=summed, traits=Trait.GHOSTS | Trait.WRAPS)
rule('cumprod', _couple_along, ranges=powers, traits=Trait.GHOSTS)
rule('cummax cummin', _couple_along, ranges=either, traits=Trait.GHOSTS)
rule('cumlogsumexp', _couple_along, _at_least_uniform, traits=Trait.GHOSTS)


def _couple_fft(site: CoupleSite, ins: list[Dims]) -> list[Dims]:
  """The last axes are transformed, each of them with its own length."""
  (dims,) = ins
  first = len(dims) - len(site.params['fft_lengths'])
  for dim in dims[first:]:
    site.freeze(dim, 'Fourier transformed along it')
  waves = fresh_all(site.out_shapes[0][first:], site.cause('frequencies of a Fourier transform'))
  return [(*dims[:first], *waves)]


rule('fft', _couple_fft, traits=Trait.KEEPS_AXES)


def _couple_sort(site: CoupleSite, ins: list[Dims]) -> list[Dims]:
  axis = site.params['dimension']
  for dims in ins:
    site.freeze(dims[axis], 'sorted along it')
    for a, b in zip(ins[0], dims):
      site.unify(a, b)
  ranks = fresh(size_of(ins[0][axis]), site.cause('ranks of what is sorted'))
  return [tuple(ranks if i == axis else dim for i, dim in enumerate(dims)) for dims in ins]


def _status_sort(site: StatusSite, ins: list[Status]) -> list[Status]:
  """Zeros stay zeros in any order; other entries follow the keys."""
  worst = lambda atom: max(status.get(atom) for status in ins)
  return [
    Status(
      mine.default,
      {a: ZERO if mine.get(a) == ZERO else max(worst(a), UNIFORM) for a in site.prunable(var)},
    )
    for mine, var in zip(ins, site.eqn.outvars)
  ]


def _axis_of_top_k(eqn: Equation) -> int:
  return eqn.params.get('axis', -1) % len(eqn.in_shapes[0])


def _couple_top_k(site: CoupleSite, ins: list[Dims]) -> list[Dims]:
  (dims,) = ins
  axis = _axis_of_top_k(site)
  site.freeze(dims[axis], 'top_k along it')
  best = fresh(site.out_shapes[0][axis], site.cause('the best of top_k'))
  out = tuple(best if i == axis else dim for i, dim in enumerate(dims))
  return [out for _ in site.out_shapes]


rule(
  'sort',
  _couple_sort,
  _status_sort,
  ranges=either,
  reorders=lambda eqn: [eqn.params['dimension']],
  traits=Trait.CATCHES | Trait.KEEPS_AXES,
)
rule(
  'top_k',
  _couple_top_k,
  _at_least_uniform,
  reorders=lambda eqn: [_axis_of_top_k(eqn)],
  traits=Trait.CATCHES | Trait.TELLS_SIGN,
)


def _couple_window(site: CoupleSite, ins: list[Dims]) -> list[Dims]:
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


def _status_extreme(site: StatusSite, ins: list[Status]) -> list[Status]:
  """The largest of nothing but padding is infinite."""
  (var,) = site.eqn.outvars
  least = UNIFORM if _only_padding(site) else ZERO
  of = {atom: max(ins[0].get(atom), least) for atom in site.prunable(var)}
  return [Status(max(ins[0].default, least), of)]


def _only_padding(site: Site) -> bool:
  """Whether some window may hold no entry of the operand."""
  p = site.params
  for axis, size in enumerate(site.in_shapes[0]):
    low, high = p['padding'][axis]
    width, step = p['window_dimensions'][axis], p['window_dilation'][axis]
    if not isinstance(size, int):  # left open by an export: it has an entry at least
      if step > 1 or p['base_dilation'][axis] > 1 or max(low, high) >= width:
        return True
      continue
    starts = np.arange(site.out_shapes[0][axis]) * p['window_strides'][axis] - low
    reached = starts[:, None] + np.arange(width) * step
    inside = (reached >= 0) & (reached <= (size - 1) * p['base_dilation'][axis])
    if not (inside & (reached % p['base_dilation'][axis] == 0)).any(-1).all():
      return True
  return False


rule('reduce_window_sum', _couple_window, ranges=multiplied, traits=Trait.GHOSTS)
rule(
  'reduce_window_max reduce_window_min',
  _couple_window,
  _status_extreme,
  ranges=window,
  traits=Trait.GHOSTS,
)
rule('reduce_window', _couple_window, _at_least_uniform, ranges=window)
rule('select_and_gather_add', _couple_window, _at_least_uniform, traits=Trait.CATCHES)


def _couple_scatter_window(site: CoupleSite, ins: list[Dims]) -> list[Dims]:
  source, operand = ins
  for i in range(len(operand)):
    if _is_whole(site.params, i) and size_of(source[i]) == size_of(operand[i]):
      site.unify(source[i], operand[i])
    else:
      site.freeze(source[i], f'the window of {site.name}')
      site.freeze(operand[i], f'the window of {site.name}')
  return [operand]


rule(
  'select_and_scatter_add',
  _couple_scatter_window,
  ranges=multiplied,
  traits=Trait.CATCHES,
)


# Of Equinox, which ends a loop for all examples at once.


def _couple_over_all(site: CoupleSite, ins: list[Dims]) -> list[Dims]:
  """One number of all entries, those of other examples included."""
  if site.name != 'unvmap_any':
    site.freeze_all(ins, f'{site.name} over it')
  return [()]


def _status_over_all(site: StatusSite, ins: list[Status]) -> list[Status]:
  for atom, value in ins[0].of.items():
    check_summed(site, atom, value, ghostable=False)
  return [Status(UNIFORM, {})]


rule('unvmap_any unvmap_all', _couple_over_all, _status_over_all, ranges=no_sign)
rule('unvmap_max', _couple_over_all, _status_over_all)
