"""A plan of a repair as text and HTML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jprune._text import html as page
from jprune._text.table import paths_listed, table, wrapped
from jprune._text.words import by_reason, byte_size, count, plural, printable

if TYPE_CHECKING:
  from jprune.reconstruct._plan import Plan, StagePlan

_HEADER = ('stage', 'times', 'matrices', 'grams', 'on a device', 'to solve', 'MACs', 'rounds')


def text(plan: Plan) -> str:
  """A table: a row for each kind of stage, then what it comes to."""
  lines = [*table(_HEADER, *_cells(plan)), '']
  lines += [line for sentence in _notes(plan) for line in wrapped(sentence)]
  for why, names in by_reason(plan.skipped).items():
    lines += paths_listed(names, f'Skipped, {why} ({len(names):,}): ', '  ', 3)
  return '\n'.join(lines)


def html(plan: Plan) -> str:
  """A plain table with all paths in full."""
  parts = [page.table(_HEADER, *_cells(plan)), *map(page.paragraph, _notes(plan))]
  for why, names in by_reason(plan.skipped).items():
    parts.append(page.details(f'Skipped, {why} ({len(names):,})', names))
  return '\n'.join(parts)


def summary(plan: Plan) -> str:
  """The totals in short."""
  return f'{plan.method}, {plural(plan.devices, "device")}, {byte_size(plan.peak_bytes)} on each'


def _cells(plan: Plan) -> tuple[list[list[str]], list[str]]:
  """A row for stages with the same numbers, named by the first; the total."""
  alike: dict[Any, list[StagePlan]] = {}
  for stage in plan.stages:
    key = len(stage.paths), *(value for value in vars(stage).values() if value != stage.paths)
    alike.setdefault(key, []).append(stage)
  rows = []
  for stages in alike.values():
    first = stages[0]
    name, others = printable(first.paths[0]), len(first.paths) - 1
    rows.append([
      f'{name} and {others:,} more' if others else name,
      f'{len(stages) * first.steps:,}',
      f'{first.matrices:,}',
      byte_size(first.gram_bytes),
      byte_size(first.gram_share),
      byte_size(first.unit_bytes),
      count(first.macs),
      f'{first.rounds:,}',
    ])  # fmt: skip
  times = sum(stage.steps for stage in plan.stages)
  solve = byte_size(plan.unit_bytes)
  total = ['in all', f'{times:,}', '', '', byte_size(plan.gram_bytes), solve, count(plan.macs), '']
  return rows, total


def _notes(plan: Plan) -> list[str]:
  return [
    f'By {plan.method}, on {plural(plan.devices, "device")}. Each holds at most '
    f'{byte_size(plan.peak_bytes)}: params {byte_size(plan.params_bytes)}, repaired leaves and '
    f'masks {byte_size(plan.result_bytes)}, Gram matrices {byte_size(plan.gram_bytes)} (twice '
    f'that while batches are added up), the unit that it solves {byte_size(plan.unit_bytes)}; '
    f'and what the model takes to run a batch.'
  ]
