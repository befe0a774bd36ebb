"""What all scorers share: which leaves have a score, and how the tree is put together again."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jprune import _checks, tree
from jprune.typing import Params, Scores


def single_size(leaf: jax.Array) -> jax.Array:
  """The absolute values of a leaf in float32, of complex numbers too."""
  if not jnp.issubdtype(leaf.dtype, jnp.complexfloating):
    return jnp.abs(leaf.astype(jnp.float32))
  return jnp.abs(leaf.astype(jnp.complex64))


def score_leaves(
  function: str, params: Params, score_leaf: Callable[[str, jax.Array], jax.Array]
) -> Scores:
  """Scores each floating or complex leaf by itself; ``None`` for every other leaf.

  Args:
    function: name of the scorer, for its messages.
    params: tree of arrays.
    score_leaf: ``(path, array) -> scores``, float32, of the array's shape.

  Raises:
    ValueError: if there is no leaf.
    TypeError: if such a leaf is a shape struct, which has no values.
  """
  paths, leaves, treedef = tree.flatten(params)
  if not leaves:
    raise _checks.empty_tree(function)
  for path, leaf in zip(paths, leaves, strict=True):
    if tree.is_inexact(leaf):
      _checks.check_values(function, path, leaf)
  return treedef.unflatten(
    [
      score_leaf(path, jnp.asarray(leaf)) if tree.is_inexact(leaf) else None
      for path, leaf in zip(paths, leaves, strict=True)
    ]
  )
