"""Quantised weights, ranked by what they stand for: each of them times its scale.

Scales are those of a tensor, of a channel, or of a block: along each axis of the weights there is
one, one for each index, or one for each run of so many. Runs are a power of two long where that
fits (the last one may be shorter then), else equal parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import jax.numpy as jnp
import numpy as np

from jprune._cli import _errors
from jprune._cli._scores import Chunk
from jprune._cli._source import ModelSource
from jprune.tree._errors import quantised as not_plain
from jprune.tree._names import Named
from jprune.tree._quantised import Quantised

_OUTPUTS_LAST = ('kernel', 'w')

Of = Callable[[int], Chunk | None]
"""``leaf -> the scales`` of its weights between two flat indices, float32; ``None`` without."""


def checked(source: ModelSource, chosen: Iterable[int], together: bool) -> Of:
  """The scales of leaves, after a refusal of what can't be ranked.

  Args:
    source: the file.
    chosen: the leaves that are to be pruned.
    together: whether weights of one leaf are compared with those of others.

  Raises:
    ValueError: if a leaf is what scales or shifts another; if weights are packed, don't say how
      they are scaled, have another zero than 0, or are compared with others and have no scale.
  """
  number = {plan.path: i for i, plan in enumerate(source.plans)} if source.quantised else {}
  parts = {part: path for path, each in source.quantised.items() for part in each[:2] if part}
  for i in chosen:
    plan = source.plans[i]
    found = source.quantised.get(plan.path)
    if plan.path in parts:
      raise _errors.part_of_quantised(plan.path, parts[plan.path])
    if found:
      _check(source, i, found, number)
    elif together and source.quantised and plan.dtype.startswith('float8'):
      raise _errors.without_scales(plan.path)

  def scales_of(i: int) -> Chunk | None:
    plan = source.plans[i]
    found = source.quantised.get(plan.path)
    if found is None:
      return None
    scales, _ = source.read(number[found.scales])
    return spread(plan.path, plan.shape, np.abs(scales.astype(np.float32)))

  return scales_of


def _check(source: ModelSource, i: int, found: Quantised, number: Mapping[str, int]) -> None:
  plan = source.plans[i]
  if not found.plain:
    raise not_plain('prune', plan.path, source.struct(i), found.scales)
  scales = source.struct(number[found.scales])
  floating = jnp.issubdtype(scales.dtype, jnp.floating)
  if not floating or _along(plan.path, plan.shape, scales.shape) is None:
    raise _errors.unknown_scales(plan.path, plan.shape, found.scales, scales)
  if found.zero_points and np.any(source.read(number[found.zero_points])[0]):
    raise _errors.other_zero(plan.path, found.zero_points)


def spread(path: str, shape: tuple[int, ...], scales: np.ndarray) -> Chunk:
  """The scales of a leaf's weights in flat order.

  Args:
    path: of the leaf; where its axes are of one length, its name says which one has the scales.
    shape: of the leaf.
    scales: of a shape that the check lets pass.
  """
  along = _along(path, shape, scales.shape) or ()
  scales = scales.reshape((1, *along))
  *rows, cols = shape = (1, *shape)  # so that there is always a row
  *steps, step = (_run(n, count) for n, count in zip(shape, scales.shape, strict=True))

  def chunk(begin: int, end: int) -> np.ndarray:
    first, last = begin // cols, -(-end // cols)
    begin, end = begin - first * cols, end - first * cols
    low, high = (begin, end) if last - first == 1 else (0, cols)
    places = np.unravel_index(np.arange(first, last), rows)
    picked = scales[tuple(each // run for each, run in zip(places, steps, strict=True))]
    factors = picked[:, np.arange(low, high) // step].reshape(-1)
    return factors[begin - low : end - low]

  return chunk


def _along(path: str, shape: tuple[int, ...], scales: tuple[int, ...]) -> tuple[int, ...] | None:
  """The shape of scales with an axis for each of the weights'; ``None`` if they don't fit."""
  missing = len(shape) - len(scales)
  if math.prod(scales) == 1:
    return (1,) * len(shape)
  if missing < 0:
    return None
  leading, trailing = shape[: len(scales)] == scales, shape[missing:] == scales
  if missing and leading == trailing:
    outputs_last = Named.of(path).name in _OUTPUTS_LAST
    leading, trailing = leading and not outputs_last, trailing and outputs_last
  if missing:
    ones = (1,) * missing
    return (*scales, *ones) if leading else (*ones, *scales) if trailing else None
  fits = all(_run(n, count) for n, count in zip(shape, scales))
  return scales if fits else None


def _run(length: int, count: int) -> int:
  """How many weights share one of so many scales along an axis; 0 if that can't be."""
  if count == 1 or not length:
    return max(length, 1)
  if not 0 < count <= length:
    return 0
  power = 2 ** (-(-length // count) - 1).bit_length()
  if -(-length // power) == count:
    return power
  return 0 if length % count else length // count
