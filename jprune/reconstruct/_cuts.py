"""Where the program of a model is cut, such that it is run once while it is pruned, piece by piece.

A stage needs what its leaves are multiplied by. From then on, all that comes before the first use
of a leaf that is still to be pruned stays as it is: values that are alive there are kept, and what
led to them is never run again. The cut is made where the fewest bytes are alive.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

from jprune.graph._analysis.traced import Traced
from jprune.graph._axes.atoms import resolve
from jprune.graph._capture.capturing import tokens_of
from jprune.graph._capture.find_products import Survey
from jprune.graph._program.sharding import struct
from jprune.graph._segments.program import LeafPart, Unrolled, overlap
from jprune.graph._segments.segment import (
  Segment,
  alive,
  bytes_alive,
  last_reads,
  macs_of,
  needed,
)
from jprune.graph._statistics.stats import Stats, Use
from jprune.reconstruct import _stages
from jprune.reconstruct._stages import Stage


class Cuts:
  """The pieces of a function, for batches of one kind.

  Attributes:
    program: the function.
    stages: what is pruned after what.
    starts: for each stage, before which operation what is kept begins.
    ends: the same once it is pruned.
    macs: multiply-adds of the function.
    apart: for each stage, whether what it prunes is the part of leaves that a step uses.
    sample_weights: type of the weights of tokens, or ``None``.
  """

  def __init__(
    self,
    traced: Traced,
    selected: Sequence[bool],
    stages: Sequence[Stage],
    shapes: Stats,
    tokens: Sequence[Any] | None,
    sample_weights: Any,
  ) -> None:
    survey = Survey(traced, selected, tokens)
    self.stages = stages
    self._survey = survey
    self.sample_weights = sample_weights
    self._tokens = None if tokens is None else [resolve(dim) for dim in tokens]
    self._place = {path: place for place, path in enumerate(traced.paths)}
    self._uses = dict(shapes.uses)
    self._laid_out(traced)
    self._products = [self._products_of(j) for j in range(len(stages))]
    wanted = {place for places in self._products for place in places}
    self.macs = sum(operation.macs for operation in self.program.operations)
    outs = [out for place in wanted for out in self.program.operations[place].outs]
    running, _ = needed(self.program, outs)
    self._reads = last_reads(self.program, running)
    self._bytes = bytes_alive(self.program, self._reads)
    self._limits = self._limits_of(running)
    self.starts: list[int] = []
    self.ends: list[int] = []
    self._capturing: dict[tuple[int, int], Segment] = {}
    self._running: dict[tuple[int, int], Segment] = {}

  def _laid_out(self, traced: Traced) -> None:
    """Unrolls the scans whose steps are stages, as far as all leaves in them come apart."""
    loops = self._survey.loops
    numbers = {self._loop(stage) for stage in self.stages if stage.step is not None}
    unrolled = {body for body, (number, _) in loops.items() if number in numbers}
    while True:
      self.program = Unrolled(traced, unrolled)
      numbers = {loops[body][0] for body in unrolled}
      self.apart = [s.step is not None and self._loop(s) in numbers for s in self.stages]
      bad = [s for j, s in enumerate(self.stages) if not self._comes_apart(j)]
      if not bad or not unrolled:
        return
      stuck = {self._loop(stage) for stage in bad}
      left = {body for body in unrolled if loops[body][0] not in stuck}
      unrolled = set() if left == unrolled else left

  def _loop(self, stage: Stage) -> int | None:
    return self._uses[stage.paths[0]][0].loop

  def _comes_apart(self, j: int) -> bool:
    """Whether all products by the leaves of a stage read what the stage prunes, and no more."""
    return all(
      found and all(leaf == wanted for each in found for leaf in each)
      for wanted, found in (
        (self._leaf(j, path), self._reads_of(path, j)) for path in self.stages[j].paths
      )
    )

  def _leaf(self, j: int, path: str) -> LeafPart:
    """What a stage prunes of a leaf."""
    if not self.apart[j]:
      return LeafPart(self._place[path])
    return LeafPart(self._place[path], _stages.axis_of(self._uses[path][0]), self.stages[j].step)

  def _reads_of(self, path: str, j: int) -> list[list[LeafPart]]:
    """By operation that multiplies by a leaf, what it reads of it; of others, other steps."""
    place = self._place[path]
    found = []
    for each in self._multiplying(path):
      read = [leaf for leaf in self.program.used(each) if leaf.place == place]
      if not self.apart[j] or any(leaf.step in (None, self.stages[j].step) for leaf in read):
        found.append(read)
    return found

  def _multiplying(self, path: str) -> list[int]:
    places = self._survey.places[self._place[path]]
    return [each for frame, index in places for each in self.program.at(frame, index)]

  def _products_of(self, j: int) -> list[int]:
    """The operations that multiply by what a stage prunes."""
    return sorted(
      {
        each
        for path in self.stages[j].paths
        for each in self._multiplying(path)
        if self._leaf(j, path) in self.program.used(each)
      }
    )

  def _limits_of(self, running: Iterable[int]) -> list[int]:
    """For each stage the place up to which nothing depends on leaves that come later.

    The last stage may change what was read before: nobody looks at it any more.
    """
    program = self.program
    first: dict[LeafPart, int] = {}
    for place in running:
      if program.by_data(place):
        for leaf in program.used(place):
          first.setdefault(leaf, place)
    limits, limit = [], len(program.operations)
    for j in reversed(range(len(self.stages))):
      limits.append(limit)
      pruned = {self._leaf(j, path) for path in self.stages[j].paths}
      reads = [at for leaf, at in first.items() if any(overlap(leaf, own) for own in pruned)]
      limit = min([limit, *self._products[j], *(reads if j < len(self.stages) - 1 else ())])
    return limits[::-1]

  # -------------------------------------------------------------------------------------- the cuts

  def cut(self, together: set[int]) -> None:
    """Sets where pieces begin and end; ``together`` are stages after which there is no cut."""
    self.starts, self.ends, now = [], [], 0
    for j, limit in enumerate(self._limits):
      self.starts.append(now)
      if j < len(self.stages) - 1 and j not in together and limit > now:
        low = max(now, min([limit, *(place + 1 for place in self._products[j][:1])]))
        now = int(limit - np.argmin(self._bytes[low : limit + 1][::-1]))
      self.ends.append(now)

  def capturing(self, j: int) -> Segment:
    """What leads to the products of a stage; of its results nobody takes any."""
    key = j, self.starts[j]
    if key not in self._capturing:
      outs = [out for place in self._products[j] for out in self.program.operations[place].outs]
      self._capturing[key] = Segment(self.program, self.starts[j], outs, self._by_token)
    return self._capturing[key]

  def chosen(self, j: int) -> tuple[bool, ...]:
    """Which leaves of that segment are those of the stage."""
    mine = [self._leaf(j, path) for path in self.stages[j].paths]
    return tuple(self.program.leaves[value] in mine for value in self.capturing(j).leaves)

  def running(self, j: int) -> Segment | None:
    """What leads to where the next piece begins; ``None`` if that is where this one does."""
    key = start, end = self.starts[j], self.ends[j]
    if start == end:
      return None
    if key not in self._running:
      kept = alive(self.program, self._reads, end)
      new = [each for each in kept if self.program.values[each].made >= start]
      self._running[key] = Segment(self.program, start, sorted(new))
    return self._running[key]

  def waits(self, value: int, j: int) -> bool:
    """Whether a value that was made is read after a stage."""
    return self._reads.get(value, -1) >= self.ends[j]

  def given(self, j: int) -> set[LeafPart]:
    """The leaves, or parts, that the segments of a stage are given."""
    segments = [segment for segment in (self.capturing(j), self.running(j)) if segment is not None]
    return {self.program.leaves[value] for segment in segments for value in segment.leaves}

  def shapes(self, values: Iterable[int]) -> list[Any]:
    """Types of values."""
    avals = [self.program.values[value].aval for value in values]
    return [x if isinstance(x, jax.ShapeDtypeStruct) else struct(x) for x in avals]

  def macs_of_capturing(self, j: int) -> int:
    """Multiply-adds to collect the statistics, which need no results of the products."""
    operations = self.program.operations
    products = {place for place in self._products[j] if operations[place].whole}
    return macs_of(self.program, self.capturing(j), products)

  def macs_of_running(self, j: int) -> int:
    segment = self.running(j)
    return 0 if segment is None else macs_of(self.program, segment)

  def by_token(self, segment: Segment) -> bool:
    """Whether weights of tokens find their axes in what a segment is given first."""
    return self._tokens is None or (bool(segment.live) and self._by_token(segment.live[0]))

  def _by_token(self, value: int) -> bool:
    """Whether the first axes of a value are those of tokens, each at its place."""
    at = self.program.values[value].at
    if self._tokens is None or at is None:
      return False
    frame, var = at
    dims = [resolve(dim) for dim in frame.dims[var][: len(self._tokens)]]
    return dims == self._tokens and not self._survey.moved[frame].get(var)

  def of_stage(self, j: int, found: Stats, notes: Sequence[Any]) -> Stats | None:
    """What was captured for a stage as those of the leaves of its stage.

    ``None`` if they are of other products than those of the function as a whole.
    """
    stage, out = self.stages[j], []
    given = [self.program.leaves[value] for value in self.capturing(j).leaves]
    by_name = dict(found.uses)
    for path in stage.paths:
      leaf = self._leaf(j, path)
      uses = by_name.get(str(given.index(leaf)), ()) if leaf in given else ()
      wanted = self._uses[path]
      if self.apart[j]:
        wanted = tuple(_stages.without_loop(use, 0) for use in wanted)
      sources = {_form(use): use.source for use in uses}
      if set(sources) != {_form(use) for use in wanted} or len(uses) != len(wanted):
        return None
      out.append((path, tuple(dataclasses.replace(u, source=sources[_form(u)]) for u in wanted)))
    return Stats(found.inputs, tuple(out), notes=tuple(n for n in notes if n[0] in stage.paths))


def _form(use: Use) -> Use:
  """What a use is, wherever it stands."""
  return dataclasses.replace(use, source=0, loop=None, backwards=False, line='')


def cuts_of(
  function: str,
  fn: Callable[..., Any],
  given: tuple[Any, Any, Any],
  selected: Sequence[bool],
  stages: Sequence[Stage],
  shapes: Stats,
) -> Cuts:
  """The pieces of a function; ``given`` are params, arguments, and weights of tokens."""
  params, args, sample_weights = given
  traced = Traced(function, fn, params, args, exact=False)
  tokens = None
  if sample_weights is not None:
    tokens = tokens_of(function, traced, args, sample_weights)
    sample_weights = jax.eval_shape(lambda: sample_weights)
  return Cuts(traced, selected, stages, shapes, tokens, sample_weights)
