"""What all distributions share: which leaves there are to distribute over."""

from __future__ import annotations

from typing import Any

import jax

from jprune import _checks, tree
from jprune.tree._along import along_for
from jprune.typing import Params, Scores


def competing(function: str, params: Params, scores: Scores) -> tuple[list[Any], Any]:
  """The scores along the params' leaves, ``None`` where a leaf stays dense; the structure.

  Only shapes are looked at, so shape structs will do for both trees.

  Raises:
    ValueError: if there is no leaf, structures or shapes differ, or no leaf is scored.
  """
  paths, leaves, _ = tree.flatten(params)
  if not leaves:
    raise _checks.empty_tree(function)
  found = along_for(function, 'scores', params, scores)
  if all(leaf is None for leaf in found):
    raise _checks.nothing_scored(function)
  for path, leaf, score in zip(paths, leaves, found, strict=True):
    if score is not None:
      _checks.check_shape(function, 'scores', path, score, getattr(leaf, 'shape', ()))
  return found, jax.tree.structure(params)
