"""What a layout says to the axis algebra: which dimensions are one, which are frozen."""

from __future__ import annotations

import itertools
from typing import Any, Protocol

import numpy as np

from jprune.graph._axes.atoms import (
  Cause,
  Dim,
  Dims,
  fresh,
  fresh_all,
  is_frozen,
  is_int,
  resolve,
  size_of,
)
from jprune.graph._axes.layout import (
  Apart,
  Axis,
  Concat,
  Cut,
  Expr,
  Layout,
  New,
  Take,
  Together,
)
from jprune.graph._axes.unify import segments, singles, sum_of


class Coupled(Protocol):
  """Whose layout it is: an equation, which is named as the cause."""

  def cause(self, text: str) -> Cause: ...

  def unify(self, a: Dim, b: Dim) -> None: ...

  def freeze(self, dim: Dim, text: str) -> None: ...


def coupled(site: Coupled, layout: Layout, ins: list[Dims]) -> list[Dims]:
  """The dimensions of an equation's results, from those of its operands."""
  apart: dict[Any, Dims] = {}

  def dim_of(expr: Expr) -> Dim:
    match expr:
      case Axis(operand, index):
        return ins[operand][index]
      case Together(factors):
        return tuple(itertools.chain(*map(dim_of, factors)))
      case Apart(of, sizes, place):
        if (of, sizes) not in apart:
          apart[of, sizes] = fresh_all(sizes)
          site.unify(dim_of(of), tuple(itertools.chain(*apart[of, sizes])))
        return apart[of, sizes][place]
      case Cut(of, start, stop, stride):
        return sliced(site, dim_of(of), start, stop, stride)
      case Take(of, indices, otherwise):
        return picked(site, dim_of(of), np.array(indices), otherwise)
      case Concat(parts):
        return sum_of([dim_of(part) for part in parts])
      case New(size, why):
        return fresh(size, site.cause(why) if why else None)
    raise TypeError(expr)

  for axis, why in layout.frozen.items():
    site.freeze(dim_of(axis), why)
  for one, other in layout.same:
    site.unify(dim_of(one), dim_of(other))
  for axis, index in itertools.chain(*(at.items() for at in layout.at)):
    sliced(site, dim_of(axis), index, index + 1, 1)  # that index is needed
  return [tuple(map(dim_of, exprs)) for exprs in layout.results]


def sliced(site: Coupled, dim: Dim, low: int, high: int, stride: int) -> Dim:
  size = size_of(dim)
  out = -(-(high - low) // stride)
  if out == size:
    return dim
  if is_frozen(dim) or out == 0:
    return fresh(out, site.cause('a slice of an axis that stays'))
  if not all(map(is_int, (size, low, high))):
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


def picked(site: Coupled, dim: Dim, indices: np.ndarray, otherwise: str) -> Dim:
  """The dimension at constant indices: single indices laid one after the other."""
  if len(indices) and bool((np.diff(indices) == 1).all()):
    return sliced(site, dim, int(indices[0]), int(indices[-1]) + 1, 1)
  found = None if is_frozen(dim) else singles(dim)
  if found is None or len(indices) == 0:
    site.freeze(dim, otherwise)
    return fresh(len(indices), site.cause(otherwise))
  return sum_of([(found[int(i)],) for i in indices])
