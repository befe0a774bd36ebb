"""What scores and what shares out a sparsity: functions, and the arguments that they take."""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Collection, Mapping, Sequence
from types import ModuleType
from typing import Any

import jax.numpy as jnp
from jax.core import Tracer

from jprune._checks.words import listed, message, shown, unknown


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

  Unless none is negative: then they are their magnitudes; minus infinity is no weight. Nothing is
  said under a trace.
  """
  arrays = [leaf for leaf in leaves if hasattr(leaf, 'dtype')]
  floating = [leaf for leaf in arrays if jnp.issubdtype(leaf.dtype, jnp.floating)]
  if any(isinstance(leaf, Tracer) or not hasattr(leaf, '__array__') for leaf in floating):
    return
  if not any(bool(((leaf < 0) & (leaf > -jnp.inf)).any()) for leaf in floating):
    return
  fix = 'Score them first, for example jprune.scores.magnitude(params).'
  got = 'the params themselves, negative ones among them'
  raise ValueError(message(function, argument, 'scores, higher for what is to stay', got, fix))


def check_scorer(function: str, scorer: Any) -> None:
  """Refuses what is neither a function nor a tree of scores, and a distribution."""
  no_scorer = (str, bool, int, float, ModuleType)
  if scorer is None or isinstance(scorer, no_scorer) or is_distribution(scorer):
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
  called = f'jprune.scores.{name}' if _is_from(scorer, 'jprune.scores') else name
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
