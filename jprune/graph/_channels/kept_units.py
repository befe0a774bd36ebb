"""Masks to the units of each group that stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jprune.graph import _errors
from jprune.graph._channels.graph import ChannelGraph
from jprune.graph._channels.groups import Group
from jprune.graph._channels.read_masks import ReadMask


def kept_units(
  function: str, graph: ChannelGraph, masks: Sequence[ReadMask | None], strict: bool = True
) -> list[np.ndarray]:
  """For each group, which units stay: those that any member keeps.

  Where none of the units that a member holds stays, its first one does. All of its entries are
  masked, so nothing changes, and no axis is empty.

  Raises:
    ValueError: with ``strict``, if a unit is pruned in some members of its group only.
  """
  by_path = dict(zip(graph.leaves, masks))
  alive = lines_alive(by_path)
  out = []
  for group in graph.groups:
    found = [seen(group, by_path, alive, i) for i in range(len(group.members))]
    known = [each for each in found if each is not None]
    keep = np.ones(group.size, bool)
    if known:
      keep = np.logical_or.reduce([kept for _, kept in known])
      if strict:
        _check_consistent(function, group, found, keep)
    elif found:
      keep[:] = False
    for _, _, position in group.members:
      held = position.units[position.units >= 0]
      if not keep[held].any():
        keep[held[0]] = True
    out.append(keep)
  return out


def lines_alive(by_path: Mapping[str, ReadMask | None]) -> dict[tuple[str, int], np.ndarray]:
  """By leaf and axis, which indices have entries that stay; of leaves in which any does."""
  return {
    (path, axis): line
    for path, mask in by_path.items()
    if mask is not None and mask.kept
    for axis, line in enumerate(mask.alive)
  }


def seen(
  group: Group, masks: dict[str, Any], alive: dict[tuple[str, int], np.ndarray], i: int
) -> tuple[np.ndarray, np.ndarray] | None:
  """Which units a member prunes and which it keeps (it need not have all of them).

  ``None`` if all of its leaf is pruned: that says nothing about single units.
  """
  path, axis, position = group.members[i]
  units = position.units
  inside = units >= 0
  has = np.bincount(units[inside], minlength=group.size) > 0
  if masks[path] is None:
    return ~has & has, has
  if (path, axis) not in alive:
    return None
  kept = np.bincount(units[inside], alive[path, axis][inside], group.size) > 0
  return has & ~kept, kept


def _check_consistent(
  function: str,
  group: Group,
  found: Sequence[tuple[np.ndarray, np.ndarray] | None],
  keep: np.ndarray,
) -> None:
  known = [(m, *each) for m, each in zip(group.members, found) if each is not None]
  partly = np.logical_or.reduce([keep & pruned for _, pruned, _ in known])
  if partly.any():
    unit = int(np.argmax(partly))
    gone = next(m for m, pruned, _ in known if pruned[unit])
    left = next(m for m, _, kept in known if kept[unit])
    others = int(partly.sum()) - 1
    raise _errors.not_group_consistent(function, group.name, unit, gone.path, left.path, others)
