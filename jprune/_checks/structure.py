"""Channel groups, and the units that are chosen in them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from jprune._checks.arrays import check_fraction
from jprune._checks.words import kind, listed, message


def bad_graph(function: str, graph: Any) -> TypeError:
  fix = 'Build it with jprune.graph.channels(fn, params, *args).'
  return TypeError(message(function, 'graph', 'a ChannelGraph', kind(graph), fix))


def other_rule(where: str) -> ValueError:
  constraint = 'one whose derivative rules treat pruned channels alike at every order'
  got = (
    f'one of the third order or a higher one that ties them to others ({where or "unknown line"})'
  )
  fix = 'Differentiate at most twice, or keep these channels.'
  return ValueError(message('small.fn', 'fn', constraint, got, fix))


def no_groups(function: str) -> ValueError:
  fix = 'print(graph) shows why each axis is frozen.'
  return ValueError(message(function, 'graph', 'one with channel groups', 'none', fix))


def check_choice(function: str, argument: str, value: Any, choices: Sequence[Any]) -> None:
  """One of a few words; ``None`` only if it is among them."""
  if (value is None or isinstance(value, str)) and value in choices:
    return
  near = difflib.get_close_matches(value, [c for c in choices if c], 1) if _is_str(value) else []
  fix = f'Did you mean {near[0]!r}?' if near else ''
  *first, last = [repr(choice) for choice in choices]
  raise ValueError(message(function, argument, f'{", ".join(first)} or {last}', repr(value), fix))


def bad_reduction(function: str, reduce: Any, choices: Sequence[str]) -> Exception:
  near = difflib.get_close_matches(reduce, choices, 1) if _is_str(reduce) else []
  fix = f'Did you mean {near[0]!r}?' if near else ''
  constraint = ', '.join(repr(choice) for choice in choices) + ' or a function'
  error = ValueError if _is_str(reduce) else TypeError
  return error(message(function, 'reduce', constraint, repr(reduce), fix))


def bad_reduced(function: str, group: str, size: int, found: Any) -> ValueError:
  constraint = f'a function from (members, units) to one number a unit, shape ({size},)'
  fix = f"Reduce axis 0, as lambda x: jnp.nanmean(x, axis=0) does; this was group '{group}'."
  got = found if isinstance(found, str) else kind(found)
  return ValueError(message(function, 'reduce', constraint, got, fix))


def check_one_target(
  function: str, given: Sequence[str], names: Sequence[str], by_name: bool = False
) -> None:
  """``by_name``: the first holds for what it names, and another may hold for the rest."""
  if len(given) - (by_name and len(given) == 2) != 1 or (by_name and given[0] != names[0]):
    constraint = f'given alone: exactly one of {listed(names)}'
    got = listed(given) if given else 'none of them'
    fix = 'For example sparsity=0.5.' if not given else 'Leave the others out.'
    raise TypeError(message(function, names[0], constraint, got, fix))


def check_target(function: str, argument: str, value: Any) -> None:
  check_fraction(function, argument, value)
  if float(value) == 0.0:
    fix = 'It is the fraction that is kept of the dense model.'
    raise ValueError(message(function, argument, 'in (0, 1]', '0.0', fix))


def target_needs_values(function: str, argument: str, value: float) -> TypeError:
  constraint = 'None where scores are traced'
  fix = 'Call it outside jit, or pass a sparsity.'
  return TypeError(message(function, argument, constraint, f'{value}', fix))


def out_of_reach(function: str, argument: str, value: float, least: float) -> ValueError:
  # rounded up, so that the number shown can be asked for
  least = -(-least * 10_000 // 1) / 10_000
  constraint = f'at least {least:.4f}, what is left when all groups are pruned as far as allowed'
  fix = 'Lower min_keep or round_to, or let more groups take part.'
  return ValueError(message(function, argument, constraint, f'{value!r}', fix))


def rest_and_target(function: str, argument: str) -> TypeError:
  constraint = f"without the key '*' where {argument} says what all other groups lose"
  return TypeError(message(function, 'sparsity', constraint, "a dict with '*'", 'Leave one out.'))


def group_named_twice(function: str, group: str, keys: Sequence[str]) -> ValueError:
  constraint = 'a dict that names each group once'
  got = f"'{group}' by {keys[0]!r} and by {keys[1]!r}"
  return ValueError(message(function, 'sparsity', constraint, got, 'Leave one of them out.'))


def no_group_left(function: str, kept: int, left_out: int) -> ValueError:
  by = [f'`keep` for {kept}'] if kept else []
  by += [f'`where`, which leaves out a kernel that makes the channels, for {left_out}'] * (
    left_out > 0
  )
  constraint = 'a filter that leaves a scored group to prune'
  fix = 'Whole layers are named by `keep`; `where` names the leaves whose scores count.'
  got = f'none, because of {" and ".join(by)}'
  return ValueError(message(function, 'keep' if kept else 'where', constraint, got, fix))


def no_group_sparsities(function: str) -> ValueError:
  constraint = 'a number in [0, 1], or a dict from group or member to number'
  fix = "The names are those of graph.groups; '*' stands for all others."
  return ValueError(message(function, 'sparsity', constraint, 'an empty dict', fix))


def unknown_groups(function: str, unknown: Sequence[Any], names: Sequence[str]) -> ValueError:
  """Keys that mean no group, with the names of groups and members that look like them."""
  near = [name for each in unknown for name in difflib.get_close_matches(str(each), names, 2)]
  fix = f'Did you mean {listed(dict.fromkeys(near))}?' if near else f'There are {listed(names)}.'
  got = f'{listed(unknown)}, which no group or member is called'
  constraint = 'a dict whose keys are names of groups or members'
  return ValueError(message(function, 'sparsity', constraint, got, fix))


def groups_not_scored(function: str, names: Sequence[str], why: str | None = None) -> ValueError:
  """``why``: what other arguments say of these groups, if that is the reason."""
  constraint = 'a dict of groups that may be pruned'
  got = f'{listed(names)}, {why or "of which no member is scored and selected"}'
  fix = 'Select a member with where=, or leave the group out of the dict.'
  return ValueError(message(function, 'sparsity', constraint, got, fix))


def complex_scores(function: str, path: str, score: Any) -> TypeError:
  fix = 'Scores are real: jprune.scores.magnitude and its kin make them of complex params.'
  return TypeError(message(function, 'scores', 'real', f'complex scores, {kind(score)}', fix, path))


def no_members_scored(function: str) -> ValueError:
  constraint = 'scores for at least one selected member of a group'
  fix = 'Members of groups are listed by print(graph); see also where=.'
  return ValueError(message(function, 'scores', constraint, 'none', fix))


def groups_left_dense(
  function: str, names: Sequence[str], sizes: Sequence[int], round_to: int, min_keep: int
) -> str:
  """A warning: what was asked can't be had in these groups."""
  shown = listed([f'{name} ({size} units)' for name, size in zip(names, sizes)])
  return (
    f'{function}: nothing can be pruned of {shown} with round_to={round_to} and '
    f'min_keep={min_keep}; these groups stay dense. Choose smaller numbers, or leave the groups '
    'out with where=.'
  )


def _is_str(value: Any) -> bool:
  return isinstance(value, str)


def masks_of_no_leaves(
  function: str, unknown: Sequence[str], argument: str = 'masks'
) -> ValueError:
  """Masks of other leaves than a graph was made of."""
  fix = 'Make the graph of a function of these params, or of variables that hold them.'
  return ValueError(message(function, argument, 'of leaves of the graph', listed(unknown), fix))


def groups_select(function: str, where: Any) -> ValueError:
  constraint = 'left out for ChannelGroups, whose groups say which leaves are pruned'
  fix = 'Hold leaves back by ChannelGroups(graph, keep=...).'
  return ValueError(message(function, 'where', constraint, repr(where), fix))
