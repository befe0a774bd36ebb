"""A clock for each weight that comes back, so that Adam doesn't take it for one of long standing.

Adam divides its running means by what one sum of their weights is after so many steps, the same for
all weights. The means of a weight that came back start at zero, so its first steps would be
``(1 - b1) / sqrt(1 - b2)`` times too large, 3.16 times for the usual betas. Instead of a number of
steps, a state holds for each weight how many changes of masks ago it came back, in one byte.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jprune.transforms import _moments
from jprune.transforms._method import by_path, each
from jprune.typing import ByPath

NEVER = 255  # ticks of a weight that has not come back, or so long ago that it no longer matters


class Clock(NamedTuple):
  """When weights came back.

  Attributes:
    ticks: how many changes of masks ago, uint8, in a tree like the masks; 255 for never.
    times: for each Adam in the inner optimizer its count at each of the last changes, the latest
      first: int32 ``(adams, 255)``.
    betas: for each of them its two betas: float32 ``(adams, 2)``.
  """

  ticks: Any
  times: jax.Array
  betas: jax.Array


def adams(inner: Any) -> list[Any]:
  """The states in an optimizer's that count steps and hold two moments."""
  return [node for node in jax.tree.leaves(inner, is_leaf=_is_adam) if _is_adam(node)]


def _is_adam(node: Any) -> bool:
  fields = getattr(node, '_fields', ())
  return isinstance(node, tuple) and {'count', 'mu', 'nu'} <= set(fields)


def started(inner: Any, weights: ByPath) -> Clock | None:
  """The clock with which training starts; ``None`` if there is no Adam."""
  count = len(adams(inner))
  if not count:
    return None
  ticks = each(lambda w: jnp.full(w.shape, NEVER, jnp.uint8), weights)
  return Clock(ticks, jnp.zeros((count, NEVER), jnp.int32), jnp.zeros((count, 2), jnp.float32))


def ticked(clock: Clock, inner: Any, grown: ByPath, update: Callable[[Any], Any]) -> Clock:
  """The clock after a change of masks.

  Args:
    clock: before it.
    inner: state of the inner optimizer, before its update.
    grown: bools by path: which weights have come back.
    update: from such a state to the one after an update.
  """
  older = lambda tick, new: jnp.where(new, jnp.uint8(0), tick + (tick < NEVER).astype(jnp.uint8))
  found = adams(inner)
  counts = jnp.stack([jnp.asarray(node.count, jnp.int32).reshape(()) for node in found])
  times = jnp.concatenate([counts[:, None], clock.times[:, :-1]], axis=1)
  return Clock(each(older, clock.ticks, grown), times, _betas(inner, update))


def _betas(inner: Any, update: Callable[[Any], Any]) -> jax.Array:
  """What each Adam multiplies its moments by, as the derivatives of its update tell."""
  leaves, treedef = jax.tree.flatten(inner)
  numbers = treedef.unflatten(range(len(leaves)))
  out = []
  for node in adams(numbers):
    least = lambda moments: min(
      jax.tree.leaves(moments), key=lambda i: leaves[i].size, default=None
    )
    out.append([_beta(leaves, treedef, least(m), update) for m in (node.mu, node.nu)])
  return jnp.stack([jnp.stack(each) for each in out])


def _beta(
  leaves: list[Any], treedef: Any, i: int | None, update: Callable[[Any], Any]
) -> jax.Array:
  if i is None or not leaves[i].size:
    return jnp.float32(0)

  def moved(leaf: jax.Array) -> jax.Array:
    after = update(treedef.unflatten([*leaves[:i], leaf, *leaves[i + 1 :]]))
    return jnp.mean(jax.tree.leaves(after)[i])

  _, slope = jax.jvp(moved, (leaves[i],), (jnp.ones_like(leaves[i]),))
  return slope.astype(jnp.float32)


def corrected(clock: Clock, inner: Any, updates: ByPath) -> ByPath:
  """The updates with the bias correction of each weight by its own steps.

  Args:
    clock: now.
    inner: state of the inner optimizer after its update.
    updates: it made, by path.
  """
  out = dict(updates)
  shapes = {path: update.shape for path, update in updates.items()}
  for node, times, betas in zip(adams(inner), clock.times, clock.betas):
    count = jnp.asarray(node.count, jnp.int32).reshape(())
    table = jnp.append(_factors(count, count - times, betas), jnp.float32(1))
    for path in {place for place in _moments.places(node.mu, shapes) if place is not None}:
      factor = table[clock.ticks[path].astype(jnp.int32)]
      out[path] = (out[path] * factor).astype(out[path].dtype)
  return by_path(updates, [out[path] for path in updates])


def _factors(count: jax.Array, ages: jax.Array, betas: jax.Array) -> jax.Array:
  """By how much the correction for all weights is off for those of these ages."""
  # bfloat16 rounds .999 to 1; one moment alone corrected would be worse than none
  betas = jnp.where(jnp.all((betas >= 0) & (betas < 1)), betas, 0)
  share = lambda beta, steps: -jnp.expm1(jnp.maximum(steps, 1) * jnp.log(beta))
  first, second = (share(beta, count) / share(beta, ages) for beta in betas)
  return first / jnp.sqrt(second)
