"""What regularisers share: how the gradient of a penalty is added to updates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jprune import _checks, tree
from jprune.graph import ChannelGraph
from jprune.masks import ChannelGroups
from jprune.transforms import _errors
from jprune.transforms._mask_state import is_end, is_hole
from jprune.transforms._method import single
from jprune.transforms._transformation import transformation
from jprune.tree._selected import matching_for
from jprune.typing import ByPath, Params, Where

Strength = float | Callable[[Any], Any]
Penalty = Callable[[ByPath, Any], ByPath]


class PenaltyState(NamedTuple):
  """State of :func:`group_lasso` and :func:`batch_norm_scale`.

  Attributes:
    count: calls of ``update`` so far, int32.

  Examples:
    >>> tx = jprune.transforms.batch_norm_scale(1e-4)
    >>> int(tx.init({'norm': {'scale': jnp.ones(3)}}).count)
    0
  """

  # A field hides tuple.count, as in optax's own states.
  count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]


def penalized(
  function: str, strength: Strength, pulls: Callable[[Params], Penalty]
) -> optax.GradientTransformationExtraArgs:
  """Adds the gradient of a penalty; ``pulls`` tells it for params, whose leaves it looks up."""
  if not callable(strength):
    _checks.non_negative_number(function, 'strength', strength)

  def init(params: Params) -> PenaltyState:
    if any(tree.is_array(leaf) for leaf in jax.tree.leaves(params)):
      pulls(params)  # what is wrong is said here
    return PenaltyState(jnp.zeros((), jnp.int32))

  def update(
    updates: Any, state: PenaltyState, params: Params = None, **extra_args: Any
  ) -> tuple[Any, PenaltyState]:
    del extra_args
    rate = jnp.asarray(strength(state.count) if callable(strength) else strength, jnp.float32)
    moved = added(function, updates, params, lambda leaves: pulls(params)(leaves, rate))
    return moved, PenaltyState(state.count + 1)

  return transformation(init, update)


def added(function: str, updates: Any, params: Params, pulls: Callable[[ByPath], ByPath]) -> Any:
  """The updates, with the gradients of a penalty where it has any, in their own dtypes."""
  if params is None:
    raise _errors.missing_params(function)
  paths, weights, _ = tree.flatten(params, is_end)
  other, moves, treedef = tree.flatten(updates, is_end)
  if paths != other:
    raise _errors.other_than_init(function, 'updates', paths, other)
  real = {p: w for p, w in zip(paths, weights) if w is not None and not is_hole(w)}
  if not real:
    return updates
  found = pulls(real)
  out = []
  for path, move in zip(paths, moves):
    if path in found and move is not None and not is_hole(move):
      move = jnp.asarray(move)
      sum_ = single(move) + found[path].astype(single(move).dtype)
      move = sum_.astype(move.dtype)
    out.append(move)
  return treedef.unflatten(out)


def members(function: str, graph: ChannelGraph, params: Params, where: Where) -> list[str]:
  """The paths of params that units of the graph have slices of, state excepted."""
  paths, leaves, _ = tree.flatten(params)
  state = tree.state_by_name(params)
  own = set(ChannelGroups(graph).members(paths))
  named = [True] * len(paths)
  if where is not None:
    named = matching_for(function, 'where', params, where)
  chosen = [
    path
    for path, leaf, yes, why in zip(paths, leaves, named, state)
    if path in own and yes and why is None and tree.is_floating(leaf)
  ]
  if not chosen:
    raise _errors.no_members_named(function, paths)
  return chosen
