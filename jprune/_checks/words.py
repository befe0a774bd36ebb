"""What every message is made of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


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
