"""The same sparsity everywhere."""

from __future__ import annotations

from jprune import _checks, tree
from jprune._entry import public
from jprune.distributions._common import competing
from jprune.distributions._needs import says
from jprune.typing import Params, Scores, Sparsities


@says(needs_scores=False, needs_sparsity=True, shares_alike=True)
@public
def uniform(params: Params, scores: Scores, sparsity: float) -> Sparsities:
  """Every leaf gets the overall sparsity.

  Args:
    params: tree of arrays or shape structs.
    scores: tree of that structure and those shapes; ``None`` where a leaf stays dense.
    sparsity: fraction of zeros, in [0, 1]; may be traced.

  Returns:
    A Python float (or the traced sparsity) for each leaf, ``None`` where ``scores`` is ``None``.

  Raises:
    ValueError: if no leaf is scored, the trees differ, or ``sparsity`` is outside [0, 1].
    TypeError: if ``sparsity`` isn't a number.

  Examples:
    >>> params = {'w': jnp.ones((2, 3)), 'b': jnp.ones(3)}
    >>> uniform(params, {'w': params['w'], 'b': None}, 0.5)
    {'b': None, 'w': 0.5}
  """
  _checks.check_fraction('uniform', 'sparsity', sparsity)
  overall = sparsity if tree.is_traced(sparsity) else float(sparsity)
  found, treedef = competing('uniform', params, scores)
  return treedef.unflatten([None if score is None else overall for score in found])
