"""What SparseGPT and ALPS share: from leaves and their sparsities to calls of a solver."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jprune import _checks, tree
from jprune._entry import explicit
from jprune.graph import Stats
from jprune.masks import NOfM
from jprune.masks._apply import aligned
from jprune.masks._pack import unpack_leaf
from jprune.reconstruct import _counts, _errors, _leaves, _units
from jprune.reconstruct._devices import untyped
from jprune.reconstruct._leaves import Uses
from jprune.reconstruct._report import Repair
from jprune.reconstruct._solving import Common, Solver
from jprune.reconstruct._units import Part, Task
from jprune.typing import Masks, Params, Sparsities, Where


@explicit
def leaf_by_leaf(
  function: str,
  params: Params,
  stats: Stats,
  sparsity: Sparsities,
  pattern: Any,
  where: Where,
  masks: Masks,
  solver: Solver,
  numbers: tuple[float, ...],
  parts: Callable[[int], Sequence[int]],
  per_output: bool,
) -> tuple[Params, Masks, Repair]:
  """Solves each selected leaf, once all are checked.

  Args:
    function: who asks, for messages.
    params: tree of arrays.
    stats: of what they are multiplied by.
    sparsity: as public functions take it.
    pattern: ``Unstructured()`` or an ``NOfM``.
    where: which leaves.
    masks: earlier ones. What they pruned goes and counts.
    solver: the method.
    numbers: its options for which nothing is compiled anew, the damping first.
    parts: number of inputs to the inputs of each part that a matrix is chosen from by itself.
    per_output: whether each output loses the same number, or one more.
  """
  found = _leaves.chosen(function, params, stats, where)
  values = _counts.sparsities_of(function, found, sparsity, pattern)
  held = earlier(function, params, masks)
  todo, left = {}, {}
  for i, (path, leaf) in enumerate(zip(found.paths, found.leaves)):
    if not found.selected[i]:
      continue
    if values[i] is None and not isinstance(pattern, NOfM):
      left[i] = 'no sparsity given'
      continue
    todo[i] = _leaves.uses_of(function, stats, path, leaf)
    check_pattern(function, path, leaf, todo[i], pattern)
  outcomes, tasks = {}, {}
  for i, uses in todo.items():
    path, leaf = found.paths[i], jnp.asarray(found.leaves[i])
    ready = _parts(function, path, leaf, uses, values[i], pattern, held[i], parts, per_output)
    if ready is None:
      outcomes[i] = _leaves.untouched(path, leaf, 'nothing to prune', held[i])
      continue
    ready = [_ready(part, counts, numbers) for part, counts in ready]
    tasks[i] = Task(path, leaf, held[i], ready, solver, numbers[0])
  outcomes |= zip(tasks, _units.solved(function, list(tasks.values())), strict=True)
  return _leaves.gathered(function, found, stats, outcomes, left, held)


def _parts(
  function: str, path: str, leaf: jax.Array, uses: Uses, sparsity: Any, pattern: Any, mask: Any,
  parts: Callable[[int], Sequence[int]], per_output: bool,
) -> list[tuple[Any, np.ndarray]] | None:  # fmt: skip
  """The uses of a leaf, and how many weights go of each; ``None`` if none has to."""
  each = [parts(use.sizes[1]) for use, _ in uses]
  bare = [use for use, _ in uses]
  if isinstance(pattern, NOfM):
    counts = [np.zeros((use.sizes[0], len(n)), np.int32) for use, n in zip(bare, each)]
    nothing = pattern.n == pattern.m
  else:
    count = round(sparsity * leaf.size)
    split = _counts.split_over_outputs if per_output else _counts.split_over_uses
    gone = None if mask is None else [_counts.gone_of(mask, use) for use in bare]
    counts = split(count, bare, each, gone)
    nothing = count <= (0 if mask is None else leaf.size - _units.count_kept(mask))
  if nothing and (mask is None or not _any_left(leaf, mask)):
    return None
  if not isinstance(pattern, NOfM):
    return [((use, moments, None), n) for (use, moments), n in zip(uses, counts)]
  along = [_counts.grouped_along(function, path, leaf, use, pattern) for use in bare]
  return [((use, moments, moved), n) for (use, moved), (_, moments), n in zip(along, uses, counts)]


def _any_left(leaf: jax.Array, mask: jax.Array) -> bool:
  """Whether a weight that a mask has pruned isn't zero."""
  with untyped(leaf, mask) as (leaf, mask):
    return bool(jnp.any((leaf != 0) & ~mask))


def _ready(part: Any, counts: np.ndarray, numbers: tuple[float, ...]) -> Part:
  use, moments, moved = part
  if moved is not None and np.array_equal(moved, np.arange(moved.size)):
    moved = None
  common = Common(_counts.orders(use), moved, numbers)
  return Part(_leaves.bare(use), moments, counts, common)


def earlier(function: str, params: Params, masks: Masks) -> list[Any]:
  """Earlier masks along the leaves of the params, bools or ``None``, checked."""
  if masks is None:
    return [None] * len(tree.flatten(params)[1])
  held = aligned(function, params, masks)
  for path, mask in zip(tree.flatten(params)[0], held):
    if tree.is_traced(*jax.tree.leaves(mask)):
      raise _checks.traced(function, 'masks', path, unpack_leaf(mask))
  return [None if mask is None else jnp.asarray(unpack_leaf(mask)) for mask in held]


def check_pattern(function: str, path: str, leaf: Any, uses: Uses, pattern: Any) -> None:
  """Refuses a leaf that the pattern doesn't fit, before anything is computed."""
  if isinstance(pattern, NOfM):
    for use, _ in uses:
      _counts.grouped_along(function, path, leaf, use, pattern)


def options(function: str, damping: float, per_output: bool, pattern: Any) -> float:
  """Checks what both methods take; the damping as a float."""
  _errors.check_flag(function, 'per_output', per_output)
  _checks.check_pattern(function, pattern)
  return _checks.non_negative_number(function, 'damping', damping)
