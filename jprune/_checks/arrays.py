"""Leaves, numbers and keys."""

from __future__ import annotations

import numbers
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jprune._checks.words import kind, message, shown, whole

# of more than 64 bits a part, where they are no other names of float64 and complex128
_LONG = {np.longdouble, np.clongdouble} - {np.float64, np.complex128}


def check_shape(function: str, argument: str, path: str, leaf: Any, shape: tuple[int, ...]) -> None:
  if not hasattr(leaf, 'shape') or tuple(leaf.shape) != tuple(shape):
    fix = 'Was it made for other params?'
    raise ValueError(message(function, argument, f'of shape {tuple(shape)}', kind(leaf), fix, path))


def in_file(function: str, argument: str, path: str, leaf: Any, opened: bool) -> TypeError:
  """A leaf that is not in memory, where a program is to run with it."""
  fix = f'Read it first: jax.tree.map(jax.numpy.asarray, {argument}).'
  if opened:
    fix = (
      f'Pass the checkpoint itself, or read it first: jax.tree.map(jax.numpy.asarray, {argument}).'
    )
  return TypeError(message(function, argument, 'arrays in memory', repr(leaf), fix, path))


def opened_distribution(function: str, distribution: Any) -> ValueError:
  """One that compares scores of all leaves, of which a checkpoint has one in memory at a time."""
  name = getattr(distribution, '__name__', repr(distribution))
  fix = 'Scores of all leaves would have to be in memory: uniform, er, erk and fixed need none.'
  constraint = 'one that looks at shapes alone, for a checkpoint'
  return ValueError(message(function, 'distribution', constraint, name, fix))


def opened_with(function: str, argument: str, constraint: str, got: str) -> ValueError:
  """What goes with params in memory only."""
  fix = 'Pass params=checkpoint.params, if they fit into memory.'
  return ValueError(message(function, argument, f'{constraint}, for a checkpoint', got, fix))


def opened(function: str, argument: str, path: str, checkpoint: Any) -> TypeError:
  """A checkpoint in place of the tree that it holds."""
  fix = f'Pass what it holds: {argument}=checkpoint.params.'
  where = path or None
  return TypeError(message(function, argument, 'a tree of arrays', kind(checkpoint), fix, where))


def check_dtype(function: str, argument: str, path: str, leaf: Any) -> None:
  """Refuses what NumPy has and JAX lacks: text, objects, dates, records, long doubles."""
  dtype = leaf.dtype
  of_jax = (
    jnp.issubdtype(dtype, jax.dtypes.extended)
    or dtype in (jnp.bool_, jax.dtypes.float0)
    or (jnp.issubdtype(dtype, jnp.number) and dtype.kind != 'm')
  )
  if of_jax and not (jnp.issubdtype(dtype, jnp.inexact) and dtype.type in _LONG):
    return
  fix = 'Cast it, for example to float32, or leave it out.'
  constraint = 'arrays of dtypes that JAX has'
  raise TypeError(message(function, argument, constraint, kind(leaf), fix, path))


def check_bool(function: str, argument: str, path: str, leaf: Any) -> None:
  if not hasattr(leaf, 'dtype') or leaf.dtype != jnp.bool_:
    fix = 'Compare first, for example mask > 0; None leaves a leaf dense.'
    raise TypeError(message(function, argument, 'of dtype bool', kind(leaf), fix, path))


def check_floating(function: str, argument: str, path: str, leaf: Any) -> None:
  if not (
    hasattr(leaf, 'dtype') and hasattr(leaf, 'shape') and jnp.issubdtype(leaf.dtype, jnp.floating)
  ):
    fix = 'Use None for leaves that are not to be pruned.'
    raise TypeError(message(function, argument, 'a floating array', kind(leaf), fix, path))


def check_no_nan(function: str, argument: str, path: str, leaf: Any) -> None:
  """NaN has no rank. Looks at concrete values only."""
  if isinstance(leaf, Tracer) or leaf.size == 0:
    return
  small = leaf.size < 2**18 and getattr(leaf, 'is_fully_addressable', True)
  if small or isinstance(leaf, np.ndarray):
    found = np.isnan(np.asarray(leaf)).any()  # nothing to compile
  else:
    found = jnp.isnan(jnp.max(leaf))  # max hands NaN on, in a single read
  if bool(found):
    fix = 'Fix the params or the scorer; NaN has no rank.'
    raise ValueError(message(function, argument, 'free of NaN', 'NaN', fix, path))


def check_numeric(function: str, argument: str, value: Any, path: str | None = None) -> None:
  if hasattr(value, 'shape') and hasattr(value, 'dtype'):
    real = jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)
    good = value.shape == () and real
  else:
    good = isinstance(value, numbers.Real) and not isinstance(value, bool)
  if not good:
    raise not_a_number(function, argument, value, path)


def not_a_number(function: str, argument: str, value: Any, path: str | None = None) -> TypeError:
  fix = _number_meant(argument, value)
  return TypeError(message(function, argument, 'a number', shown(value), fix, path))


def _number_meant(argument: str, value: Any) -> str:
  """What to write instead of what is no number, where that can be guessed."""
  if argument.startswith('sparsit'):
    if isinstance(value, Mapping):
      constraint = 'A sparsity for each leaf is a distribution: '
      return f'{constraint}distribution=jprune.distributions.fixed({{path: sparsity}}).'
    pair = re.fullmatch(r'\s*(\d+):(\d+)\s*', value) if isinstance(value, str) else None
    if pair:
      return f'Pass pattern=jprune.NOfM({pair[1]}, {pair[2]}).'
    if hasattr(value, 'check'):
      return 'Pass it as pattern=.'
  if not isinstance(value, str):
    return ''
  text = value.strip()
  try:
    number = float(text.rstrip('% '))
  except ValueError:
    return ''
  return f'Write {number / 100 if text.endswith("%") else number:g}.'


def check_fraction(function: str, argument: str, value: Any, path: str | None = None) -> None:
  """A sparsity or a rate: a number in [0, 1]. A tracer passes."""
  check_numeric(function, argument, value, path)
  if isinstance(value, Tracer):
    return
  if not 0.0 <= float(value) <= 1.0:  # NaN is refused too
    fix = 'It is the fraction of zeros, not a percentage.'
    if 2 <= float(value) <= 100:
      fix += f' Write {float(value) / 100:g}.'
    raise ValueError(message(function, argument, 'in [0, 1]', f'{float(value)!r}', fix, path))


def check_key(function: str, key: Any) -> None:
  if key is None:
    raise TypeError(
      message(function, 'key', 'a typed random key', 'None', 'Pass key=jax.random.key(seed).')
    )
  typed = hasattr(key, 'dtype') and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
  if not typed or key.shape != ():
    fix = 'Pass key=jax.random.key(seed).'
    raise TypeError(message(function, 'key', 'one typed random key', kind(key), fix))


def check_positive_int(function: str, argument: str, value: Any) -> None:
  if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
    constraint = 'an int of at least 1'
    raise ValueError(message(function, argument, constraint, shown(value), whole(value)))
