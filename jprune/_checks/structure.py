"""Channel groups, and the units that are chosen in them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from jprune._checks.words import kind, listed, message, shown


def bad_graph(function: str, graph: Any) -> TypeError:
  fix = 'Build it with jprune.graph.channels(fn, params, *args).'
  return TypeError(message(function, 'graph', 'a ChannelGraph', kind(graph), fix))


def no_groups(function: str) -> ValueError:
  fix = 'print(graph) shows why each axis is frozen.'
  return ValueError(message(function, 'graph', 'one with channel groups', 'none', fix))


def check_choice(function: str, argument: str, value: Any, choices: Sequence[Any]) -> None:
  """One of a few words; ``None`` only if it is among them."""
  if (value is None or isinstance(value, str)) and value in choices:
    return
  words = [each for each in choices if each]
  near = difflib.get_close_matches(value, words, 1) if isinstance(value, str) else []
  fix = f'Did you mean {near[0]!r}?' if near else ''
  *first, last = [repr(choice) for choice in choices]
  raise ValueError(message(function, argument, f'{", ".join(first)} or {last}', shown(value), fix))


def check_one_target(
  function: str, given: Sequence[str], names: Sequence[str], by_name: bool = False
) -> None:
  """``by_name``: the first holds for what it names, and another may hold for the rest."""
  if len(given) - (by_name and len(given) == 2) != 1 or (by_name and given[0] != names[0]):
    constraint = f'given alone: exactly one of {listed(names)}'
    got = listed(given) if given else 'none of them'
    fix = 'For example sparsity=0.5.' if not given else 'Leave the others out.'
    raise TypeError(message(function, names[0], constraint, got, fix))


def masks_of_no_leaves(
  function: str, unknown: Sequence[str], argument: str = 'masks'
) -> ValueError:
  """Masks of other leaves than a graph was made of."""
  fix = 'Make the graph of a function of these params, or of variables that hold them.'
  return ValueError(message(function, argument, 'of leaves of the graph', listed(unknown), fix))


def groups_select(function: str, where: Any) -> ValueError:
  constraint = 'left out for ChannelGroups, whose groups say which leaves are pruned'
  fix = 'Hold leaves back by ChannelGroups(graph, keep=...).'
  return ValueError(message(function, 'where', constraint, shown(where), fix))
