"""Sparsity and churn over steps as lines. matplotlib is imported only when something is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jprune import _figure
from jprune._figure import BLUE, COLORS, FAINT, GREY
from jprune._text.words import percent, plural

if TYPE_CHECKING:
  from matplotlib.axes import Axes

_LABEL = 52  # characters of a path
_NAMED = 6  # leaves with a color and a name


def draw(found: Mapping[str, Any], given: Sequence[Axes] | None) -> tuple[Axes, Axes]:
  """The sparsity of all leaves and of each of them, and the churn."""
  steps, metrics = found['count'], found['metrics']
  leaves = {name: value for name, value in metrics.items() if name.startswith('sparsity/')}
  near = {'rtol': 0, 'atol': 0.005}  # their lines would be one, under that of all
  alike = all(np.allclose(value, metrics['sparsity'], **near) for value in leaves.values())
  label = 'all leaves, and each of them' if alike and len(leaves) > 1 else 'all leaves'
  height = 4.4 + _figure.legend_height(1 if alike else min(len(leaves), _NAMED + 1) + 1)
  layout = {'nrows': 2, 'sharex': True, 'height_ratios': (2, 1)}
  with _figure.axes('Recorder.plot', given, height, **layout) as (top, below):
    if len(leaves) > 1 and not alike:
      _draw_leaves(top, steps, leaves)
    _line(top, steps, metrics['sparsity'], color=BLUE, linewidth=2.5, label=label)
    last = float(np.mean(metrics['sparsity'][-1]))
    _figure.title(top, f'{percent(last, 1)} sparse after {plural(int(steps[-1]), "step")}')
    top.set_ylim(-0.02, 1.02)
    top.set_ylabel('sparsity')
    _figure.legend(top, given)
    if 'churn' in metrics:
      _line(below, steps, metrics['churn'], color=BLUE, linewidth=1.5)  # of all leaves
    below.set_ylim(bottom=0)
    below.set_ylabel('churn')
    below.set_xlabel('step')
    for ax in (top, below):
      _figure.percent_axis(ax.yaxis)
      _figure.bare(ax, 'top', 'right')
    return top, below


def _draw_leaves(ax: Axes, steps: np.ndarray, leaves: Mapping[str, np.ndarray]) -> None:
  """A line for each leaf; those that differ most in the end have a name, in tree order."""
  ends = {name: float(np.mean(value[-1])) for name, value in leaves.items()}
  middle = float(np.median(list(ends.values())))
  far = sorted(ends, key=lambda name: -abs(ends[name] - middle))[:_NAMED]
  others = [name for name in leaves if name not in far]
  for place, name in enumerate(others):
    label = f'{len(others):,} more' if place == 0 else None
    style = {'color': GREY, 'alpha': FAINT, 'linewidth': 1.0}
    _line(ax, steps, leaves[name], label=label, **style)
  labels = _figure.apart([name.partition('/')[2] for name in leaves], _LABEL)
  for place, name in enumerate(name for name in leaves if name in far):
    style = {'color': COLORS[place + 1], 'linewidth': 1.5}  # the first is that of all leaves
    _line(ax, steps, leaves[name], label=labels[name.partition('/')[2]], **style)


def _line(ax: Axes, steps: np.ndarray, values: np.ndarray, **style: Any) -> None:
  """The mean over agents, and a band from the least to the most of them."""
  values = values.reshape(len(values), -1)
  ax.plot(steps, values.mean(axis=1), **style)
  if values.shape[1] > 1:
    band = {'color': style['color'], 'alpha': 0.15, 'linewidth': 0}
    ax.fill_between(steps, values.min(axis=1), values.max(axis=1), **band)
