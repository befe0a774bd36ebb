"""A channel graph less the groups of leaves that are to stay whole."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

from jprune.graph._channels.readonly import ReadOnly
from jprune.tree._selected import matching_for
from jprune.typing import Where

if TYPE_CHECKING:
  from jprune.graph._channels.graph import ChannelGraph


def without(graph: ChannelGraph, keep: Where) -> ChannelGraph:
  """The graph in which groups with a member in a leaf that ``keep`` names are frozen."""
  params = graph.treedef.unflatten(graph.leaves.values())
  named = matching_for('keeping', 'keep', params, keep)
  paths = {path for path, yes in zip(graph.leaves, named) if yes}
  stay = [paths.isdisjoint(member.path for member in group.members) for group in graph.groups]
  why = dict(graph.frozen)
  for group, yes in zip(graph.groups, stay):
    for member in () if yes else group.members:
      why[member.path, member.axis] = f"kept, as part of '{group.name}'"
  axes = [(path, i) for path, leaf in graph.leaves.items() for i in range(len(leaf.shape))]
  return dataclasses.replace(
    graph,
    groups=tuple(itertools.compress(graph.groups, stay)),
    frozen=ReadOnly({place: why[place] for place in axes if place in why}),
    _units=tuple(itertools.compress(graph._units, stay)),
  )
