"""A channel graph as text and as plain data."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jprune._text.fold_paths import Place, fold, fold_names, template
from jprune._text.table import listed, table, width, wrapped
from jprune._text.words import plural, printable

if TYPE_CHECKING:
  from jprune.graph._channels.graph import ChannelGraph
  from jprune.graph._channels.groups import Group, Member

_MOST_GROUPS = 48  # rows of the table
_MOST_REASONS = 24
_LINES = 6  # for the members of a row, or the axes of a reason
_BRACES = re.compile(r'\{[^{}]*[.,][^{}]*\}')

Frozen = Mapping[tuple[str, int], str]


def summary(graph: ChannelGraph) -> str:
  """The graph in one sentence."""
  channels = plural(sum(int(group.size) for group in graph.groups), 'channel')
  return f'{plural(len(graph.groups), "group")}, {channels}; {frozen_summary(graph)}'


def frozen_summary(graph: ChannelGraph) -> str:
  """How many axes can't be pruned at all, and how many in part."""
  free = {(member.path, member.axis) for group in graph.groups for member in group.members}
  partly = sum(place in free for place in graph.frozen)
  wholly = len(graph.frozen) - partly
  axes = plural(sum(len(leaf.shape) for leaf in graph.leaves.values()), 'axis')
  more = f', {partly:,} more in part' if partly else ''
  return f'{wholly:,} of {axes} {"is" if wholly == 1 else "are"} frozen{more}.'


def text(graph: ChannelGraph) -> str:
  """The table of the groups with their members, then the frozen axes by reason."""
  lines = wrapped(summary(graph), most=width())
  if graph.groups:
    lines += ['', *_groups(graph.groups)]
  lines += frozen_lines(graph.frozen)
  if graph.unsupported:
    lines += ['', *listed(_unknown(graph), 'Without a rule, operands frozen: ', '  ', _LINES)]
  where = {place_of(member).where for group in graph.groups for member in group.members}
  return '\n'.join([*lines, *notes(lines, where)])


def as_dict(graph: ChannelGraph) -> dict[str, Any]:
  """Everything as plain Python values."""
  return {
    'groups': [
      {
        'name': group.name,
        'size': int(group.size),
        'members': [_member_dict(member) for member in group.members],
        'ties': list(group.ties),
      }
      for group in graph.groups
    ],
    'frozen': [
      {'path': path, 'axis': int(axis), 'reason': why} for (path, axis), why in graph.frozen.items()
    ],
    'unsupported': {name: int(times) for name, times in graph.unsupported.items()},
  }


def _member_dict(member: Member) -> dict[str, Any]:
  units = None if member.position.whole else member.position.units.tolist()
  return {'path': member.path, 'axis': int(member.axis), 'units': units}


# ----------------------------------------------------------------------------------------- groups


def place_of(member: Member) -> Place:
  """A member in words; nothing is said of the whole of an axis."""
  where = '' if member.position.whole else str(member.position)
  return Place(member.path, member.axis, where)


def _groups(groups: Sequence[Group]) -> list[str]:
  rows = folded(groups)
  cells, members = [], []
  for name, alike in rows[:_MOST_GROUPS]:
    each = f'{len(alike):,} x ' if len(alike) > 1 else ''
    count = f'{len(alike[0].members):,}' + (' each' if each else '')
    cells.append((name, f'{each}{int(alike[0].size):,}', count))
    members.append(fold(place_of(member) for group in alike for member in group.members))
  under = [listed(names, '  ', '  ', _LINES) for names in members]
  lines = table(('group', 'channels', 'members'), cells, under=under)
  if rest := sum(len(alike) for _, alike in rows[_MOST_GROUPS:]):
    lines.append(f'and {plural(rest, "more group")}')
  return lines


def folded(groups: Sequence[Group]) -> list[tuple[str, list[Group]]]:
  """Groups of one kind, whose names differ in numbers only, as one row."""
  kinds: dict[Any, list[Group]] = {}
  for group in groups:
    members = sorted((template(m.path), m.axis, place_of(m).where) for m in group.members)
    kind = (int(group.size), template(group.name), tuple(members))
    kinds.setdefault(kind, []).append(group)
  rows = []
  for alike in kinds.values():
    for name, indices in fold_names([group.name for group in alike]):
      rows.append((name, [alike[i] for i in indices]))
  return rows


# ------------------------------------------------------------------------------- what is left over


def by_reason(frozen: Frozen) -> list[tuple[str, list[tuple[str, int]]]]:
  """Axes by the reason why they are frozen; reasons that differ in numbers only stand as one."""
  places: dict[str, list[tuple[str, int]]] = {}
  for place, why in frozen.items():
    places.setdefault(why, []).append(place)
  reasons, found = list(places), list(places.values())
  return [
    (why, list(itertools.chain.from_iterable(found[i] for i in indices)))
    for why, indices in fold_names(reasons)
  ]


def frozen_lines(frozen: Frozen) -> list[str]:
  """One entry for each reason: how many axes, and which; nothing if none is frozen."""
  reasons = by_reason(frozen)
  lines = ['', 'Frozen:'] if reasons else []
  for why, places in reasons[:_MOST_REASONS]:
    start = f'  {why} ({len(places):,}): '
    lines += listed(fold(Place(*place) for place in places), start, '    ', _LINES)
  if (rest := len(reasons) - _MOST_REASONS) > 0:
    lines.append(f'  and {plural(rest, "more reason")}')
  return lines


def _unknown(graph: ChannelGraph) -> list[str]:
  return [f'{printable(name)} ({times:,})' for name, times in graph.unsupported.items()]


def notes(lines: Sequence[str], positions: Iterable[str]) -> list[str]:
  """What the notation means, as far as it is used."""
  found = []
  if any(_BRACES.search(line) for line in lines):
    found.append('{0..2}, {a,b}: each of these, in all combinations. [0,1]: axes 0 and 1.')
  if any('(' in where for where in positions):
    found.append(
      '4x(8): the 8 of an axis that is row-major 4 by 8; (8)x4: that of 8 by 4. '
      '(7..0): in this order.'
    )
  lines = [line for note in found for line in wrapped(note, most=width())]
  return ['', *lines] if lines else []
