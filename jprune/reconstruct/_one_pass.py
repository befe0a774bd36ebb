"""A model that is run once while it is pruned: piece by piece, on what the piece before left."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jprune.graph._capture.capturing import Capturing, add
from jprune.graph._program.compiled import Compiled
from jprune.graph._segments.program import LeafPart
from jprune.graph._segments.segment import Segment
from jprune.graph._statistics.stats import Stats
from jprune.reconstruct import _stages
from jprune.reconstruct._caches import Caches
from jprune.reconstruct._cuts import Cuts, cuts_of
from jprune.reconstruct._model import Batch, Model
from jprune.reconstruct._run import NAME, Run
from jprune.reconstruct._stages import Stage


class _Made:
  """What was traced and compiled for a function; later calls with it find it here."""

  def __init__(self) -> None:
    self.cuts: dict[Hashable, Cuts] = {}
    self._running: dict[Hashable, Callable[..., Any]] = {}
    self._capturing: dict[Hashable, tuple[Capturing, Any]] = {}

  def running(self, segment: Segment) -> Callable[..., Any]:
    if segment.key not in self._running:
      self._running[segment.key] = jax.jit(segment.fn)
    return self._running[segment.key]

  def capturing(self, segment: Segment, chosen: tuple[bool, ...]) -> Capturing:
    key = segment.key, chosen
    if key not in self._capturing:  # with the function, as what is compiled goes with that
      self._capturing[key] = Capturing(NAME, segment.fn, chosen, True, None, split=True), segment.fn
    return self._capturing[key][0]


_MADE = Compiled()


def in_one_pass(
  model: Model,
  run: Run,
  selected: Sequence[bool],
  stages: Sequence[Stage],
  shapes: Stats,
  batches: Sequence[Batch],
  caches: Caches,
) -> Iterator[Stats]:
  """Statistics of stage after stage, each from what the stages before it left of the model.

  Each stage must be pruned before the next statistics are asked for. A function that can't be taken
  apart is run as a whole for each.

  Args:
    model: the function, with its batches.
    run: has the params.
    selected: which leaves were asked for.
    stages: in the order in which they are pruned.
    shapes: what the function gives as a whole.
    batches: with their arguments.
    caches: where values wait.

  Yields:
    The statistics.
  """
  fn, made = _MADE.of(model.fn, 'one pass', lambda stand_in: (stand_in, _Made()))
  kinds = _kinds(fn, made, run, selected, tuple(stages), shapes, batches)
  if _fitted(made, kinds):
    yield from _Passing(made, model, run, batches, caches).over(shapes.notes)
    return
  for stage in stages:
    yield _stages.stats_of(stage, model.captured(stage.paths, run.params))


def _kinds(
  fn: Callable[..., Any],
  made: _Made,
  run: Run,
  selected: Sequence[bool],
  stages: tuple[Stage, ...],
  shapes: Stats,
  batches: Sequence[Batch],
) -> list[Cuts]:
  """The pieces for each kind of batch, which every batch is given."""
  kinds: dict[Hashable, Cuts] = {}
  params = run.given
  known = _types(params), tuple(selected), stages, jax.sharding.get_abstract_mesh()
  for batch in batches:
    given = batch.given()
    key = known, _types(given)
    if key not in made.cuts:
      made.cuts[key] = cuts_of(NAME, fn, (params, *given), selected, stages, shapes)
    batch.cuts = kinds.setdefault(key, made.cuts[key])
  return list(kinds.values())


def _types(values: Any) -> Hashable:
  leaves, treedef = jax.tree.flatten(values)
  of = lambda leaf: leaf if isinstance(leaf, jax.ShapeDtypeStruct) else jax.typeof(leaf)
  return treedef, tuple(map(of, leaves))


def _fitted(made: _Made, kinds: Sequence[Cuts]) -> bool:
  """Cuts all kinds alike, such that each piece tells what the whole function does."""
  together: set[int] = set()
  count = len(kinds[0].stages)
  while True:
    for cuts in kinds:
      cuts.cut(together)
    bad = next((j for j in range(count) if not all(_fits(made, cuts, j) for cuts in kinds)), None)
    if bad is None:
      return True
    before = [j for j in range(bad) if any(cuts.starts[j] < cuts.ends[j] for cuts in kinds)]
    if not before:
      return False
    together.add(before[-1])


def _fits(made: _Made, cuts: Cuts, j: int) -> bool:
  """Whether a piece of a program has the products with the leaves of its stage, all of them."""
  segment = cuts.capturing(j)
  if not segment.leaves or not cuts.by_token(segment):
    return False
  leaves = cuts.shapes(segment.leaves)
  others = *cuts.shapes(segment.live), *cuts.shapes(segment.steps)
  capturing = made.capturing(segment, cuts.chosen(j))
  found = capturing.shapes(leaves, others, cuts.sample_weights)
  return cuts.of_stage(j, found, ()) is not None


class _Passing:
  """A pass."""

  def __init__(
    self, made: _Made, model: Model, run: Run, batches: Sequence[Batch], caches: Caches
  ) -> None:
    self._made, self._model, self._run = made, model, run
    self._batches, self._caches = batches, caches
    self._macs = sum(batch.cuts.macs for batch in batches)
    for batch in batches:
      arguments = batch.cuts.program.arguments.items()
      batch.values = {value: batch.args[place] for value, place in arguments}

  def over(self, notes: Sequence[tuple[str, str]]) -> Iterator[Stats]:
    """Stage after stage."""
    count = len(self._batches[0].cuts.stages)
    last = self._last(count)
    for j in range(count):
      yield self._stats(j, notes)
      self._advance(j)
      self._run.at_hand.release(leaf for leaf, at in last.items() if at > j)

  def _last(self, count: int) -> dict[LeafPart, int]:
    """The last stage for which each leaf, or part, is asked for."""
    kinds = {id(batch.cuts): batch.cuts for batch in self._batches}.values()
    return {leaf: j for j in range(count) for cuts in kinds for leaf in cuts.given(j)}

  def _stats(self, j: int, notes: Sequence[tuple[str, str]]) -> Stats:
    """What the leaves of a stage are multiplied by."""
    total: Any = None
    leaf = functools.cache(self._leaf)
    for batch in self._batches:
      cuts = batch.cuts
      segment = cuts.capturing(j)
      found = self._made.capturing(segment, cuts.chosen(j)).of(
        [leaf(cuts.program.leaves[value]) for value in segment.leaves],
        self._others(batch, segment),
        batch.sample_weights,
        batch.number,
        functools.partial(self._path, cuts, segment),
      )
      total = found if total is None else add(total, found)
      self._count(cuts.macs_of_capturing(j))
    cuts, stage = self._batches[-1].cuts, self._batches[-1].cuts.stages[j]
    stats = cuts.of_stage(j, total, notes)
    return stats if cuts.apart[j] else _stages.stats_of(stage, stats)

  def _advance(self, j: int) -> None:
    """Runs all batches up to where the next piece begins, with what was pruned."""
    leaf = functools.cache(self._leaf)
    for batch in self._batches:
      cuts = batch.cuts
      if (segment := cuts.running(j)) is None:
        continue
      leaves = [leaf(cuts.program.leaves[value]) for value in segment.leaves]
      outs = self._made.running(segment)(leaves, *self._others(batch, segment))
      for value in [value for value in batch.values if not cuts.waits(value, j)]:
        batch.values.pop(value).drop()
      batch.values |= {value: self._caches.keep(out) for value, out in zip(segment.outs, outs)}
      self._count(cuts.macs_of_running(j))

  def _leaf(self, leaf: LeafPart) -> Any:
    path = self._run.paths[leaf.place]
    if leaf.axis is None or leaf.step is None:
      return self._run.at_hand.whole(path)
    return self._run.at_hand.part(path, leaf.axis, leaf.step)

  def _others(self, batch: Batch, segment: Segment) -> tuple[Any, ...]:
    """What a segment is given besides leaves."""
    steps = [np.int32(batch.cuts.program.steps[value]) for value in segment.steps]
    return (*(batch.values[value].get() for value in segment.live), *steps)

  def _path(self, cuts: Cuts, segment: Segment, name: str) -> str:
    return self._run.paths[cuts.program.leaves[segment.leaves[int(name)]].place]

  def _count(self, macs: int) -> None:
    self._model.passes += macs / self._macs
