"""Primitives that take windows of constant size and place."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from jax import lax

from jprune.graph._program.sharding import take_axis
from jprune.graph._program.traits import Trait
from jprune.graph._rules.base import Equation, Site, rule
from jprune.graph._rules.layout import Axis, Expr, Layout, axes_of, window
from jprune.graph._rules.ranges import joined


def _slice(eqn: Equation) -> Layout:
  p, (shape,) = eqn.params, eqn.in_shapes
  strides = p['strides'] or (1,) * len(shape)
  bounds = zip(p['start_indices'], p['limit_indices'], strides, strict=True)
  axes = zip(axes_of(0, len(shape)), shape, bounds, strict=True)
  return Layout((tuple(window(axis, size, *each) for axis, size, each in axes),))


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


def _split(eqn: Equation) -> Layout:
  axis, (shape,) = eqn.params['axis'], eqn.in_shapes
  results, start = [], 0
  for size in eqn.params['sizes']:
    out: list[Expr] = list(axes_of(0, len(shape)))
    out[axis] = window(Axis(0, axis), shape[axis], start, start + size)
    results.append(tuple(out))
    start += size
  return Layout(tuple(results))


def _small_split(site: Site, xs: list[Any]) -> list[Any]:
  axis, sizes = site.params['axis'], site.params['sizes']
  keep = site.keep(site.ins()[0][axis])
  if keep is not None:
    ends = list(itertools.accumulate(sizes))
    sizes = [int(keep[end - size : end].sum()) for size, end in zip(sizes, ends)]
  return list(lax.split(xs[0], sizes, axis))


_CUTS = (
  Trait.MOVES | Trait.KEEPS_SIGN | Trait.STAYS_REAL | Trait.FOLDS | Trait.GHOSTS | Trait.READS_PART
)
rule('slice', layout=_slice, small=_small_slice, ranges=joined, traits=_CUTS)
rule('split', layout=_split, small=_small_split, ranges=joined, traits=_CUTS)
