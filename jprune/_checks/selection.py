"""Scores, distributions, patterns and masks."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from jprune._checks.arrays import check_fraction, check_numeric
from jprune._checks.words import listed, message, shown


def check_int(function: str, argument: str, value: Any) -> None:
  if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
    raise TypeError(message(function, argument, 'an int', shown(value)))


def check_axis(function: str, axis: int, path: str, shape: tuple[int, ...]) -> None:
  if not -len(shape) <= axis < len(shape):
    constraint = f'an axis of a leaf with {len(shape)} dimensions'
    fix = 'Exclude the leaf with where=, or choose another axis.'
    raise ValueError(message(function, 'axis', constraint, f'{axis}', fix, path))


def pattern_has_sparsity(function: str, pattern: Any, value: Any) -> ValueError:
  constraint = f'None for {pattern}, whose sparsity is its own ({pattern.sparsity:g})'
  return ValueError(message(function, 'sparsity', constraint, shown(value), 'Leave it out.'))


def caps_contradict(function: str, sparsity: Any, kept: int, size: int) -> ValueError:
  constraint = f'at most {(size - kept) / size:g}, since {kept} of {size} have to be kept'
  fix = 'Lower it, or lower min_keep=, or raise max_sparsity=.'
  got = f'{float(np.asarray(sparsity)):g}'
  return ValueError(message(function, 'sparsity', constraint, got, fix))


def pattern_capped(function: str, argument: str, value: Any, pattern: Any) -> ValueError:
  own = f'every group of which keeps {pattern.n}' if hasattr(pattern, 'n') else 'which has its own'
  constraint = f'left out for {pattern}, {own}'
  return ValueError(message(function, argument, constraint, shown(value)))


def pattern_not_global(function: str, pattern: Any) -> ValueError:
  fix = 'Every group of it keeps the same number: use top_k, or prune without a distribution.'
  return ValueError(
    message(function, 'pattern', 'one with units that compete', shown(pattern), fix)
  )


def no_sparsity(function: str) -> TypeError:
  fix = 'Pass the fraction of zeros, for example 0.9.'
  return TypeError(message(function, 'sparsity', 'a number in [0, 1]', 'None', fix))


def key_not_wanted(function: str, scorer: Any) -> TypeError:
  got = f'a key for {getattr(scorer, "__name__", scorer)}, which takes none'
  return TypeError(
    message(function, 'key', 'None for a scorer that draws nothing', got, 'Leave it out.')
  )


def arguments_not_wanted(function: str, names: Sequence[str]) -> TypeError:
  constraint = 'a function where arguments are passed to it'
  got = f'a tree of scores and {listed(names)}'
  return TypeError(message(function, 'scorer', constraint, got, 'Leave the arguments out.'))


def positive_number(function: str, argument: str, value: Any) -> float:
  """The number as a float; a tracer is refused, since it is compared with constants."""
  check_numeric(function, argument, value)
  if isinstance(value, Tracer):
    raise not_static(function, argument)
  if not 0.0 < float(value) < float('inf'):
    raise ValueError(message(function, argument, 'positive and finite', f'{float(value)!r}'))
  return float(value)


def static_fraction(function: str, argument: str, value: Any, path: str | None = None) -> float:
  """A sparsity as a Python float, for what computes on the host."""
  check_fraction(function, argument, value, path)
  if isinstance(value, Tracer):
    raise not_static(function, argument, path)
  return float(value)


def not_static(function: str, argument: str, path: str | None = None) -> TypeError:
  fix = 'Mark it static under jit, or close over it.'
  return TypeError(message(function, argument, 'a number at hand', 'a traced one', fix, path))


def check_values(function: str, path: str, leaf: Any, argument: str = 'params') -> None:
  if isinstance(leaf, jax.ShapeDtypeStruct):
    got = f'a shape struct of shape {tuple(leaf.shape)}'
    fix = 'Call it under jax.eval_shape where only shapes matter.'
    raise TypeError(message(function, argument, 'arrays', got, fix, path))


def nothing_scored(function: str) -> ValueError:
  fix = 'None there means that the leaf stays dense.'
  return ValueError(message(function, 'scores', 'scores for at least one leaf', 'only None', fix))


def unknown_paths(
  function: str, argument: str, unknown: Sequence[str], paths: Sequence[str]
) -> ValueError:
  """Names of leaves that there aren't, with the names that look like them."""
  first = unknown[:3]  # as many as are listed; each is compared with all paths
  near = [path for name in first for path in difflib.get_close_matches(name, paths, 2)]
  fix = f'Did you mean {listed(dict.fromkeys(near))}?' if near else f'There are {listed(paths)}.'
  got = f'{listed(unknown)}, which no leaf is called'
  return ValueError(message(function, argument, 'a dict whose keys are leaf paths', got, fix))


def not_scored(function: str, argument: str, path: str) -> ValueError:
  constraint = 'a dict of leaves that are to be pruned'
  fix = 'Select the leaf with where=, or leave it out of the dict.'
  return ValueError(message(function, argument, constraint, 'a sparsity', fix, path))


def non_negative_number(function: str, argument: str, value: Any) -> float:
  """The number as a float, at least 0; a tracer is refused, as in ``positive_number``."""
  check_numeric(function, argument, value)
  if isinstance(value, Tracer):
    raise not_static(function, argument)
  if not 0.0 <= float(value) < float('inf'):
    raise ValueError(message(function, argument, 'at least 0 and finite', f'{float(value)!r}'))
  return float(value)


def bad_pattern(function: str, pattern: Any) -> TypeError:
  return TypeError(
    message(function, 'pattern', 'a pattern', shown(pattern), _pattern_meant(pattern))
  )


def _pattern_meant(pattern: Any) -> str:
  """The pattern that a word, a pair or a class stands for."""
  if isinstance(pattern, type):
    return f'Call the class: for example jprune.{_PATTERNS.get(pattern.__name__.lower(), _N_OF_M)}.'
  text = pattern if isinstance(pattern, str) else ''
  if isinstance(pattern, (tuple, list)):
    text = ':'.join(map(str, pattern))
  if pair := re.fullmatch(r'\s*(\d+)\s*(?::|/|of)\s*(\d+)\s*', text):
    n, m = map(int, pair.groups())
    block = '' if isinstance(pattern, str) else f', for tiles jprune.Block(({n}, {m}))'
    return f'To keep {n} of every {m} pass jprune.NOfM({n}, {m}){block}.'
  near = difflib.get_close_matches(text.lower(), _PATTERNS, 1)
  if near:
    return f'Pass jprune.{_PATTERNS[near[0]]}.'
  return f'For example jprune.{_N_OF_M}, which keeps 2 of every 4.'


_N_OF_M = 'NOfM(2, 4)'
_PATTERNS = {
  'unstructured': 'Unstructured()',
  'nofm': _N_OF_M,
  'block': 'Block((4, 4))',
  'channel': 'Channel(-1)',
  'channelgroups': 'ChannelGroups(graph)',
}


def check_pattern(function: str, pattern: Any) -> None:
  if isinstance(pattern, type) or not hasattr(pattern, 'check'):
    raise bad_pattern(function, pattern)


def pattern_shares_alike(function: str, pattern: Any) -> ValueError:
  constraint = f'left out for {pattern}, which prunes all leaves alike'
  fix = 'Leave leaves out with where=.'
  return ValueError(message(function, 'distribution', constraint, 'another one', fix))


def check_measured_pattern(function: str, distribution: Any, pattern: Any) -> None:
  """Sparsities that were measured with a pattern mean something with that one only."""
  measured = getattr(distribution, 'pattern', None)
  if isinstance(measured, str) and measured and measured != repr(pattern):
    constraint = f'{measured}, with which the sparsities of the distribution were measured'
    fix = 'Pass that one, or distribution=jprune.distributions.fixed(allocation) for any other.'
    raise ValueError(message(function, 'pattern', constraint, shown(pattern), fix))
