"""Which param a leaf of another tree belongs to."""

from __future__ import annotations

import collections
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jprune import tree
from jprune._shrink import _errors

Shape = tuple[int, ...]
Heads = tuple[tuple[str, ...], tuple[str, ...]]


class PathPlace(NamedTuple):
  """A leaf's param, for each axis the param's axis, and how many keys precede the param's own."""

  path: str
  axes: tuple[tuple[int, int], ...]
  before: int = 0


def places(
  function: str,
  paths: Sequence[str],
  leaves: Sequence[Any],
  shapes: Mapping[str, Shape],
  kept: Mapping[str, Mapping[int, Sequence[int]]],
) -> list[PathPlace | None]:
  """For each leaf its place, or ``None`` if it stays as it is.

  Raises:
    ValueError: if several params that lose different indices fit, or a param fits but for its
      shape.
  """
  if list(shapes) == ['']:  # the params are one array: all of its shape belong to it
    shape = shapes['']
    whole = PathPlace('', _whole(shape), -1) if kept.get('') else None
    out = [whole if np.shape(leaf) == shape else None for leaf in leaves]
    _check_not_flat(function, paths, leaves, out, shapes, kept)
    return out
  by_end: dict[str, list[str]] = {}
  for path in shapes:
    by_end.setdefault(path.rsplit('/', 1)[-1], []).append(path)
  keys = {path: path.split('/') for path in shapes}
  near = [_nearest(path.split('/'), by_end, keys) for path in paths]
  arrays = [path for path, leaf in zip(paths, leaves) if np.ndim(leaf)]
  if kept and arrays and not any(near):
    raise _errors.no_places(function, arrays)
  for path, leaf, found in zip(paths, leaves, near):
    if not found and np.ndim(leaf):
      _check_not_within(function, path, np.shape(leaf), keys, shapes, kept)
  _check_not_flat(function, paths, leaves, near, shapes, kept)
  votes = collections.Counter(heads for found in near for heads in found.values())
  out = [
    _place(function, path, np.shape(leaf), _elected(found, votes), shapes, kept)
    for path, leaf, found in zip(paths, leaves, near)
  ]
  heads = [{} if place is None else found for place, found in zip(out, near)]
  return [
    place and place._replace(before=len(found[place.path][0])) for place, found in zip(out, heads)
  ]


def _check_not_flat(
  function: str,
  paths: Sequence[str],
  leaves: Sequence[Any],
  found: Sequence[Any],
  shapes: Mapping[str, Shape],
  kept: Mapping[str, Any],
) -> None:
  """Refuses a vector that is as long as all params together, or as all of one collection."""
  parts: dict[str, list[str]] = {'': list(shapes)}
  for path in shapes:
    parts.setdefault(path.partition('/')[0], []).append(path)
  several = [each for each in parts.values() if any(path in kept for path in each)]
  sizes = {sum(math.prod(shapes[path]) for path in each) for each in several if len(each) > 1}
  if list(shapes) == ['']:
    sizes = {math.prod(shapes[''])}
  for path, leaf, known in zip(paths, leaves, found):
    shape = np.shape(leaf)
    if not known and len(shape) == 1 and shape[0] in sizes and tree.is_floating(leaf):
      raise _errors.flattened(function, path, shape[0])


def _check_not_within(
  function: str,
  path: str,
  shape: Shape,
  keys: Mapping[str, Sequence[str]],
  shapes: Mapping[str, Shape],
  kept: Mapping[str, Any],
) -> None:
  """Refuses what stands under the path of a param that shrinks, in a form of its own."""
  above = path.split('/')[:-1]
  for param in kept:
    if above and _common_end(above, keys[param]) == len(keys[param]):
      raise _errors.no_place(function, path, shape, param, shapes[param])


def _nearest(
  mine: Sequence[str], by_end: Mapping[str, Sequence[str]], keys: Mapping[str, Sequence[str]]
) -> dict[str, Heads]:
  """The params that share the most last keys with a leaf, and where both paths begin to."""
  shared = {each: _common_end(mine, keys[each]) for each in by_end.get(mine[-1], ())}
  most = max(shared.values(), default=0)
  head = lambda path: tuple(path[: len(path) - most])
  return {each: (head(mine), head(keys[each])) for each, n in shared.items() if n == most}


def _elected(found: Mapping[str, Heads], votes: Mapping[Heads, int]) -> list[str]:
  """Of several params those in the subtree that fits the most leaves beside this one.

  In ``mu/BatchNorm_0/scale`` alone nothing tells a ``params/BatchNorm_0`` from a
  ``params/Block_0/BatchNorm_0``; that there is a ``mu/Block_0/BatchNorm_0`` beside it does.
  """
  most = max((votes[heads] for heads in found.values()), default=0)
  return [each for each, heads in found.items() if votes[heads] == most]


def _place(
  function: str,
  path: str,
  shape: Shape,
  best: Sequence[str],
  shapes: Mapping[str, Shape],
  kept: Mapping[str, Any],
) -> PathPlace | None:
  if not best or not shape:
    return None
  if not any(kept.get(each) for each in best):
    return None
  fitting = [each for each in best if shapes[each] == shape]
  if fitting:
    return _one(function, path, fitting, [_whole(shape)] * len(fitting), kept)
  found = [(each, axes) for each in best for axes in _factored(shape, shapes[each])]
  if found:
    return _one(function, path, [each for each, _ in found], [axes for _, axes in found], kept)
  if all(n == 1 for n in shape):  # what stands for moments that are not kept
    return None
  raise _errors.no_place(function, path, shape, best[0], shapes[best[0]])


def _one(
  function: str, path: str, names: list[str], axes: list[Any], kept: Mapping[str, Any]
) -> PathPlace | None:
  """The only place; or any, if all lose the same."""
  losses = [
    {i: tuple(kept.get(name, {})[a]) for i, a in each if a in kept.get(name, {})}
    for name, each in zip(names, axes)
  ]
  if any(loss != losses[0] for loss in losses[1:]):
    raise _errors.several_places(function, path, list(dict.fromkeys(names)))
  return PathPlace(names[0], axes[0]) if losses[0] else None


def _whole(shape: Shape) -> tuple[tuple[int, int], ...]:
  return tuple((i, i) for i in range(len(shape)))


def _factored(shape: Shape, full: Shape) -> list[tuple[tuple[int, int], ...]]:
  """The ways in which a shape is a param's shape less one axis."""
  if len(shape) != len(full) - 1:
    return []
  rows = itertools.combinations(range(len(full)), len(shape))
  return [tuple(enumerate(row)) for row in rows if tuple(full[a] for a in row) == shape]


def _common_end(a: Sequence[str], b: Sequence[str]) -> int:
  return sum(1 for _ in itertools.takewhile(lambda p: p[0] == p[1], zip(reversed(a), reversed(b))))
