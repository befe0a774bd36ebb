"""A channel graph as HTML: all paths in full, long lists folded away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jprune._text.html import details, paragraph, table
from jprune._text.words import plural
from jprune.graph._channels.text import Frozen, by_reason, summary

if TYPE_CHECKING:
  from jprune.graph._channels.graph import ChannelGraph
  from jprune.graph._channels.groups import Group, Member


def html(graph: ChannelGraph) -> str:
  """A table of the groups, then the frozen axes by reason."""
  lines: list[str] = [paragraph(summary(graph))]
  if graph.groups:
    header = ['group', 'channels', 'members', 'tied by']
    lines.append(table(header, map(_cells, graph.groups), words=(0, 2, 3)))
  lines += frozen_details(graph.frozen)
  if graph.unsupported:
    names = ', '.join(f'{name} ({times:,})' for name, times in graph.unsupported.items())
    lines.append(paragraph(f'Without a rule, operands frozen: {names}'))
  return '\n'.join(lines)


def frozen_details(frozen: Frozen) -> list[str]:
  """The frozen axes, folded away; nothing if there are none."""
  if not frozen:
    return []
  items = [
    f'{why} ({len(places):,}): {", ".join(f"{path}[{axis}]" for path, axis in places)}'
    for why, places in by_reason(frozen)
  ]
  return [details(f'Frozen: {plural(len(frozen), "axis")}, why', items)]


def _cells(group: Group) -> list[str]:
  members = [_member(member) for member in group.members]
  return [
    group.name,
    f'{int(group.size):,}',
    details(plural(len(members), 'member'), members),
    details(plural(len(group.ties), 'equation'), group.ties) if group.ties else '',
  ]


def _member(member: Member) -> str:
  return f'{member.path}[{member.axis}] {member.position}'
