"""How many weights go where: a leaf's sparsity as exact counts of its parts, and their order."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jprune import _checks, tree
from jprune.graph._stats import Use
from jprune.masks import NOfM, Unstructured
from jprune.reconstruct._leaves import Chosen


def sparsities_of(function: str, found: Chosen, sparsity: Any, pattern: Any) -> list[Any]:
  """A checked sparsity, or ``None``, for each leaf; all ``None`` with :class:`NOfM`.

  Raises:
    ValueError: if one is outside [0, 1], or given for a leaf that isn't selected, or besides an
      ``NOfM``.
    TypeError: if the pattern is another one, a number is none or traced, or there is none.
  """
  if isinstance(pattern, NOfM):
    if sparsity is not None:
      raise _checks.pattern_has_sparsity(function, pattern, sparsity)
    return [None] * len(found.paths)
  if not isinstance(pattern, Unstructured):
    raise _checks.not_repairable_pattern(function, pattern)
  if sparsity is None:
    raise _checks.no_sparsity(function)
  params = found.treedef.unflatten(found.leaves)
  values = tree.by_leaf(function, 'sparsity', params, sparsity)
  lone = isinstance(sparsity, (int, float)) or tree.is_array(sparsity)
  out = []
  for path, yes, value in zip(found.paths, found.selected, values):
    if value is None or (lone and not yes):
      out.append(None)
      continue
    value = _checks.static_fraction(function, 'sparsity', value, path)
    if not yes:
      raise _checks.not_scored(function, 'sparsity', path)
    out.append(value)
  return out


def spread(count: int, sizes: Sequence[int]) -> list[int]:
  """A count over parts in proportion to their sizes, never more than a part's size; exact.

  Examples:
    >>> spread(5, [4, 4, 2]), spread(1, [1, 1])
    ([2, 2, 1], [0, 1])
  """
  whole = sum(sizes)
  ends = [count * end // max(whole, 1) for end in np.cumsum([0, *map(int, sizes)], dtype=object)]
  return [b - a for a, b in itertools.pairwise(ends)]


def split_over_uses(count: int, uses: Sequence[Use], parts: Sequence[Sequence[int]]) -> list[Any]:
  """A leaf's count as int32 arrays ``(batch, parts)``, one for each use.

  Args:
    count: how many weights of the leaf go.
    uses: of the leaf.
    parts: for each use the inputs of each part of its matrices.
  """
  sizes = [
    n * use.sizes[2] for use, each in zip(uses, parts) for _ in range(use.sizes[0]) for n in each
  ]
  counts = np.array(spread(count, sizes), np.int32)
  ends = np.cumsum([use.sizes[0] * len(each) for use, each in zip(uses, parts)])
  return [piece.reshape(use.sizes[0], -1) for piece, use in zip(np.split(counts, ends[:-1]), uses)]


def split_over_outputs(
  count: int, uses: Sequence[Use], parts: Sequence[Sequence[int]]
) -> list[np.ndarray]:
  """The same with each output giving as many as any, or one more: ``(batch, parts, outputs)``."""
  sizes = [use.sizes[1] for use in uses for _ in range(use.sizes[0] * use.sizes[2])]
  counts = np.array(spread(count, sizes), np.int64)
  ends = np.cumsum([use.sizes[0] * use.sizes[2] for use in uses])
  out = []
  for of_use, use, each in zip(np.split(counts, ends[:-1]), uses, parts):
    batch, inputs, outputs = use.sizes
    until = np.cumsum([0, *each])[None, :, None]
    shares = of_use.reshape(batch, 1, outputs) * until // max(inputs, 1)
    out.append(np.diff(shares, axis=1).astype(np.int32))
  return out


def orders(use: Use) -> tuple[np.ndarray, np.ndarray]:
  """Int32 numbers of inputs and of outputs whose sum grows with the flat index in the leaf."""
  strides, stride = [0] * len(use.shape), 1
  for place in reversed(range(len(use.shape))):
    if place not in use.batch:  # the same for all entries of one matrix
      strides[place] = stride
      stride *= use.shape[place]
  inputs, outputs = (_numbers(use, strides, places) for places in (use.inputs, use.outputs))
  return inputs.astype(np.int32), outputs.astype(np.int32)


def flat_places(use: Use, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Numbers of batch, inputs and outputs whose sum is the flat index in a leaf of that shape."""
  steps = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
  strides, first = [], sum(low * step for (low, _), step in zip(use.box, steps))
  for place, axis in enumerate(use.axes):
    later = [n for n, other in zip(use.shape[place + 1 :], use.axes[place + 1 :]) if other == axis]
    strides.append(steps[axis] * math.prod(later))
  batch, *rest = (_numbers(use, strides, p) for p in (use.batch, use.inputs, use.outputs))
  return batch + first, *rest


def _numbers(use: Use, strides: Sequence[int], places: Sequence[int]) -> np.ndarray:
  """The factors at these places as one, its entries numbered by the strides."""
  out = np.zeros((1,), np.int64)
  for place in places:
    steps = np.arange(use.shape[place], dtype=np.int64) * strides[place]
    out = (out[:, None] + steps[None, :]).reshape(-1)
  return out


def grouped_along(
  function: str, path: str, leaf: Any, use: Use, pattern: NOfM
) -> tuple[Use, np.ndarray]:
  """The use with its inputs in an order in which the pattern's groups are successive.

  Returns:
    The use, and the old place of each of its inputs.

  Raises:
    ValueError: if the axis is none that is summed over, or groups don't divide it.
  """
  given = pattern.axis
  if given is None:
    axis = given = max((use.axes[place] for place in use.inputs), default=0)
  else:
    _checks.check_axis(function, pattern.axis, path, leaf.shape)
    axis = pattern.axis % len(leaf.shape)
  mine = [place for place, each in enumerate(use.axes) if each == axis]
  fastest: list[int] = []
  while mine and mine[-1] in use.inputs:
    fastest.insert(0, mine.pop())
  if not fastest:
    raise _checks.no_input_axis(function, given, path, tuple(leaf.shape), use.line)
  run = math.prod(use.shape[place] for place in fastest)
  if run % pattern.m or use.box[axis][0] % pattern.m:
    shape = tuple(leaf.shape)
    raise _checks.groups_cut(function, given, path, shape, pattern, use.line)
  inputs = (*(place for place in use.inputs if place not in fastest), *fastest)
  before = np.arange(use.sizes[1]).reshape([use.shape[place] for place in use.inputs])
  moved = before.transpose([use.inputs.index(place) for place in inputs]).reshape(-1)
  return dataclasses.replace(use, inputs=inputs), moved
