"""How many weights go where: a leaf's sparsity as exact counts of its parts, and their order."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jprune import _checks, _hosts, tree
from jprune.graph._statistics.stats import Use
from jprune.masks import NOfM, Unstructured
from jprune.reconstruct import _errors
from jprune.reconstruct._devices import untyped
from jprune.reconstruct._leaves import Chosen
from jprune.tree._along import by_leaf_for

Gone = Callable[[Sequence[int]], np.ndarray]
"""From the sizes of parts of the inputs to what has gone of them, ``(batch, parts, outputs)``."""


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
    raise _errors.not_repairable_pattern(function, pattern)
  if sparsity is None:
    raise _checks.no_sparsity(function)
  params = found.treedef.unflatten(found.leaves)
  values = by_leaf_for(function, 'sparsity', params, sparsity)
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


def spread(count: int, sizes: Iterable[int]) -> list[int]:
  """A count over parts in proportion to their sizes, never more than a part's size; exact.

  Examples:
    >>> spread(5, [4, 4, 2]), spread(1, [1, 1])
    ([2, 2, 1], [0, 1])
  """
  ends = list(itertools.accumulate(map(int, sizes), initial=0))
  ends = [count * end // max(ends[-1], 1) for end in ends]
  return [b - a for a, b in itertools.pairwise(ends)]


def levels(count: int, sizes: Any, least: Any) -> tuple[np.ndarray, np.ndarray]:
  """Whole shares in proportion to the sizes, of those whose ``least`` is more than that.

  Returns:
    int64 shares, of at most ``count`` in all unless the least are more; and who may take one of
    what is left of it.

  Examples:
    >>> levels(6, [4, 4, 4], [0, 3, 0])
    (array([1, 3, 1]), array([ True, False,  True]))
  """
  sizes, least = np.asarray(sizes, np.int64), np.asarray(least, np.int64)
  free = np.ones(sizes.shape, bool)
  while True:
    left = max(count - int(least[~free].sum()), 0)
    shares = left * sizes // max(int(sizes[free].sum()), 1)
    below = free & (shares < least)
    if not below.any():
      return np.where(free, shares, least), free
    free &= ~below


def split_over_uses(
  count: int,
  uses: Sequence[Use],
  parts: Sequence[Sequence[int]],
  gone: Sequence[Gone] | None = None,
) -> list[Any]:
  """A leaf's count as int32 arrays ``(batch, parts)``, one for each use.

  Args:
    count: how many weights of the leaf go.
    uses: of the leaf.
    parts: for each use the inputs of each part of its matrices.
    gone: for each use, of parts as these, how many have gone already of each output,
      ``(batch, parts, outputs)``; they count.
  """
  if gone is not None:
    return _beside(count, uses, parts, gone)
  sizes = [
    n * use.sizes[2] for use, each in zip(uses, parts) for _ in range(use.sizes[0]) for n in each
  ]
  counts = np.array(spread(count, sizes), np.int32)
  ends = np.cumsum([use.sizes[0] * len(each) for use, each in zip(uses, parts)])
  return [piece.reshape(use.sizes[0], -1) for piece, use in zip(np.split(counts, ends[:-1]), uses)]


def _beside(
  count: int, uses: Sequence[Use], parts: Sequence[Sequence[int]], gone: Sequence[Gone]
) -> list[np.ndarray]:
  """:func:`split_over_uses` where some have gone: parts give in proportion to what they have."""
  there = [each(of_use) for each, of_use in zip(gone, parts)]
  before = [each.sum(axis=2) for each in there]
  alive = [
    np.asarray(of_use)[None, :] * use.sizes[2] - each
    for use, of_use, each in zip(uses, parts, before)
  ]
  lost = sum(int(each.sum()) for each in before)
  more = np.array(spread(max(count - lost, 0), np.concatenate([x.ravel() for x in alive])))
  ends = np.cumsum([each.size for each in before])
  return [
    (each + piece.reshape(each.shape)).astype(np.int32)
    for each, piece in zip(before, np.split(more, ends[:-1]))
  ]


def gone_of(mask: jax.Array, use: Use) -> Gone:
  """What a mask has pruned of a use, counted where the mask lies."""

  def of(parts: Sequence[int]) -> np.ndarray:
    with untyped(mask) as (held,):
      return _hosts.whole(_gone(held, use, tuple(parts))).astype(np.int64)

  return of


@functools.partial(jax.jit, static_argnames=['use', 'parts'])
def _gone(mask: jax.Array, use: Use, parts: tuple[int, ...]) -> jax.Array:
  gone = ~use.matrices(mask)
  ends = [*itertools.accumulate(parts)]
  each = [gone[:, end - n : end] for end, n in zip(ends, parts)]
  return jnp.stack([jnp.sum(x, axis=1, dtype=jnp.int32) for x in each], axis=1)


def split_over_outputs(
  count: int,
  uses: Sequence[Use],
  parts: Sequence[Sequence[int]],
  gone: Sequence[Gone] | None = None,
) -> list[np.ndarray]:
  """The same with each output giving as many as any, or one more: ``(batch, parts, outputs)``."""
  counts = _over_outputs(count, uses, gone)
  out = []
  for i, (of_use, use, each) in enumerate(zip(counts, uses, parts)):
    batch, _, outputs = use.sizes
    before = np.zeros((batch, len(each), outputs), np.int64)
    if gone is not None:
      before = gone[i](each)
    alive = np.asarray(each)[None, :, None] - before
    until = np.pad(np.cumsum(alive, axis=1), ((0, 0), (1, 0), (0, 0)))
    more = (of_use - before.sum(axis=1))[:, None, :]
    shares = more * until // np.maximum(until[:, -1:], 1)
    out.append((before + np.diff(shares, axis=1)).astype(np.int32))
  return out


def _over_outputs(count: int, uses: Sequence[Use], gone: Sequence[Gone] | None) -> list[np.ndarray]:
  """A leaf's count over outputs, ``(batch, outputs)``; what has gone, if that is more."""
  sizes = [use.sizes[1] for use in uses for _ in range(use.sizes[0] * use.sizes[2])]
  if gone is None:
    return _by_output(spread(count, sizes), uses)
  counts, free = levels(count, sizes, _lost_of_outputs(uses, gone))
  more = spread(max(count - int(counts.sum()), 0), free)
  return _by_output(counts + more, uses)


def levels_of_outputs(
  count: int, uses: Sequence[Use], gone: Sequence[Gone]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
  """:func:`levels` of the outputs of a leaf, both ``(batch, outputs)`` for each use."""
  sizes = [use.sizes[1] for use in uses for _ in range(use.sizes[0] * use.sizes[2])]
  counts, free = levels(count, sizes, _lost_of_outputs(uses, gone))
  return _by_output(counts, uses), _by_output(free, uses)


def _lost_of_outputs(uses: Sequence[Use], gone: Sequence[Gone]) -> np.ndarray:
  return np.concatenate([each([use.sizes[1]]).ravel() for use, each in zip(uses, gone)])


def _by_output(values: Any, uses: Sequence[Use]) -> list[np.ndarray]:
  ends = np.cumsum([use.sizes[0] * use.sizes[2] for use in uses])
  pieces = np.split(np.asarray(values), ends[:-1])
  return [piece.reshape(use.sizes[0], use.sizes[2]) for piece, use in zip(pieces, uses)]


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
  numbers = lambda places: _numbers(use, strides, places)
  return numbers(use.batch) + first, numbers(use.inputs), numbers(use.outputs)


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
    axis = max((use.axes[place] for place in use.inputs), default=0)
    given = axis - len(leaf.shape)
  else:
    _checks.check_axis(function, given, path, leaf.shape)
    axis = given % len(leaf.shape)
  mine = [place for place, each in enumerate(use.axes) if each == axis]
  fastest: list[int] = []
  while mine and mine[-1] in use.inputs:
    fastest.insert(0, mine.pop())
  if not fastest:
    raise _errors.no_input_axis(function, given, path, tuple(leaf.shape), use.line)
  run = math.prod(use.shape[place] for place in fastest)
  if run % pattern.m or use.box[axis][0] % pattern.m:
    shape = tuple(leaf.shape)
    raise _errors.groups_cut(function, given, path, shape, pattern, use.line)
  inputs = (*(place for place in use.inputs if place not in fastest), *fastest)
  before = np.arange(use.sizes[1]).reshape([use.shape[place] for place in use.inputs])
  moved = before.transpose([use.inputs.index(place) for place in inputs]).reshape(-1)
  return dataclasses.replace(use, inputs=inputs), moved
