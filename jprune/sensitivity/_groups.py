"""What is pruned at a time: a leaf, several leaves, or the channels of a group."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jprune import _checks, tree
from jprune.graph import ChannelGraph
from jprune.graph._channels.read_masks import read
from jprune.masks import NOfM
from jprune.masks._channels import channels as _channels
from jprune.masks._channels.part import taking_part
from jprune.masks._leaves import scored as checked
from jprune.masks._top_k import select
from jprune.report._count import nonzeros
from jprune.sensitivity import _errors
from jprune.sensitivity._record import fingerprint
from jprune.tree._along import along_for
from jprune.typing import Params, Scores, Where


class GroupMasks(NamedTuple):
  """A group at one sparsity: masks by the place of their leaf, and how much went of what."""

  masks: dict[int, Any]
  counts: dict[str, int]


class PruningGroup(NamedTuple):
  """What is pruned at a time.

  Attributes:
    name: of a leaf by itself its path.
    leaves: paths of the leaves that it changes.
    sizes: what it may prune: weights by leaf path, or channels by the name of their group.
    prune: from a sparsity to masks.
    known: what tells it from other groups of that name, as plain data for a table on disk.
  """

  name: str
  leaves: tuple[str, ...]
  sizes: dict[str, int]
  prune: Callable[[float], GroupMasks]
  known: Any


def leaf_groups(
  function: str, params: Params, scores: Scores, groups: Any, pattern: Any
) -> list[PruningGroup]:
  """Leaves by themselves, or together as ``groups`` says."""
  if isinstance(pattern, NOfM):
    raise _errors.not_by_sparsity(function, pattern)
  checked(function, scores, pattern)
  paths, leaves, _ = tree.flatten(params)
  found = along_for(function, 'scorer', params, scores)
  name = namer(function, groups)
  members: dict[str, list[int]] = {}
  for place, (path, score) in enumerate(zip(paths, found)):
    if score is not None:
      members.setdefault(name(path), []).append(place)
  out = []
  for each, places in members.items():
    sizes = {paths[i]: tree.size(leaves[i]) for i in places}
    prune = _leaf_pruner(function, {i: (paths[i], found[i]) for i in places}, pattern)
    out.append(PruningGroup(each, tuple(sizes), sizes, prune, sizes))
  return out


def _leaf_pruner(
  function: str, members: Mapping[int, tuple[str, Any]], pattern: Any
) -> Callable[[float], GroupMasks]:
  def prune(sparsity: float) -> GroupMasks:
    masks = select(function, [score for _, score in members.values()], sparsity, pattern)
    pairs = zip(members.values(), masks, nonzeros(masks))
    counts = {path: tree.size(mask) - kept for (path, _), mask, kept in pairs}
    return GroupMasks(dict(zip(members, masks)), counts)

  return prune


def namer(function: str, groups: Any) -> Callable[[str], str]:
  """Path to the name of a leaf's group, which is the path itself where there is none."""
  if groups is None:
    return lambda path: path
  if isinstance(groups, (str, re.Pattern)):
    try:
      pattern = re.compile(groups)
    except re.error as error:
      raise _checks.bad_group_regex(function, groups, str(error)) from None
    if pattern.groups != 1:
      raise _checks.bad_group_regex(function, groups, f'{pattern.groups} groups')
    found = lambda path: (match := pattern.search(path)) and match.group(1)
  elif callable(groups):
    found = groups
  else:
    raise _checks.bad_groups(function, groups)

  def name(path: str) -> str:
    group = found(path)
    if group is None:
      return path
    if not isinstance(group, str):
      raise _checks.bad_group(function, path, group)
    return group

  return name


def channel_groups(
  scores: Scores, graph: ChannelGraph, where: Where
) -> tuple[list[PruningGroup], Mapping[str, Any]]:
  """The channel groups of a graph of which a member is scored; and the scores that count."""
  part = taking_part('channels', scores, graph, where=where)
  out = []
  for i in part.places:
    group = graph.groups[i]
    paths = tuple(dict.fromkeys(member.path for member in group.members))
    sizes = {group.name: int(group.size)}
    known = [[m.path, m.axis, fingerprint(m.position.units)] for m in group.members]
    prune = _channel_pruner(scores, graph, group, where)
    out.append(PruningGroup(group.name, paths, sizes, prune, [sizes, known]))
  return out, part.leaves


def _channel_pruner(
  scores: Scores, graph: ChannelGraph, group: Any, where: Where
) -> Callable[[float], GroupMasks]:
  def prune(sparsity: float) -> GroupMasks:
    with warnings.catch_warnings():  # the counts say it where nothing could go
      warnings.simplefilter('ignore', UserWarning)
      masks = _channels.channels(scores, graph, {group.name: sparsity}, where=where)
    found = graph.treedef.flatten_up_to(masks)
    held = {place: mask for place, mask in enumerate(found) if mask is not None}
    return GroupMasks(held, {group.name: int(group.size) - _kept(graph, group, held)})

  return prune


def _kept(graph: ChannelGraph, group: Any, masks: Mapping[int, Any]) -> int:
  """How many units of a group masks keep that prune nothing else."""
  places = {path: place for place, path in enumerate(graph.leaves)}
  kept = np.zeros(group.size, bool)
  seen = np.zeros(group.size, bool)
  for path, axis, position in group.members:
    (mask,) = read([masks[places[path]]])
    alive = mask.alive[axis]
    inside = position.units >= 0
    kept[position.units[inside & alive]] = True
    seen[position.units[inside]] = True
    if seen.all():
      break
  return int(kept.sum())
