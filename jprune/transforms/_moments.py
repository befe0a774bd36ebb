"""What an inner optimizer keeps of weights that come or go is put back to where it starts from.

No optimizer is known by name: whatever in its state lies along the params, by path and shape, is
such a thing. Factored moments, which no single weight has a part in of its own, stay.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jprune import tree
from jprune.transforms._mask_state import laid_out_as


def places(state: Any, shapes: Mapping[str, tuple[int, ...]]) -> list[str | None]:
  """For each leaf of a state, the path of the param that it lies along, or ``None``.

  A leaf lies along a param if its path ends with the param's and its last axes are the param's;
  of several params the one with the longest path.
  """
  keys = {path: tuple(path.split('/')) if path else () for path in shapes}
  by_end: dict[str, list[str]] = {}
  for path in shapes:
    by_end.setdefault(path.rpartition('/')[2], []).append(path)
  out = []
  for path, leaf in zip(*tree.flatten(state)[:2]):
    mine, shape = tuple(path.split('/')), tuple(jnp.shape(leaf))
    found = [
      each
      for each in by_end.get(mine[-1], []) + by_end.get('', [])
      if mine[len(mine) - len(keys[each]) :] == keys[each] and _ends(shape, shapes[each])
    ]
    out.append(max(found, key=lambda each: len(keys[each]), default=None))
  return out


def _ends(shape: tuple[int, ...], with_: tuple[int, ...]) -> bool:
  return bool(with_) and shape[len(shape) - len(with_) :] == with_


def fresh_where_pruned(state: Any, fresh: Any, masks: Mapping[str, jax.Array]) -> Any:
  """The state, as a fresh one where weights are pruned.

  Args:
    state: of the inner optimizer.
    fresh: what its ``init`` makes of the params now.
    masks: bools by path of a param.
  """
  found = places(state, {path: mask.shape for path, mask in masks.items()})
  leaves, treedef = jax.tree.flatten(state)
  start = jax.tree.leaves(fresh)
  if len(start) != len(leaves):  # an init of another structure: nothing is known of what lies where
    return state
  out = []
  for leaf, new, path in zip(leaves, start, found):
    if path is None or jnp.shape(new) != jnp.shape(leaf):
      out.append(leaf)
      continue
    mask = laid_out_as(leaf, jnp.broadcast_to(masks[path], leaf.shape))
    out.append(jnp.where(mask, leaf, jnp.asarray(new, leaf.dtype)))
  return treedef.unflatten(out)


def named(state: Any, name: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, jax.Array]:
  """The leaves of a state's field of that name, by path of the params that they lie along."""
  out = {}
  for place, path, leaf in zip(places(state, shapes), *tree.flatten(state)[:2]):
    keys = path.split('/')
    within = len(place.split('/')) if place else 0
    if place is not None and name in keys[: len(keys) - within] and leaf.shape == shapes[place]:
      out.setdefault(place, leaf)
  return out


@functools.lru_cache(maxsize=128)
def start_at_zero(
  init: Callable[[Any], Any], treedef: Any, kinds: tuple[tuple[int, Any], ...]
) -> bool:
  """Whether all that an optimizer keeps of single weights is 0 at first, as far as can be told.

  It then stays so while gradients are 0. Found on params with the same paths and one weight each.

  Args:
    init: of the optimizer.
    treedef: of the params.
    kinds: number of axes and dtype of each leaf.
  """
  with jax.ensure_compile_time_eval():
    params = treedef.unflatten([jnp.zeros((1,) * axes, dtype) for axes, dtype in kinds])
    try:
      state = init(params)
    except Exception:  # it wants larger leaves: nothing is known of it
      return False
    shapes = {path: (1,) * axes for path, (axes, _) in zip(tree.flatten(params)[0], kinds)}
    held = zip(places(state, shapes), tree.flatten(state)[1])
    return not any(place is not None and np.any(np.asarray(x) != 0) for place, x in held)
