"""Primitives that move entries and change shapes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from jprune.graph._axes.atoms import size_of
from jprune.graph._axes.layout import (
  ONE,
  Apart,
  Axis,
  Expr,
  Layout,
  New,
  Take,
  Together,
  axes_of,
  frozen_all,
  joined,
  new_all,
  product,
  window,
)
from jprune.graph._axes.pruned import ANY, ZERO, Status
from jprune.graph._program.sharding import even, explicit, take_axis
from jprune.graph._program.traits import Trait
from jprune.graph._rules.base import either, passed_on, rule, same_params
from jprune.graph._rules.sites import Equation, SmallSite, StatusSite


def _broadcast(eqn: Equation) -> Layout:
  (shape,), (out,) = eqn.in_shapes, eqn.out_shapes
  axes: list[Expr] = list(new_all(out))
  for index, axis in enumerate(eqn.params['broadcast_dimensions']):
    if shape[index] == out[axis]:
      axes[axis] = Axis(0, index)
  return Layout((tuple(axes),))


def _small_broadcast(site: SmallSite, xs: list[Any]) -> list[Any]:
  shape = site.small_shape(site.outs()[0])
  sharding = explicit(site.eqn.outvars[0].aval, shape)
  axes = site.params['broadcast_dimensions']
  return [lax.broadcast_in_dim(xs[0], shape, axes, out_sharding=sharding)]


def _reshape(eqn: Equation) -> Layout:
  """Block by block: the shortest runs of axes with the same number of entries."""
  (old,), (new,) = eqn.in_shapes, eqn.out_shapes
  order = eqn.params.get('dimensions') or range(len(old))
  if 0 in new:
    why = 'reshaped without entries'
    return Layout((new_all(new, why),), frozen=frozen_all([old], why, [0]))
  axes, sizes = [Axis(0, i) for i in order], [old[i] for i in order]
  out: list[Expr] = []
  i = j = 0
  while j < len(new):
    if new[j] == 1:
      out.append(ONE)
      j += 1
      continue
    a, b, left, right = i + 1, j + 1, sizes[i], new[j]
    while left != right:
      if _smaller(left, right):
        left *= sizes[a]
        a += 1
      else:
        right *= new[b]
        b += 1
    whole = product(axes[i:a])
    apart = [whole] if b == j + 1 else [Apart(whole, new[j:b], place) for place in range(b - j)]
    out += apart
    i, j = a, b
  return Layout((tuple(out),))


def _smaller(a: Any, b: Any) -> bool:
  """``a < b``; of sizes that are symbolic and can't be compared, whether one divides the other."""
  try:
    return bool(a < b)
  except Exception:  # jax.export's, which is no part of the public interface
    return bool(b % a == 0)


def _small_reshape(site: SmallSite, xs: list[Any]) -> list[Any]:
  order = site.params.get('dimensions')
  x = xs[0] if order is None else lax.transpose(xs[0], order)
  shape = site.small_shape(site.outs()[0])
  return [lax.reshape(x, shape, out_sharding=explicit(site.eqn.outvars[0].aval, shape))]


def _transpose(eqn: Equation) -> Layout:
  return Layout((tuple(Axis(0, i) for i in eqn.params['permutation']),))


def _squeeze(eqn: Equation) -> Layout:
  rank = len(eqn.in_shapes[0])
  gone = {axis % rank for axis in eqn.params['dimensions']}
  return Layout((tuple(axis for axis in axes_of(0, rank) if axis.index not in gone),))


def _concatenate(eqn: Equation) -> Layout:
  axis, shapes = eqn.params['dimension'], eqn.in_shapes
  out: list[Expr] = list(axes_of(0, len(shapes[0])))
  out[axis] = joined((Axis(k, axis), shape[axis]) for k, shape in enumerate(shapes))
  return Layout((tuple(out),), same=_beside(shapes, axis))


def _beside(shapes: Sequence[Sequence[Any]], but: int | None = None) -> Any:
  """All axes but one are the same in all operands."""
  axes = [i for i in range(len(shapes[0])) if i != but]
  return tuple((Axis(0, i), Axis(k, i)) for k in range(1, len(shapes)) for i in axes)


def _small_concatenate(site: SmallSite, xs: list[Any]) -> list[Any]:
  shapes = [np.shape(x) for x in xs]
  return same_params(site, [even(x, *shapes) for x in xs])


def _stack(eqn: Equation) -> Layout:
  shapes = eqn.in_shapes
  out: list[Expr] = list(axes_of(0, len(shapes[0])))
  out.insert(eqn.params['axis'], New(len(shapes), 'stacked along it'))
  return Layout((tuple(out),), same=_beside(shapes))


def _unstack(eqn: Equation) -> Layout:
  axis = Axis(0, eqn.params['axis'])
  rest = tuple(each for each in axes_of(0, len(eqn.in_shapes[0])) if each != axis)
  count = len(eqn.out_shapes)
  return Layout(
    (rest,) * count,
    frozen={axis: 'taken apart along it'},
    at=tuple({axis: index} for index in range(count)),
  )


def _pad(eqn: Equation) -> Layout:
  out: list[Expr] = []
  frozen = {}
  for axis, (low, high, inner), size in zip(
    axes_of(0, len(eqn.in_shapes[0])), eqn.params['padding_config'], eqn.out_shapes[0], strict=True
  ):
    if (low, high, inner) == (0, 0, 0):
      out.append(axis)
    elif inner == 0 and low >= 0 and high >= 0:
      # Padding may shrink with what it is added to, so it is free.
      inside = eqn.in_shapes[0][axis.index]
      out.append(joined([(New(low), low), (axis, inside), (New(high), high)]))
    else:
      frozen[axis] = 'padded inside, or by a negative number'
      out.append(New(size, frozen[axis]))
  return Layout((tuple(out),), frozen=frozen)


def _status_pad(site: StatusSite, ins: list[Status]) -> list[Status]:
  """Padding lies at pruned indices of all axes, so they are zero only if it is."""
  (moved,) = passed_on(site, ins[:1])
  padding = ins[1].default
  of = {
    atom: max(value if atom in ins[0].of or value == ANY else ZERO, padding)
    for atom, value in moved.of.items()
  }
  return [Status(max(ins[0].default, padding), of)]


def _small_pad(site: SmallSite, xs: list[Any]) -> list[Any]:
  dims, (out,) = site.ins()[0], site.outs()
  config = []
  for dim, result, (low, high, inner) in zip(dims, out, site.params['padding_config']):
    keep = site.keep(result)
    if keep is not None and inner == 0 and low >= 0 and high >= 0:
      size = size_of(dim)
      low, high = int(keep[:low].sum()), int(keep[low + size :].sum())
    config.append((low, high, inner))
  return [lax.pad(even(xs[0], site.small_shape(out)), xs[1], config)]


def _rev(eqn: Equation) -> Layout:
  out: list[Expr] = list(axes_of(0, len(eqn.in_shapes[0])))
  for axis in eqn.params['dimensions']:
    if (size := eqn.in_shapes[0][axis]) > 1:
      out[axis] = Take(Axis(0, axis), tuple(range(size))[::-1], 'reversed')
  return Layout((tuple(out),))


def _tile(eqn: Equation) -> Layout:
  out = []
  for axis, times in zip(axes_of(0, len(eqn.in_shapes[0])), eqn.params['reps'], strict=True):
    out.append(axis if times == 1 else Together((New(times), axis)))
  return Layout((tuple(out),))


def _small_tile(site: SmallSite, xs: list[Any]) -> list[Any]:
  (dims, *_), (out,) = site.ins(), site.outs()
  small = zip(site.small_shape(out), site.small_shape(dims))
  reps = [a // b if b else 1 for a, b in small]
  return [jnp.tile(xs[0], reps)]


_MOVES = Trait.MOVES | Trait.KEEPS_SIGN | Trait.STAYS_REAL | Trait.FOLDS
_FORMS = _MOVES | Trait.GHOSTS | Trait.RESHAPES | Trait.READS_PART
_SPREADS = _FORMS | Trait.SPREADS
_RESIZES = _MOVES | Trait.KEEPS_AXES


def _moves(name: str, layout: Any, traits: Trait, **sides: Any) -> None:
  rule(name, layout=layout, traits=traits, ranges=either, **sides)


_moves('broadcast_in_dim', _broadcast, _SPREADS, small=_small_broadcast)
_moves('reshape', _reshape, _SPREADS, small=_small_reshape)
_moves('squeeze', _squeeze, _SPREADS)
_moves('transpose', _transpose, _FORMS)
_moves('concatenate', _concatenate, _MOVES | Trait.JOINS | Trait.GHOSTS, small=_small_concatenate)
_moves('stack', _stack, _MOVES | Trait.JOINS)
_moves('unstack', _unstack, _MOVES)
_moves('pad', _pad, _RESIZES | Trait.GHOSTS, status=_status_pad, small=_small_pad)
_moves('rev', _rev, _RESIZES | Trait.GHOSTS)
_moves('tile', _tile, _RESIZES, small=_small_tile)


def _slice(eqn: Equation) -> Layout:
  p, (shape,) = eqn.params, eqn.in_shapes
  strides = p['strides'] or (1,) * len(shape)
  bounds = zip(p['start_indices'], p['limit_indices'], strides, strict=True)
  axes = zip(axes_of(0, len(shape)), shape, bounds, strict=True)
  return Layout((tuple(window(axis, size, *each) for axis, size, each in axes),))


def _small_slice(site: SmallSite, xs: list[Any]) -> list[Any]:
  p, (dims, *_), (x, *_) = site.params, site.ins(), xs
  strides = p['strides'] or (1,) * len(dims)
  out = []
  for axis, (dim, low, high, stride) in enumerate(
    zip(dims, p['start_indices'], p['limit_indices'], strides)
  ):
    keep = site.keep(dim)
    if keep is None:
      out.append((low, high, stride))
    elif stride == 1:
      out.append((int(keep[:low].sum()), int(keep[:high].sum()), 1))
    else:
      chosen = np.zeros(len(keep), bool)
      chosen[low:high:stride] = True
      x = take_axis(x, np.flatnonzero(chosen[keep]), axis)
      out.append((0, x.shape[axis], 1))
  x = even(x, site.small_shape(site.outs()[0]))
  return [lax.slice(x, *zip(*out))] if out else [x]


def _split(eqn: Equation) -> Layout:
  axis, (shape,) = eqn.params['axis'], eqn.in_shapes
  results, start = [], 0
  for size in eqn.params['sizes']:
    out: list[Expr] = list(axes_of(0, len(shape)))
    out[axis] = window(Axis(0, axis), shape[axis], start, start + size)
    results.append(tuple(out))
    start += size
  return Layout(tuple(results))


def _small_split(site: SmallSite, xs: list[Any]) -> list[Any]:
  axis, sizes = site.params['axis'], site.params['sizes']
  keep = site.keep(site.ins()[0][axis])
  if keep is not None:
    ends = list(itertools.accumulate(sizes))
    sizes = [int(keep[end - size : end].sum()) for size, end in zip(sizes, ends)]
  x = even(xs[0], *map(site.small_shape, site.outs()))
  return list(lax.split(x, sizes, axis))


_CUTS = _MOVES | Trait.GHOSTS | Trait.READS_PART
_moves('slice', _slice, _CUTS, small=_small_slice)
_moves('split', _split, _CUTS, small=_small_split)
