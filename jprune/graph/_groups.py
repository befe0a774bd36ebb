"""Channel groups: which slices of which leaves live and die together."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Position:
  """Where along an axis the units of a group lie.

  Attributes:
    units: int32, one entry for each index of the axis: the unit of the group that it belongs to,
      -1 where the axis holds something else.
  """

  units: np.ndarray

  def __post_init__(self) -> None:
    self.units.setflags(write=False)

  @property
  def whole(self) -> bool:
    """Whether unit ``i`` is just index ``i``."""
    return bool((self.units == np.arange(len(self.units))).all())

  def __eq__(self, other: object) -> bool:
    return isinstance(other, Position) and np.array_equal(self.units, other.units)

  def __hash__(self) -> int:
    return hash(self.units.tobytes())

  def __str__(self) -> str:
    if self.whole:
      return 'all'
    units = self.units
    inside = np.flatnonzero(units >= 0)
    first, last = int(inside[0]), int(inside[-1]) + 1
    part = units[first:last]
    where = '' if len(part) == len(units) else f'{first}:{last}'
    if (part == np.arange(len(part))).all():
      return where
    changes = np.flatnonzero(np.diff(part))
    run = int(changes[0]) + 1 if len(changes) else len(part)
    every = f'{run} at a time' if run > 1 else 'interleaved'
    if (np.diff(part) < 0).any() and (
      part[: int(part.max()) + 1] != np.arange(part.max() + 1)
    ).any():
      every = 'permuted' if run == 1 else f'permuted, {run} at a time'
    return f'{where} {every}'.strip()

  def __repr__(self) -> str:
    return f'Position({self})'


class Member(NamedTuple):
  """A slice family of one leaf: what goes when a unit of the group goes.

  Attributes:
    path: of the leaf.
    axis: of the leaf, not negative.
    position: where along the axis the group's units lie.
  """

  path: str
  axis: int
  position: Position


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
  """Channels that belong together.

  Attributes:
    name: its first member, as text; unique in the graph.
    size: number of units.
    members: all slices of all leaves that belong to the units.
    ties: the equations that tie the members, as text with source line, without repetition.
  """

  name: str
  size: int
  members: tuple[Member, ...]
  ties: tuple[str, ...] = ()
