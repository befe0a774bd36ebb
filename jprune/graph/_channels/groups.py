"""Channel groups: which slices of which leaves live and die together."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np

_MOST_SPANS = 4
_MOST_RUNS = 8


@dataclasses.dataclass(frozen=True, eq=False)
class Position:
  """Where along an axis the units of a group lie.

  As text, sizes in parentheses belong to the group, those beside them don't:

  - ``all``: unit ``i`` is index ``i``.
  - ``8:12``: four indices hold all units in order, other indices hold something else.
  - ``(8)x4``, ``4x(8)``, ``3x(2)x4``: the axis is a row-major product, of which the factor in
    parentheses is the group; ``(8)x4`` are blocks of 4 indices for each unit, ``4x(8)`` repeats
    the units 4 times.
  - ``(7..0)``, ``(0 0..2 1)``: the units in the order in which the axis has them.
  - ``2x(4) in 0:8``: such a layout of some of the indices; ``0:8+12:20`` are two segments,
    ``0:8 of every 12`` is the segment of each block of 12.

  Where an irregular order is long, ``...`` stands for the rest of it.

  Attributes:
    units: int32, one entry for each index of the axis: the unit of the group that it belongs to,
      -1 where the axis holds something else.

  Examples:
    >>> str(Position(np.array([0, 1, 2]))), str(Position(np.array([-1, -1, 0, 1])))
    ('all', '2:4')
    >>> str(Position(np.array([0, 0, 0, 1, 1, 1]))), str(Position(np.array([2, 1, 0])))
    ('(2)x3', '(2..0)')
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
    inside = self.units >= 0
    where = '' if inside.all() else _spans(inside)
    layout = _layout(self.units[inside])
    return ' in '.join(part for part in (layout, where) if part)

  def __repr__(self) -> str:
    return f'Position({self})'


def _spans(inside: np.ndarray) -> str:
  """The indices that are true: ``0:8+12:20``, or ``0:8 of every 12`` where that repeats."""
  period = _period(inside)
  edges = np.diff(inside[:period].astype(np.int8), prepend=0, append=0)
  spans = list(zip(np.flatnonzero(edges > 0).tolist(), np.flatnonzero(edges < 0).tolist()))
  shown = '+'.join(f'{start}:{end}' for start, end in spans[:_MOST_SPANS]) or 'none'
  rest = '+...' if len(spans) > _MOST_SPANS else ''
  every = f' of every {period}' if spans and period < len(inside) else ''
  return f'{shown}{rest}{every}'


def _layout(units: np.ndarray) -> str:
  """The units as a factor of a product; empty if they are in order, each once."""
  if not len(units):
    return ''
  starts = np.flatnonzero(np.diff(units, prepend=-1))
  minor = int(np.gcd.reduce(np.diff(starts, append=len(units))))
  units = units[::minor]
  period = _period(units)
  major, units = len(units) // period, units[:period]
  ordered = bool((units == np.arange(period)).all())
  if ordered and major == minor == 1:
    return ''
  factor = f'({period if ordered else _runs(units)})'
  return (f'{major}x' if major > 1 else '') + factor + (f'x{minor}' if minor > 1 else '')


def _runs(units: np.ndarray) -> str:
  """Units as they follow each other: ``0 0..2 1 3``, and ``3..3`` for one, which is no size."""
  if len(units) == 1:
    return f'{units[0]}..{units[0]}'
  values, runs, start = units.tolist(), [], 0
  while start < len(values) and len(runs) <= _MOST_RUNS:
    end = start + 1
    step = values[end] - values[start] if end < len(values) else 0
    while end < len(values) and abs(step) == 1 and values[end] - values[end - 1] == step:
      end += 1
    if end - start < 3:  # a pair is no run: its second value may begin one
      end = start + 1
    runs.append(f'{values[start]}..{values[end - 1]}' if end - start > 1 else f'{values[start]}')
    start = end
  if start < len(values) or len(runs) > _MOST_RUNS:
    return ' '.join([*runs[:_MOST_RUNS], '...'])
  return ' '.join(runs)


def _period(values: np.ndarray) -> int:
  """The shortest start of an array that makes all of it when repeated; ``len`` if none does."""
  size = len(values)
  small = [p for p in range(1, math.isqrt(size) + 1) if size % p == 0]
  for period in [*small, *(size // p for p in reversed(small))]:
    if (values.reshape(-1, period) == values[:period]).all():
      return period
  return size


class Member(NamedTuple):
  """A slice family of one leaf: what goes when a unit of the group goes.

  Attributes:
    path: of the leaf.
    axis: of the leaf, not negative.
    position: where along the axis the group's units lie.

  Examples:
    >>> fn = lambda params, x: jax.nn.relu(x @ params['in']) @ params['out']
    >>> params = {'in': jnp.ones((3, 8)), 'out': jnp.ones((8, 2))}
    >>> graph = jprune.graph.channels(fn, params, jnp.ones((1, 3)))
    >>> graph.groups[0].members[1]
    Member(path='out', axis=0, position=Position(all))
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

  Examples:
    >>> fn = lambda params, x: jax.nn.relu(x @ params['in']) @ params['out']
    >>> params = {'in': jnp.ones((3, 8)), 'out': jnp.ones((8, 2))}
    >>> (group,) = jprune.graph.channels(fn, params, jnp.ones((1, 3))).groups
    >>> group.name, group.size, len(group.members)
    ('in[1]', 8, 2)
  """

  name: str
  size: int
  members: tuple[Member, ...]
  ties: tuple[str, ...] = ()
