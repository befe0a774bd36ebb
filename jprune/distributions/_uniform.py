"""The same sparsity everywhere."""

from __future__ import annotations

from jprune import _checks
from jprune.distributions._common import competing
from jprune.typing import Params, Scores, Sparsities


def uniform(params: Params, scores: Scores, sparsity: float) -> Sparsities:
  """Every leaf gets the overall sparsity.

  Args:
    params: tree of arrays or shape structs.
    scores: tree of that structure and those shapes; ``None`` where a leaf stays dense.
    sparsity: fraction of zeros, in [0, 1].

  Returns:
    A Python float for each leaf, ``None`` where ``scores`` is ``None``.

  Raises:
    ValueError: if no leaf is scored, the trees differ, or ``sparsity`` is outside [0, 1].
    TypeError: if ``sparsity`` isn't a number, or is traced.

  Examples:
    >>> params = {'w': jnp.ones((2, 3)), 'b': jnp.ones(3)}
    >>> uniform(params, {'w': params['w'], 'b': None}, 0.5)
    {'b': None, 'w': 0.5}
  """
  overall = _checks.static_fraction('uniform', 'sparsity', sparsity)
  found, treedef = competing('uniform', params, scores)
  return treedef.unflatten([None if score is None else overall for score in found])
