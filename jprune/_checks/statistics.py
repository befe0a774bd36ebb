"""Statistics of inputs, and what is scored by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jprune._checks.arrays import check_floating
from jprune._checks.functions import no_stats, not_stats
from jprune._checks.words import kind, listed, message


def check_stats(function: str, stats: Any) -> None:
  if not (hasattr(stats, 'uses') and hasattr(stats, 'inputs')):
    raise not_stats(function, stats)


def stats_of_others(
  function: str, paths: Sequence[str], captured: Sequence[str], why: Mapping[str, str]
) -> ValueError:
  """``why``: reasons for which leaves were not captured."""
  got = f'those of {listed(captured)}, while the params have {listed(paths)}'
  if not captured:
    got = 'those of no leaf at all'
  if reasons := [path for path in paths if path in why and path not in captured]:
    got += f" ('{reasons[0]}' was not captured: {why[reasons[0]]})"
  fix = 'Capture them with the same tree of params.'
  return ValueError(message(function, 'stats', 'statistics of leaves of the params', got, fix))


def stats_of_other_shape(function: str, path: str, leaf: Any, shape: tuple[int, ...]) -> ValueError:
  constraint = f'of a leaf with the shape of that of the params, {tuple(leaf.shape)}'
  fix = 'Capture them with these params.'
  return ValueError(message(function, 'stats', constraint, f'those of shape {shape}', fix, path))


def check_scored(function: str, path: str, score: Any, stats: Any) -> None:
  """A selected leaf needs scores; where a scorer from statistics has none, it says why."""
  if score is None and hasattr(stats, 'uses') and path not in dict(stats.uses):
    raise no_stats(function, path, dict(getattr(stats, 'left_out', ())).get(path))
  if score is None:
    fix = 'Exclude the leaf with where=, or score it.'
    raise TypeError(message(function, 'scorer', 'a floating array', kind(score), fix, path))
  check_floating(function, 'scorer', path, score)


def scores_too_far_apart(function: str, low: str, high: str) -> ValueError:
  constraint = 'such that scores of all leaves fit float32'
  got = f"ones of leaf '{high}' that are more than 2^200 times as large"
  fix = 'Score the leaves in calls of their own.'
  return ValueError(message(function, 'params', constraint, got, fix, low))


def bad_groups(function: str, groups: Any) -> TypeError:
  constraint = 'a function of a leaf path, or a regular expression with one group'
  fix = r"For example r'(layers_\d+)/'."
  return TypeError(message(function, 'groups', constraint, repr(groups), fix))


def bad_group_regex(function: str, groups: Any, why: str) -> ValueError:
  constraint = 'a regular expression with one group'
  fix = r"For example r'(layers_\d+)/'; use (?:...) for what is not the name."
  return ValueError(message(function, 'groups', constraint, f'{groups!r} ({why})', fix))


def bad_group(function: str, path: str, group: Any) -> TypeError:
  constraint = 'a function that returns the name of a group, or None'
  return TypeError(message(function, 'groups', constraint, kind(group), '', path))


def scores_needed(function: str, path: str, leaf: Any) -> TypeError:
  fix = 'Call it outside of jit, and pass on the sparsities that it returns.'
  constraint = 'arrays with values at hand'
  return TypeError(message(function, 'scores', constraint, f'{kind(leaf)}, traced', fix, path))
