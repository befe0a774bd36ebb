"""Primitives that read at indices, known while tracing or not.

Along an axis that a slice takes whole there is one place where it can start, so that axis is not
indexed, whatever the index operand says. Where indices out of bounds are clamped or excluded, they
make no difference; where such a slice is filled or dropped, it is so as a whole, at the indices
that stay just where it is at all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from jprune.graph._axes.atoms import Dims, fresh, size_of
from jprune.graph._axes.coupled import coupled, sliced
from jprune.graph._axes.layout import Axis, Expr, Layout, New, Take, axes_of, frozen_all, window
from jprune.graph._axes.pruned import ANY, UNIFORM, ZERO, Status
from jprune.graph._program.constants import of_value
from jprune.graph._program.sharding import even, take_axis
from jprune.graph._program.traits import Trait
from jprune.graph._rules.base import either, rule
from jprune.graph._rules.sites import CoupleSite, Equation, Site, SmallSite, StatusSite

DYNAMIC = 'indexed by what is computed'
APPLIED = 'a function is applied at indices'
VECTOR = 'an index for each of several axes'


def _gather(eqn: Equation) -> Layout | None:
  """Where all indices are known: one window, or single indices along one axis."""
  numbers, (shape, indices), (out,) = _numbers(eqn), eqn.in_shapes, eqn.out_shapes
  known = frozen_all([shape, indices], 'a constant index', [1])
  if (starts := _constant_start(eqn)) is not None:
    bounds = zip(axes_of(0, len(shape)), shape, starts, eqn.params['slice_sizes'], strict=True)
    cut = [window(axis, size, low, low + n) for axis, size, low, n in bounds]
    gone = numbers.collapsed_slice_dims
    results = tuple(each for axis, each in enumerate(cut) if axis not in gone)
    return Layout((results,), frozen=known, at=({Axis(0, i): starts[i] for i in gone},))
  if (taken := _constant_take(eqn)) is None:
    return None
  result: list[Expr] = [New(size, 'a window at an index') for size in out]
  windows = [i for i in range(len(shape)) if i not in numbers.collapsed_slice_dims]
  for position, axis in zip(numbers.offset_dims, windows):
    if eqn.params['slice_sizes'][axis] == shape[axis]:
      result[position] = Axis(0, axis)
  rows = (i for i in range(len(out)) if i not in numbers.offset_dims)
  for position, axis in zip(rows, axes_of(1, len(indices) - 1)):
    result[position] = axis
  why = 'indexed across its factors'
  result[taken.position] = Take(Axis(0, taken.axis), tuple(taken.indices.tolist()), why)
  return Layout((tuple(result),), frozen=known)


def _numbers(eqn: Equation) -> Any:
  return eqn.params['dimension_numbers']


def _couple_gather(site: CoupleSite, ins: list[Dims]) -> list[Dims]:
  if (layout := _gather(site)) is not None:
    return coupled(site, layout, ins)
  (operand, indices), p = ins, site.params
  numbers, shape = p['dimension_numbers'], site.out_shapes[0]
  site.freeze(indices[-1], VECTOR)
  batching = dict(zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims))
  out: list[Any] = [None] * len(shape)
  windows = [
    i for i in range(len(operand)) if i not in numbers.collapsed_slice_dims and i not in batching
  ]
  for position, axis in zip(numbers.offset_dims, windows):
    if p['slice_sizes'][axis] == size_of(operand[axis]):
      out[position] = operand[axis]
    else:
      site.freeze(operand[axis], DYNAMIC)
  for axis, other in batching.items():
    site.unify(operand[axis], indices[other])
  for axis in numbers.collapsed_slice_dims:
    site.freeze(operand[axis], DYNAMIC)
  rest = iter(indices[:-1])
  for position in range(len(shape)):
    if position not in numbers.offset_dims:
      out[position] = next(rest)
  frozen = site.cause('a window at an index')
  return [tuple(fresh(n, frozen) if dim is None else dim for dim, n in zip(out, shape))]


def _constant_start(site: Equation) -> list[int] | None:
  """Where ``x[:, None, 5:]`` starts on every axis, if it is one window, known while tracing."""
  numbers = site.params['dimension_numbers']
  indices = site.constant(1)
  if indices is None or indices.ndim != 1 or numbers.operand_batching_dims:
    return None
  starts = [0] * len(site.in_shapes[0])
  for axis, start in zip(numbers.start_index_map, indices):
    starts[axis] = int(start)
  each = zip(starts, site.in_shapes[0], site.params['slice_sizes'])
  inside = all((low == 0 and n == part) or 0 <= low <= n - part for low, n, part in each)
  return starts if inside else None


class _Take(NamedTuple):
  """``x[..., indices, ...]`` at a list of constants: the axis, the indices, the axis of results.

  Other axes are taken whole, also where ``vmap`` writes a zero for each beside the indices.
  """

  axis: int
  indices: np.ndarray
  position: int


def _constant_take(site: Equation) -> _Take | None:
  numbers, shape, sizes = (
    site.params['dimension_numbers'],
    site.in_shapes[0],
    site.params['slice_sizes'],
  )
  cut = [axis for axis, (size, part) in enumerate(zip(shape, sizes)) if size != part]
  one = cut or list(numbers.start_index_map)
  if len(one) != 1 or one[0] not in numbers.start_index_map or sizes[one[0]] != 1:
    return None
  if numbers.operand_batching_dims or (indices := site.constant(1)) is None:
    return None
  (axis,), place = one, numbers.start_index_map.index(one[0])
  flat, others = indices[..., place].reshape(-1), np.delete(indices, place, axis=-1)
  if others.any() and site.params['mode'] == lax.GatherScatterMode.FILL_OR_DROP:
    return None
  several = [i for i, n in enumerate(indices.shape[:-1]) if n != 1]
  if len(several) != 1 or not flat.size or flat.min() < 0 or flat.max() >= shape[axis]:
    return None
  rows = [i for i in range(len(site.out_shapes[0])) if i not in numbers.offset_dims]
  return _Take(axis, flat, rows[several[0]])


def _filling(site: Equation) -> Any:
  """What a gather writes for indices out of range; ``None`` if there are none, or it clamps."""
  p, (operand, *_) = site.params, site.eqn.invars
  if p['mode'] != lax.GatherScatterMode.FILL_OR_DROP or _all_inside(site):
    return None
  fill, dtype = p['fill_value'], operand.aval.dtype
  if fill is not None:
    return np.asarray(fill).astype(dtype)[()]
  if jnp.issubdtype(dtype, jnp.inexact):
    return np.nan
  if dtype == jnp.bool_:
    return True
  signed = jnp.issubdtype(dtype, jnp.signedinteger)
  return jnp.iinfo(dtype).min if signed else jnp.iinfo(dtype).max


def _all_inside(site: Equation) -> bool:
  """Whether all indices are known to lie where the operand has entries."""
  axes = site.params['dimension_numbers'].start_index_map
  room = [site.in_shapes[0][axis] - site.params['slice_sizes'][axis] for axis in axes]
  if not all(isinstance(n, int) for n in room) or (indices := site.constant(1)) is None:
    return False
  return bool(((indices >= 0) & (indices <= np.array(room, np.int64))).all())


def _status_gather(site: StatusSite, ins: list[Status]) -> list[Status]:
  """Zeros stay zeros wherever they are read from; but an index that is zero reads what is there.

  What is filled in, other than NaN, is no zero: one value where all indices are the same.
  """
  operand, indices = ins
  (var,) = site.eqn.outvars
  of = {}
  fill = _filling(site)
  if fill is not None and fill == fill and fill != 0:
    written = {a: max(UNIFORM, v, indices.get(a)) for a, v in operand.of.items()}
    operand = Status(max(UNIFORM, operand.default), written)
  for atom in site.prunable(var):
    worst = max(operand.get(atom), indices.get(atom), UNIFORM)
    if (times := site.times(var, atom)) > 1 and times != site.times(site.eqn.invars[0], atom):
      of[atom] = max(worst, ANY)
    else:
      of[atom] = ZERO if operand.get(atom) == ZERO else worst
  return [Status(operand.default, of)]


def _small_gather(site: SmallSite, xs: list[Any]) -> list[Any]:
  p, dims, (out,) = site.params, site.ins()[0], site.outs()
  if (starts := _constant_start(site)) is not None:
    bounds = zip(starts, (low + n for low, n in zip(starts, p['slice_sizes'])))
    kept = [site.keep(dim) for dim in dims]
    small = [
      each if k is None else [int(k[:i].sum()) for i in each] for k, each in zip(kept, bounds)
    ]
    return [lax.reshape(lax.slice(xs[0], *zip(*small)), site.small_shape(out))]
  taken = _constant_take(site)
  if taken is not None and (keep := site.keep(dims[taken.axis])) is not None:
    axis, chosen, position = taken
    places = (np.cumsum(keep) - 1)[chosen[keep[chosen]]]
    numbers = p['dimension_numbers']
    windows = [i for i in range(len(dims)) if i not in numbers.collapsed_slice_dims]
    before = [i for at, i in zip(numbers.offset_dims, windows) if at < position and i != axis]
    moved = jnp.moveaxis(take_axis(xs[0], places, axis), axis, len(before))
    return [lax.reshape(moved, site.small_shape(out))]
  sizes = tuple(
    site.small_size(dim) if length == size else length
    for dim, length, size in zip(dims, p['slice_sizes'], site.in_shapes[0])
  )
  return [site.eqn.primitive.bind(*xs, **{**p, 'slice_sizes': sizes})]


def _dynamic_slice(eqn: Equation) -> Layout | None:
  """Where it starts at known indices on all axes that it doesn't take whole."""
  shape, lengths = eqn.in_shapes[0], eqn.params['slice_sizes']
  out = []
  for axis, size, length in zip(axes_of(0, len(shape)), shape, lengths, strict=True):
    if length == size:
      out.append(axis)
    elif (start := eqn.constant(1 + axis.index)) is None:
      return None
    else:
      low = clamped(start, size, length)
      out.append(window(axis, size, low, low + length))
  return Layout((tuple(out),))


def _couple_dynamic_slice(site: CoupleSite, ins: list[Dims]) -> list[Dims]:
  if (layout := _dynamic_slice(site)) is not None:
    return coupled(site, layout, ins)
  out = []
  for axis, (dim, length) in enumerate(zip(ins[0], site.params['slice_sizes'])):
    start = site.constant(1 + axis)
    if length == size_of(dim):
      out.append(dim)
    elif start is not None:
      low = clamped(start, size_of(dim), length)
      out.append(sliced(site, dim, low, low + length, 1))
    else:
      site.freeze(dim, DYNAMIC)
      out.append(fresh(length, site.cause(DYNAMIC)))
  return [tuple(out)]


def _small_dynamic_slice(site: SmallSite, xs: list[Any]) -> list[Any]:
  (x, *starts), (out,) = xs, site.outs()
  sizes = {**site.params, 'slice_sizes': site.small_shape(out)}
  x = even(x, site.small_shape(out))
  starts = small_starts(site, starts, site.params['slice_sizes'], 1)
  return [site.eqn.primitive.bind(x, *starts, **sizes)]  # the function counts from the end as well


def small_starts(site: SmallSite, starts: list[Any], lengths: Any, first: int) -> list[Any]:
  """Start indices, counted among the indices that stay."""
  out = []
  for axis, (start, length, dim) in enumerate(zip(starts, lengths, site.ins()[0])):
    keep = site.keep(dim)
    if keep is not None:
      known = site.constant(first + axis)
      low = 0 if known is None else clamped(known, len(keep), length)
      start = jnp.asarray(int(keep[:low].sum()), jnp.result_type(start))
    out.append(start)
  return out


def clamped(start: Any, size: int, length: int) -> int:
  """A start as XLA takes it: inside, so that the window is."""
  return max(0, min(int(start), size - length))


def _places(eqn: Equation) -> tuple[dict[int, int], list[int]]:
  """Where the axes of a gather's operand are in its result; and which of that are its indices'."""
  numbers = _numbers(eqn)
  gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
  kept = (axis for axis in range(len(eqn.in_shapes[0])) if axis not in gone)
  out = range(len(eqn.out_shapes[0]))
  return dict(zip(kept, numbers.offset_dims)), [i for i in out if i not in numbers.offset_dims]


def _reordered(eqn: Equation) -> Sequence[int]:
  """Axes of a gather's result that are neither taken whole nor run beside one of its operand."""
  numbers, shape = _numbers(eqn), eqn.in_shapes[0]
  gone = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
  kept = [i for i in range(len(shape)) if i not in gone]
  whole = [eqn.params['slice_sizes'][i] == shape[i] for i in kept]
  stays = {at for at, yes in zip(numbers.offset_dims, whole, strict=True) if yes}
  rows = [at for at in range(len(eqn.out_shapes[0])) if at not in numbers.offset_dims]
  stays |= {at for i, at in enumerate(rows) if i in numbers.start_indices_batching_dims}
  return [at for at in range(len(eqn.out_shapes[0])) if at not in stays]


def _ranges_of_gather(site: Site, flags: Sequence[int]) -> int:
  """What is read, or filled in."""
  fill = _filling(site)
  return flags[0] | (0 if fill is None else of_value(fill))


_READS = (
  Trait.MOVES
  | Trait.KEEPS_SIGN
  | Trait.STAYS_REAL
  | Trait.GHOSTS
  | Trait.READS_PART
  | Trait.LOOKS_UP
)
rule(
  'gather',
  _couple_gather,
  _status_gather,
  _small_gather,
  ranges=_ranges_of_gather,
  layout=_gather,
  indices=1,
  reorders=_reordered,
  places=_places,
  fills=_filling,
  traits=_READS,
)
rule(
  'dynamic_slice',
  _couple_dynamic_slice,
  small=_small_dynamic_slice,
  layout=_dynamic_slice,
  indices=1,
  places=lambda eqn: ({i: i for i in range(len(eqn.in_shapes[0]))}, []),
  ranges=either,
  traits=_READS | Trait.AT_STARTS,
)
