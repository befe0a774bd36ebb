"""Primitives that move entries and change shapes."""

from __future__ import annotations

import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from jprune.graph._axes.atoms import (
  Dim,
  Dims,
  fresh,
  fresh_all,
  is_frozen,
  resolve,
  segments,
  singles,
  size_of,
  sum_of,
)
from jprune.graph._program.sharding import explicit, take_axis
from jprune.graph._rules.base import ANY, ZERO, Site, Status, passed_on, rule


def _broadcast(site: Site, ins: list[Dims]) -> list[Dims]:
  out = list(fresh_all(site.out_shapes[0]))
  for dim, axis in zip(ins[0], site.params['broadcast_dimensions']):
    if size_of(dim) == site.out_shapes[0][axis]:
      out[axis] = dim
  return [tuple(out)]


def _small_broadcast(site: Site, xs: list[Any]) -> list[Any]:
  shape = site.small_shape(site.outs()[0])
  sharding = explicit(site.eqn.outvars[0].aval, shape)
  axes = site.params['broadcast_dimensions']
  return [lax.broadcast_in_dim(xs[0], shape, axes, out_sharding=sharding)]


def _reshape(site: Site, ins: list[Dims]) -> list[Dims]:
  """Block by block: the shortest runs of dimensions with the same number of entries."""
  order, shape = site.params.get('dimensions'), site.out_shapes[0]
  dims = ins[0] if order is None else tuple(ins[0][i] for i in order)
  if 0 in shape:
    site.freeze_all(ins[:1], 'reshaped without entries')
    return [fresh_all(shape, site.cause('reshaped without entries'))]
  out: list[Dim] = []
  i = j = 0
  while j < len(shape):
    if shape[j] == 1:
      out.append(())
      j += 1
      continue
    a, b, left, right = i + 1, j + 1, size_of(dims[i]), shape[j]
    while left != right:
      if _smaller(left, right):
        left *= size_of(dims[a])
        a += 1
      else:
        right *= shape[b]
        b += 1
    whole = tuple(itertools.chain(*dims[i:a]))
    if b == j + 1:
      out.append(whole)
    else:
      made = fresh_all(shape[j:b])
      site.unify(whole, tuple(itertools.chain(*made)))
      out += made
    i, j = a, b
  return [tuple(out)]


def _smaller(a: Any, b: Any) -> bool:
  """``a < b``; of sizes that are symbolic and can't be compared, whether one divides the other."""
  try:
    return bool(a < b)
  except Exception:  # jax.export's, which is no part of the public interface
    return bool(b % a == 0)


def _small_reshape(site: Site, xs: list[Any]) -> list[Any]:
  order = site.params.get('dimensions')
  x = xs[0] if order is None else lax.transpose(xs[0], order)
  shape = site.small_shape(site.outs()[0])
  return [lax.reshape(x, shape, out_sharding=explicit(site.eqn.outvars[0].aval, shape))]


def _transpose(site: Site, ins: list[Dims]) -> list[Dims]:
  return [tuple(ins[0][i] for i in site.params['permutation'])]


def _squeeze(site: Site, ins: list[Dims]) -> list[Dims]:
  gone = {axis % len(ins[0]) for axis in site.params['dimensions']}
  return [tuple(dim for i, dim in enumerate(ins[0]) if i not in gone)]


def _expand_dims(site: Site, ins: list[Dims]) -> list[Dims]:
  rest = iter(ins[0])
  new = {axis % len(site.out_shapes[0]) for axis in site.params['dimensions']}
  return [tuple(() if i in new else next(rest) for i in range(len(site.out_shapes[0])))]


def _concatenate(site: Site, ins: list[Dims]) -> list[Dims]:
  axis = site.params['dimension']
  for dims in ins[1:]:
    for i, (a, b) in enumerate(zip(ins[0], dims)):
      if i != axis:
        site.unify(a, b)
  parts = [dims[axis] for dims in ins if size_of(dims[axis]) > 0]
  out = list(ins[0])
  out[axis] = sum_of(parts) if parts else fresh(0)
  return [tuple(out)]


def _stack(site: Site, ins: list[Dims]) -> list[Dims]:
  for dims in ins[1:]:
    for a, b in zip(ins[0], dims):
      site.unify(a, b)
  out = list(ins[0])
  out.insert(site.params['axis'], fresh(len(ins), site.cause('stacked along it')))
  return [tuple(out)]


def _unstack(site: Site, ins: list[Dims]) -> list[Dims]:
  axis = site.params['axis']
  site.freeze(ins[0][axis], 'taken apart along it')
  rest = tuple(dim for i, dim in enumerate(ins[0]) if i != axis)
  return [rest for _ in site.out_shapes]


def _pad(site: Site, ins: list[Dims]) -> list[Dims]:
  out = []
  for dim, (low, high, inner), size in zip(
    ins[0], site.params['padding_config'], site.out_shapes[0]
  ):
    if (low, high, inner) == (0, 0, 0):
      out.append(dim)
    elif inner == 0 and low >= 0 and high >= 0:
      # Padding may shrink with what it is added to, so it is free.
      parts = [fresh(low)] * bool(low) + [dim] + [fresh(high)] * bool(high)
      out.append(sum_of(parts))
    else:
      site.freeze(dim, 'padded inside, or by a negative number')
      out.append(fresh(size, site.cause('padded inside, or by a negative number')))
  return [tuple(out)]


def _status_pad(site: Site, ins: list[Status]) -> list[Status]:
  """Padding lies at pruned indices of all axes, so they are zero only if it is."""
  (moved,) = passed_on(site, ins[:1])
  padding = ins[1].default
  of = {
    atom: max(value if atom in ins[0].of or value == ANY else ZERO, padding)
    for atom, value in moved.of.items()
  }
  return [Status(max(ins[0].default, padding), of)]


def _small_pad(site: Site, xs: list[Any]) -> list[Any]:
  dims, (out,) = site.ins()[0], site.outs()
  config = []
  for dim, result, (low, high, inner) in zip(dims, out, site.params['padding_config']):
    keep = site.keep(result)
    if keep is not None and inner == 0 and low >= 0 and high >= 0:
      size = size_of(dim)
      low, high = int(keep[:low].sum()), int(keep[low + size :].sum())
    config.append((low, high, inner))
  return [lax.pad(xs[0], xs[1], config)]


# --------------------------------------------------------------------------------------- segments


def _slice(site: Site, ins: list[Dims]) -> list[Dims]:
  p = site.params
  strides = p['strides'] or (1,) * len(ins[0])
  bounds = zip(p['start_indices'], p['limit_indices'], strides)
  return [tuple(sliced(site, dim, *each) for dim, each in zip(ins[0], bounds))]


def sliced(site: Site, dim: Dim, low: int, high: int, stride: int) -> Dim:
  size = size_of(dim)
  out = -(-(high - low) // stride)
  if out == size:
    return dim
  if is_frozen(dim) or out == 0:
    return fresh(out, site.cause('a slice of an axis that stays'))
  if not all(isinstance(n, (int, np.integer)) for n in (size, low, high)):
    # A length that an export leaves open may be all of the axis, or less.
    site.freeze(dim, 'a slice of open length')
    return fresh(out, site.cause('a slice of open length'))
  if stride == 1:
    found = segments(dim, [cut for cut in (low, high) if 0 < cut < size], site.cause('slice'))
    if found is not None:
      return found[1 if low > 0 else 0]
    site.freeze(dim, 'sliced across its factors')
    return fresh(out, site.cause('sliced across its factors'))
  elif size % stride == 0 and low < stride and out == size // stride:
    # Every stride-th index: the major factor, at one index of the minor one.
    major, minor = fresh(size // stride), fresh(stride)
    site.unify(dim, (*major, *minor))
    site.freeze(minor, 'one index in every few is used by itself')
    return resolve(major)
  return picked(site, dim, np.arange(low, high, stride), 'sliced across its factors')


def picked(site: Site, dim: Dim, indices: np.ndarray, otherwise: str) -> Dim:
  """The dimension at constant indices: single indices laid one after the other."""
  if len(indices) and (np.diff(indices) == 1).all():
    return sliced(site, dim, int(indices[0]), int(indices[-1]) + 1, 1)
  found = None if is_frozen(dim) else singles(dim)
  if found is None or len(indices) == 0:
    site.freeze(dim, otherwise)
    return fresh(len(indices), site.cause(otherwise))
  return sum_of([(found[i],) for i in indices])


def _small_slice(site: Site, xs: list[Any]) -> list[Any]:
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
  return [lax.slice(x, *zip(*out))] if out else [x]


def _split(site: Site, ins: list[Dims]) -> list[Dims]:
  axis, sizes = site.params['axis'], site.params['sizes']
  cuts = list(itertools.accumulate(sizes))
  starts = [0, *cuts[:-1]]
  return [
    tuple(sliced(site, d, a, b, 1) if i == axis else d for i, d in enumerate(ins[0]))
    for a, b in zip(starts, cuts)
  ]


def _small_split(site: Site, xs: list[Any]) -> list[Any]:
  axis, sizes = site.params['axis'], site.params['sizes']
  keep = site.keep(site.ins()[0][axis])
  if keep is not None:
    ends = list(itertools.accumulate(sizes))
    sizes = [int(keep[end - size : end].sum()) for size, end in zip(sizes, ends)]
  return list(lax.split(xs[0], sizes, axis))


def _rev(site: Site, ins: list[Dims]) -> list[Dims]:
  out = list(ins[0])
  for axis in site.params['dimensions']:
    indices = np.arange(size_of(out[axis]))[::-1]
    if len(indices) > 1:
      out[axis] = picked(site, out[axis], indices, 'reversed')
  return [tuple(out)]


def _tile(site: Site, ins: list[Dims]) -> list[Dims]:
  out = []
  for dim, times in zip(ins[0], site.params['reps']):
    if times == 1 or not dim:
      out.append(dim if times == 1 else fresh(times))
    else:
      out.append((*fresh(times), *dim))
  return [tuple(out)]


def _small_tile(site: Site, xs: list[Any]) -> list[Any]:
  (dims, *_), (out,) = site.ins(), site.outs()
  small = zip(site.small_shape(out), site.small_shape(dims))
  reps = [a // b if b else 1 for a, b in small]
  return [jnp.tile(xs[0], reps)]


rule('broadcast_in_dim', _broadcast, small=_small_broadcast)
rule('reshape', _reshape, small=_small_reshape)
rule('transpose', _transpose)
rule('squeeze', _squeeze)
rule('expand_dims', _expand_dims)
rule('concatenate', _concatenate)
rule('stack', _stack)
rule('unstack', _unstack)
rule('pad', _pad, _status_pad, _small_pad)
rule('slice', _slice, small=_small_slice)
rule('split', _split, small=_small_split)
rule('rev', _rev)
rule('tile', _tile, small=_small_tile)
