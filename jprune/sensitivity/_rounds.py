"""Pruning in one round or several, each of them evaluated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jprune import tree
from jprune._batches import shown
from jprune._entry import explicit
from jprune._roles import Roles
from jprune.masks._apply import zero_where_pruned
from jprune.report._count import nonzeros
from jprune.sensitivity import _errors
from jprune.sensitivity._measure import Masked, measured
from jprune.sensitivity._result import Step
from jprune.sensitivity._scored import masks_of, scores_of
from jprune.tree._along import along_for
from jprune.tree._selected import selected_for
from jprune.typing import Masks, Params, Scores


class Setup:
  """What all rounds share: how to score, select and evaluate; the dense params and their scores."""

  def __init__(
    self,
    function: str,
    params: Params,
    where: Any,
    scorer: Any,
    distribution: Any,
    pattern: Any,
    evaluate: Callable[[Params], Any],
  ) -> None:
    self.function, self.evaluate = function, evaluate
    self._scorer, self.distribution, self._pattern = scorer, distribution, pattern
    self._roles = where if isinstance(where, Roles) else None
    self.chosen = selected_for(function, params, where)
    self.scores = scores_of(function, params, scorer, self.chosen)
    self.dense = Masked(params, self.chosen)({})
    paths, leaves, _ = tree.flatten(params)
    self.sizes = {p: tree.size(leaf) for p, leaf, yes in zip(paths, leaves, self.chosen) if yes}
    self.size = sum(self.sizes.values())

  def score(self, params: Params) -> Scores:
    """Scores of these params, of the selected leaves."""
    return scores_of(self.function, params, self._scorer, self.chosen)

  def masks(self, scored: Scores, sparsity: float | None, before: Masks = None) -> Masks:
    """Masks at an overall sparsity."""
    kinds = (self.distribution, self._pattern)
    return masks_of(self.function, self.dense, scored, sparsity, *kinds, before, self._roles)

  def nothing_goes(self, sparsity: float) -> bool:
    """Whether masks at this sparsity keep everything."""
    masks = _flat(self.masks(self.scores, sparsity))
    return sum(nonzeros(masks)) == sum(map(tree.size, masks))

  @explicit
  def pruned(self, params: Params, masks: Masks) -> Params:
    """The params with exactly 0.0 where they are pruned."""
    leaves, found = tree.flatten(params)[1], along_for(self.function, 'masks', params, masks)
    out = [zero_where_pruned(leaf, mask) for leaf, mask in zip(leaves, found)]
    return tree.flatten(params)[2].unflatten(out)

  def step(self, name: str, number: int, params: Params, masks: Masks, reset: int = 0) -> Step:
    """What was reached, evaluated."""
    metric = measured(self.function, self.evaluate, params, f'{name}, round {number}')
    kept = sum(nonzeros(_flat(masks)))
    total = sum(tree.size(mask) for mask in _flat(masks))
    return Step(name, number, self.size, total - kept, metric, reset)


class Rounds(NamedTuple):
  """What came of it: ``scores`` made the last masks, with what ``before`` had pruned."""

  params: Params
  masks: Masks
  steps: tuple[Step, ...]
  scores: Scores
  before: Masks


def in_rounds(
  setup: Setup,
  dense: float,
  plan: Sequence[float | None],
  finetune: Callable[[Params, Masks, int], Params] | None,
  progress: bool,
) -> Rounds:
  """Prunes to each sparsity of the plan in turn; fine-tunes and evaluates after each."""
  steps = [Step('dense', 0, setup.size, 0, dense)]
  params, masks, before, scored = setup.dense, None, None, setup.scores
  several = progress and len(plan) > 1
  for index, sparsity in enumerate(shown(setup.function, plan, several, 'round')):
    if index:
      scored = setup.score(params)
    before, masks = masks, setup.masks(scored, sparsity, masks)
    params = setup.pruned(params, masks)
    steps.append(setup.step('pruned', index + 1, params, masks))
    if finetune is not None:
      params, reset = _tuned(setup, finetune, params, masks, index)
      steps.append(setup.step('fine-tuned', index + 1, params, masks, reset))
  return Rounds(params, masks, tuple(steps), scored, before)


def _tuned(
  setup: Setup, finetune: Callable[..., Any], params: Params, masks: Masks, index: int
) -> tuple[Params, int]:
  """Fine-tuned params, masked again; and how many pruned weights were not 0 before that."""
  new = finetune(_lent(setup, params, masks), jax.tree.map(jnp.copy, masks), index)
  if new is None:
    raise _errors.nothing_tuned(setup.function)
  paths, leaves, treedef = tree.flatten(params)
  found = along_for(setup.function, 'finetune', params, new)
  kind = lambda x: (x.shape, x.dtype) if tree.is_array(x) else None
  out = []
  for path, leaf, tuned in zip(paths, leaves, found):
    if kind(tuned) != kind(leaf):
      raise _errors.not_tuned(setup.function, path, tuned, leaf)
    out.append(tuned)
  pairs = zip(out, along_for(setup.function, 'masks', params, masks))
  return setup.pruned(treedef.unflatten(out), masks), _stray(pairs)


@explicit
def _stray(pairs: Iterable[tuple[Any, Any]]) -> int:
  """How many weights aren't 0 where they are pruned."""
  return sum(
    nonzeros([jnp.where(mask, jnp.zeros_like(x), x) for x, mask in pairs if mask is not None])
  )


def _lent(setup: Setup, params: Params, masks: Masks) -> Params:
  """Params that a training step may donate: leaves without a mask are the caller's own buffers."""
  _, leaves, treedef = tree.flatten(params)
  pairs = zip(leaves, along_for(setup.function, 'masks', params, masks))
  own = lambda leaf, mask: mask is None and isinstance(leaf, (jax.Array, np.ndarray))
  return treedef.unflatten([leaf.copy() if own(leaf, mask) else leaf for leaf, mask in pairs])


def _flat(masks: Masks) -> list[Any]:
  return tree.flatten(masks)[1]
