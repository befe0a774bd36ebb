"""Why leaves have no mask, as far as it can be known of masks that are nothing but data.

Masks don't say how they were made. A rule is believed to have left leaves out only if it explains
all masks: if no leaf that it leaves out has one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jprune import tree
from jprune.graph import ChannelGraph
from jprune.report._leaf import NOT_SELECTED, LeafTally
from jprune.typing import Params

_ONE_INDEX = 'a single index'  # which says nothing beside the reason of another axis


def explained(why: Sequence[str | None], masked: Sequence[bool]) -> list[str | None]:
  """The reasons of a rule, if it explains which leaves are masked; else none.

  Args:
    why: why the rule leaves leaves out, ``None`` where it doesn't.
    masked: which leaves have a mask.
  """
  contradicted = any(each and yes for each, yes in zip(why, masked, strict=True))
  return [None] * len(why) if contradicted else list(why)


def with_reasons(
  rows: Sequence[LeafTally],
  params: Params,
  masked: Sequence[bool],
  graph: ChannelGraph | None,
  roles: Any,
  roles_of_fn: Callable[[], Any] | None,
) -> list[LeafTally]:
  """Rows with the reasons that can be known in place of :data:`NOT_SELECTED`.

  Args:
    rows: of a tally with masks.
    params: tree of arrays.
    masked: which leaves have a mask.
    graph: the channels of the function, if there is one.
    roles: by which leaves were selected, as far as the caller says.
    roles_of_fn: finds the roles of the function; called only if nothing else explains a leaf.
  """
  rows = list(rows)
  for why in _rules(rows, params, masked, graph, roles, roles_of_fn):
    for i, reason in enumerate(why):
      if reason and rows[i].skipped == NOT_SELECTED:
        rows[i] = dataclasses.replace(rows[i], skipped=reason)
    if all(row.skipped != NOT_SELECTED for row in rows):
      break
  return rows


def _rules(
  rows: Sequence[LeafTally],
  params: Params,
  masked: Sequence[bool],
  graph: ChannelGraph | None,
  roles: Any,
  roles_of_fn: Callable[[], Any] | None,
) -> Iterator[list[str | None]]:
  """The reasons of each rule by which leaves may have been selected, the likeliest first."""
  if graph is not None and _prune_whole_channels(rows, masked):
    yield _by_channels(graph)
  elif roles is not None or roles_of_fn is None:
    yield explained(tree.skipped(params, roles), masked)
  else:
    yield explained(tree.skipped(params), masked)
    # without lines of code, which would set apart what goes together
    why = [each and each.partition(' (')[0] for each in tree.skipped(params, roles_of_fn())]
    yield explained(why, masked)


def _by_channels(graph: ChannelGraph) -> list[str | None]:
  """Why a leaf is in no group of channels that was pruned."""
  members = {member.path for group in graph.groups for member in group.members}
  out: list[str | None] = []
  for path, leaf in graph.leaves.items():
    found = [graph.frozen.get((path, axis), '') for axis in range(len(leaf.shape))]
    frozen = '; '.join(dict.fromkeys(why for why in found if why not in ('', _ONE_INDEX)))
    alone = _ONE_INDEX if leaf.shape else 'no channels'
    out.append('its channels are kept' if path in members else frozen or alone)
  return out


def _prune_whole_channels(rows: Sequence[LeafTally], masked: Sequence[bool]) -> bool:
  """Whether masks prune what shrinking leaves out, and nothing else."""
  counts = [
    (row.size, row.nonzero, math.prod(row.shape_shrunk or ()))
    for row, yes in zip(rows, masked, strict=True)
    if yes
  ]
  return any(n < size for size, n, _ in counts) and all(n == small for _, n, small in counts)
