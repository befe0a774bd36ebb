"""A channel graph as HTML: all paths in full, long lists folded away."""

from __future__ import annotations

import html as _html
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from jprune.graph._channels.fold_paths import plural, printable
from jprune.graph._channels.text import Frozen, by_reason, summary

if TYPE_CHECKING:
  from jprune.graph._channels.graph import ChannelGraph
  from jprune.graph._channels.groups import Group, Member

_LEFT = ' style="text-align: left"'


def html(graph: ChannelGraph) -> str:
  """A table of the groups, then the frozen axes by reason."""
  lines = [paragraph(summary(graph))]
  if graph.groups:
    lines += table(['group', 'channels', 'members', 'tied by'], map(_cells, graph.groups))
  lines += frozen_details(graph.frozen)
  if graph.unknown:
    names = ', '.join(f'{name} ({times:,})' for name, times in graph.unknown.items())
    lines.append(paragraph(f'Without a rule, operands frozen: {names}'))
  return '\n'.join(lines)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
  """A plain table; the cells are HTML already."""
  line = lambda tag, cells: f'<tr>{"".join(f"<{tag}{_LEFT}>{c}</{tag}>" for c in cells)}</tr>'
  head = ['<thead>', line('th', header), '</thead>']
  return ['<table>', *head, '<tbody>', *[line('td', row) for row in rows], '</tbody>', '</table>']


def frozen_details(frozen: Frozen) -> list[str]:
  """The frozen axes, folded away; nothing if there are none."""
  if not frozen:
    return []
  items = [
    f'{text(f"{why} ({len(places):,})")}: ' + text(', '.join(f'{p}[{a}]' for p, a in places))
    for why, places in by_reason(frozen)
  ]
  return [details(f'Frozen: {plural(len(frozen), "axis")}, why', items)]


def details(title: str, items: Sequence[str]) -> str:
  """A list that opens with a click; the items are HTML already."""
  listed = ''.join(f'<li>{item}</li>' for item in items)
  return f'<details><summary>{text(title)}</summary><ul>{listed}</ul></details>'


def paragraph(sentence: str) -> str:
  return f'<p>{text(sentence)}</p>'


def text(plain: str) -> str:
  """Plain text as HTML, on one line."""
  return _html.escape(printable(plain))


def _cells(group: Group) -> list[str]:
  members = [text(_member(member)) for member in group.members]
  ties = [text(tie) for tie in group.ties]
  return [
    text(group.name),
    f'{int(group.size):,}',
    details(plural(len(members), 'member'), members),
    details(plural(len(ties), 'equation'), ties) if ties else '',
  ]


def _member(member: Member) -> str:
  return f'{member.path}[{member.axis}] {member.position}'
