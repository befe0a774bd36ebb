"""A change of masks: on the calls on which it is due, and how large it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jprune import tree
from jprune.masks._selection import wide as _wide
from jprune.typing import ByPath


def churned(old: ByPath, new: ByPath) -> jax.Array:
  """The share of weights that changed sides, float32.

  Leaves are joined before they are compared: to compare and count each of them would take longer
  to compile than all else in a change of masks. Where they may be split over devices, only those of
  one shape are.
  """
  groups: dict[Any, list[str]] = {}
  alone = jax.device_count() == 1
  for path, mask in new.items():
    kind = () if alone else (mask.shape, jax.typeof(mask).sharding)
    groups.setdefault(kind, []).append(path)
  count = jnp.float32(0)
  for paths in groups.values():
    before, after = ([masks[path] for path in paths] for masks in (old, new))
    if alone:
      before, after = (jnp.concatenate([x.reshape(-1) for x in xs]) for xs in (before, after))
    else:
      before, after = jnp.stack(before), jnp.stack(after)
    count += _wide.approximate(_wide.count(before ^ after))
  return count / max(sum(mask.size for mask in new.values()), 1)


def if_due(due: Any, change: Callable[[Any], Any], now: Any) -> Any:
  """``change(now)`` if masks change on this call; compiled once, and run on these calls alone.

  A loop of at most one step, as a loop leaves what it doesn't change where it is, while a
  conditional would copy all masks on each call. Nothing is differentiated through a change.
  """
  if not tree.is_traced(due):
    return change(now) if due else now

  any_due, mine = _anywhere(due)

  def changed(now: Any) -> Any:
    # of several agents under vmap some may be due, and others not
    return jax.tree.map(lambda new, old: jnp.where(mine, new, old), change(now), now)

  now = lax.stop_gradient(now)
  pure, closed = jax.closure_convert(changed, now)
  closed = lax.stop_gradient(closed)
  once = lambda carry: (jnp.bool_(False), pure(carry[1], *closed))
  return lax.while_loop(lambda carry: carry[0], once, (any_due, now))[1]


@jax.custom_batching.custom_vmap
def _anywhere(due: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Whether masks change in any of the instances that are vmapped over: no batched predicate.

  And whether they do in this one, if they do anywhere: known to be so where there is only one.
  """
  return due, jnp.bool_(True)


@_anywhere.def_vmap
def _anywhere_of_many(
  size: int, batched: list[bool], due: jax.Array
) -> tuple[tuple[jax.Array, jax.Array], tuple[bool, bool]]:
  del size
  if not batched[0]:
    return _anywhere(due), (False, False)
  return (_anywhere(jnp.any(due, axis=0))[0], due), (False, True)
