"""Batches of data, one after the other, under a progress bar."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, MappingView, Sequence
from typing import Any

import jax

from jprune import _checks


def as_iterable(function: str, batches: Sequence[Any]) -> Iterable[Any]:
  """What a function got as ``*batches``: the batches themselves, or one iterable of them.

  A batch is a tree of arrays, so a lone argument that is neither a tree nor an array but can be
  iterated over (a generator, a data loader) holds the batches. A list is a tree, one batch; unless
  what it holds are trees of one kind themselves, which is refused.

  Args:
    function: who asks, for the message.
    batches: the positional arguments.

  Returns:
    Something to iterate over once.

  Raises:
    ValueError: if there is no batch at all.
    TypeError: if the only one is a list of batches.
  """
  if not batches:
    raise _checks.no_batches(function)
  if len(batches) == 1 and _is_list_of_batches(batches[0]):
    raise _checks.list_of_batches(function, batches[0])
  if len(batches) == 1 and _is_loader(batches[0]):
    return batches[0]
  return batches


def shown(
  function: str, items: Iterable[Any], progress: bool, unit: str = 'batch', total: int | None = None
) -> Iterator[Any]:
  """The items, with a bar on the standard error that appears after a second.

  Shown in terminals and notebooks if tqdm is installed.

  Args:
    function: what the bar is labelled with.
    items: anything to iterate over.
    progress: whether to show a bar at all.
    unit: what an item is called.
    total: how many there are, if ``len`` can't tell.

  Yields:
    The items.
  """
  yield from _bar(function, items, unit, total) if progress and _is_watched() else items


def _is_loader(value: Any) -> bool:
  if isinstance(value, (Iterator, MappingView)):  # of which jax.tree would warn
    return True
  lone = jax.tree_util.treedef_is_leaf(jax.tree.structure(value))
  return lone and hasattr(value, '__iter__') and not hasattr(value, 'shape')


def _is_list_of_batches(value: Any) -> bool:
  """Whether a list holds trees that differ in nothing but their values and numbers of samples."""
  if not isinstance(value, list) or not value:
    return False
  trees = [jax.tree.structure(each) for each in value]
  if jax.tree_util.treedef_is_leaf(trees[0]) or any(tree != trees[0] for tree in trees):
    return False
  kind = lambda leaf: (getattr(leaf, 'dtype', type(leaf)), getattr(leaf, 'shape', ())[1:])
  kinds = [[kind(leaf) for leaf in jax.tree.leaves(each)] for each in value]
  return bool(kinds[0]) and all(each == kinds[0] for each in kinds)


def _is_watched() -> bool:
  return sys.stderr.isatty() or 'ipykernel' in sys.modules


def _bar(function: str, items: Iterable[Any], unit: str, total: int | None) -> Iterable[Any]:
  try:
    from tqdm import tqdm
  except ImportError:
    return items
  return tqdm(items, desc=function, unit=unit, total=total, delay=1.0, leave=False)
