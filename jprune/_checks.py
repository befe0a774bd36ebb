"""Argument checks; the only place where messages are worded.

A function whose name is a noun phrase builds the error for its caller to raise; one whose name
is ``check_...`` raises it itself. Every message reads
``{function}: `{argument}` must be {constraint}; got {value} [at leaf '{path}']. {What to do.}``
Values are looked at only where they are concrete; under a trace only shapes and dtypes are.
"""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def message(
    function: str, argument: str, constraint: str, value: str, fix: str = '', path: str | None = None
) -> str:
  """The sentence that every message is; ``value`` is text already."""
  where = '' if path is None else f" at leaf '{path}'"
  return f'{function}: `{argument}` must be {constraint}; got {value}{where}. {fix}'.rstrip()


def kind(leaf: Any) -> str:
  """How a message shows a leaf: dtype and shape of an array, else its type."""
  if hasattr(leaf, 'shape') and hasattr(leaf, 'dtype'):
    return f'{leaf.dtype} of shape {tuple(leaf.shape)}'
  return type(leaf).__name__


def listed(names: Iterable[str], most: int = 3) -> str:
  """The first few names, quoted, and how many more there are."""
  names = list(names)
  shown = ', '.join(f"'{name}'" for name in names[:most])
  return shown + (f' and {len(names) - most} more' if len(names) > most else '')


# ---------------------------------------------------------------------- trees and leaf filters


def empty_tree(function: str, argument: str = 'params') -> ValueError:
  return ValueError(
      message(function, argument, 'a tree with at least one leaf', 'an empty tree', 'Pass the model\'s parameters.')
  )


def other_structure(
    function: str, argument: str, expected: Sequence[str], found: Sequence[str], error: Exception
) -> ValueError:
  """``argument`` hasn't the structure of the params: says which paths differ."""
  missing = [path for path in expected if path not in set(found)]
  extra = [path for path in found if path not in set(expected)]
  if missing or extra:
    parts = [f'no leaf {listed(missing)}'] if missing else []
    parts += [f'an unknown leaf {listed(extra)}'] if extra else []
    got = ' and '.join(parts)
  else:
    got = f'the same leaf paths in other containers ({error})'
  fix = 'Build it with jax.tree.map over the params; None leaves are allowed.'
  return ValueError(message(function, argument, 'a tree with the structure of `params`', got, fix))


def nothing_selected(function: str, where: Any, paths: Sequence[str]) -> ValueError:
  near = [p for p in paths if isinstance(where, str) and difflib.SequenceMatcher(None, where, p).ratio() > 0.5]
  got = f'where={where!r}, which selects no weights out of {listed(paths)}'
  fix = f'Did you mean {listed(near)}?' if near else (
      'By default floating leaves with two or more dimensions are selected.' if where is None
      else 'Leaf paths look like those above.'
  )
  return ValueError(message(function, 'where', 'a filter that selects at least one leaf', got, fix))


def not_floating(function: str, argument: str, path: str, leaf: Any) -> TypeError:
  constraint = 'floating where it is pruned' if argument != 'where' else 'a filter of floating leaves'
  return TypeError(message(function, argument, constraint, kind(leaf), 'Exclude the leaf with where=.', path))


def bad_regex(function: str, where: Any, error: Exception) -> ValueError:
  fix = 'Escape special characters, or pass a predicate (path, leaf) -> bool.'
  return ValueError(message(function, 'where', 'a regular expression', f'{where!r} ({error})', fix))


def bad_where(function: str, where: Any) -> TypeError:
  constraint = 'a predicate, a regular expression, a non-empty list of these, or a tree of bools'
  return TypeError(message(function, 'where', constraint, repr(where), 'See jprune.typing.Where.'))


def as_bool(function: str, answer: Any, path: str) -> bool:
  """The answer of a user's predicate, refused unless it is a bool."""
  if isinstance(answer, (bool, np.bool_)):
    return bool(answer)
  fix = 'Return True to select the leaf.'
  raise TypeError(message(function, 'where', 'a predicate that returns a bool', repr(answer), fix, path))


# ------------------------------------------------------------------------------ arrays in trees


def check_shape(function: str, argument: str, path: str, leaf: Any, shape: tuple[int, ...]) -> None:
  if not hasattr(leaf, 'shape') or tuple(leaf.shape) != tuple(shape):
    fix = 'Was it made for other params?'
    raise ValueError(message(function, argument, f'of shape {tuple(shape)}', kind(leaf), fix, path))


def check_bool(function: str, argument: str, path: str, leaf: Any) -> None:
  if not hasattr(leaf, 'dtype') or leaf.dtype != jnp.bool_:
    fix = 'Compare first, for example mask > 0; None leaves a leaf dense.'
    raise TypeError(message(function, argument, 'of dtype bool', kind(leaf), fix, path))


def check_floating(function: str, argument: str, path: str, leaf: Any) -> None:
  if not (hasattr(leaf, 'dtype') and hasattr(leaf, 'shape') and jnp.issubdtype(leaf.dtype, jnp.floating)):
    fix = 'Use None for leaves that are not to be pruned.'
    raise TypeError(message(function, argument, 'a floating array', kind(leaf), fix, path))


def check_no_nan(function: str, argument: str, path: str, leaf: jax.Array) -> None:
  """NaN has no rank. Looks at concrete values only (max propagates NaN in a single read)."""
  if isinstance(leaf, jax.core.Tracer) or leaf.size == 0:
    return
  if isinstance(leaf, np.ndarray):
    worst = leaf.max()
  else:
    worst = jnp.max(leaf)
  if bool(jnp.isnan(worst)):
    count = int(np.isnan(np.asarray(leaf, np.float32)).sum()) if leaf.size < 2**28 else 'some'
    fix = 'Fix the params or the scorer; NaN has no rank.'
    raise ValueError(message(function, argument, 'free of NaN', f'{count} NaN', fix, path))


def check_numeric(function: str, argument: str, value: Any, path: str | None = None) -> None:
  scalar = hasattr(value, 'shape') and hasattr(value, 'dtype') and value.shape == ()
  if isinstance(value, bool) or not (isinstance(value, numbers.Real) or scalar):
    raise TypeError(message(function, argument, 'a number', repr(value), '', path))


def check_fraction(function: str, argument: str, value: Any, path: str | None = None) -> None:
  """A sparsity or a rate: a number in [0, 1]. A tracer passes."""
  check_numeric(function, argument, value, path)
  if isinstance(value, jax.core.Tracer):
    return
  if not 0.0 <= float(value) <= 1.0:  # NaN is refused too
    fix = 'It is the fraction of zeros, not a percentage.'
    raise ValueError(message(function, argument, 'in [0, 1]', f'{float(value)!r}', fix, path))


def check_key(function: str, key: Any) -> None:
  if key is None:
    raise TypeError(message(function, 'key', 'a typed random key', 'None', 'Pass key=jax.random.key(seed).'))
  typed = hasattr(key, 'dtype') and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
  if not typed or key.shape != ():
    fix = 'Pass key=jax.random.key(seed).'
    raise TypeError(message(function, 'key', 'one typed random key', kind(key), fix))


def check_positive_int(function: str, argument: str, value: Any) -> None:
  if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
    raise ValueError(message(function, argument, 'an int of at least 1', repr(value)))


def none_given(function: str, argument: str) -> ValueError:
  return ValueError(message(function, argument, 'at least one', 'none'))
