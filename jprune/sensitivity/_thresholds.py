"""The cut in each leaf: the lowest score that was kept."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp

from jprune import tree
from jprune._entry import explicit
from jprune.masks import NOfM
from jprune.masks._patterns import known_units
from jprune.masks._top_k import _marked
from jprune.tree._along import along_for
from jprune.typing import Masks, Params, Scores


@explicit
def cuts(
  params: Params, scores: Scores, masks: Masks, pattern: Any, before: Masks
) -> dict[str, float | None]:
  """By leaf path, the lowest score of a unit that was kept.

  Args:
    params: tree whose leaves give the order.
    scores: what the masks were made from.
    masks: the masks.
    pattern: which weights are a unit.
    before: masks of the round before, whose pruned weights add nothing to the score of a unit.

  Returns:
    A Python float for each leaf with a mask, ``inf`` where nothing was kept; ``None`` where there
    is no one cut, as with :class:`~jprune.masks.NOfM`.
  """
  paths, _, _ = tree.flatten(params)
  held = along_for('run', 'masks', params, masks)
  found = along_for('run', 'scores', params, scores)
  marked, _ = _marked(found, before)
  return {
    path: _cut(bits, score.dtype, mask, pattern)
    for path, bits, score, mask in zip(paths, marked, found, held)
    if mask is not None
  }


def _cut(bits: Any, dtype: Any, mask: Any, pattern: Any) -> float | None:
  if isinstance(pattern, NOfM):
    return None
  units, known = (
    pattern.expand(each, bits.shape) for each in known_units(pattern, jnp.asarray(bits), dtype)
  )
  kept = jnp.where(mask & known, units, jnp.asarray(jnp.inf, units.dtype))
  return float(jnp.min(kept)) if kept.size else math.inf
