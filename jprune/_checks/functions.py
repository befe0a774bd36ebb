"""Functions that are traced, and what they are given."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import jax

from jprune._checks.foreign import check_tree, foreign
from jprune._checks.words import kind, listed, message


def not_a_function(function: str, fn: Any) -> TypeError:
  known = foreign(fn)
  fix = 'Pass model.apply, or for an NNX module jprune.nnx.functional(model).'
  got = type(fn).__name__
  if known is not None:
    got, fix = f'{known.called}, {got}', known.as_function
  constraint = 'a function of the params and further arguments'
  return TypeError(message(function, 'fn', constraint, got, fix))


def check_functions_first(function: str, argument: str, fn: Any, params: Any) -> None:
  """Refuses a call in which the function and the params have changed places."""
  if callable(fn):
    check_tree(function, 'params', params)
  bare = jax.tree_util.all_leaves([params])  # unlike a module, which may be called and has leaves
  if callable(params) and (bare or not callable(fn)):
    constraint = 'a function, and `params` a tree of arrays'
    fix = f'Functions come first: {function}({argument}, params, ...).'
    got = f'{kind(fn)} and {kind(params)}'
    raise TypeError(message(function, argument, constraint, got, fix))


def bad_args(function: str, args: Any) -> TypeError:
  if isinstance(args, (tuple, list)):
    got = '1 argument' if len(args) == 1 else f'{len(args)} arguments'
    return TypeError(message(function, 'args', 'empty without fn', got))
  fix = 'Write args=(x,) for a function that is called fn(params, x).'
  return TypeError(message(function, 'args', 'a tuple', kind(args), fix))


def check_no_keywords(function: str, keywords: Iterable[str], own: Iterable[str] = ()) -> None:
  """Refuses keywords of ``fn``; ``own`` are those of the function, one of which may be meant."""
  for name in keywords:
    near = difflib.get_close_matches(name, list(own), 1)
    fix = f'Did you mean {near[0]}=? ' if near else ''
    fix += (
      f'Bind it: functools.partial(fn, {name}=...).'
      if not near
      else (f'A keyword of fn is bound: functools.partial(fn, {name}=...).')
    )
    raise TypeError(message(function, 'args', 'positional', f'the keyword {name!r}', fix))


def other_params(
  function: str, missing: list[str], extra: list[str], found: list[str], reference: str
) -> ValueError:
  parts = [f'without {listed(missing)}'] * bool(missing)
  parts += [f'with {listed(extra)} besides'] * bool(extra)
  parts = parts or [f'several leaves of one path: {listed(found)}']
  return ValueError(
    message(function, 'params', f'a tree with the leaves of {reference}', ' and '.join(parts))
  )


def no_batches(function: str, unit: str = 'batch') -> ValueError:
  return ValueError(
    message(function, f'{unit}es' if unit == 'batch' else f'{unit}s', 'at least one', 'none')
  )


def no_stats(function: str, path: str, why: str | None) -> ValueError:
  constraint = 'statistics of every leaf that is to be scored'
  fix = 'Exclude the leaf with where=, or capture it.'
  got = f'none ({why})' if why else 'none'
  return ValueError(message(function, 'stats', constraint, got, fix, path))


def no_gram(function: str, path: str) -> ValueError:
  constraint = 'captured with gram=True'
  return ValueError(message(function, 'stats', constraint, 'moments without products', '', path))


def not_stats(function: str, stats: Any) -> TypeError:
  fix = 'Capture them with jprune.graph.capture_batches(fn, params, batches, gram=True).'
  return TypeError(message(function, 'stats', 'statistics of inputs', kind(stats), fix))


def no_rows(function: str, path: str) -> ValueError:
  fix = 'Capture a batch in which the leaf is used, with sample_weights= that are not all 0.'
  return ValueError(message(function, 'stats', 'of at least one row', 'none', fix, path))


def check_batches(function: str, batches: Any) -> None:
  if not hasattr(batches, '__iter__') or hasattr(batches, 'shape') or isinstance(batches, dict):
    fix = 'Write [batch] for a single one.'
    raise TypeError(message(function, 'batches', 'an iterable of batches', kind(batches), fix))


def list_of_batches(function: str, batches: Any) -> TypeError:
  got = f'one {type(batches).__name__} of {len(batches)}'
  fix = f'Unpack it: {function}(..., *batches).'
  if isinstance(batches, list):
    fix += ' If it is one batch, make it a tuple.'
  return TypeError(message(function, 'batches', 'passed one by one', got, fix))
