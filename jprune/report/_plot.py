"""A tally as bars. matplotlib is imported only when something is drawn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from jprune import _checks
from jprune._text.names import shorten
from jprune._text.words import byte_size, count, percent, printable

if TYPE_CHECKING:
  from matplotlib.axes import Axes

  from jprune.report._leaf import LeafTally
  from jprune.report._tally import Tally

_KEPT, _PRUNED, _DENSE = '#1f5fa8', '#d3e0ef', '#b5b5b5'
_LABEL = 48  # characters of a leaf path
_FONT, _SMALLEST = 9.0, 4.0  # points
_POINTS = 72.0  # an inch
_LEAF, _FRAME = 0.22, 1.3  # inches: height of a leaf, of all that surrounds the bars
_HIGHEST = 500.0  # inches: what a renderer still can draw


def draw(tally: Tally, ax: Axes | None) -> Axes:
  """One bar for each leaf, first on top, from its share of kept weights to that of the pruned."""
  if ax is None:
    ax = _new_axes(len(tally.rows))
  rows = tally.rows
  font = _font_size(ax, len(rows))
  kept = [_kept_percent(row) for row in rows]
  colors = [_KEPT if row.skipped is None else _DENSE for row in rows]
  ax.barh(range(len(rows)), kept, color=colors, height=0.8)
  pruned = [100 * row.sparsity for row in rows]
  ax.barh(range(len(rows)), pruned, left=kept, color=_PRUNED, height=0.8)
  _label_rows(ax, rows, font)
  ax.set_ylim(len(rows) - 0.5, -0.5)
  ax.set_xlim(0, 100)
  ax.set_xlabel('weights (%)')
  for side in ('top', 'right', 'left'):
    ax.spines[side].set_visible(False)
  ax.tick_params(axis='y', length=0)
  sparsity = percent(tally.size - tally.nonzero, tally.size)
  dense, stored = byte_size(tally.bytes_dense), byte_size(tally.bytes_stored)
  title = f'{sparsity} sparse: {dense} stored as {stored}{_macs(tally)}'
  _title_and_legend(ax, title, tally)
  return ax


def _macs(tally: Tally) -> str:
  if tally.macs is None:
    return ''
  dense, small = count(tally.macs.dense), count(tally.macs.shrunk)
  return f'; {dense} MACs, {small} as shrunk' if tally.macs.masked else f'; {dense} MACs'


def _new_axes(leaves: int) -> Axes:
  try:
    import matplotlib.pyplot as plt
  except ImportError as error:
    raise _checks.missing_library('Tally.plot', 'matplotlib', 'plot') from error
  height = min(_HIGHEST, _FRAME + _LEAF * max(leaves, 3))
  return plt.subplots(figsize=(9.0, height), layout='constrained')[1]


def _font_size(ax: Axes, leaves: int) -> float:
  """As large as the rows are high, between the smallest that can be read and the usual one."""
  return min(_FONT, max(_SMALLEST, 0.75 * _row_points(ax, leaves)))


def _row_points(ax: Axes, leaves: int) -> float:
  return ax.get_window_extent().height / ax.figure.dpi * _POINTS / leaves


def _label_rows(ax: Axes, rows: tuple[LeafTally, ...], font: float) -> None:
  """Path on the left, counts on the right: of every row, or of as many as the height holds."""
  every = max(1, math.ceil(font / _row_points(ax, len(rows))))
  labelled = range(0, len(rows), every)
  # parse_math=False: a path may hold dollar signs.
  names = [shorten(printable(rows[i].path), _LABEL) for i in labelled]
  ax.set_yticks(labelled, names, fontsize=font, parse_math=False)
  counts = [f'{count(rows[i].nonzero)} of {count(rows[i].size)}' for i in labelled]
  right = ax.secondary_yaxis('right')
  right.set_yticks(labelled, counts, fontsize=font)
  right.tick_params(length=0)
  right.spines['right'].set_visible(False)


def _kept_percent(row: LeafTally) -> float:
  return 100 * row.nonzero / row.size if row.size else 0.0


def _title_and_legend(ax: Axes, title: str, tally: Tally) -> None:
  from matplotlib.patches import Patch

  reasons = [row.skipped for row in tally.rows]
  handles: list[Any] = []
  if None in reasons:
    handles += [Patch(color=_KEPT, label='kept'), Patch(color=_PRUNED, label='pruned')]
  if any(reasons):
    handles.append(Patch(color=_DENSE, label='skipped'))
  place = {'loc': 'lower left', 'bbox_to_anchor': (0.0, 1.0), 'borderaxespad': 0.2}
  ax.legend(handles=handles, ncols=3, frameon=False, fontsize=_FONT, **place)
  ax.set_title(title, loc='left', fontsize=_FONT + 1, pad=22)
