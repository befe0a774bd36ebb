"""Which channel groups take part in a selection, by whose scores, and which sparsities are given.

A group takes part if one of its members counts. It stays whole if ``keep`` names one of its leaves,
or if ``where``, choosing among kernels, leaves out one that has scores and makes its channels,
unless a dict asks for the group by its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from jprune import _checks, _roles, tree
from jprune.masks import _errors
from jprune.tree._along import along_for
from jprune.tree._selected import matching_for, selected_for
from jprune.typing import Scores, Where

if TYPE_CHECKING:
  from jprune._roles import Roles
  from jprune.graph import ChannelGraph

REST = '*'  # the key of a dict of groups that stands for all that no other key names


class ChannelPart(NamedTuple):
  """Who takes part.

  Attributes:
    found: leaves of the scores along the params, ``None`` where there are none.
    leaves: the scores that count, by path.
    places: the places in the graph of the groups that take part.
    named: sparsities that are given by name, each with the places in ``places`` that it is for.
    sparsity: that of the others; ``None`` if a target decides.
  """

  found: list[Any]
  leaves: dict[str, Any]
  places: list[int]
  named: list[tuple[float, list[int]]]
  sparsity: float | None


def taking_part(
  function: str,
  scores: Scores,
  graph: ChannelGraph,
  sparsity: Any = None,
  target: str | None = None,
  where: Where = None,
  keep: Where = None,
  roles: Roles | None = None,
) -> ChannelPart:
  """What the arguments of :func:`jprune.masks.channels` say, checked."""
  if not all(hasattr(graph, name) for name in ('groups', 'leaves', 'treedef')):
    raise _checks.bad_graph(function, graph)
  if not graph.groups:
    raise _checks.no_groups(function)
  params = graph.treedef.unflatten(graph.leaves.values())
  found = along_for(function, 'scores', params, scores)
  _checks.check_no_masks(function, [leaf for leaf in found if leaf is not None], 'scores')
  if hasattr(graph, 'made_of') and graph.made_of(found):
    _checks.check_not_params(function, 'scores', found)
  kernels = _kernels(function, graph, params, roles)
  chosen = _chosen(function, graph, params, where, kernels, roles)
  leaves = _counting(function, graph, found, chosen)
  scored = {i for i, group in enumerate(graph.groups) if paths_of(group) & leaves.keys()}
  if not scored:
    raise _errors.no_members_scored(function)
  kept = kept_groups(function, graph, keep)
  by_name = isinstance(sparsity, Mapping)
  meant = _meant(graph, [key for key in sparsity if key != REST]) if by_name else {}
  outside: set[int] = set()
  if where is not None and kernels & chosen:  # vectors speak for groups, not against kernels
    have_scores = {path for path, score in zip(graph.leaves, found) if score is not None}
    asked = {i for key in sparsity for i in meant.get(key, ())} if by_name else set()
    outside = _left_out(graph, (kernels - chosen) & have_scores) - asked
  places = sorted(scored - kept - outside)
  if not places:
    raise _errors.no_group_left(function, len(scored & kept), len(scored & outside))
  if not by_name:
    return ChannelPart(found, leaves, places, [], sparsity)
  reasons = dict.fromkeys(scored & outside, 'of which `where` leaves out a kernel')
  reasons |= dict.fromkeys(kept, 'of which `keep` names a member')
  if target and REST in sparsity:
    raise _errors.rest_and_target(function, target)
  among, named = _named(function, graph, sparsity, meant, places, reasons, whole=bool(target))
  return ChannelPart(found, leaves, among, named, sparsity.get(REST))


def paths_of(group: Any) -> set[str]:
  """The leaves that a group has slices of."""
  return {member.path for member in group.members}


def kept_groups(function: str, graph: ChannelGraph, keep: Where) -> set[int]:
  """The places of the groups with a member in a leaf that ``keep`` names."""
  if keep is None:
    return set()
  params = graph.treedef.unflatten(graph.leaves.values())
  named = matching_for(function, 'keep', params, keep)
  paths = {path for path, yes in zip(graph.leaves, named) if yes}
  return {i for i, group in enumerate(graph.groups) if paths_of(group) & paths}


def _kernels(function: str, graph: ChannelGraph, params: Any, roles: Roles | None) -> set[str]:
  """The leaves that count by default where a group has one."""
  if roles is not None:
    _roles.check(function, tree.shapes(params), roles)
  why = tree.skipped(params, roles)
  narrow = 'axis longer than 1'  # kernels of one input or output have a say
  return {
    path
    for (path, leaf), each in zip(graph.leaves.items(), why, strict=True)
    if each is None or (each.endswith(narrow) and len(leaf.shape) > 1)
  }


def _chosen(
  function: str,
  graph: ChannelGraph,
  params: Any,
  where: Where,
  kernels: set[str],
  roles: Roles | None,
) -> set[str]:
  """Kernels, or all members of groups that have none; what ``where`` selects if it is given."""
  if where is None:
    each = (paths_of(group) for group in graph.groups)
    return {path for paths in each for path in paths & kernels or paths}
  if isinstance(where, (str, re.Pattern)):  # vectors count where it finds nothing else
    found = matching_for(function, 'where', params, where)
    named = {path for path, yes in zip(graph.leaves, found, strict=True) if yes}
    where = list(named & kernels or named)
  chosen = selected_for(function, params, where, roles)
  return {path for path, yes in zip(graph.leaves, chosen, strict=True) if yes}


def _counting(
  function: str, graph: ChannelGraph, found: Sequence[Any], chosen: set[str]
) -> dict[str, Any]:
  """The scores of members that are chosen, by path; all scores are checked."""
  members = {path for group in graph.groups for path in paths_of(group)}
  leaves = {}
  for (path, leaf), score in zip(graph.leaves.items(), found, strict=True):
    if tree.is_complex(score):
      raise _errors.complex_scores(function, path, score)
    if tree.is_floating(score):
      _checks.check_values(function, path, score, 'scores')
      _checks.check_shape(function, 'scores', path, score, leaf.shape)
      if path in chosen & members:
        leaves[path] = score
  return leaves


def _left_out(graph: ChannelGraph, others: set[str]) -> set[int]:
  """Groups whose channels one of the ``others`` makes; those that only read them don't."""
  reads = getattr(graph, 'readers', None) or [set()] * len(graph.groups)
  return {i for i, group in enumerate(graph.groups) if paths_of(group) & others - set(reads[i])}


# ------------------------------------------------------------------------------------ given by name


def _named(
  function: str,
  graph: ChannelGraph,
  sparsity: Mapping[str, float],
  by_key: Mapping[str, Sequence[int]],
  places: Sequence[int],
  reasons: Mapping[int, str],
  whole: bool,
) -> tuple[list[int], list[tuple[float, list[int]]]]:
  """The groups that take part, all of them if a target (``whole``) wants them; and by name.

  ``by_key`` is what :func:`_meant` says of the keys.
  """
  if not sparsity:
    raise _errors.no_group_sparsities(function)
  unknown = [key for key in sparsity if key not in by_key and key != REST]
  if unknown:
    raise _errors.unknown_groups(function, unknown, list(by_key))
  for key, value in sparsity.items():
    _checks.static_fraction(function, f'sparsity[{key!r}]', value)
  of: dict[int, str] = {}
  able = set(places)
  for key in sparsity:
    for i in by_key.get(key, ()):
      if i in of:
        raise _errors.group_named_twice(function, graph.groups[i].name, (of[i], key))
      if i not in able:
        raise _errors.groups_not_scored(function, [key], reasons.get(i))
      of[i] = key
  among = list(places) if whole or REST in sparsity else sorted(of)
  own: dict[str, list[int]] = {key: [] for key in sparsity}
  for place, i in enumerate(among):
    if i in of:
      own[of[i]].append(place)
  return among, [(float(sparsity[key]), each) for key, each in own.items() if each]


def _meant(graph: ChannelGraph, keys: Sequence[str]) -> dict[str, list[int]]:
  """The groups that keys mean: one by its name, those of an axis by a member of theirs."""
  found = {group.name: [i] for i, group in enumerate(graph.groups)}
  for shown in (_axis_of, _place_of):  # positions take long to spell
    if set(keys) <= found.keys():
      break
    more: dict[str, dict[int, None]] = {}
    for i, group in enumerate(graph.groups):
      for member in group.members:
        more.setdefault(shown(member), {})[i] = None
    found |= {key: list(groups) for key, groups in more.items() if key not in found}
  return found


def _axis_of(member: Any) -> str:
  return f'{member.path}[{member.axis}]'


def _place_of(member: Any) -> str:
  return f'{_axis_of(member)} {member.position}'
