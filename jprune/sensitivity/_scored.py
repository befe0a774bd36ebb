"""Scores of the selected leaves, and masks from them: the steps of pruning one by one."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from jprune import _checks, tree
from jprune._asked import Asked
from jprune._entry import explicit
from jprune._roles import Roles
from jprune._selection import masks_by
from jprune.sensitivity import _errors
from jprune.tree._along import along_for
from jprune.typing import Masks, Params, Scorer, Scores


def scores_of(
  function: str, params: Params, scorer: Scorer | Scores, chosen: Sequence[bool]
) -> Any:
  """Scores along the params, ``None`` where a leaf is not chosen; checked."""
  paths, leaves, treedef = tree.flatten(params)
  found = along_for(function, 'scorer', params, called(function, params, scorer))
  bound = scorer.keywords if isinstance(scorer, functools.partial) else {}
  out = []
  for path, leaf, score, yes in zip(paths, leaves, found, chosen, strict=True):
    if yes:
      _checks.check_scored(function, path, score, bound.get('stats'))
      _checks.check_shape(function, 'scorer', path, score, leaf.shape)
    out.append(score if yes else None)
  return treedef.unflatten(out)


@explicit
def called(function: str, params: Params, scorer: Scorer | Scores) -> Scores:
  """The scores of all leaves: those of a function of the params, or the scores themselves."""
  _checks.check_scorer(function, scorer)
  if not callable(scorer):
    return scorer
  if missing := _checks.missing_arguments(scorer):
    raise _errors.to_bind(function, scorer, missing)
  return scorer(params)


@explicit
def masks_of(
  function: str,
  params: Params,
  scored: Scores,
  sparsity: float | None,
  distribution: Any,
  pattern: Any,
  before: Masks = None,
  roles: Roles | None = None,
) -> Masks:
  """Masks at an overall sparsity; what masks of an earlier round pruned stays pruned."""
  return masks_by(function, params, scored, sparsity, Asked(distribution, pattern, roles), before)
