"""Primitives that write at indices, known while tracing or not."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from jprune.graph._axes.atoms import Dims, fresh_all, size_of
from jprune.graph._axes.coupled import sliced
from jprune.graph._axes.pruned import Status
from jprune.graph._program.sharding import even
from jprune.graph._program.traits import Trait
from jprune.graph._rules.base import either, passed_on, rule
from jprune.graph._rules.indexing import APPLIED, DYNAMIC, VECTOR, clamped, small_starts
from jprune.graph._rules.products import check_summed
from jprune.graph._rules.sites import CoupleSite, Site, SmallSite, StatusSite

_ADDS = ('scatter-add', 'scatter-sub')


def _couple_scatter(site: CoupleSite, ins: list[Dims]) -> list[Dims]:
  operand, indices, updates = ins
  numbers = site.params['dimension_numbers']
  if site.name == 'scatter' and getattr(site.params.get('update_jaxpr'), 'eqns', ()):
    site.freeze_all(ins, APPLIED)
    return [fresh_all(site.out_shapes[0], site.cause(APPLIED))]
  window = _constant_window(site)
  if window is not None:
    parts = iter(updates)
    for axis, (dim, low) in enumerate(zip(operand, window)):
      part = () if axis in numbers.inserted_window_dims else next(parts)
      whole = size_of(dim) == size_of(part)
      site.unify(dim if whole else sliced(site, dim, low, low + size_of(part), 1), part)
    return [operand]
  site.freeze(indices[-1], VECTOR)
  batching = dict(zip(numbers.operand_batching_dims, numbers.scatter_indices_batching_dims))
  windows = [
    i for i in range(len(operand)) if i not in numbers.inserted_window_dims and i not in batching
  ]
  for position, axis in zip(numbers.update_window_dims, windows):
    if size_of(operand[axis]) == size_of(updates[position]):
      site.unify(operand[axis], updates[position])
    else:
      site.freeze(operand[axis], DYNAMIC)
      site.freeze(updates[position], DYNAMIC)
  for axis in numbers.inserted_window_dims:
    site.freeze(operand[axis], DYNAMIC)
  for axis, other in batching.items():
    site.unify(operand[axis], indices[other])
  scattered = [i for i in range(len(updates)) if i not in numbers.update_window_dims]
  for position, dim in zip(scattered, indices[:-1]):
    site.unify(updates[position], dim)
  for position in _scattered(site) if site.name not in _ADDS else ():
    site.freeze(updates[position], 'written to indices')
  return [operand]


def _scattered(site: Site) -> list[int]:
  """Axes of the updates whose entries go to one index of the operand each."""
  numbers = site.params['dimension_numbers']
  places = [i for i in range(len(site.in_shapes[2])) if i not in numbers.update_window_dims]
  batched = numbers.scatter_indices_batching_dims
  return [i for place, i in enumerate(places) if place not in batched]


def _status_scatter(site: StatusSite, ins: list[Status]) -> list[Status]:
  """Updates that are left out must add nothing."""
  for position in _scattered(site):
    for atom in site.atoms_of(site.ins()[2][position]):
      check_summed(site, atom, ins[2].get(atom), ghostable=False)
  return passed_on(site, ins)


def _constant_window(site: Site) -> list[int] | None:
  """Where ``x.at[..., 2:5].set(...)`` starts on every axis, if that is known while tracing."""
  numbers = site.params['dimension_numbers']
  shape, updates = site.in_shapes[0], site.in_shapes[2]
  indices = site.constant(1)
  if indices is None or indices.ndim != 1 or numbers.operand_batching_dims:
    return None
  if len(numbers.update_window_dims) != len(updates):
    return None
  parts, starts = iter(updates), [0] * len(shape)
  for axis, start in zip(numbers.scatter_dims_to_operand_dims, indices):
    starts[axis] = int(start)
  sizes = [1 if axis in numbers.inserted_window_dims else next(parts) for axis in range(len(shape))]
  inside = all(0 <= low <= n - part for low, n, part in zip(starts, shape, sizes))
  return starts if inside else None


def _small_scatter(site: SmallSite, xs: list[Any]) -> list[Any]:
  operand, indices, updates = xs
  starts = _constant_window(site)
  if starts is not None:
    keeps = [site.keep(dim) for dim in site.ins()[0]]
    small = [low if k is None else int(k[:low].sum()) for low, k in zip(starts, keeps)]
    axes = site.params['dimension_numbers'].scatter_dims_to_operand_dims
    indices = jnp.array([small[axis] for axis in axes], jnp.result_type(indices))
  return [site.eqn.primitive.bind(operand, indices, updates, **site.params)]


def _couple_update(site: CoupleSite, ins: list[Dims]) -> list[Dims]:
  operand, update = ins[:2]
  for axis, (dim, part) in enumerate(zip(operand, update)):
    start, length = site.constant(2 + axis), size_of(part)
    if length == size_of(dim):
      site.unify(dim, part)
    elif start is not None:
      low = clamped(start, size_of(dim), length)
      site.unify(sliced(site, dim, low, low + length, 1), part)
    else:
      site.freeze(dim, DYNAMIC)
      site.freeze(part, DYNAMIC)
  return [operand]


def _small_update(site: SmallSite, xs: list[Any]) -> list[Any]:
  x, update, *starts = xs
  lengths = site.eqn.invars[1].aval.shape
  starts = small_starts(site, starts, lengths, 2)
  x, update = even(x, np.shape(update)), even(update, np.shape(x))
  return [site.eqn.primitive.bind(x, update, *starts, **site.params)]


rule(
  'dynamic_update_slice',
  _couple_update,
  small=_small_update,
  ranges=either,
  indices=2,
  traits=Trait.KEEPS_SIGN | Trait.GHOSTS | Trait.WRITES,
)
for _name in ('scatter', 'scatter-add', 'scatter-sub', 'scatter-mul', 'scatter-min', 'scatter-max'):
  rule(
    _name,
    _couple_scatter,
    _status_scatter,
    _small_scatter,
    ranges=either if _name == 'scatter' else None,
    traits=Trait.WRITES,
  )
