"""A report of repairs as a picture. matplotlib is imported only when something is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jprune import _checks
from jprune._text.names import shorten
from jprune._text.words import printable
from jprune.reconstruct import _table

if TYPE_CHECKING:
  from matplotlib.axes import Axes

  from jprune.reconstruct._report import Repair

_MASKED, _REPAIRED, _LINE = '#9aa5b1', '#1f5fa8', '#d8dde3'
_FONT = 9.0  # points
_LEAF, _FRAME, _HIGHEST = 0.22, 1.3, 500.0  # inches
_LABEL = 48  # characters of a leaf path


def draw(report: Repair, ax: Axes | None) -> Axes:
  """A line for each leaf, first on top, from its error with a mask alone to that after repair."""
  rows = report.rows
  ax = _new_axes(len(rows)) if ax is None else ax
  before, after = [row.error_before for row in rows], [row.error_after for row in rows]
  places = range(len(rows))
  ax.hlines(places, after, before, color=_LINE, linewidth=2, zorder=1)
  ax.scatter(before, places, s=28, color=_MASKED, label='masked', zorder=2)
  ax.scatter(after, places, s=28, color=_REPAIRED, label='repaired', zorder=3)
  names = [shorten(printable(row.path), _LABEL) for row in rows]
  ax.set_yticks(places, names, fontsize=_FONT, parse_math=False)
  ax.set_ylim(len(rows) - 0.5, -0.5)
  ax.set_xlim(left=0)
  ax.set_xlabel('relative squared error of the outputs')
  for side in ('top', 'right', 'left'):
    ax.spines[side].set_visible(False)
  ax.tick_params(axis='y', length=0)
  place = {'loc': 'lower left', 'bbox_to_anchor': (0.0, 1.0), 'borderaxespad': 0.2}
  ax.legend(ncols=2, frameon=False, fontsize=_FONT, handletextpad=0.1, **place)
  ax.set_title(_table.summary(report), loc='left', fontsize=_FONT + 1, pad=22)
  return ax


def _new_axes(leaves: int) -> Axes:
  try:
    import matplotlib.pyplot as plt
  except ImportError as error:
    raise _checks.missing_library('Repair.plot', 'matplotlib', 'plot') from error
  height = min(_HIGHEST, _FRAME + _LEAF * max(leaves, 3))
  return plt.subplots(figsize=(9.0, height), layout='constrained')[1]
