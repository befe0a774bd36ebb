"""NNX and Equinox modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jprune._checks.words import differing, kind, listed, message


def not_nnx_module(function: str, model: Any) -> TypeError:
  fix = "A linen module's apply and variables are a function and its params already."
  got = f'the class {model.__name__}' if isinstance(model, type) else kind(model)
  return TypeError(message(function, 'model', 'an instance of flax.nnx.Module', got, fix))


def not_equinox_module(function: str, model: Any) -> TypeError:
  got = f'the class {model.__name__}' if isinstance(model, type) else kind(model)
  return TypeError(message(function, 'model', 'an instance of equinox.Module', got))


def no_variables(function: str, wrt: Any, paths: Sequence[str]) -> ValueError:
  if wrt is None:
    got, fix = 'a module without any', 'There is nothing to prune.'
    return ValueError(message(function, 'model', 'a module with array variables', got, fix))
  got = f'{wrt!r}, which selects none of {listed(paths)}'
  fix = 'For example wrt=nnx.Param.'
  return ValueError(message(function, 'wrt', 'a filter that selects a variable', got, fix))


def other_variables(function: str, expected: Sequence[str], found: Sequence[str]) -> ValueError:
  """The function that ``functional`` returned was called with another tree."""
  got = differing(expected, found)
  constraint = 'a tree with the leaf paths of the params that came with `fn`'
  fix = 'Call functional with the same wrt= for both.'
  return ValueError(message(function, 'params', constraint, got, fix))


def unknown_variables(function: str, unknown: Sequence[str], paths: Sequence[str]) -> ValueError:
  constraint = 'a tree whose leaf paths are among those of `model`'
  got = f'an unknown leaf {listed(unknown)}'
  return ValueError(message(function, 'params', constraint, got, f'It has {listed(paths)}.'))


def no_method(function: str, method: Any, kind_: str) -> ValueError:
  got = f'{method!r}, which {kind_} does not have'
  return ValueError(message(function, 'method', 'the name of a method of `model`', got))


def other_variable_shape(function: str, path: str, leaf: Any, shape: tuple[int, ...]) -> ValueError:
  fix = (
    'Params that jprune.shrink made smaller belong to small.fn, which also counts what is left of '
    'pruned channels: jprune.nnx.shrunk(model, small) is a module that computes it, unlike what '
    'nnx.update makes of these.'
  )
  return ValueError(message(function, 'params', f'of shape {shape}', kind(leaf), fix, path))


def other_plan(function: str, expected: Sequence[str], found: Sequence[str]) -> ValueError:
  got = differing(expected, found) or 'one of other shapes'
  constraint = 'a plan of all params and statistics of `model`'
  fix = 'Shrink the function that functional(model) gives, of all of its params.'
  return ValueError(message(function, 'small', constraint, got, fix))
