"""The params of a model while they are pruned, stage by stage."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jprune import tree
from jprune.graph._moments import Moments
from jprune.graph._stats import Stats
from jprune.masks import NOfM
from jprune.reconstruct import _leaves, _stages
from jprune.reconstruct._least_squares import least_squares
from jprune.reconstruct._per_output import per_output
from jprune.reconstruct._report import LeafRepair, Repair
from jprune.typing import Distribution, Masks, Params, Scorer

NAME = 'reconstruct.prune'


class Run:
  """The params as they change, stage by stage."""

  def __init__(
    self, params: Params, sparsity: Any, pattern: Any, method: Any, scorer: Any, chosen: list[bool]
  ) -> None:
    self.paths, leaves, self.treedef = tree.flatten(params)
    self.leaves = dict(zip(self.paths, leaves))
    self._dense = params
    self._sparsity = sparsity
    self._pattern = pattern
    self._method = method
    self._scorer = scorer
    self._chosen = chosen
    self._sparsities: dict[str, float] = {}
    self._masks: dict[str, jax.Array] = {}
    self._rows: dict[str, list[LeafRepair]] = {}

  @property
  def params(self) -> Params:
    return self.treedef.unflatten(list(self.leaves.values()))

  def distribute(self, distribution: Distribution, stats: Stats | None) -> None:
    """Sets the sparsity of each leaf; without statistics from shapes alone."""
    given: Any = [jax.ShapeDtypeStruct(jnp.shape(x), jnp.float32) for x in self.leaves.values()]
    if stats is not None:
      given = tree.along(NAME, 'scorer', self._dense, _scored(self._scorer, self._dense, stats))
    given = [each if yes else None for each, yes in zip(given, self._chosen)]
    found = distribution(self._dense, self.treedef.unflatten(given), self._sparsity)
    values = tree.by_leaf(NAME, 'distribution', self._dense, found)
    self._sparsities = {
      path: value
      for path, value, yes in zip(self.paths, values, self._chosen)
      if yes and value is not None
    }

  def stage(self, stage: _stages.Stage, stats: Stats) -> None:
    """Prunes the leaves of a stage."""
    for path in stage.paths:
      if stage.step is None:
        self._put(path, *self._leaf(path, self.leaves[path], stats, self._pattern, None))
        continue
      leaf, use = self.leaves[path], dict(stats.uses)[path][0]
      part = _stages.step_of(leaf, use, stage.step)
      of_step = _stages.stats_of_step(stats, stage.paths, stage.step)
      pattern = _stages.pattern_of_step(self._pattern, leaf, use)
      new, mask, row = self._leaf(path, part, of_step, pattern, (stage.step, stage.steps))
      before = self._masks.get(path, jnp.ones(leaf.shape, bool))
      new = _stages.with_step(leaf, use, stage.step, new)
      self._put(path, new, _stages.with_step(before, use, stage.step, mask), row)

  def _put(self, path: str, leaf: jax.Array, mask: jax.Array, row: LeafRepair) -> None:
    self.leaves[path], self._masks[path] = leaf, mask
    self._rows.setdefault(path, []).append(row)

  def _leaf(
    self, path: str, leaf: jax.Array, stats: Stats, pattern: Any, step: tuple[int, int] | None
  ) -> tuple[Any, Any, LeafRepair]:
    """One leaf, or the part of it that a step uses, by itself."""
    one, share = {path: leaf}, None
    if not isinstance(pattern, NOfM):
      share = self._sparsities.get(path)
      if share is None:
        return _leaves.untouched(path, leaf, 'the distribution leaves it dense')
      share = {path: share if step is None else _share(share, tree.size(leaf), *step)}
    where = {path: True}
    method = getattr(self._method, 'func', self._method)
    if method is None or method is least_squares:
      given = _scored(self._scorer, one, stats)
      masks = per_output(given, stats, share, pattern=pattern, where=where)
      if method is None:
        return _masked(path, leaf, masks[path], stats)
      new, masks, report = self._method(one, masks, stats, where=where)
    else:
      new, masks, report = self._method(one, stats, share, pattern=pattern, where=where)
    return new[path], masks[path], report[path]

  def result(self, why: Sequence[tuple[str, str]]) -> tuple[Params, Masks, Repair]:
    """The params, their masks, and the report of all leaves."""
    known = dict(why)
    rows = [_joined(self._rows[path]) for path in self.paths if path in self._rows]
    left = [
      (path, known.get(path) or _leaves.why_not_selected(self.leaves[path]))
      for path in self.paths
      if path not in self._rows
    ]
    masks = [self._masks.get(path) for path in self.paths]
    method = getattr(self._method, 'func', self._method)
    name = 'masks alone' if method is None else getattr(method, '__name__', 'method')
    return self.params, self.treedef.unflatten(masks), Repair(name, tuple(rows), tuple(left))


def _masked(path: str, leaf: jax.Array, mask: jax.Array, stats: Stats) -> _leaves.Outcome:
  uses = _leaves.uses_of(NAME, stats, path, leaf)

  def solver(i: int, matrices: jax.Array, moments: Moments) -> _leaves.Solved:
    keep = uses[i][0].matrices(mask)
    none = jnp.zeros(matrices.shape[0], jnp.float32)
    return _leaves.Solved(jnp.where(keep, matrices, 0.0), keep, none)

  return _leaves.put_back(path, leaf, uses, solver, 0.0)


def _scored(scorer: Scorer, params: Params, stats: Stats) -> Any:
  takes = 'stats' in inspect.signature(scorer).parameters
  return scorer(params, stats=stats) if takes else scorer(params)


def _share(sparsity: float, size: int, step: int, steps: int) -> float:
  """What a step gives, such that all of them together give exactly what the leaf has to."""
  count = lambda i: round(sparsity * size * steps) * i // steps
  return (count(step + 1) - count(step)) / size if size else 0.0


def _joined(rows: Sequence[LeafRepair]) -> LeafRepair:
  """The steps of a scan as one row; errors are means."""
  if len(rows) == 1:
    return rows[0]
  mean = lambda values: sum(values) / len(rows)
  notes = dict.fromkeys(row.note for row in rows if row.note)
  return dataclasses.replace(
    rows[0],
    shape=(len(rows), *rows[0].shape),
    pruned=sum(row.pruned for row in rows),
    error_before=mean([row.error_before for row in rows]),
    error_after=mean([row.error_after for row in rows]),
    damping=max(row.damping for row in rows),
    escalated=any(row.escalated for row in rows),
    note='; '.join([*notes, f'errors are means over {len(rows)} steps']),
  )
