"""Sparsity and churn over steps as lines. matplotlib is imported only when something is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jprune import _checks
from jprune._text.names import shorten
from jprune._text.words import percent, plural, printable

if TYPE_CHECKING:
  from matplotlib.axes import Axes

_GREY, _CHURN = '#b5b5b5', '#b3432b'
_FONT = 9.0  # points
_LABEL = 40  # characters of a path
_NAMED = 8  # leaves with a color and a name


def draw(found: Mapping[str, Any], axes: Sequence[Axes] | None) -> tuple[Axes, Axes]:
  """The sparsity of all leaves and of each of them, and the churn."""
  top, below = _new_axes() if axes is None else axes
  steps, metrics = found['count'], found['metrics']
  leaves = {name: value for name, value in metrics.items() if name.startswith('sparsity/')}
  if len(leaves) > 1:
    _draw_leaves(top, steps, leaves)
  _line(top, steps, metrics['sparsity'], color='black', linewidth=1.8, label='all leaves')
  last = float(np.mean(metrics['sparsity'][-1]))
  title = f'{percent(last, 1)} sparse after {plural(int(steps[-1]), "step")}'
  top.set_title(title, loc='left', fontsize=_FONT + 1)
  top.set_ylim(-0.02, 1.02)
  top.set_ylabel('sparsity')
  top.legend(frameon=False, fontsize=_FONT - 1, loc='center left', bbox_to_anchor=(1.0, 0.5))
  if 'churn' in metrics:
    _line(below, steps, metrics['churn'], color=_CHURN, linewidth=1.2)
  below.set_ylim(bottom=0)
  below.set_ylabel('churn')
  below.set_xlabel('step')
  for ax in (top, below):
    for side in ('top', 'right'):
      ax.spines[side].set_visible(False)
  return top, below


def _draw_leaves(ax: Axes, steps: np.ndarray, leaves: Mapping[str, np.ndarray]) -> None:
  """A line for each leaf; those that differ most in the end have a name, in tree order."""
  ends = {name: float(np.mean(value[-1])) for name, value in leaves.items()}
  middle = float(np.median(list(ends.values())))
  far = sorted(ends, key=lambda name: -abs(ends[name] - middle))[:_NAMED]
  others = [name for name in leaves if name not in far]
  for place, name in enumerate(others):
    label = f'{len(others):,} more' if place == 0 else None
    _line(ax, steps, leaves[name], color=_GREY, linewidth=0.8, label=label)
  for place, name in enumerate(name for name in leaves if name in far):
    label = _label(name.partition('/')[2])
    _line(ax, steps, leaves[name], color=f'C{place}', linewidth=1.2, label=label)


def _line(ax: Axes, steps: np.ndarray, values: np.ndarray, **style: Any) -> None:
  """The mean over agents, and a band from the least to the most of them."""
  values = values.reshape(len(values), -1)
  ax.plot(steps, values.mean(axis=1), **style)
  if values.shape[1] > 1:
    band = {'color': style['color'], 'alpha': 0.15, 'linewidth': 0}
    ax.fill_between(steps, values.min(axis=1), values.max(axis=1), **band)


def _label(name: str) -> str:
  # Dollar signs would be read as formulas, a leading underscore hides a line from the legend.
  return '\u200b' + shorten(printable(name), _LABEL).replace('$', r'\$')


def _new_axes() -> tuple[Axes, Axes]:
  try:
    import matplotlib.pyplot as plt
  except ImportError as error:
    raise _checks.missing_library('Recorder.plot', 'matplotlib', 'plot') from error
  size = {'figsize': (8.0, 4.8), 'layout': 'constrained'}
  return tuple(plt.subplots(2, 1, sharex=True, height_ratios=(2, 1), **size)[1])
