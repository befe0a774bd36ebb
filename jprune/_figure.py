"""The look of all plots: one size of text, colors that are read on white and on near-black.

Figures have no background, so that they take on that of the page. They are narrow enough for what
stands in them to be read on a phone. Axes that are passed keep their own look.
"""

from __future__ import annotations

import contextlib
import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from jprune import _checks
from jprune._text.names import shortened
from jprune._text.words import printable

if TYPE_CHECKING:
  from matplotlib.axes import Axes

FONT = 12.0  # points: titles, labels, ticks and legends
WIDTH = 6.0  # inches
GREY, BLUE, RED = '#7f7f7f', '#3a86c8', '#d1603d'
FAINT = 0.3  # opacity of what is gone, or stands behind
ROW, FRAME = 0.36, 1.3  # inches: a leaf and its name, all that surrounds the leaves
COLORS = (BLUE, RED, '#3f9b6a', '#a868c2', '#c08a1e', '#2f9fa8', '#cc5f92', '#7f8f2f')
_HIGHEST = 500.0  # inches: what a renderer still can draw
_SMALLEST = 4.0  # points
_POINTS = 72.0  # an inch
_LETTER = 0.55  # of the size of a font: the width of a letter

_STYLE: Any = {
  'font.size': FONT,
  **dict.fromkeys(('figure.facecolor', 'axes.facecolor', 'savefig.facecolor'), 'none'),
  **dict.fromkeys(('text.color', 'axes.labelcolor', 'axes.edgecolor'), GREY),
  **dict.fromkeys(('xtick.color', 'ytick.color', 'axes.titlecolor', 'legend.labelcolor'), GREY),
  **dict.fromkeys(('axes.titlesize', 'axes.labelsize', 'legend.fontsize'), FONT),
  **dict.fromkeys(('xtick.labelsize', 'ytick.labelsize'), FONT),
}


@contextlib.contextmanager
def axes(
  function: str, given: Any, height: float, width: float = WIDTH, **layout: Any
) -> Iterator[Any]:
  """The axes to draw into: those that are given, or else new ones of a size in inches."""
  if given is not None:
    yield given
    return
  try:
    import matplotlib.pyplot as plt
  except ImportError as error:
    raise _checks.missing_library(function, 'matplotlib', 'plot') from error
  with plt.rc_context(_STYLE):
    size = (min(width, _HIGHEST), min(height, _HIGHEST))
    figure, new = plt.subplots(figsize=size, layout='constrained', **layout)
    for ax in figure.axes:  # ticks are made later, when they are drawn
      ax.tick_params(colors=GREY, labelsize=FONT)
    yield new


def label(name: str) -> str:
  """A name for a legend: no formula, and not hidden for the underscore that it starts with."""
  return '\u200b' + printable(name).replace('$', r'\$')


def title(ax: Axes, text: str, pad: float = 6.0) -> None:
  """A title on the left, on as many lines as it takes."""
  size = _size('axes.titlesize')
  points = _POINTS * ax.get_window_extent().width / ax.figure.dpi
  lines = textwrap.wrap(text, max(20, int(points / (_LETTER * size))))
  ax.set_title('\n'.join(lines).replace('$', r'\$'), loc='left', pad=pad)


def bare(ax: Axes, *sides: str) -> None:
  """No frame at these sides of axes."""
  for side in sides:
    ax.spines[side].set_visible(False)


def legend(ax: Axes, given: Any, **style: Any) -> None:
  """A legend: below the whole of a figure of our own, within axes that are given."""
  if given is not None:
    ax.legend(frameon=False, **style)
    return
  handles, labels = ax.get_legend_handles_labels()
  columns = max(1, int(WIDTH * _POINTS / (_LETTER * FONT * (6 + max(map(len, labels), default=0)))))
  ax.figure.legend(
    handles, labels, loc='outside lower left', frameon=False, ncols=min(columns, 4), **style
  )


def legend_height(count: int, columns: int = 1) -> float:
  """Inches that a legend of so many names takes below a figure."""
  return math.ceil(count / columns) * 1.5 * FONT / _POINTS


def rows(ax: Axes, names: Sequence[str], most: int, notes: Sequence[str] = ()) -> float:
  """Names the rows of a plot, first on top: each name, with a note on the right, above its row.

  Where axes are too low for that the names, or some of them, stand beside the rows.

  Returns:
    How far below its place a row is to be drawn, for its name to have room.
  """
  count = max(len(names), 1)
  high = ax.get_window_extent().height / ax.figure.dpi * _POINTS / count
  usual = _size('ytick.labelsize')
  above = high >= 2 * usual
  font = usual if above else min(usual, max(_SMALLEST, 0.75 * high))
  places = range(0, len(names), max(1, math.ceil(font / high)))
  lift = 0.24 if above else 0.0
  # Different names stay different. parse_math=False: they may hold dollar signs.
  shown = shortened(map(printable, names), most)
  texts = [shown[printable(names[i])] for i in places]
  at = [i - lift for i in places]
  ax.set_yticks(at, texts, fontsize=font, parse_math=False, ha='left' if above else 'right')
  ax.set_ylim(len(names) - 0.5, -0.5)
  ax.tick_params(axis='y', length=0, pad=0 if above else 3.5)
  bare(ax, 'top', 'right', 'left')
  if notes:
    right = ax.secondary_yaxis('right')
    side = 'right' if above else 'left'
    right.set_yticks(at, [notes[i] for i in places], fontsize=font, ha=side)
    right.tick_params(length=0, pad=0 if above else 3.5)
    right.spines['right'].set_visible(False)
  return lift


def percent_axis(axis: Any) -> None:
  """Fractions as percent."""
  from matplotlib.ticker import PercentFormatter

  axis.set_major_formatter(PercentFormatter(1))


def apart(names: Iterable[str], most: int) -> dict[str, str]:
  """A label for each name, in a legend: different ones for different names."""
  names = list(names)
  shown = shortened(map(printable, names), most)
  return {name: label(shown[printable(name)]) for name in names}


def _size(name: Any) -> float:
  """A size of ``matplotlib.rcParams`` in points."""
  import matplotlib as mpl
  from matplotlib.font_manager import FontProperties

  return FontProperties(size=mpl.rcParams[name]).get_size_in_points()
