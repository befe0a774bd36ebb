"""Multiply-adds, counted from the sizes of axes."""

from __future__ import annotations

import collections
import math
from typing import Any

from jprune.graph._axes.sizes import Sizes
from jprune.graph._program.calls import call_of
from jprune.graph._program.frame import Frame


def macs_of(frame: Frame, index: int, sizes: Sizes) -> int:
  """Multiply-adds of one equation: of a matrix product or a convolution, else 0."""
  eqn = frame.jaxpr.eqns[index]
  name = eqn.primitive.name
  if name in ('dot_general', 'ragged_dot_general'):
    (contracted, _), _ = _dot_numbers(eqn.params)
    left, out = frame.dims_of(eqn.invars[0]), frame.dims[eqn.outvars[0]]
    summed = [left[axis] for axis in contracted]
    return math.prod(sizes.small_size(dim) for dim in (*out, *summed))
  if name == 'conv_general_dilated':
    _, (_, into, *window), (batch, features, *places) = eqn.params['dimension_numbers']
    kernel, out = frame.dims_of(eqn.invars[1]), frame.dims[eqn.outvars[0]]
    size = lambda dims: math.prod(sizes.small_size(dim) for dim in dims)
    each = [(size([out[i]]), size([kernel[j]])) for i, j in zip(places, window)]
    met = math.prod(_met(eqn.params, axis, *pair) for axis, pair in enumerate(each))
    return met * size((out[batch], out[features], kernel[into]))
  return 0


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


def _dot_numbers(params: Any) -> Any:
  if 'ragged_dot_dimension_numbers' in params:
    return params['ragged_dot_dimension_numbers'].dot_dimension_numbers
  return params['dimension_numbers']


def total_macs(frame: Frame, sizes: Sizes) -> int:
  """Multiply-adds of a frame and of all that it calls."""
  total = 0
  for index, eqn in enumerate(frame.jaxpr.eqns):
    total += macs_of(frame, index, sizes)
    if index in frame.children:
      total += _of_children(eqn, frame.children[index], sizes)
  return total


def _of_children(eqn: Any, children: dict[Any, Frame], sizes: Sizes) -> int:
  call = call_of(eqn)
  totals = [total_macs(children[role], sizes) for role in call.roles]
  return max(totals) if call.branches else sum(totals) * (1 if call.turns is None else call.turns)
