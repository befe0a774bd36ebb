"""A sparsity for each leaf, by name."""

from __future__ import annotations

from collections.abc import Mapping

from jprune import _checks, tree
from jprune._entry import check_dtypes
from jprune.distributions import _errors
from jprune.distributions._common import competing
from jprune.distributions._needs import says
from jprune.typing import Distribution, Params, Scores, Sparsities


def fixed(sparsities: Mapping[str, float]) -> Distribution:
  """Leaves get the sparsity that is listed for their path; leaves not listed stay dense.

  Args:
    sparsities: from leaf path, such as ``'Dense_0/kernel'``, to a fraction of zeros in [0, 1].

  Returns:
    A distribution ``(params, scores, sparsity=None) -> sparsities``. There is no overall sparsity
    to distribute: one that is given is refused. It raises ``ValueError`` where a path names no
    leaf, or a leaf whose scores are ``None``.

  Raises:
    ValueError: if a sparsity is outside [0, 1].
    TypeError: if ``sparsities`` isn't a dict with an entry, or a sparsity isn't a number.

  Examples:
    >>> params = {'a': {'w': jnp.ones((2, 3))}, 'b': {'w': jnp.ones((3, 4))}}
    >>> fixed({'b/w': 0.9})(params, params, None)
    {'a': {'w': None}, 'b': {'w': 0.9}}
  """
  if not isinstance(sparsities, Mapping) or not sparsities:
    raise _errors.no_mapping('fixed', 'sparsities', sparsities)
  listed = {
    str(path): _checks.static_fraction('fixed', 'sparsities', value, str(path))
    for path, value in sparsities.items()
  }

  @says(needs_scores=False, needs_sparsity=False)
  def fixed_sparsities(params: Params, scores: Scores, sparsity: float | None = None) -> Sparsities:
    if sparsity is not None:
      raise _errors.sparsity_given('fixed', sparsity)
    check_dtypes('fixed', params)
    found, treedef = competing('fixed', params, scores)
    paths, _, _ = tree.flatten(params)
    known = set(paths)
    unknown = [path for path in listed if path not in known]
    if unknown:
      raise _checks.unknown_paths('fixed', 'sparsities', unknown, paths)
    for path, score in zip(paths, found, strict=True):
      if score is None and path in listed:
        raise _checks.not_scored('fixed', 'sparsities', path)
    return treedef.unflatten([listed.get(path) for path in paths])

  return fixed_sparsities
