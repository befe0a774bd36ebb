"""Leaves to be solved as units of work, dealt out to owners in rounds, and put together again."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jprune._nonzeros import totals
from jprune.graph._statistics.moments import Moments
from jprune.graph._statistics.stats import Use
from jprune.reconstruct import _errors, _owners, _solving
from jprune.reconstruct._devices import returned
from jprune.reconstruct._owners import Given, Owners
from jprune.reconstruct._report import LeafRepair

_MOST = 64  # units that the matrices of a use are at least worth, if there are as many
_SMALL = 2**20  # entries of the matrices, and Gram matrices, that are one unit


class Part(NamedTuple):
  """A use of a leaf, ready to be solved.

  Attributes:
    use: its inputs in the order in which the solver takes them.
    moments: of the inputs, in their own order.
    counts: ``(batch, ...)``, what the solver asked for, or ``None``.
    common: what is the same for all matrices.
  """

  use: Use
  moments: Moments
  counts: np.ndarray | None
  common: _solving.Common


class Task(NamedTuple):
  """A leaf to be solved.

  Attributes:
    path: of the leaf.
    leaf: its weights.
    mask: what the solver is told to keep, or ``None``.
    parts: its uses, which cover it and don't overlap.
    solver: the method.
    damping: what was asked for, to see whether it was enough.
  """

  path: str
  leaf: jax.Array
  mask: jax.Array | None
  parts: Sequence[Part]
  solver: _solving.Solver
  damping: float


class Outcome(NamedTuple):
  """A leaf after repair: of its dtype; its mask; its row of the report."""

  leaf: jax.Array
  mask: jax.Array
  row: LeafRepair


class Unit(NamedTuple):
  """Matrices that are solved together: of which task and part, and the first of them."""

  task: int
  part: int
  start: int


def matrices_of_a_unit(sizes: tuple[int, int, int]) -> int:
  """How many matrices are solved at a time: one, or a few small ones.

  A matter of shapes alone: on however many devices, the same programs solve the same matrices.
  """
  batch, inputs, outputs = sizes
  few = _SMALL // max(inputs * (inputs + outputs), 1)
  return max(1, min(few, -(-batch // _MOST)))


def starts(batch: int, per: int) -> list[int]:
  """Where units begin; the last one begins earlier if it would end too late."""
  return [min(first, batch - per) for first in range(0, batch, per)]


def cost(sizes: tuple[int, int, int]) -> int:
  """What a matrix costs, in multiplications but for a factor."""
  _, inputs, outputs = sizes
  return inputs**3 + inputs**2 * outputs


def solved(function: str, tasks: Sequence[Task]) -> list[Outcome]:
  """Solves leaves, on all devices over which any of them is spread.

  Raises:
    ValueError: if a repaired weight is too large for the dtype of its leaf.
  """
  if not tasks:
    return []
  given = [(task.leaf, task.mask, [part.moments for part in task.parts]) for task in tasks]
  with _owners.owners_of(given) as owners:
    work = [_Work(owners, task) for task in tasks]
    for units in _rounds(tasks, owners.count):
      _round(function, owners, work, units)
    return [each.outcome() for each in work]


def _rounds(tasks: Sequence[Task], count: int) -> Iterator[list[Unit]]:
  """Units that take the same programs, one for each owner; the most expensive ones first."""
  alike: dict[Any, list[Unit]] = {}
  for i, task in enumerate(tasks):
    for j, part in enumerate(task.parts):
      leaf, mask = (x if x is None else (x.shape, x.dtype) for x in (task.leaf, task.mask))
      key = part.use, leaf, mask, task.solver, part.common.numbers
      per = matrices_of_a_unit(part.use.sizes)
      units = [Unit(i, j, start) for start in starts(part.use.sizes[0], per)]
      alike.setdefault(key, []).extend(units)
  for _, units in sorted(alike.items(), key=lambda item: -cost(item[0][0].sizes)):
    for first in range(0, len(units), count):
      yield units[first : first + count]


class _Work:
  """A task on the owners' devices, and what has come of it so far."""

  def __init__(self, owners: Owners, task: Task) -> None:
    self.task = task
    self._owners = owners
    self._facts: dict[tuple[int, int], np.ndarray] = {}
    self._held: tuple[jax.Array, ...] | None = None
    self.leaf = owners.settled(task.leaf)
    self.mask = owners.settled(task.mask)
    self.moments = [owners.settled(part.moments) for part in task.parts]
    self.sharding = self.leaf.sharding
    if owners.count > 1 and (lies := _without_batch(self.leaf, task.parts)):
      self.sharding = lies
      move = jax.jit(lambda x: x, out_shardings=lies)
      self.leaf, self.mask = jax.tree.map(move, (self.leaf, self.mask))

  @property
  def held(self) -> tuple[jax.Array, ...]:
    """New weights and their mask; a part after the other takes its place in them."""
    if self._held is None:
      there = self.sharding if self._owners.mesh is not None else None
      make = lambda dtype: jnp.zeros(self.leaf.shape, dtype, device=there)
      self._held = make(self.leaf.dtype), make(bool)
    return self._held

  def take(self, held: tuple[jax.Array, ...]) -> None:
    self._held = held

  def note(self, part: int, start: int, facts: np.ndarray) -> None:
    self._facts |= {(part, start + i): each for i, each in enumerate(facts)}

  def outcome(self) -> Outcome:
    task = self.task
    new, mask = (returned(x, task.leaf) for x in self.held)
    damping, _, down, whole, before, after = np.stack(
      [self._facts[key] for key in sorted(self._facts)], axis=1
    ).astype(np.float64)
    scale = np.exp2(np.maximum(2 * (down - down.max()), -1000.0))
    total, before, after = (float(np.sum(each * scale)) for each in (whole, before, after))
    before, after = (each / total if total > 0 else 0.0 for each in (before, after))
    most = float(damping.max())
    row = LeafRepair(
      task.path,
      task.leaf.shape,
      task.leaf.size - count_kept(mask),
      before,
      after,
      most,
      most > 1.5 * task.damping,  # it grows tenfold; what is left is rounding
      '; '.join(_unseen(task.parts)),
    )
    return Outcome(new, mask, row)


def _round(function: str, owners: Owners, work: Sequence[_Work], units: Sequence[Unit]) -> None:
  """A unit for each owner: dealt out, solved, put back."""
  dealt_to = [*units, *[units[0]] * (owners.count - len(units))]
  keys = list(dict.fromkeys((unit.task, unit.part) for unit in dealt_to))
  first = work[units[0].task].task
  part = first.parts[units[0].part]
  per = matrices_of_a_unit(part.use.sizes)
  how: dict[str, Any] = {
    'owners': owners,
    'use': part.use,
    'places': tuple(keys.index((unit.task, unit.part)) for unit in dealt_to),
    'per': per,
  }
  begin = np.array([unit.start for unit in dealt_to], np.int32)
  sources = [Given(work[i].leaf, work[i].mask, work[i].moments[j]) for i, j in keys]
  dealt = _owners.dealt(sources, begin, **how)
  counts = None
  if part.counts is not None:
    of = lambda unit: work[unit.task].task.parts[unit.part].counts[unit.start : unit.start + per]
    counts = np.concatenate([of(unit) for unit in dealt_to])
  done = _finished(owners, first.solver, dealt, counts, part.common, per)
  facts = np.asarray(done.facts).reshape(len(dealt_to), per, -1)
  for unit, each in zip(units, facts):
    work[unit.task].note(unit.part, unit.start, each)
    if not np.all(each[:, 1]):
      task = work[unit.task].task
      raise _errors.not_finite_repair(function, task.path, task.leaf)
  tasks = list(dict.fromkeys(i for i, _ in keys))
  how['places'] = tuple(tasks.index(unit.task) for unit in dealt_to)
  where = tuple(work[i].sharding for i in tasks) if owners.mesh is not None else ()
  held = [work[i].held for i in tasks]
  held = _owners.put_back(held, (done.weights, done.masks), begin, **how, where=where)
  for i, each in zip(tasks, held, strict=True):
    work[i].take(each)


def _finished(
  owners: Owners, solver: Any, dealt: Any, counts: Any, common: Any, per: int
) -> _solving.Done:
  """What comes of the units of all owners, of each by the program that it takes."""
  how: dict[str, Any] = {'owners': owners, 'solver': solver}
  if not solver.looks:
    return _solving.solve(dealt, counts, None, common, **how, program=None)
  state, seen = _solving.look(dealt, counts, common, **how)
  seen = np.asarray(seen).reshape(owners.count, per, -1)
  programs = [solver.program(each) for each in seen]
  distinct = list(dict.fromkeys(programs))
  run = functools.partial(_solving.solve, dealt, counts, state, common, **how)
  options = [run(program=program) for program in distinct]
  if len(options) == 1:
    return options[0]
  which = np.repeat(np.array([distinct.index(each) for each in programs], np.int32), per)
  return _solving.chosen(options, which)


def _without_batch(leaf: Any, parts: Sequence[Part]) -> NamedSharding | None:
  """Where a leaf lies while it is solved, if it is split over axes that number matrices."""
  sharding = leaf.sharding
  if not isinstance(sharding, NamedSharding):
    return None
  spec = [*sharding.spec, *[None] * (leaf.ndim - len(sharding.spec))]
  numbering = sorted({part.use.axes[place] for part in parts for place in part.use.batch})
  if all(spec[axis] is None for axis in numbering):
    return None
  names = [list(_names(each)) for each in spec]
  ways = lambda axis: math.prod(sharding.mesh.shape[name] for name in names[axis])
  free = [axis for axis in range(leaf.ndim) if axis not in numbering]
  for name in [name for axis in numbering for name in names[axis]]:  # each in one exchange
    count = sharding.mesh.shape[name]
    fits = [axis for axis in free if leaf.shape[axis] % (ways(axis) * count) == 0]
    if fits:
      names[max(fits, key=lambda axis: leaf.shape[axis] // ways(axis))].append(name)
  kept = [() if axis in numbering else tuple(each) for axis, each in enumerate(names)]
  return NamedSharding(sharding.mesh, PartitionSpec(*[each or None for each in kept]))


def _names(of_axis: Any) -> tuple[str, ...]:
  """The axes of a mesh over which an axis is split, from an entry of a spec."""
  return () if of_axis is None else (of_axis,) if isinstance(of_axis, str) else tuple(of_axis)


def count_kept(mask: Any) -> int:
  """How many entries of a mask are true, as a Python int."""
  return totals([mask])[0]


def _unseen(parts: Sequence[Part]) -> list[str]:
  """Says which products have seen no row, although others of the leaf have."""
  counts = np.concatenate([np.asarray(part.moments.count) for part in parts])
  none = np.count_nonzero(counts == 0)
  return [f'no rows for {none:,} of {counts.size:,} products'] if none else []
