"""One threshold over all leaves."""

from __future__ import annotations

import jax

from jprune import _checks, _nonzeros, masks, tree
from jprune._entry import public
from jprune.distributions import _errors
from jprune.distributions._common import competing
from jprune.distributions._needs import says
from jprune.typing import Params, Scores, Sparsities


@says(needs_sparsity=True, one_threshold=True)
@public
def global_(params: Params, scores: Scores, sparsity: float) -> Sparsities:
  """What each leaf loses when all weights compete: the lowest scores go, wherever they are.

  It says ``one_threshold`` (see :class:`jprune.typing.Distribution`), so :func:`jprune.prune` takes
  the masks of :func:`jprune.masks.top_k_global` as they are. Selecting leaf by leaf with the
  sparsities that are returned here gives the same masks.

  Args:
    params: tree of arrays or shape structs.
    scores: tree of floating arrays of that structure and those shapes; ``None`` where a leaf
      stays dense.
    sparsity: fraction of zeros over all scored leaves together, in [0, 1].

  Returns:
    A Python float for each leaf, the exact number of its pruned weights over its size; 0.0 for a
    leaf without weights, ``None`` where ``scores`` is ``None``.

  Raises:
    ValueError: if no leaf is scored, the trees differ, ``sparsity`` is outside [0, 1], or a score
      is NaN.
    TypeError: if ``sparsity`` isn't a number, or anything is traced or a shape struct.

  Examples:
    >>> scores = {'a': jnp.array([0.1, 0.9, 0.2, 0.5]), 'b': jnp.array([0.7, 0.8])}
    >>> global_(scores, scores, 0.5)
    {'a': 0.75, 'b': 0.0}
  """
  overall = _checks.static_fraction('global_', 'sparsity', sparsity)
  found, treedef = competing('global_', params, scores)
  paths, _, _ = tree.flatten(params)
  for path, score in zip(paths, found, strict=True):
    if tree.is_traced(score) or isinstance(score, jax.ShapeDtypeStruct):
      raise _errors.no_scores_at_hand('global_', path, score)
  kept = treedef.flatten_up_to(masks.top_k_global(scores, overall))
  sizes = [tree.size(mask) for mask in kept if mask is not None]
  counts = _nonzeros.totals([mask for mask in kept if mask is not None])
  pruned = iter([(size - n) / size if size else 0.0 for size, n in zip(sizes, counts)])
  return treedef.unflatten([None if mask is None else next(pruned) for mask in kept])
