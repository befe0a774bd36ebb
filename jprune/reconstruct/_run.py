"""The params of a model while they are pruned, stage by stage."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jprune import _checks, tree
from jprune._entry import explicit
from jprune.distributions import global_
from jprune.distributions._needs import needs_of
from jprune.graph._capture.stats import Stats
from jprune.masks import NOfM
from jprune.reconstruct import _leaves, _scorers, _stages, _units
from jprune.reconstruct._counts import spread
from jprune.reconstruct._devices import returned, untyped
from jprune.reconstruct._empty_statistics import alike, without_unseen
from jprune.reconstruct._least_squares import least_squares
from jprune.reconstruct._per_output import per_output
from jprune.reconstruct._report import LeafRepair, Repair
from jprune.reconstruct._solving import Matrices, Solved
from jprune.tree._along import along_for, by_leaf_for
from jprune.typing import Distribution, Masks, Params

NAME = 'reconstruct.prune'


class Run:
  """The params as they change, stage by stage."""

  def __init__(
    self,
    params: Params,
    sparsity: Any,
    pattern: Any,
    method: Any,
    scorer: Any,
    chosen: list[str],
    masks: list[Any],
  ) -> None:
    """``masks`` are earlier ones along the leaves, or ``None``, and the params have zeros there."""
    self.paths, leaves, self.treedef = tree.flatten(params)
    self._before = dict(zip(self.paths, masks, strict=True))
    self.leaves = dict(zip(self.paths, leaves))
    self._dense = params
    self._sparsity = sparsity
    self._pattern = pattern
    self._method = method
    self._scorer = scorer
    self._chosen = chosen
    self._scores: dict[str, Any] = {}
    self._sparsities: dict[str, float] = {}
    self._unseen: dict[str, None] = {}
    self._masks: dict[str, jax.Array] = {}
    self._rows: dict[str, list[LeafRepair]] = {}

  @property
  def params(self) -> Params:
    return self.treedef.unflatten(list(self.leaves.values()))

  @explicit
  def score(self, stats: Stats | None) -> None:
    """Scores leaves for distributions that look at them; of those that have seen no row, none."""
    paths = self._chosen
    if stats is not None:
      stats, unseen = without_unseen(stats)
      self._unseen.update(dict.fromkeys(unseen))
      paths = list(stats.paths)
    if paths:
      scores = _scorers.scored(self._scorer, self._dense, stats)
      given = along_for(NAME, 'scorer', self._dense, scores)
      self._scores |= {path: each for path, each in zip(self.paths, given) if path in paths}

  @explicit
  def distribute(self, distribution: Distribution) -> None:
    """Sets the sparsity of each leaf, by scores if there are any, else by shapes alone."""
    given = {
      path: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.float32)
      for path, leaf in self.leaves.items()
      if path in self._chosen
    }
    given = self._scores or given
    if needs_of(distribution).one_threshold:  # what is pruned goes first, whatever its score
      distribution = global_
      given = {path: self._ranked_last(path, score) for path, score in given.items()}
    scores = self.treedef.unflatten([given.get(path) for path in self.paths])
    found = distribution(self._dense, scores, self._sparsity)
    values = by_leaf_for(NAME, 'distribution', self._dense, found)
    self._sparsities = {
      path: value
      for path, value in zip(self.paths, values)
      if path in self._chosen and value is not None
    }

  def _ranked_last(self, path: str, score: Any) -> Any:
    before = self._before[path]
    return score if before is None else jnp.where(before, score, -jnp.inf)

  @explicit
  def stage(self, stage: _stages.Stage, stats: Stats) -> None:
    """Prunes the leaves of a stage."""
    known, unseen = without_unseen(stats)
    self._unseen.update({path: None for path in unseen if path in stage.paths})
    for path in stage.paths:
      if path in self._unseen:
        continue
      leaf = jnp.asarray(self.leaves[path])
      if stage.step is None:
        share, before = self._sparsities.get(path), self._before[path]
        self._put(path, *self._leaf(path, leaf, stats, self._pattern, share, before))
        continue
      masks = self._masks.get(path), self._before[path]
      with untyped(leaf, masks, known.inputs) as (moved, (mask, before), inputs):
        own = dataclasses.replace(known, inputs=inputs)
        new, mask, row = self._step(stage, stage.step, path, moved, mask, before, own)
      self._put(path, returned(new, leaf), returned(mask, leaf), row)

  def _step(
    self,
    stage: _stages.Stage,
    step: int,
    path: str,
    leaf: jax.Array,
    mask: Any,
    before: Any,
    stats: Stats,
  ) -> tuple[jax.Array, jax.Array, LeafRepair]:
    """The part of a leaf that one step of a scan uses, put back into the leaf and its mask."""
    (use,) = dict(stats.uses)[path]
    part = _stages.step_of(leaf, use, step)
    of_step = _stages.stats_of_step(stats, stage.paths, step)
    seen = path not in without_unseen(of_step)[1]
    pattern = _stages.pattern_of_step(self._pattern, leaf, use)
    of_step = of_step if seen else alike(of_step)
    parts: list[jax.Array | None] = [None] * stage.steps
    if before is not None:
      parts = [_stages.step_of(before, use, i) for i in range(stage.steps)]
    share = self._sparsities.get(path)
    share = None if share is None else _share(share, tree.size(part), step, parts)
    new, kept, row = self._leaf(path, part, of_step, pattern, share, parts[step])
    if not seen:
      row = dataclasses.replace(row, note=f'no rows for step {step}')
    put = lambda leaf, part: _stages.with_step(leaf, use, step, part)
    return put(leaf, new), put(jnp.ones(leaf.shape, bool) if mask is None else mask, kept), row

  def _put(self, path: str, leaf: jax.Array, mask: jax.Array, row: LeafRepair) -> None:
    self.leaves[path], self._masks[path] = leaf, mask
    self._rows.setdefault(path, []).append(row)

  def _leaf(
    self, path: str, leaf: jax.Array, stats: Stats, pattern: Any, share: Any, before: Any
  ) -> tuple[Any, Any, LeafRepair]:
    """One leaf, or the part of it that a step uses, by itself."""
    one, given = {path: leaf}, None
    if not isinstance(pattern, NOfM):
      if share is None:
        leaf, mask, row = _leaves.untouched(path, leaf, 'the distribution leaves it dense', before)
        return leaf, mask, _leaves.noted(row, stats)
      given = {path: share}
    how: dict[str, Any] = {'pattern': pattern, 'where': {path: True}}
    if before is not None:
      how['masks'] = {path: before}
    method = getattr(self._method, 'func', self._method)
    if method is None or method is least_squares:
      masks = per_output(_scorers.scored(self._scorer, one, stats), stats, given, **how)
      if method is None:
        leaf, mask, row = _masked(path, leaf, masks[path], stats)
        return leaf, mask, _leaves.noted(row, stats)
      new, masks, report = self._method(one, stats, masks, where=how['where'])
    else:
      new, masks, report = self._method(one, stats, given, **how)
    return new[path], masks[path], report[path]

  @explicit
  def result(self, why: Sequence[tuple[str, str]]) -> tuple[Params, Masks, Repair]:
    """The params, their masks, and the report of all leaves."""
    known = dict(why) | dict.fromkeys(self._unseen, 'no batch runs a product with it')
    if not self._rows and self._unseen:
      raise _checks.no_rows(NAME, next(iter(self._unseen)))
    rows = [_joined(self._rows[path]) for path in self.paths if path in self._rows]
    skipped = dict(zip(self.paths, _leaves.why_left(self.params)))
    left = [
      (path, known.get(path) or skipped[path] or 'not selected')
      for path in self.paths
      if path not in self._rows
    ]
    masks = [self._masks.get(path, self._before[path]) for path in self.paths]
    method = getattr(self._method, 'func', self._method)
    name = 'masks alone' if method is None else getattr(method, '__name__', 'method')
    return self.params, self.treedef.unflatten(masks), Repair(name, tuple(rows), tuple(left))


@dataclasses.dataclass(frozen=True)
class _Masked:
  """What is kept as it is."""

  looks = False

  def solve(self, program: None, given: Matrices, state: None) -> Solved:
    none = jnp.zeros(given.weights.shape[0], jnp.float32)
    return Solved(jnp.where(given.mask, given.weights, 0.0), given.mask, none)


def _masked(path: str, leaf: jax.Array, mask: jax.Array, stats: Stats) -> _units.Outcome:
  uses = _leaves.uses_of(NAME, stats, path, leaf)
  (out,) = _units.solved(NAME, [_leaves.masked_task(path, leaf, uses, mask, _Masked(), 0.0)])
  return out


def _share(sparsity: float, size: int, step: int, masks: Sequence[Any]) -> float:
  """What a step gives, such that all of them together give exactly what the leaf has to.

  ``masks`` are the earlier ones of all steps, or ``None``; what they pruned counts.
  """
  gone = [0 if mask is None else size - int(np.count_nonzero(mask)) for mask in masks]
  count = round(sparsity * size * len(masks))
  more = spread(max(count - sum(gone), 0), [size - each for each in gone])
  return (gone[step] + more[step]) / size if size else 0.0


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
