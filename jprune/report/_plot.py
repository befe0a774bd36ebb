"""A tally as bars. matplotlib is imported only when something is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jprune import _figure
from jprune._figure import BLUE, FAINT, GREY
from jprune._text.words import byte_size, count, percent

if TYPE_CHECKING:
  from matplotlib.axes import Axes

  from jprune.report._leaf import LeafTally
  from jprune.report._tally import Tally

_LABEL = 44  # characters of a leaf path


def draw(tally: Tally, given: Axes | None) -> Axes:
  """One bar for each leaf, first on top, from its share of kept weights to that of the pruned."""
  rows = tally.rows
  height = _figure.FRAME + _figure.ROW * max(len(rows), 3)
  with _figure.axes('Tally.plot', given, height) as ax:
    notes = [f'{count(row.nonzero)} of {count(row.size)}' for row in rows]
    lift = _figure.rows(ax, [row.path for row in rows], _LABEL, notes)
    places = [i + lift for i in range(len(rows))]
    thick = 0.32 if lift else 0.8
    kept = [_kept_percent(row) for row in rows]
    colors = [BLUE if row.skipped is None else GREY for row in rows]
    ax.barh(places, kept, color=colors, height=thick)
    pruned = [100 * row.sparsity for row in rows]
    ax.barh(places, pruned, left=kept, color=BLUE, alpha=FAINT, height=thick)
    ax.set_xlim(0, 100)
    ax.set_xlabel('weights (%)')
    _legend(ax, tally)
    sparsity = percent(tally.size - tally.nonzero, tally.size)
    dense, stored = byte_size(tally.bytes_dense), byte_size(tally.bytes_stored)
    title = f'{sparsity} sparse: {dense} stored as {stored}{_macs(tally)}'
    _figure.title(ax, title, pad=2.4 * _figure.FONT)
    return ax


def _macs(tally: Tally) -> str:
  if tally.macs is None:
    return ''
  dense, small = count(tally.macs.dense), count(tally.macs.shrunk)
  return f'; {dense} MACs, {small} as shrunk' if tally.macs.masked else f'; {dense} MACs'


def _kept_percent(row: LeafTally) -> float:
  return 100 * row.nonzero / row.size if row.size else 0.0


def _legend(ax: Axes, tally: Tally) -> None:
  from matplotlib.patches import Patch

  reasons = [row.skipped for row in tally.rows]
  handles: list[Any] = []
  if None in reasons:
    pruned = Patch(color=BLUE, alpha=FAINT, linewidth=0, label='pruned')
    handles += [Patch(color=BLUE, label='kept'), pruned]
  if any(reasons):
    handles.append(Patch(color=GREY, label='skipped'))
  place = {'loc': 'lower left', 'bbox_to_anchor': (0.0, 1.0), 'borderaxespad': 0.2}
  ax.legend(handles=handles, ncols=3, frameon=False, **place)
