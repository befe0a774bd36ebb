"""Masks of a checkpoint that may be larger than memory: one leaf at a time."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jprune import _checks, tree
from jprune._asked import Asked
from jprune._selection import by_values, masks_by, scores_by, shares_of
from jprune.distributions._needs import says
from jprune.io import Checkpoint
from jprune.masks import ChannelGroups, NOfM
from jprune.masks._pack import pack_leaf
from jprune.typing import Masks, Where


def masks_of_opened(
  model: Checkpoint,
  sparsity: Any,
  scorer: Any,
  asked: Asked,
  where: Where,
  key: jax.Array | None,
  masks: Masks,
  scorer_args: dict[str, Any],
) -> Masks:
  """Packed masks along the params of an opened checkpoint, for :func:`jprune.prune`.

  Each leaf is read, scored and let go before the next; the scorer sees a tree with that one leaf.
  """
  function, params = 'prune', model.params
  _check(function, asked, scorer, masks)
  chosen = asked.selected(function, params, where)
  paths, leaves, treedef = tree.flatten(params)
  alone = lambda place, leaf: treedef.unflatten(
    [leaf if place == other else None for other in range(len(leaves))]
  )
  shares: list[Any] = [None] * len(leaves)
  if not isinstance(asked.pattern, NOfM):
    given = [
      jax.ShapeDtypeStruct(leaf.shape, jnp.float32) if yes else None
      for leaf, yes in zip(leaves, chosen, strict=True)
    ]
    shares = shares_of(function, params, treedef.unflatten(given), sparsity, asked)
  out: list[Any] = [None] * len(leaves)
  for place, (path, leaf, yes) in enumerate(zip(paths, leaves, chosen, strict=True)):
    if not yes or (shares[place] is None and not isinstance(asked.pattern, NOfM)):
      continue
    one = alone(place, jnp.asarray(leaf.read()))
    own = None if key is None else jax.random.fold_in(key, place)
    scored = scores_by(function, one, [True], scorer, own, asked.roles, scorer_args)
    its = asked if shares[place] is None else asked._replace(distribution=_given(shares[place]))
    mask = jax.tree.leaves(masks_by(function, one, scored, sparsity, its))[0]
    out[place] = jax.device_get(pack_leaf(mask, path))
  return treedef.unflatten(out)


def _check(function: str, asked: Asked, scorer: Any, masks: Any) -> None:
  if not callable(scorer):
    raise _checks.opened_with(function, 'scorer', 'a function of params', 'a tree of scores')
  if isinstance(asked.pattern, ChannelGroups):
    raise _checks.opened_with(function, 'pattern', 'one of single leaves', 'ChannelGroups')
  if masks is not None:
    raise _checks.opened_with(function, 'masks', 'None', 'a tree')
  if asked.together or by_values(asked):
    raise _checks.opened_distribution(function, asked.distribution)


def _given(share: Any) -> Any:
  """A distribution that has the sparsity of the one leaf that there is."""

  @says(needs_scores=False, needs_sparsity=False)
  def given(params: Any, scores: Any, sparsity: Any) -> Any:
    return jax.tree.map(lambda _: share, scores)

  return given
