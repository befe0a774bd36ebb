"""The params of a model while they are pruned, stage by stage."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jprune import _checks, tree
from jprune._entry import explicit
from jprune.distributions import global_
from jprune.distributions._needs import needs_of
from jprune.graph._statistics.stats import Stats, Use
from jprune.masks import NOfM
from jprune.reconstruct import _leaves, _scorers, _stages, _units
from jprune.reconstruct._at_hand import AtHand, part_of
from jprune.reconstruct._counts import spread
from jprune.reconstruct._empty_statistics import alike, without_unseen
from jprune.reconstruct._in_files import InFiles
from jprune.reconstruct._least_squares import least_squares
from jprune.reconstruct._masked import masked
from jprune.reconstruct._memory import Watch
from jprune.reconstruct._per_output import per_output
from jprune.reconstruct._report import LeafRepair, Repair
from jprune.reconstruct._table import MASKS_ALONE
from jprune.tree._along import along_for, by_leaf_for
from jprune.typing import Distribution, Masks, Params

NAME = 'reconstruct.prune'


class _Job(NamedTuple):
  """A leaf, or the part of it that a step of a scan uses, to be pruned.

  Attributes:
    path: of the leaf.
    leaf: its weights.
    stats: of what it is multiplied by, among others.
    pattern: of what is kept.
    share: fraction of zeros; ``None`` with an ``NOfM``, or to leave it dense.
    before: an earlier mask, or ``None``.
  """

  path: str
  leaf: jax.Array
  stats: Stats
  pattern: Any
  share: float | None
  before: Any


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
    uses: Mapping[str, Sequence[Use]],
    at_hand: AtHand | InFiles | None = None,
  ) -> None:
    """Sets out to prune params, of which nothing is pruned yet.

    ``masks`` are earlier ones along the leaves, or ``None``, and the params have zeros there;
    ``at_hand`` has the leaves if they aren't in the params.
    """
    self.paths, leaves, self.treedef = tree.flatten(params)
    self._before = dict(zip(self.paths, masks, strict=True))
    self.at_hand = AtHand(dict(zip(self.paths, leaves))) if at_hand is None else at_hand
    self._uses = uses
    self._dense = params
    self._sparsity = sparsity
    self._pattern = pattern
    self._method = method
    self._scorer = scorer
    self._chosen = chosen
    self._scores: dict[str, Any] = {}
    self._sparsities: dict[str, float] = {}
    self._unseen: dict[str, None] = {}
    self._blind: dict[str, int] = {}
    self._lost: dict[str, list[int]] = {}
    self._rows: dict[str, list[LeafRepair]] = {}
    self._watch = Watch()

  @property
  def params(self) -> Params:
    """The leaves as they are now."""
    return self.treedef.unflatten([self.at_hand.whole(path) for path in self.paths])

  @property
  def given(self) -> Params:
    """Of the same types, in memory as far as they were given so."""
    return self.treedef.unflatten([self.at_hand.leaves[path] for path in self.paths])

  def _score(self, stats: Stats | None) -> None:
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
  def distribute(self, distribution: Distribution, statistics: Iterable[Stats | None]) -> None:
    """Sets the sparsity of each leaf: by shapes, or by scores if that is what it looks at.

    Of ``statistics`` there are those of some leaves after the other; ``None``, where scores need
    none.
    """
    if needs_of(distribution).needs_scores:
      for stats in statistics:
        self._score(stats)
    given = {
      path: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.float32)
      for path, leaf in self.at_hand.leaves.items()
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
    """Prunes the leaves of a stage, together."""
    unseen = without_unseen(stats)[1]
    if stage.step is None:
      self._unseen.update({path: None for path in unseen if path in stage.paths})
    paths = [path for path in stage.paths if path not in self._unseen]
    if stage.step is None:
      jobs = [self._job(path, stats) for path in paths]
      for job, done in zip(jobs, self._solved(jobs), strict=True):
        self.at_hand.put(job.path, done.leaf, done.mask)
        self._rows[job.path] = [done.row]
    else:
      like = alike(stats) if any(path in unseen for path in paths) else stats
      jobs = [
        self._job_of_step(stage, stage.step, path, like if path in unseen else stats)
        for path in paths
      ]
      for job, done in zip(jobs, self._solved(jobs), strict=True):
        self._put_step(stage, stage.step, job.path, done, job.path not in unseen)
    self._watch.look()

  def _job(self, path: str, stats: Stats) -> _Job:
    """A whole leaf."""
    leaf = jnp.asarray(self.at_hand.whole(path))
    share, before = self._sparsities.get(path), self._before[path]
    return _Job(path, leaf, stats, self._pattern, share, before)

  def _job_of_step(self, stage: _stages.Stage, step: int, path: str, stats: Stats) -> _Job:
    """The part of a leaf that one step of a scan uses."""
    (use,) = self._uses[path]
    axis = _stages.axis_of(use)
    part = self.at_hand.part(path, axis, step)
    pattern = _stages.pattern_of_step(self._pattern, len(use.box), use)
    before, gone = self._before[path], [0] * stage.steps
    if before is not None:
      gone = self._gone(path, axis)
      before = part_of(before, axis, step)
    share = self._sparsities.get(path)
    share = None if share is None else _share(share, tree.size(part), step, gone)
    return _Job(path, part, stats, pattern, share, before)

  def _put_step(
    self, stage: _stages.Stage, step: int, path: str, done: _units.Outcome, seen: bool
  ) -> None:
    """Keeps what became of a part of a leaf."""
    row = done.row
    if not seen:
      row = dataclasses.replace(row, note=f'no rows for step {step}')
      self._blind[path] = self._blind.get(path, 0) + 1
    self.at_hand.put_part(path, _stages.axis_of(self._uses[path][0]), step, done.leaf, done.mask)
    self._rows.setdefault(path, []).append(row)
    if self._blind.get(path, 0) == stage.steps:  # which nobody knows before the last one
      self._unseen[path] = None
      self.at_hand.drop(path)
      del self._rows[path]

  def _gone(self, path: str, axis: int) -> list[int]:
    """How many weights of each step an earlier mask has pruned."""
    if path not in self._lost:
      mask = np.asarray(self._before[path])
      others = tuple(i for i in range(mask.ndim) if i != axis)
      self._lost[path] = [int(n) for n in np.count_nonzero(~mask, axis=others)]
    return self._lost[path]

  def _solved(self, jobs: Sequence[_Job]) -> list[_units.Outcome]:
    """What comes of leaves, or of the parts of them that a step uses; alike ones in one call."""
    out: dict[str, _units.Outcome] = {}
    together: dict[Any, list[_Job]] = {}
    for job in jobs:
      if job.share is None and not isinstance(job.pattern, NOfM):
        why = 'the distribution leaves it dense'
        done = _leaves.untouched(job.path, job.leaf, why, job.before)
        out[job.path] = done._replace(row=_leaves.noted(done.row, job.stats))
      else:
        together.setdefault((id(job.stats), job.pattern), []).append(job)
    for alike_ones in together.values():
      out |= self._solved_alike(alike_ones)
    return [out[job.path] for job in jobs]

  def _solved_alike(self, jobs: Sequence[_Job]) -> dict[str, _units.Outcome]:
    """Leaves of one pattern, in one call of the method."""
    stats, pattern = jobs[0].stats, jobs[0].pattern
    leaves = {job.path: job.leaf for job in jobs}
    given = None if isinstance(pattern, NOfM) else {job.path: job.share for job in jobs}
    how: dict[str, Any] = {'pattern': pattern, 'where': dict.fromkeys(leaves, True)}
    if any(job.before is not None for job in jobs):
      how['masks'] = {job.path: job.before for job in jobs}
    method = getattr(self._method, 'func', self._method)
    if method is None or method is least_squares:
      masks = {path: mask for job in jobs for path, mask in self._by_scores(job).items()}
      if method is None:
        return masked(NAME, leaves, masks, stats)
      new, masks, report = self._method(leaves, stats, masks, where=how['where'])
    else:
      new, masks, report = self._method(leaves, stats, given, **how)
    return {path: _units.Outcome(new[path], masks[path], report[path]) for path in leaves}

  def _by_scores(self, job: _Job) -> dict[str, Any]:
    """The mask of a leaf, by its scores."""
    given = None if isinstance(job.pattern, NOfM) else {job.path: job.share}
    before = None if job.before is None else {job.path: job.before}
    scores = _scorers.scored(self._scorer, {job.path: job.leaf}, job.stats)
    where = {job.path: True}
    return per_output(scores, job.stats, given, pattern=job.pattern, where=where, masks=before)

  @explicit
  def result(self, why: Sequence[tuple[str, str]], passes: float) -> tuple[Params, Masks, Repair]:
    """The params, their masks, and the report of all leaves."""
    self.at_hand.join()
    known = dict(why) | dict.fromkeys(self._unseen, 'no batch runs a product with it')
    if not self._rows and self._unseen:
      raise _checks.no_rows(NAME, next(iter(self._unseen)))
    rows = [_joined(self._rows[path]) for path in self.paths if path in self._rows]
    skipped = dict(zip(self.paths, _leaves.why_left(self.given)))
    left = [
      (path, known.get(path) or skipped[path] or 'not selected')
      for path in self.paths
      if path not in self._rows
    ]
    masks = [self.at_hand.masks.get(path, self._before[path]) for path in self.paths]
    method = getattr(self._method, 'func', self._method)
    name = MASKS_ALONE if method is None else getattr(method, '__name__', 'method')
    report = Repair(name, tuple(rows), tuple(left), passes, *self._watch.peak())
    return self.given, self.treedef.unflatten(masks), report


def _share(sparsity: float, size: int, step: int, gone: Sequence[int]) -> float:
  """What a step gives, such that all of them together give exactly what the leaf has to.

  ``gone`` is what earlier masks have pruned of each step, which counts.
  """
  count = round(sparsity * size * len(gone))
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
