"""Statistics of inputs, and what is scored by them."""

from __future__ import annotations

from typing import Any

from jprune._checks.arrays import check_floating
from jprune._checks.functions import no_stats, not_stats
from jprune._checks.words import kind, message, shown


def check_stats(function: str, stats: Any) -> None:
  if not (hasattr(stats, 'uses') and hasattr(stats, 'inputs')):
    raise not_stats(function, stats)


def stats_of_other_shape(function: str, path: str, leaf: Any, shape: tuple[int, ...]) -> ValueError:
  constraint = f'of a leaf with the shape of that of the params, {tuple(leaf.shape)}'
  fix = 'Capture them with these params.'
  return ValueError(message(function, 'stats', constraint, f'those of shape {shape}', fix, path))


def check_scored(function: str, path: str, score: Any, stats: Any) -> None:
  """A selected leaf needs scores; where a scorer from statistics has none, it says why."""
  if score is None and hasattr(stats, 'uses') and path not in dict(stats.uses):
    raise no_stats(function, path, dict(getattr(stats, 'skipped', ())).get(path))
  if score is None:
    fix = 'Exclude the leaf with where=, or score it.'
    raise TypeError(message(function, 'scorer', 'a floating array', kind(score), fix, path))
  check_floating(function, 'scorer', path, score)


def bad_groups(function: str, groups: Any) -> TypeError:
  constraint = 'a function of a leaf path, or a regular expression with one group'
  fix = r"For example r'(layers_\d+)/'."
  return TypeError(message(function, 'groups', constraint, shown(groups), fix))


def bad_group_regex(function: str, groups: Any, why: str) -> ValueError:
  constraint = 'a regular expression with one group'
  fix = r"For example r'(layers_\d+)/'; use (?:...) for what is not the name."
  return ValueError(message(function, 'groups', constraint, f'{groups!r} ({why})', fix))


def bad_group(function: str, path: str, group: Any) -> TypeError:
  constraint = 'a function that returns the name of a group, or None'
  return TypeError(message(function, 'groups', constraint, kind(group), '', path))


def complex_leaf(function: str, argument: str, path: str, leaf: Any) -> TypeError:
  """For what is known of real weights only."""
  constraint = 'real where least squares or correlations are taken of it'
  fix = 'Prune complex leaves by scores that they have, as jprune.scores.magnitude, without repair.'
  got = f'complex weights, {kind(leaf)}'
  return TypeError(message(function, argument, constraint, got, fix, path))
