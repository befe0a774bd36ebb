"""What all ways of repair share: which leaves, their products, checked; and what comes of them.

A solver sees matrices ``(batch, inputs, outputs)`` and Gram matrices. Here a leaf is cut into those
of its uses, and what the solver made of them is put back in place, cast, and measured.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jprune import _checks, tree
from jprune.graph._moments import Moments, merged
from jprune.graph._stats import Use
from jprune.masks._auto import placed as where_it_lies
from jprune.reconstruct._error import energy, exponent
from jprune.reconstruct._place import on_one_device, returned
from jprune.reconstruct._report import LeafRepair, Repair
from jprune.typing import Masks, Params, Where

Uses = Sequence[tuple[Use, Moments]]


class Solved(NamedTuple):
  """What a solver makes of the matrices of a use.

  Attributes:
    matrices: ``(batch, inputs, outputs)``, float32; 0.0 where pruned.
    masks: of the same shape.
    damping: ``(batch,)``, what was added to the diagonals, as fractions of their means.
  """

  matrices: jax.Array
  masks: jax.Array
  damping: jax.Array


class Outcome(NamedTuple):
  """A leaf after repair: of its dtype; its mask; its row of the report."""

  leaf: jax.Array
  mask: jax.Array
  row: LeafRepair


class Chosen(NamedTuple):
  """The leaves of a tree, and which of them are to be repaired."""

  paths: list[str]
  leaves: list[Any]
  treedef: Any
  selected: list[bool]


def chosen(function: str, params: Params, stats: Any, where: Where) -> Chosen:
  """The leaves that ``where`` selects."""
  _checks.check_stats(function, stats)
  selected = tree.selected(function, params, where)
  paths, leaves, treedef = tree.flatten(params)
  return Chosen(paths, leaves, treedef, selected)


def uses_of(function: str, stats: Any, path: str, leaf: Any) -> list[tuple[Use, Moments]]:
  """The products with a leaf, equal ones as one, once all is checked that repair relies on.

  Raises:
    ValueError: if there are no statistics of the leaf, or they are of another shape, without
      products, of no row, not finite, or of products that don't determine what to do; if a weight
      isn't finite.
    TypeError: if the leaf or the statistics have no values.
  """
  _check_at_hand(function, stats, path, leaf)
  found: dict[Any, tuple[Use, Moments]] = {}
  for use, moments in stats[path]:
    same = _places(use)
    before = found.get(same)
    found[same] = (use, merged(before[1], moments) if before else moments)
  _check_places(function, path, leaf, [use for use, _ in found.values()])
  for use, moments in found.values():
    _check_moments(function, path, use, moments)
  if not any(np.any(np.asarray(moments.count)) for _, moments in found.values()):
    raise _checks.no_rows(function, path)
  if not bool(jnp.all(jnp.isfinite(leaf))):
    raise _checks.not_finite_weights(function, path)
  return list(found.values())


def places_of(function: str, stats: Any, path: str, leaf: Any) -> list[Use]:
  """The products with a leaf, equal ones as one, for what needs no moments; checked likewise."""
  _check_at_hand(function, stats, path, leaf)
  uses = list({_places(use): use for use, _ in stats[path]}.values())
  _check_places(function, path, leaf, uses)
  return uses


def put_back(
  path: str,
  leaf: Any,
  uses: Uses,
  solve: Callable[[int, jax.Array, Moments], Solved],
  damping: float,
  tags: Sequence[str] = (),
) -> Outcome:
  """Solves use by use and puts the results in place.

  Args:
    path: of the leaf.
    leaf: its weights.
    uses: its products, none of which overlap.
    solve: ``(place of the use, matrices, moments) -> Solved``, all in the order of the use.
    damping: what was asked for, to see whether it was enough.
    tags: what else the report is to say of the leaf.
  """
  leaf = jnp.asarray(leaf)
  new = leaf.astype(jnp.float32)
  mask = jnp.ones(leaf.shape, bool)
  most = 0.0
  for i, (use, moments) in enumerate(uses):
    solved = solve(i, use.matrices(leaf).astype(jnp.float32), moments)
    new, mask = _placed(new, mask, solved.matrices, solved.masks, _bare(use))
    most = max(most, float(jnp.max(solved.damping)))
  new = jnp.where(mask, new, 0.0).astype(leaf.dtype)
  before, after = errors(leaf, jnp.where(mask, leaf, jnp.zeros_like(leaf)), new, uses)
  notes = [*tags, *_unseen(uses)]
  pruned = leaf.size - int(np.count_nonzero(np.asarray(mask)))
  escalated = most > 1.5 * damping  # it grows tenfold; what is left is rounding
  row = LeafRepair(path, leaf.shape, pruned, before, after, most, escalated, '; '.join(notes))
  return Outcome(where_it_lies(new, leaf), where_it_lies(mask, leaf), row)


def outcome_of(work: Callable[..., Outcome], path: str, leaf: Any, *args: Any) -> Outcome:
  """``work(path, leaf, *args)``, for solvers that leave it to the partitioner where things lie."""
  with on_one_device(leaf, args) as (moved, rest):
    done = work(path, moved, *rest)
  return done._replace(leaf=returned(done.leaf, leaf), mask=returned(done.mask, leaf))


def untouched(path: str, leaf: Any, why: str) -> Outcome:
  """A leaf of which nothing is pruned: bit for bit as it was."""
  leaf = jnp.asarray(leaf)
  row = LeafRepair(path, leaf.shape, 0, 0.0, 0.0, 0.0, False, why)
  return Outcome(leaf, where_it_lies(jnp.ones(leaf.shape, bool), leaf), row)


def errors(leaf: jax.Array, masked: jax.Array, new: jax.Array, uses: Uses) -> tuple[float, float]:
  """Relative output errors of two versions of a leaf, squared, over all of its products."""
  whole, parts = 0.0, [0.0, 0.0]
  down = jnp.max(jnp.stack([exponent(moments) for _, moments in uses]))
  for use, moments in uses:
    bare = _bare(use)
    whole += float(energy(_of_use(leaf, leaf, bare, False), moments, down))
    for i, other in enumerate((masked, new)):
      parts[i] += float(energy(_of_use(leaf, other, bare, True), moments, down))
  before, after = (part / whole if whole > 0 else 0.0 for part in parts)
  return before, after


def gathered(
  method: str, found: Chosen, stats: Any, outcomes: dict[int, Outcome], left: dict[int, str]
) -> tuple[Params, Masks, Repair]:
  """The params with what came of some leaves, masks (``None`` elsewhere) and the report."""
  take = lambda i, leaf: outcomes[i].leaf if i in outcomes else leaf
  params = found.treedef.unflatten([take(i, leaf) for i, leaf in enumerate(found.leaves)])
  masks = [outcomes[i].mask if i in outcomes else None for i in range(len(found.leaves))]
  rows = tuple(noted(outcomes[i].row, stats) for i in sorted(outcomes))
  why = [
    (path, left.get(i) or why_not_selected(found.leaves[i]))
    for i, path in enumerate(found.paths)
    if i not in outcomes
  ]
  return params, found.treedef.unflatten(masks), Repair(method, rows, tuple(why))


def noted(row: LeafRepair, stats: Any) -> LeafRepair:
  """The row with what else is done with the leaf, which its errors know nothing of."""
  others = [what for path, what in getattr(stats, 'notes', ()) if path == row.path]
  notes = [row.note] if row.note else []
  if others:
    notes.append(f'{", ".join(others)}; its errors are those of the captured product alone')
  return dataclasses.replace(row, note='; '.join(notes))


def why_not_selected(leaf: Any) -> str:
  """Why a leaf was left alone."""
  if not tree.is_floating(leaf):
    return 'not a floating array'
  return 'fewer than two dimensions' if len(leaf.shape) < 2 else 'not selected'


# ----------------------------------------------------------------------------------- the checks


def _check_at_hand(function: str, stats: Any, path: str, leaf: Any) -> None:
  _checks.check_values(function, path, leaf)
  if tree.is_traced(leaf, *jax.tree.leaves(stats)):
    raise _checks.traced(function, 'params', path, leaf)
  if path not in dict(stats.uses):
    raise _checks.no_stats(function, path, dict(stats.left_out).get(path))


def _check_places(function: str, path: str, leaf: Any, uses: Sequence[Use]) -> None:
  shape = tuple(map(max, zip(*([last for _, last in use.box] for use in uses))))
  if len(shape) != len(leaf.shape) or any(a > b for a, b in zip(shape, leaf.shape)):
    raise _checks.stats_of_other_shape(function, path, leaf, shape)
  for i, use in enumerate(uses):
    if not getattr(use, 'direct', True):
      raise _checks.not_direct(function, path, use.line)
    for other in uses[:i]:
      pairs = zip(use.box, other.box)
      if all(max(a[0], b[0]) < min(a[1], b[1]) for a, b in pairs):
        raise _checks.overlapping_uses(function, path, [other.line, use.line])
  used = sum(math.prod(use.sizes) for use in uses)
  if used != tree.size(leaf):
    if len(uses) == 1 and all(first == 0 for first, _ in uses[0].box):
      raise _checks.stats_of_other_shape(function, path, leaf, shape)
    raise _checks.partly_used(function, path, used, tree.size(leaf))


def _check_moments(function: str, path: str, use: Use, moments: Moments) -> None:
  _checks.check_values(function, path, moments.mean, 'stats')
  _checks.check_shape(function, 'stats', path, moments.mean, use.sizes[:2])
  if moments.products is None:
    raise _checks.no_gram(function, path)
  if not all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(moments)):
    raise _checks.not_finite_gram(function, path, use.line)


def _unseen(uses: Uses) -> list[str]:
  """Says which products have seen no row, although others of the leaf have."""
  counts = np.concatenate([np.asarray(moments.count) for _, moments in uses])
  none = np.count_nonzero(counts == 0)
  return [f'no rows for {none:,} of {counts.size:,} products'] if none else []


# ------------------------------------------------------------------------------ from leaf to uses


def _places(use: Use) -> Any:
  """Equal for products with the same entries in the same way."""
  return use.box, use.shape, use.axes, use.batch, use.inputs, use.outputs


def _bare(use: Use) -> Use:
  """Where a product stands in the code is no reason to compile anew."""
  return dataclasses.replace(use, source=0, loop=None, line='')


@functools.partial(jax.jit, static_argnames=['use'])
def _placed(new: jax.Array, mask: jax.Array, matrices: Any, masks: Any, use: Use) -> Any:
  return use.placed(new, matrices), use.placed(mask, masks)


@functools.partial(jax.jit, static_argnames=['use', 'apart'])
def _of_use(leaf: jax.Array, other: jax.Array, use: Use, apart: bool) -> jax.Array:
  """The matrices of ``other``, or of what it is apart from the leaf."""
  matrices = lambda x: use.matrices(x).astype(jnp.float32)
  return matrices(other) - matrices(leaf) if apart else matrices(other)
