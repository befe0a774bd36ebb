"""What all ways of repair share: which leaves, their products, checked; and what comes of them.

Solvers see the matrices of a leaf's uses; ``_units.solved`` cuts leaves into them, and puts what
came of them back in place.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jprune import _checks, tree
from jprune.graph import Stats
from jprune.graph._statistics.moments import Moments, merged
from jprune.graph._statistics.stats import Use
from jprune.masks._apply import zero_where_pruned
from jprune.masks._auto import placed as where_it_lies
from jprune.reconstruct import _errors
from jprune.reconstruct._report import LeafRepair, Repair
from jprune.reconstruct._solving import Common, Solver
from jprune.reconstruct._units import Outcome, Part, Task, count_kept
from jprune.tree._selected import selected_for
from jprune.typing import Masks, Params, Where

Uses = Sequence[tuple[Use, Moments]]


class Chosen(NamedTuple):
  """The leaves of a tree, which of them are to be repaired, and why the default leaves some out."""

  paths: list[str]
  leaves: list[Any]
  treedef: Any
  selected: list[bool]
  skipped: list[str | None]


def chosen(function: str, params: Params, stats: Stats, where: Where) -> Chosen:
  """The leaves that ``where`` selects."""
  _checks.check_stats(function, stats)
  selected = real(function, params, where)
  paths, leaves, treedef = tree.flatten(params)
  return Chosen(paths, leaves, treedef, selected, why_left(params))


def why_left(params: Params) -> list[str | None]:
  """Why repair leaves each leaf alone by default; ``None`` where it doesn't."""
  return [
    'complex, which is not repaired' if tree.is_complex(leaf) else each
    for leaf, each in zip(tree.flatten(params)[1], tree.skipped(params), strict=True)
  ]


def real(function: str, params: Params, where: Where) -> list[bool]:
  """Which leaves ``where`` selects; by default no complex ones, of which repair knows nothing.

  Raises:
    TypeError: if a filter selects a complex leaf, or there are no others to select.
  """
  selected = selected_for(function, params, where)
  paths, leaves, _ = tree.flatten(params)
  odd = [i for i, leaf in enumerate(leaves) if selected[i] and tree.is_complex(leaf)]
  if odd and (where is not None or len(odd) == sum(selected)):
    raise _checks.complex_leaf(function, 'params', paths[odd[0]], leaves[odd[0]])
  return [yes and i not in odd for i, yes in enumerate(selected)]


def uses_of(function: str, stats: Stats, path: str, leaf: Any) -> list[tuple[Use, Moments]]:
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
    raise _errors.not_finite_weights(function, path)
  return list(found.values())


def places_of(function: str, stats: Stats, path: str, leaf: Any) -> list[Use]:
  """The products with a leaf, equal ones as one, for what needs no moments; checked likewise."""
  _check_at_hand(function, stats, path, leaf)
  uses = list({_places(use): use for use, _ in stats[path]}.values())
  _check_places(function, path, leaf, uses)
  return uses


def usable(shapes: Stats) -> tuple[list[str], list[tuple[str, str]]]:
  """Paths of the leaves that can be repaired; the others with the reason."""
  usable, why = [], list(shapes.skipped)
  for path, uses in shapes.uses:
    if all(use.direct for use in uses):
      usable.append(path)
    else:
      notes = (note for of, note in shapes.notes if of == path and 'computed from' in note)
      why.append((path, next(notes, 'its product multiplies by something computed from it')))
  return usable, why


def masked_task(
  path: str, leaf: jax.Array, uses: Uses, mask: jax.Array, solver: Solver, damping: float
) -> Task:
  """A leaf to be solved for a mask that is known."""
  common = Common(None, None, (damping,))
  parts = [Part(bare(use), moments, None, common) for use, moments in uses]
  return Task(path, leaf, mask, parts, solver, damping)


def untouched(path: str, leaf: Any, why: str, mask: Any = None) -> Outcome:
  """A leaf of which nothing more is pruned: bit for bit as it was, with zeros by its mask."""
  leaf = jnp.asarray(leaf)
  mask = jnp.ones(leaf.shape, bool) if mask is None else mask
  pruned = leaf.size - count_kept(mask)
  row = LeafRepair(path, leaf.shape, pruned, 0.0, 0.0, 0.0, False, why)
  return Outcome(leaf, where_it_lies(mask, leaf), row)


def gathered(
  method: str,
  found: Chosen,
  stats: Stats,
  outcomes: dict[int, Outcome],
  left: dict[int, str],
  held: Sequence[Any],
) -> tuple[Params, Masks, Repair]:
  """The params with what came of some leaves, masks (elsewhere the earlier ones), the report."""
  rest = [zero_where_pruned(leaf, mask) for leaf, mask in zip(found.leaves, held, strict=True)]
  take = lambda i, leaf: outcomes[i].leaf if i in outcomes else leaf
  params = found.treedef.unflatten([take(i, leaf) for i, leaf in enumerate(rest)])
  masks = [outcomes[i].mask if i in outcomes else mask for i, mask in enumerate(held)]
  rows = tuple(noted(outcomes[i].row, stats) for i in sorted(outcomes))
  why = [
    (path, left.get(i) or found.skipped[i] or 'not selected')
    for i, path in enumerate(found.paths)
    if i not in outcomes
  ]
  return params, found.treedef.unflatten(masks), Repair(method, rows, tuple(why))


def noted(row: LeafRepair, stats: Stats) -> LeafRepair:
  """The row with what else is done with the leaf, which its errors know nothing of."""
  others = [what for path, what in getattr(stats, 'notes', ()) if path == row.path]
  notes = [row.note] if row.note else []
  if others:
    notes.append(f'{", ".join(others)}; its errors are those of the captured product alone')
  return dataclasses.replace(row, note='; '.join(notes))


# ----------------------------------------------------------------------------------- the checks


def _check_at_hand(function: str, stats: Stats, path: str, leaf: Any) -> None:
  _checks.check_values(function, path, leaf)
  if tree.is_traced(leaf, *jax.tree.leaves(stats)):
    raise _checks.traced(function, 'params', path, leaf)
  if path not in dict(stats.uses):
    raise _checks.no_stats(function, path, dict(stats.skipped).get(path))


def _check_places(function: str, path: str, leaf: Any, uses: Sequence[Use]) -> None:
  shape = tuple(map(max, zip(*([last for _, last in use.box] for use in uses))))
  if len(shape) != len(leaf.shape) or any(a > b for a, b in zip(shape, leaf.shape)):
    raise _checks.stats_of_other_shape(function, path, leaf, shape)
  for i, use in enumerate(uses):
    if not getattr(use, 'direct', True):
      raise _errors.not_direct(function, path, use.line)
    for other in uses[:i]:
      pairs = zip(use.box, other.box)
      if all(max(a[0], b[0]) < min(a[1], b[1]) for a, b in pairs):
        raise _errors.overlapping_uses(function, path, [other.line, use.line])
  used = sum(math.prod(use.sizes) for use in uses)
  if used != tree.size(leaf):
    if len(uses) == 1 and all(first == 0 for first, _ in uses[0].box):
      raise _checks.stats_of_other_shape(function, path, leaf, shape)
    raise _errors.partly_used(function, path, used, tree.size(leaf))


def _check_moments(function: str, path: str, use: Use, moments: Moments) -> None:
  _checks.check_values(function, path, moments.mean, 'stats')
  _checks.check_shape(function, 'stats', path, moments.mean, use.sizes[:2])
  if moments.products is None:
    raise _checks.no_gram(function, path)
  if not all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(moments)):
    raise _errors.not_finite_gram(function, path, use.line)


# ------------------------------------------------------------------------------ from leaf to uses


def _places(use: Use) -> Any:
  """Equal for products with the same entries in the same way."""
  return use.box, use.shape, use.axes, use.batch, use.inputs, use.outputs


def bare(use: Use) -> Use:
  """Where a product stands in the code is no reason to compile anew."""
  return dataclasses.replace(use, source=0, loop=None, line='')
