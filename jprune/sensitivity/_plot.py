"""Curves, searches and results as lines. matplotlib is imported only when something is drawn."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jprune import _checks
from jprune._text.names import shorten
from jprune._text.words import printable

if TYPE_CHECKING:
  from matplotlib.axes import Axes

  from jprune.sensitivity._result import Result, Step
  from jprune.sensitivity._search import Search
  from jprune.sensitivity._sensitivity import Sensitivity

_DARK, _GREY, _FLOOR = '#1f5fa8', '#b5b5b5', '#b3432b'
_FONT = 9.0  # points
_LABEL = 40  # characters of a name
_NAMED = 10  # lines with a color and a name
_TICKS = 9  # names of steps side by side


def draw_curves(found: Sensitivity, ax: Axes | None) -> Axes:
  """The metric over sparsity, a line for each group; the most sensitive ones are named."""
  ax = _axes('Sensitivity.plot') if ax is None else ax
  ranked = [name for name, _ in found.ranking()]
  by_name = {curve.name: curve for curve in found.curves}
  for name in ranked[_NAMED:]:
    ax.plot(found.sparsities, by_name[name].metrics, color=_GREY, linewidth=0.8)
  for place, name in enumerate(ranked[:_NAMED]):
    style = {'color': f'C{place}', 'marker': 'o', 'markersize': 3, 'linewidth': 1.2}
    ax.plot(found.sparsities, by_name[name].metrics, label=_label(name), **style)
  ax.axhline(found.baseline, color='black', linestyle=':', linewidth=1.0, label='dense')
  rest = len(ranked) - _NAMED
  title = 'each group pruned alone' + (f'; {rest:,} less sensitive ones in grey' * (rest > 0))
  _finish(ax, title, f'sparsity of the group ({found.unit})')
  return ax


def draw_search(found: Search, ax: Axes | None) -> Axes:
  """All trials, with their errors, and the floor."""
  ax = _axes('Search.plot') if ax is None else ax
  trials = sorted(found.trials, key=lambda trial: trial.sparsity)
  points, metrics = [t.sparsity for t in trials], [t.metric for t in trials]
  errors = [t.error for t in trials]
  ax.errorbar(points, metrics, errors, color=_DARK, marker='o', markersize=4, label='tried')
  ax.axhline(found.min_metric, color=_FLOOR, linestyle='--', linewidth=1.0, label='floor')
  if found.sparsity is not None:
    ax.plot([found.sparsity], [found.metric], 'o', color=_FLOOR, markersize=7, label='chosen')
  _finish(ax, found.summary, 'sparsity')
  return ax


def draw_result(found: Result, ax: Axes | None) -> Axes:
  """The metric after each step, with the sparsity that was reached, and the test metrics."""
  ax = _axes('Result.plot') if ax is None else ax
  places = range(len(found.steps))
  style = {'color': _DARK, 'marker': 'o', 'markersize': 5}
  ax.plot(places, [step.metric for step in found.steps], label='validation', **style)
  if found.test_before is not None and found.test_after is not None:
    ends = [0, len(found.steps) - 1]
    ax.plot(ends, [found.test_before, found.test_after], 's', color='black', label='test')
  if found.min_metric is not None:
    ax.axhline(found.min_metric, color=_FLOOR, linestyle='--', linewidth=1.0, label='floor')
  ax.set_xticks(*_ticks(found.steps), fontsize=_FONT)
  _finish(ax, found.summary, 'step, and sparsity of the selected leaves')
  return ax


def _ticks(steps: Sequence[Step]) -> tuple[list[int], list[str]]:
  """A name for each step; where they are many, for the last one of some rounds."""
  places = list(range(len(steps)))
  name = lambda step: step.name
  if len(steps) > _TICKS:
    ends = [i for i in places if i + 1 == len(steps) or steps[i].round < steps[i + 1].round]
    every = -(-len(ends) // _TICKS)
    places = ends[::-1][::every][::-1]
    name = lambda step: f'round {step.round}' if step.round else step.name
  return places, [f'{name(steps[i])}\n{100 * steps[i].sparsity:.1f}%' for i in places]


def _axes(function: str) -> Axes:
  try:
    import matplotlib.pyplot as plt
  except ImportError as error:
    raise _checks.missing_library(function, 'matplotlib', 'plot') from error
  return plt.subplots(figsize=(7.0, 4.2), layout='constrained')[1]


def _label(name: str) -> str:
  # Dollar signs would be read as formulas, a leading underscore hides a line from the legend.
  return '\u200b' + shorten(printable(name), _LABEL).replace('$', r'\$')


def _finish(ax: Any, title: str, below: str) -> None:
  points = 72 * ax.bbox.width / ax.figure.dpi
  lines = textwrap.wrap(title, max(20, int(points / (0.55 * (_FONT + 1)))))  # a letter is .55 wide
  ax.set_title('\n'.join(lines).replace('$', r'\$'), loc='left', fontsize=_FONT + 1)
  ax.set_xlabel(below)
  ax.set_ylabel('metric')
  for side in ('top', 'right'):
    ax.spines[side].set_visible(False)
  ax.legend(frameon=False, fontsize=_FONT - 1)
