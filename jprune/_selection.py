"""From scores to masks as :func:`jprune.prune` does it: distribute, then select."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

from jprune import _checks, distributions, tree
from jprune._roles import Roles
from jprune.masks import NOfM
from jprune.masks._caps import caps
from jprune.masks._forms import Forms
from jprune.masks._leaves import sparsities_of
from jprune.masks._top_k import select, select_global
from jprune.typing import Masks, Params, Scores

# custom ones may know their sparsities themselves, as `fixed` does
_NEED_SPARSITY = (
  distributions.uniform,
  distributions.er,
  distributions.erk,
  distributions.owl,
)


class Asked(NamedTuple):
  """How weights are chosen; the arguments of :func:`jprune.prune` by these names."""

  distribution: Any
  pattern: Any
  roles: Roles | None = None
  min_keep: int = 0
  max_sparsity: float = 1.0
  per_output: bool = False


def masks_by(
  function: str,
  params: Params,
  scored: Scores,
  sparsity: Any,
  asked: Asked,
  before: Masks = None,
) -> Masks:
  """Masks at an overall sparsity.

  Args:
    function: who asks, for messages.
    params: tree of arrays.
    scored: scores along the params, ``None`` where a leaf is not selected; checked.
    sparsity: overall, checked; ``None`` where the pattern or the distribution has its own.
    asked: how to choose.
    before: masks of an earlier round along the params; what they pruned stays pruned.
  """
  distribution, pattern, roles = asked.distribution, asked.pattern, asked.roles
  forms = Forms(function, scored, pattern, roles, True, tree.shapes(params), asked.per_output)
  together = distribution is distributions.global_ and not isinstance(pattern, NOfM)
  if together and sparsity is None:
    raise _checks.no_sparsity(function)
  shares = sparsity
  if not together and not isinstance(pattern, NOfM):
    shares = forms.shares(_shares(function, params, scored, sparsity, distribution, forms.roles))
  with forms.automatic():
    parts, before = forms.split(scored), None if before is None else forms.split(before)
    limits = asked.min_keep, asked.max_sparsity, asked.per_output
    bounds = caps(function, parts, forms.pattern, sparsity, *limits)
    choose = select_global if together else select
    return forms.join(choose(function, parts, shares, forms.pattern, before, bounds))


def _shares(
  function: str,
  params: Params,
  scored: Scores,
  sparsity: Any,
  distribution: Any,
  roles: Roles,
) -> list[Any]:
  """A checked sparsity for each leaf, as the distribution has it."""
  if sparsity is not None:
    _checks.check_fraction(function, 'sparsity', sparsity)
  elif getattr(distribution, 'func', distribution) in _NEED_SPARSITY:
    raise _checks.no_sparsity(function)
  bound = getattr(distribution, 'keywords', {})
  knowing = {'roles': roles} if takes(distribution, 'roles') and 'roles' not in bound else {}
  return sparsities_of(function, scored, distribution(params, scored, sparsity, **knowing))


def takes(function: Any, argument: str) -> bool:
  """Whether a function has an argument of this name."""
  try:
    return argument in inspect.signature(function).parameters
  except ValueError:  # a builtin without a signature
    return False
