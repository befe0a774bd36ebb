"""Params, updates and what a state holds, leaf by leaf along the masks."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jprune import tree
from jprune.masks._pack import pack_leaf
from jprune.transforms._mask_state import along_masks, is_end, is_hole, unwrapped
from jprune.transforms._method import by_path, each
from jprune.typing import ByPath


class Along:
  """The leaves that are pruned, as dicts by path, and the way back into trees.

  Args:
    function: who asks, for messages.
    masks: in a state; ``None`` where a leaf is not pruned.
    params: of the same paths.
    updates: of the same paths; ``None`` for the params themselves.
  """

  def __init__(self, function: str, masks: Any, params: Any, updates: Any = None) -> None:
    paths, found, self._masks = tree.flatten(masks, is_end)
    self._ends = [mask if is_hole(mask) else None for mask in found]
    self._at = [i for i, mask in enumerate(found) if mask is not None and not is_hole(mask)]
    self._paths = paths
    self._values, self._params = along_masks(function, 'params', masks, params)
    self.masks: ByPath = self._picked(found)
    self.weights: ByPath = each(jnp.asarray, self._picked(self._values))
    self._moves, self._updates = self._values, self._params
    self.has_updates = updates is not None
    if updates is not None:
      self._moves, self._updates = along_masks(function, 'updates', masks, updates)

  @property
  def updates(self) -> ByPath:
    """The updates of pruned leaves; zeros where there are none."""
    nothing = lambda x: x is None or is_hole(x)
    moves = self._picked(self._moves)
    return each(
      lambda move, weight: jnp.zeros_like(weight) if nothing(move) else jnp.asarray(move),
      moves,
      self.weights,
    )

  @property
  def whole(self) -> ByPath:
    """All params that are arrays, by path."""
    real = [i for i, x in enumerate(self._values) if x is not None and not is_hole(x)]
    return by_path([self._paths[i] for i in real], [self._values[i] for i in real])

  def params_with(self, leaves: ByPath) -> Any:
    """The params with other leaves."""
    return self._params.unflatten(self._replaced(self._values, leaves))

  def updates_with(self, leaves: ByPath) -> Any:
    """The updates with other leaves."""
    return self._updates.unflatten(self._replaced(self._moves, leaves))

  def flat(self, nested: Any) -> ByPath:
    """What :meth:`nested` made a tree of."""
    return self._picked(tree.flatten(nested, is_end)[1])

  def nested(self, leaves: ByPath) -> Any:
    """A tree like the masks: ``None`` where a leaf is not pruned."""
    whole = self._masks.unflatten(self._replaced(self._ends, leaves))
    return unwrapped(whole)

  def _picked(self, leaves: list[Any]) -> ByPath:
    return by_path([self._paths[i] for i in self._at], [leaves[i] for i in self._at])

  def _replaced(self, leaves: list[Any], by: ByPath) -> list[Any]:
    out = list(leaves)
    for i in self._at:
      out[i] = by[self._paths[i]]
    return out


def held(masks: ByPath, packed: bool) -> ByPath:
  """Masks in the form in which a state holds them."""
  return each(pack_leaf, masks) if packed else masks


def is_by_path(node: Any) -> bool:
  """Whether a node of a method's memory is a dict by path."""
  return isinstance(node, dict)


def nested_memory(along: Along, memory: Any) -> Any:
  """A method's memory with a tree like the masks for each dict by path."""
  nested = lambda node: along.nested(node) if is_by_path(node) else node
  return jax.tree.map(nested, memory, is_leaf=is_by_path)
