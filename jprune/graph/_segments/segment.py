"""Pieces of a program as functions of leaves and of the values that are alive where they begin."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
from jax.extend import core

from jprune.graph._segments.operations import How, same
from jprune.graph._segments.program import Ref, Unrolled


class Segment:
  """What leads from the values at a place of a program to some that are made later.

  Attributes:
    leaves: values that are given as leaves, or parts of them.
    steps: values that are numbers of steps.
    live: values that data has a part in and that are made before.
    outs: what it gives.
    fn: ``fn(leaves, *live, *steps) -> outs``.
    key: equal for segments whose functions do the same.
    operations: what it runs.
  """

  def __init__(
    self,
    program: Unrolled,
    start: int,
    outs: Sequence[int],
    first: Callable[[int], bool] = lambda value: False,
  ) -> None:
    """``first`` says which live values come first."""
    self.operations, given = needed(program, outs, start)
    inside = [value for value in given if value in program.leaves]
    self.leaves = tuple(inside)
    self.steps = tuple(value for value in given if value in program.steps)
    live = [value for value in given if program.values[value].by_data]
    self.live = tuple(sorted(live, key=lambda value: (not first(value), value)))
    self.outs = tuple(outs)
    constants = [value for value in given if value in program.constants]
    values = [program.constants[value] for value in constants]
    numbers: dict[int, int] = {}
    for value in (*constants, *self.leaves, *self.live, *self.steps):
      numbers[value] = len(numbers)
    lines: list[_Line] = []
    for place in self.operations:
      operation = program.operations[place]
      ins = [_local(ref, numbers) for ref in operation.ins]
      for value in operation.outs:
        numbers[value] = len(numbers)
      lines.append((operation.how, ins, [numbers[value] for value in operation.outs]))
    results = [numbers[value] for value in outs]
    self.fn = _function(values, lines, results)
    counts = len(self.leaves), len(self.live)
    self.key: Hashable = (
      tuple(same(value) for value in values),
      tuple((how.key, tuple(map(_operand_key, ins)), tuple(outs)) for how, ins, outs in lines),
      tuple(results),
      counts,
    )


_Line = tuple[How, list[Ref], list[int]]


def needed(program: Unrolled, outs: Iterable[int], start: int = 0) -> tuple[list[int], list[int]]:
  """What has to run for some values, from a place on.

  Returns:
    The numbers of the operations, in order; and the values that must be given, in order: those
    that arguments have a part in and that are made before, leaves, numbers of steps, constants.
  """
  wanted, operations = set(outs), list[int]()
  known = program.values
  before = lambda value: known[value].made < (start if known[value].by_data else 0)
  last = max((known[value].made for value in wanted), default=-1)
  for place in range(last, -1, -1):  # what an operation reads is made before it
    operation = program.operations[place]
    if not any(value in wanted and not before(value) for value in operation.outs):
      continue
    operations.append(place)
    wanted.update(ref for ref in operation.ins if isinstance(ref, int))
  given = {value for value in wanted if before(value)}
  return operations[::-1], sorted(given)


def last_reads(program: Unrolled, operations: Iterable[int]) -> dict[int, int]:
  """The last of some operations that reads each value that arguments have a part in."""
  out: dict[int, int] = {}
  for place in sorted(operations):
    for ref in program.operations[place].ins:
      if isinstance(ref, int) and program.values[ref].by_data:
        out[ref] = place
  return out


def alive(program: Unrolled, reads: dict[int, int], place: int) -> list[int]:
  """The values that are made before a place and read from there on."""
  return [value for value, last in reads.items() if program.values[value].made < place <= last]


def bytes_alive(program: Unrolled, reads: dict[int, int]) -> np.ndarray:
  """How many bytes are alive before each operation, and after the last."""
  change = np.zeros(len(program.operations) + 2, np.int64)
  for value, last in reads.items():
    known = program.values[value]
    size = int(np.prod(known.aval.shape, dtype=np.int64)) * getattr(known.aval.dtype, 'itemsize', 8)
    change[known.made + 1] += size
    change[last + 1] -= size
  return np.cumsum(change)[: len(program.operations) + 1]


def macs_of(program: Unrolled, segment: Segment, less: AbstractSet[int] = frozenset()) -> int:
  """The multiply-adds of a segment, but for those of some operations."""
  return sum(program.operations[place].macs for place in segment.operations if place not in less)


def _local(ref: Ref, numbers: dict[int, int]) -> Ref:
  return ref if isinstance(ref, core.Literal) else numbers[ref]


def _operand_key(ref: Ref) -> Hashable:
  return (repr(ref.val), str(ref.aval)) if isinstance(ref, core.Literal) else ref


def _function(
  constants: Sequence[Any], lines: Sequence[_Line], results: Sequence[int]
) -> Callable[..., tuple[Any, ...]]:
  def run(leaves: Sequence[Any], *others: Any) -> tuple[Any, ...]:
    values = dict(enumerate((*constants, *leaves, *others)))
    for how, ins, outs in lines:
      xs = [ref.val if isinstance(ref, core.Literal) else values[ref] for ref in ins]
      values.update(zip(outs, how(xs), strict=True))
    return tuple(values[place] for place in results)

  return run
