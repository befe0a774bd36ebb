"""In which order leaves are pruned, and which of them share the statistics that they need."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from jprune.graph._statistics.stats import Stats, Use
from jprune.masks import NOfM


class Stage(NamedTuple):
  """Leaves that are pruned from the same statistics.

  Attributes:
    paths: of the leaves.
    step: of the scan that runs over all of them, or ``None`` for whole leaves.
    steps: how many steps that scan has.
  """

  paths: tuple[str, ...]
  step: int | None = None
  steps: int = 1


def groups_of(stats: Stats, usable: Sequence[str]) -> list[Stage]:
  """Leaves that share inputs together, in the order in which the function runs them."""
  uses = {path: found for path, found in stats.uses if path in usable}
  groups: list[tuple[set[int], list[str]]] = []
  for path, found in uses.items():
    sources = {use.source for use in found}
    same = [group for group in groups if group[0] & sources]
    groups = [group for group in groups if not group[0] & sources]
    joined = set().union(sources, *(group[0] for group in same))
    groups.append((joined, [*(p for group in same for p in group[1]), path]))
  groups.sort(key=lambda group: min(group[0]))
  order = {path: i for i, path in enumerate(uses)}
  return [Stage(tuple(sorted(paths, key=order.__getitem__))) for _, paths in groups]


def stages_of(
  groups: Sequence[Stage], stats: Stats, sequential: bool, chunked: bool
) -> Sequence[Stage]:
  """One after the other; or all at once, unless their Gram matrices are too many."""
  if sequential:
    return in_turn(groups, stats)
  return groups if chunked else [Stage(tuple(path for group in groups for path in group.paths))]


def in_turn(stages: Sequence[Stage], stats: Stats) -> list[Stage]:
  """The same one after the other: all stages of the first step of a scan, then of the second."""
  uses, out = dict(stats.uses), []
  pending: dict[int, list[tuple[Stage, range]]] = {}
  for stage in stages:
    found = {_loop_of(uses[path]) for path in stage.paths}
    (loop,) = found if len(found) == 1 else (None,)
    if loop is None:
      out.append(stage)
      continue
    number, order = loop
    if number not in pending:
      out.append(number)
    pending.setdefault(number, []).append((stage, order))
  flat: list[Stage] = []
  for each in out:
    if isinstance(each, Stage):
      flat.append(each)
      continue
    inside = pending[each]
    order = inside[0][1]
    flat += [Stage(stage.paths, step, len(order)) for step in order for stage, _ in inside]
  return flat


def _loop_of(uses: Sequence[Use]) -> tuple[int, range] | None:
  """The scan over a leaf, and its steps as they run; ``None`` if they can't be told apart."""
  use = uses[0]
  if len(uses) != 1 or use.loop is None:
    return None
  first = use.batch[0]
  axis = use.axes[first]
  whole = use.axes.count(axis) == 1 and use.box[axis] == (0, use.shape[first])
  steps = range(use.shape[first])
  return (use.loop, steps[::-1] if use.backwards else steps) if whole else None


def stats_of(stage: Stage, stats: Stats) -> Stats:
  """From statistics of leaves those that a stage needs: of a step, as if its parts were leaves."""
  if (step := stage.step) is None:
    return stats
  uses = [(path, use) for path, (use,) in stats.uses if path in stage.paths]
  places = sorted({use.source for _, use in uses})
  inputs = []
  for place in places:
    use = next(use for _, use in uses if use.source == place)
    each = use.sizes[0] // use.shape[use.batch[0]]
    cut = slice(step * each, (step + 1) * each)
    inputs.append(jax.tree.map(lambda x, cut=cut: x[cut], stats.inputs[place]))
  parts = tuple((path, (without_loop(use, places.index(use.source)),)) for path, use in uses)
  return Stats(tuple(inputs), parts, notes=stats.notes)


def pattern_of_step(pattern: Any, rank: int, use: Use) -> Any:
  """A pattern of the leaf for its parts, which lack the axis of the scan."""
  if not isinstance(pattern, NOfM) or pattern.axis is None:
    return pattern
  axis = pattern.axis % rank
  return dataclasses.replace(pattern, axis=axis - (axis > axis_of(use)))


def axis_of(use: Use) -> int:
  """The axis of a leaf along which a scan takes its steps."""
  return use.axes[use.batch[0]]


def without_loop(use: Use, source: int) -> Use:
  """The use of the part of a leaf that a step takes."""
  gone, axis = use.batch[0], axis_of(use)
  shift = lambda places: tuple(i - (i > gone) for i in places)
  drop = lambda values, place: (*values[:place], *values[place + 1 :])
  return dataclasses.replace(
    use,
    box=drop(use.box, axis),
    shape=drop(use.shape, gone),
    axes=tuple(each - (each > axis) for each in drop(use.axes, gone)),
    batch=shift(use.batch[1:]),
    inputs=shift(use.inputs),
    outputs=shift(use.outputs),
    source=source,
    loop=None,
    backwards=False,
  )
