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
from jprune.reconstruct import _counts, _errors, _leaves
from jprune.reconstruct._leaves import Outcome, Solved, Uses
from jprune.reconstruct._report import Repair
from jprune.typing import Masks, Params, Sparsities, Where

Solver = Callable[[jax.Array, jax.Array, jax.Array, np.ndarray, tuple[Any, Any], Any], Solved]
"""``(matrices, gram, rows, counts, orders, alive) -> Solved``, the options of a method bound."""


@explicit
def leaf_by_leaf(
  function: str,
  params: Params,
  stats: Stats,
  sparsity: Sparsities,
  pattern: Any,
  where: Where,
  masks: Masks,
  work: Callable[[str, Any, Uses, Any, Any], Outcome],
) -> tuple[Params, Masks, Repair]:
  """Calls ``work(path, leaf, uses, sparsity, mask)`` for each selected leaf, once all are checked.

  ``mask`` is the earlier one of the leaf, or ``None``.
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
  outcomes = {
    i: _leaves.outcome_of(work, found.paths[i], found.leaves[i], uses, values[i], held[i])
    for i, uses in todo.items()
  }
  return _leaves.gathered(function, found, stats, outcomes, left, held)


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


def pruned_leaf(
  function: str,
  path: str,
  leaf: Any,
  uses: Uses,
  sparsity: float | None,
  pattern: Any,
  mask: Any,
  solver: Solver,
  *,
  parts: Callable[[int], Sequence[int]],
  damping: float,
  per_output: bool,
) -> Outcome:
  """One leaf: counts for each of its products, solved one after the other.

  Args:
    function: who asks, for messages.
    path: of the leaf.
    leaf: its weights.
    uses: its products, as :func:`jprune.reconstruct._leaves.uses_of` returns them.
    sparsity: fraction of zeros; not looked at with an ``NOfM``.
    pattern: ``Unstructured()`` or an ``NOfM``.
    mask: an earlier one, bools, or ``None``. What it pruned goes and counts.
    solver: what solves, all options bound.
    parts: number of inputs to the inputs of each part that a matrix is chosen from by itself.
    damping: what the solver was asked for.
    per_output: whether each output loses the same number, or one more.
  """
  each = [parts(use.sizes[1]) for use, _ in uses]
  bare = [use for use, _ in uses]
  if isinstance(pattern, NOfM):
    counts = [np.zeros((use.sizes[0], len(n)), np.int32) for use, n in zip(bare, each)]
    nothing = pattern.n == pattern.m
  else:
    count = round(sparsity * leaf.size)
    split = _counts.split_over_outputs if per_output else _counts.split_over_uses
    gone = None if mask is None else [~np.asarray(use.matrices(mask)) for use in bare]
    counts = split(count, bare, each, gone)
    nothing = count <= (0 if gone is None else sum(int(each.sum()) for each in gone))
  if nothing and (mask is None or not bool(jnp.any(jnp.where(mask, 0, leaf)))):
    return _leaves.untouched(path, leaf, 'nothing to prune', mask)

  def solve(i: int, matrices: jax.Array, gram: jax.Array) -> Solved:
    use, back = bare[i], None
    alive = None if mask is None else use.matrices(mask)
    if isinstance(pattern, NOfM):
      use, moved = _counts.grouped_along(function, path, leaf, use, pattern)
      if not np.array_equal(moved, np.arange(moved.size)):
        back = np.argsort(moved)
        matrices, gram = matrices[:, moved], gram[:, moved][:, :, moved]
        alive = None if alive is None else alive[:, moved]
    solved = solver(matrices, gram, uses[i][1].count, counts[i], _counts.orders(use), alive)
    if back is None:
      return solved
    return Solved(solved.matrices[:, back], solved.masks[:, back], solved.damping)

  return _leaves.put_back(function, path, leaf, uses, solve, damping)


def options(function: str, damping: float, per_output: bool, pattern: Any) -> float:
  """Checks what both methods take; the damping as a float."""
  _errors.check_flag(function, 'per_output', per_output)
  if isinstance(pattern, type):
    raise _checks.bad_pattern(function, pattern)
  return _checks.non_negative_number(function, 'damping', damping)
