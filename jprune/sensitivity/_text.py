"""Sensitivities as text and as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jprune._text import html
from jprune._text.table import GAP, spread, table, width, wrapped
from jprune._text.words import count, number, percent, printable

if TYPE_CHECKING:
  from jprune.sensitivity._sensitivity import Sensitivity

_NARROWEST = 32  # columns of the name, however many numbers there are: a path of four keys


def sensitivity_text(found: Sensitivity) -> str:
  """A row for each group; as many of the sparsities as there is room for."""
  every = range(len(found.sparsities))
  shown = len(every)
  header, rows = _cells(found, every)
  while shown and not _fits([header, *rows]):
    shown -= 1
    header, rows = _cells(found, spread(len(every), shown))
  lines = [*table(header, rows), '', *wrapped(_sentence(found))]
  if shown < len(every):
    lines.append(f'{len(every) - shown:,} more of the sparsities are in to_dict().')
  return '\n'.join(lines)


def _fits(lines: Sequence[Sequence[str]]) -> bool:
  """Whether there is room for all columns, and for some of the names."""
  longest, *numbers = (max(len(line[i]) for line in lines) for i in range(len(lines[0])))
  return min(longest, _NARROWEST) + sum(numbers) + len(GAP) * len(numbers) <= width()


def sensitivity_html(found: Sensitivity) -> str:
  header, rows = _cells(found, range(len(found.sparsities)))
  return '\n'.join([html.table(header, rows), html.paragraph(_sentence(found))])


def _cells(found: Sensitivity, points: Sequence[int]) -> tuple[list[str], list[list[str]]]:
  header = ['group', found.unit, *(percent(found.sparsities[i], 1) for i in points), 'mean drop']
  mean = dict(found.ranking())
  rows = [
    [
      printable(curve.name),
      count(curve.size),
      *(number(curve.metrics[i]) for i in points),
      number(mean[curve.name]),
    ]
    for curve in found.curves
  ]
  return header, rows


def _sentence(found: Sensitivity) -> str:
  how = f'alone{by_pattern(found.pattern)}'
  return f'Metric by sparsity, each group pruned {how}; {number(found.baseline)} dense.'


def by_pattern(pattern: str) -> str:
  """Which pattern, for a sentence; not the usual one."""
  return '' if pattern in ('', 'Unstructured()') else f' by {pattern}'
