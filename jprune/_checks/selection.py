"""Scores, distributions, patterns and masks."""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jprune._checks.arrays import check_fraction, check_numeric
from jprune._checks.words import listed, message, shown, unknown


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
  near = [path for name in unknown for path in difflib.get_close_matches(name, paths, 2)]
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


def check_distribution(function: str, distribution: Any) -> None:
  """Refuses what can't be called, and a scorer."""
  if not callable(distribution) or _is_from(distribution, 'jprune.scores'):
    raise bad_distribution(function, distribution)


def is_distribution(scorer: Any) -> bool:
  """Whether a function of this library that shares out a sparsity stands for a scorer."""
  return _is_from(scorer, 'jprune.distributions')


def _is_from(each: Any, namespace: str) -> bool:
  return str(getattr(each, '__module__', None)).startswith(f'{namespace}.')


def bad_distribution(function: str, distribution: Any) -> TypeError:
  if isinstance(distribution, Mapping):
    fix = 'Pass jprune.distributions.fixed(...) of it.'
  elif callable(distribution):
    return _swapped(function, 'distribution', distribution, 'scorer')
  else:
    fix = _function_meant(distribution, 'jprune.distributions', 'erk')
  return TypeError(message(function, 'distribution', 'a function', shown(distribution), fix))


def _swapped(function: str, argument: str, given: Any, meant: str) -> TypeError:
  """A function of the library that stands in the place of another kind."""
  got = f'the {meant} {getattr(given, "__name__", given)}'
  return TypeError(message(function, argument, f'a {argument}', got, f'Pass it as {meant}=.'))


def check_not_params(function: str, argument: str, leaves: Sequence[Any]) -> None:
  """Refuses, as scores, all the arrays of the params themselves.

  Unless none is negative: then they are their magnitudes. Nothing is said under a trace.
  """
  arrays = [leaf for leaf in leaves if hasattr(leaf, 'dtype')]
  floating = [leaf for leaf in arrays if jnp.issubdtype(leaf.dtype, jnp.floating)]
  if any(isinstance(leaf, Tracer) or not hasattr(leaf, '__array__') for leaf in floating):
    return
  if not any(bool((leaf < 0).any()) for leaf in floating):
    return
  fix = 'Score them first, for example jprune.scores.magnitude(params).'
  got = 'the params themselves, negative ones among them'
  raise ValueError(message(function, argument, 'scores, higher for what is to stay', got, fix))


def check_scorer(function: str, scorer: Any) -> None:
  """Refuses what is neither a function nor a tree of scores, and a distribution."""
  if scorer is None or isinstance(scorer, (str, bool, int, float)) or is_distribution(scorer):
    raise bad_scorer(function, scorer)


def bad_scorer(
  function: str, scorer: Any, constraint: str = 'a function or a tree of scores'
) -> TypeError:
  if callable(scorer):
    return _swapped(function, 'scorer', scorer, 'distribution')
  fix = _function_meant(scorer, 'jprune.scores', 'magnitude')
  return TypeError(message(function, 'scorer', constraint, shown(scorer), fix))


def _function_meant(word: Any, namespace: str, example: str) -> str:
  """The function whose name was given instead of it."""
  module = sys.modules.get(namespace)  # looked up by its name: this room lies below it
  public = [name for name, each in vars(module).items() if callable(each) and name[0] != '_']
  near = difflib.get_close_matches(word, public, 1) if isinstance(word, str) else []
  if near:
    return f'Pass the function itself: {namespace}.{near[0]}.'
  return f'For example {namespace}.{example}.'


def unknown_argument(
  function: str, argument: str, known: Collection[str], scorer: Any = None
) -> TypeError:
  """A keyword that a function doesn't have, nor a scorer to which it hands what it doesn't know."""
  constraint = f'an argument of {function}'
  if scorer is not None:
    constraint += f' or of its scorer {getattr(scorer, "__name__", scorer)}'
  fix = unknown(argument, known, '{}=')
  return TypeError(message(function, argument, constraint, 'none of that name', fix))


def unknown_arguments(scorer: Any, given: Collection[str]) -> list[str]:
  """Arguments that are given to a scorer, and that it doesn't take by name."""
  try:
    parameters = inspect.signature(scorer).parameters
  except (ValueError, TypeError):  # a builtin without a signature
    return []
  if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
    return []
  named = [n for n, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
  return [name for name in given if name not in named]


def missing_arguments(scorer: Any, given: Collection[str] = ()) -> list[str]:
  """Arguments that a scorer needs besides the params, and isn't given."""
  try:
    signature = inspect.signature(scorer)
  except (ValueError, TypeError):  # a builtin without a signature
    return []
  free = [p for p in signature.parameters.values() if p.default is p.empty]
  by_place = [p.name for p in free if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
  needed = by_place[1:] + [p.name for p in free if p.kind == p.KEYWORD_ONLY]
  return [name for name in needed if name not in given]


def scorer_takes_more(
  function: str, scorer: Any, missing: list[str], handed_on: bool = False
) -> TypeError:
  """Of a scorer that needs more; ``handed_on`` says that the function takes its arguments."""
  constraint = 'given all that it takes'
  name = getattr(scorer, '__name__', repr(scorer))
  got = f'{name} without {listed(missing)}'
  of_library = getattr(scorer, '__module__', '').startswith('jprune.scores.')
  called = f'jprune.scores.{name}' if of_library else name
  known = [_GIVEN.get(each, f'{each}=...') for each in missing]
  several = any(p.kind is p.VAR_POSITIONAL for p in inspect.signature(scorer).parameters.values())
  if not handed_on:
    fix = f'Bind them: scorer=functools.partial({called}, {", ".join(known)}).'
  elif several:  # which have no name
    fix = f'Pass the scores: scorer={called}(params, {", ".join([*missing, "..."])}).'
  else:
    fix = f'Pass {", ".join(known)}.'
  return TypeError(message(function, 'scorer', constraint, got, fix))


_GIVEN = {
  'stats': 'stats=jprune.graph.capture_batches(fn, params, batches)',
  'grads': 'grads=jax.grad(loss_fn)(params, batch)',
  'key': 'key=jax.random.key(seed)',
}


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
