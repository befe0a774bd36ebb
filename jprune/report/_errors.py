"""What is said when something is wrong; every message names function, argument, value and fix."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jprune._checks.words import listed, message, shown
from jprune._text.words import plural
from jprune.masks import PackedMask


def check_has_values(function: str, paths: Sequence[str], masks: Sequence[Any]) -> None:
  """Refuses masks that are shape structs."""
  for path, mask in zip(paths, masks):
    if mask is not None and not hasattr(bits(mask), '__array__'):
      fix = 'Kept weights can be counted in real masks only; params may be shape structs.'
      got = f'a shape struct of shape {tuple(mask.shape)}'
      constraint = 'arrays with values at hand'
      raise TypeError(message(function, 'masks', constraint, got, fix, path))


def bits(mask: Any) -> Any:
  """The array of a mask."""
  return mask.bits if isinstance(mask, PackedMask) else mask


def words_no_leaf(path: Any, paths: Sequence[str]) -> str:
  """What a lookup of a leaf that there isn't says."""
  keys = lambda name: name.replace('.', '/')  # paths have dots in some checkpoints
  sought = keys(str(path)).strip('/').removesuffix('/value')
  within = [each for each in paths if keys(each).startswith(f'{sought}/')]
  if within:
    prefix = within[0][: len(sought)]
    return (
      f"'{prefix}' is no leaf but holds {plural(len(within), 'leaf')}, {listed(within)}: "
      f"under('{prefix}') is their tally"
    )
  ends = [each for each in paths if f'/{keys(each)}'.endswith(f'/{sought}')]
  near = ends or difflib.get_close_matches(sought, paths, 3)
  if not near:  # perhaps the last key alone
    last = [keys(each).rpartition('/')[2] for each in paths]
    alike = difflib.get_close_matches(sought, dict.fromkeys(last), 1)
    near = [path for path, key in zip(paths, last) if key in alike]
  hint = f'did you mean {listed(near)}?' if near else f'there are {listed(paths)}'
  return f"no leaf '{path}': {hint}"


def check_recorded(function: str, seen: Mapping[str, Any], shape: tuple[int, ...]) -> None:
  """Metrics of one shape: that of the steps, and of the agents."""
  for name, value in seen.items():
    if np.shape(value) != shape:
      fix = 'Give count= an array where metrics are stacked over steps; agents stay as many.'
      got = f'{name!r} of shape {np.shape(value)}'
      raise ValueError(message(function, 'seen', f'metrics of shape {shape}', got, fix))


def check_count(function: str, count: Any) -> None:
  """A step, or an array of steps."""
  kinds = getattr(count, 'dtype', None) or np.asarray(count).dtype
  if count is not None and not (jnp.issubdtype(kinds, jnp.number)):
    fix = 'Losses and the like go to a logger; add(state, count) takes the step.'
    raise TypeError(message(function, 'count', 'a step or an array of steps', shown(count), fix))


def check_two(function: str, axes: Any) -> None:
  """Sparsity and churn have axes of their own."""
  if axes is not None and np.shape(axes) != (2,):
    got = shown(axes) if np.ndim(axes) else type(axes).__name__
    fix = 'Make them: figure, axes = plt.subplots(2, sharex=True).'
    raise ValueError(message(function, 'axes', 'two matplotlib axes', got, fix))


def nothing_recorded(function: str) -> ValueError:
  fix = 'Call add(state) after the steps of the training loop.'
  return ValueError(message(function, 'recorder', 'one with entries', 'none', fix))


def bad_suffix(function: str, path: str) -> ValueError:
  constraint = "a name that ends in '.json' or '.html'"
  fix = 'Masks and params go to jprune.save.'
  return ValueError(message(function, 'path', constraint, shown(path), fix))
