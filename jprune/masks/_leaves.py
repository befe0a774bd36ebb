"""Scores and sparsities, leaf by leaf, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jprune import _checks, tree
from jprune.masks._selection import wide as _wide
from jprune.tree._along import by_leaf_for
from jprune.typing import Scores, Sparsities


def scored(function: str, scores: Scores, pattern: Any) -> tuple[list[Any], Any]:
  """The leaves of a tree of scores, ``None`` included, as arrays; and its structure.

  Raises:
    ValueError: if nothing is scored, a shape doesn't fit the pattern, or a concrete score is
      NaN.
    TypeError: if a leaf is not a floating array.
  """
  _checks.check_pattern(function, pattern)
  paths, leaves, treedef = tree.flatten(scores, is_leaf=lambda leaf: leaf is None)
  if not leaves:
    raise _checks.empty_tree(function, 'scores')
  if all(leaf is None for leaf in leaves):
    raise _checks.nothing_scored(function)
  for path, leaf in zip(paths, leaves):
    if leaf is not None:
      _checks.check_values(function, path, leaf, 'scores')
      _checks.check_floating(function, 'scores', path, leaf)
      pattern.check(function, path, leaf.shape)
  for path, leaf in zip(paths, leaves):
    if leaf is not None:
      _checks.check_no_nan(function, 'scores', path, leaf)
  return [None if leaf is None else jnp.asarray(leaf) for leaf in leaves], treedef


def sparsities_of(function: str, scores: Scores, sparsities: Sparsities) -> list[Any]:
  """A checked sparsity, or ``None``, for each leaf of the scores, ``None`` leaves included.

  Of a stack it may be a NumPy array with one for each layer.
  """
  is_none = lambda leaf: leaf is None
  paths, leaves, treedef = tree.flatten(scores, is_leaf=is_none)
  # a stand-in without None, so that None counts as a leaf on both sides
  stand_in = treedef.unflatten(range(len(leaves)))
  values = by_leaf_for(function, 'sparsities', stand_in, sparsities, 'scores')
  everywhere = jax.tree.structure(sparsities, is_leaf=is_none).num_leaves == 1
  out = []
  for path, leaf, value in zip(paths, leaves, values):
    if value is not None:
      layers = isinstance(value, np.ndarray) and value.ndim == 1
      for each in value if layers else [value]:
        _checks.check_fraction(function, 'sparsities', each, path)
      if leaf is None and not everywhere:
        raise _checks.not_scored(function, 'sparsities', path)
    out.append(None if leaf is None else value)
  return out


def kept(sparsity: Any, sizes: Sequence[int]) -> Any:
  """Places to win, ``size - round(sparsity * size)``: an int, or a wide count under a trace."""
  return kept_each([sparsity], [sum(sizes)])[0]


def kept_each(sparsities: Sequence[Any], sizes: Sequence[int]) -> Any:
  """For each sparsity the places to win of so many: ints; wide counts if any of them is traced."""
  if not tree.is_traced(*sparsities):
    return [size - round(float(np.asarray(s)) * size) for s, size in zip(sparsities, sizes)]
  if all(s is sparsities[0] for s in sparsities):
    fractions = jnp.broadcast_to(sparsities[0], len(sizes))
  else:
    fractions = jnp.stack([jnp.asarray(s, jnp.float32) for s in sparsities])
  pruned = _wide.rounded_product(fractions, sizes)
  return _wide.subtract(jnp.asarray(_wide.constant(sizes)), pruned)
