"""What every message is made of."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

import jax
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


def shown(value: Any, most: int = 100) -> str:
  """How a message shows what a user gave: in a line, without the numbers of arrays or addresses."""
  if getattr(value, 'shape', ()) != ():
    return kind(value)
  if callable(value) and hasattr(value, '__qualname__') and not isinstance(value, type):
    return f'the function {value.__name__}'
  try:
    leaves = jax.tree.leaves(value)
  except ValueError:  # keys of a dict that have no order
    leaves = []
  if any(getattr(leaf, 'shape', ()) != () for leaf in leaves):
    return f'{type(value).__name__} of {len(leaves)} leaves'
  return shortened(' '.join(repr(value).split()), most)


def whole(value: Any) -> str:
  """What to do about a float in the place of an int: write the int next to it."""
  is_float = isinstance(value, (float, np.floating))
  return f'Write {round(value)}.' if is_float and 1 <= value < 2**31 else ''


def unknown(name: str, known: Iterable[str], call: str = '{}', most: int = 8) -> str:
  """What to do about a name that there isn't: take the one that looks like it, or one of those."""
  known = list(known)
  near = difflib.get_close_matches(name, known, 1)
  if near:
    return f'Did you mean {call.format(near[0])}?'
  more = f' and {len(known) - most} more' if len(known) > most else ''
  return f'There are {", ".join(map(call.format, known[:most]))}{more}.'


def shortened(text: Any, most: int = 300) -> str:
  """What a file or another library says, cut in the middle if it is longer than a message."""
  text = str(text)
  half = most // 2
  return text if len(text) <= most else f'{text[:half]} ... {text[-half:]}'


def quoted(text: str) -> str:
  """A name in quotes, what can't be printed spelt out; cut if it is very long."""
  return shortened(repr(text), 1000)


def differing(expected: Sequence[str], found: Sequence[str]) -> str:
  """Which paths are missing and which are new; '' if none is."""
  known, given = set(expected), set(found)
  missing = [path for path in expected if path not in given]
  extra = [path for path in found if path not in known]
  parts = [f'no leaf {listed(missing)}'] if missing else []
  parts += [f'an unknown leaf {listed(extra)}'] if extra else []
  return ' and '.join(parts)


def listed(names: Iterable[str], most: int = 3) -> str:
  """The first few names, quoted, and how many more there are."""
  names = list(names)
  shown = ', '.join(f"'{name}'" for name in names[:most])
  return shown + (f' and {len(names) - most} more' if len(names) > most else '')
