"""Curves, searches and results as lines. matplotlib is imported only when something is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jprune import _figure
from jprune._figure import BLUE, COLORS, FAINT, GREY, RED
from jprune._text.words import percent

if TYPE_CHECKING:
  from matplotlib.axes import Axes

  from jprune.sensitivity._result import Result, Step
  from jprune.sensitivity._search import Search
  from jprune.sensitivity._sensitivity import Sensitivity

_HEIGHT = 3.8  # inches, without the legend
_LABEL = 52  # characters of a name
_NAMED = 8  # lines with a color and a name
_TICKS = 5  # names of steps side by side


def draw_curves(found: Sensitivity, given: Axes | None) -> Axes:
  """The metric over sparsity, a line for each group; the most sensitive ones are named."""
  ranked = [name for name, _ in found.ranking()]
  by_name = {curve.name: curve for curve in found.curves}
  labels = _figure.apart(ranked, _LABEL)
  rest = len(ranked) - _NAMED
  height = _HEIGHT + _figure.legend_height(min(len(ranked), _NAMED) + 1)
  with _figure.axes('Sensitivity.plot', given, height) as ax:
    for name in ranked[_NAMED:]:
      ax.plot(found.sparsities, by_name[name].metrics, color=GREY, alpha=FAINT, linewidth=1.0)
    for place, name in enumerate(ranked[:_NAMED]):
      style = {'color': COLORS[place], 'marker': 'o', 'markersize': 4, 'linewidth': 1.5}
      ax.plot(found.sparsities, by_name[name].metrics, label=labels[name], **style)
    ax.axhline(found.baseline, color=GREY, linestyle=':', linewidth=1.5, label='dense')
    title = 'each group pruned alone' + (f'; {rest:,} less sensitive ones in grey' * (rest > 0))
    _figure.percent_axis(ax.xaxis)
    _finish(ax, given, title, f'sparsity of the group ({found.unit})')
    return ax


def draw_search(found: Search, given: Axes | None) -> Axes:
  """All trials, with their errors, and the floor."""
  with _figure.axes('Search.plot', given, _HEIGHT + _figure.legend_height(1)) as ax:
    trials = sorted(found.trials, key=lambda trial: trial.sparsity)
    points, metrics = [t.sparsity for t in trials], [t.metric for t in trials]
    errors = [t.error for t in trials]
    ax.errorbar(points, metrics, errors, color=BLUE, marker='o', markersize=5, label='tried')
    ax.axhline(found.min_metric, color=RED, linestyle='--', linewidth=1.5, label='floor')
    if found.sparsity is not None:
      ax.plot(
        [found.sparsity], [found.metric], 'o', color=RED, markersize=8, zorder=3, label='chosen'
      )
    _figure.percent_axis(ax.xaxis)
    _finish(ax, given, found.summary, 'sparsity')
    return ax


def draw_result(found: Result, given: Axes | None) -> Axes:
  """The metric after each step, with the sparsity that was reached, and the test metrics."""
  with _figure.axes('Result.plot', given, _HEIGHT + _figure.legend_height(1)) as ax:
    places = range(len(found.steps))
    style = {'color': BLUE, 'marker': 'o', 'markersize': 6}
    ax.plot(places, [step.metric for step in found.steps], label='validation', **style)
    if found.test_before is not None and found.test_after is not None:
      ends = [0, len(found.steps) - 1]
      ax.plot(ends, [found.test_before, found.test_after], 's', color=GREY, label='test')
    if found.min_metric is not None:
      ax.axhline(found.min_metric, color=RED, linestyle='--', linewidth=1.5, label='floor')
    ax.set_xticks(*_ticks(found.steps))
    _finish(ax, given, found.summary, 'step, and sparsity of the selected leaves')
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
  shown = lambda step: f'{name(step)}\n{percent(step.pruned, step.size)}'
  return places, [shown(steps[i]) for i in places]


def _finish(ax: Axes, given: Axes | None, title: str, below: str) -> None:
  _figure.title(ax, title)
  ax.set_xlabel(below)
  ax.set_ylabel('metric')
  _figure.bare(ax, 'top', 'right')
  _figure.legend(ax, given)
