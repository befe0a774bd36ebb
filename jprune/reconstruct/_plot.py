"""A report of repairs as a picture. matplotlib is imported only when something is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jprune import _figure
from jprune._figure import BLUE, FAINT, GREY
from jprune.reconstruct import _table

if TYPE_CHECKING:
  from matplotlib.axes import Axes

  from jprune.reconstruct._report import Repair

_LABEL = 60  # characters of a leaf path


def draw(report: Repair, given: Axes | None) -> Axes:
  """A line for each leaf, first on top, from its error with a mask alone to that after repair."""
  rows = report.rows
  height = _figure.FRAME + _figure.ROW * max(len(rows), 3)
  with _figure.axes('Repair.plot', given, height) as ax:
    lift = _figure.rows(ax, [row.path for row in rows], _LABEL)
    before, after = [row.error_before for row in rows], [row.error_after for row in rows]
    places = [i + lift for i in range(len(rows))]
    repaired = report.method != _table.MASKS_ALONE
    if repaired:
      ax.hlines(places, after, before, color=GREY, alpha=FAINT, linewidth=2, zorder=1)
    ax.scatter(before, places, s=36, color=GREY, label='masked', zorder=2)
    if repaired:
      ax.scatter(after, places, s=36, color=BLUE, label='repaired', zorder=3)
    ax.set_xlim(left=0)
    ax.set_xlabel('relative squared error of the outputs')
    place = {'loc': 'lower left', 'bbox_to_anchor': (0.0, 1.0), 'borderaxespad': 0.2}
    ax.legend(ncols=2, frameon=False, handletextpad=0.1, **place)
    _figure.title(ax, _table.summary(report), pad=2.4 * _figure.FONT)
    return ax
