"""A plan as text and as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jprune._text import html as page
from jprune._text.fold_paths import fold_names, template
from jprune._text.table import table, width, wrapped
from jprune._text.words import percent, plural
from jprune.graph._channels.html import frozen_details
from jprune.graph._channels.text import frozen_lines, notes

if TYPE_CHECKING:
  from jprune._shrink.plan import Plan

_HEADER = ('group', 'kept', 'of', 'share')
_AXES = ('axis in which groups have parts', *_HEADER[1:])
_MOST_GROUPS = 96  # rows of the table


def text(plan: Plan) -> str:
  """What stays in all, of every group, and what had to stay."""
  lines = [line for each in _summary(plan) for line in wrapped(each, most=width())]
  for header, counted, what in ((_HEADER, plan.groups, 'group'), (_AXES, _axes(plan), 'axis')):
    rows = _rows(counted)
    if rows:
      lines += ['', *table(header, [cells for cells, _ in rows[:_MOST_GROUPS]])]
    if rest := sum(count for _, count in rows[_MOST_GROUPS:]):
      lines.append(f'and {plural(rest, f"more {what}")}')
  lines += frozen_lines(plan.frozen)
  return '\n'.join([*lines, *notes(lines, (_where(name) for name, *_ in plan.groups))])


def html(plan: Plan) -> str:
  """A table of all groups, then the frozen axes by reason."""
  lines: list[str] = [page.paragraph(each) for each in _summary(plan)]
  for header, counted in ((_HEADER, plan.groups), (_AXES, _axes(plan))):
    rows = [[name, *_counts(size, kept)] for name, size, kept in counted]
    if rows:
      lines.append(page.table(header, rows))
  return '\n'.join([*lines, *frozen_details(plan.frozen)])


def _summary(plan: Plan) -> list[str]:
  full, small = plan.size
  verb = 'stays' if full == 1 else 'stay'
  out = [f'{small:,} of {plural(full, "weight")} {verb} ({percent(small, full)}).']
  if plan.zeros:
    out.append(f'{plan.zeros:,} of them are masked, in channels that stay.')
  if plan.partly:
    which = f'{plural(sum(plan.partly.values()), "unit")} of {plural(len(plan.partly), "group")}'
    out.append(f'Not shrunk: {which}, pruned in some of their members only.')
  return out


def _counts(size: int, kept: int, each: str = '') -> tuple[str, str, str]:
  return f'{each}{kept:,}', f'{size:,}', percent(kept, size)


def _axes(plan: Plan) -> list[tuple[str, int, int]]:
  """What is left of the axes of which the groups that are named after them are parts."""
  found: dict[str, tuple[str, int, int]] = {}
  for name, *_ in plan.groups:
    if _where(name):
      axis = name[: name.rindex('] ') + 1]
      path, _, number = axis[:-1].rpartition('[')
      if path in plan.shapes:
        pairs = enumerate(zip(plan.shapes[path], plan.small_shape(path)))
        sizes = {str(i): pair for i, pair in pairs}
        found |= {axis: (axis, *sizes[number])} if number in sizes else {}
  return list(found.values())


def _rows(counted: Sequence[tuple[str, int, int]]) -> list[tuple[tuple[str, ...], int]]:
  """The cells of a row, and for how many names it stands: those that differ in numbers only."""
  kinds: dict[Any, list[str]] = {}
  for name, size, kept in counted:
    kinds.setdefault((int(size), int(kept), template(name)), []).append(name)
  rows = []
  for (size, kept, _), names in kinds.items():
    for name, found in fold_names(names):
      each = f'{len(found):,} x ' if len(found) > 1 else ''
      rows.append(((name, *_counts(size, kept, each)), len(found)))
  return rows


def _where(name: str) -> str:
  """The position in the name of a group."""
  return name.rpartition('] ')[2] if '] ' in name else ''
