"""A channel graph as a picture. matplotlib is imported only when something is drawn."""

from __future__ import annotations

import collections
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jprune import _checks
from jprune._text.fold_paths import Place, fold, natural
from jprune._text.names import shorten
from jprune._text.words import printable
from jprune.graph._channels.text import summary

if TYPE_CHECKING:
  from matplotlib.axes import Axes

  from jprune.graph._channels.graph import ChannelGraph

_WHOLE, _PART, _BAND = '#1f5fa8', '#a9cbe8', '#f1f1f1'
_LABEL, _NAME = 72, 40  # characters beside a row, below a column
_FONT, _SMALLEST = 8.0, 4.0  # points
_POINTS = 72.0  # an inch
_CELL, _NARROWEST = 0.19, 3.2  # inches: a cell, all columns together
_LARGEST = 500.0  # inches: what a renderer still can draw


class _Row(NamedTuple):
  """Leaves that belong to the same groups in the same way."""

  label: str
  cells: dict[int, tuple[str, bool]]  # by group: which axes, and whether the whole of them


def draw(graph: ChannelGraph, ax: Axes | None) -> Axes:
  """A row for all leaves of one kind, a column for each group; filled where they meet."""
  rows = _rows(graph)
  order = list(dict.fromkeys(i for row in rows for i in row.cells))
  rows = [row._replace(cells={order.index(i): c for i, c in row.cells.items()}) for row in rows]
  groups = [graph.groups[i] for i in order]
  names = [shorten(printable(group.name), _NAME) for group in groups]
  if ax is None:
    ax = _new_axes([row.label for row in rows], names)
  font = _font_size(ax, len(rows), len(names))
  ax.set_xlim(-0.5, max(len(names), 1) - 0.5)
  ax.set_ylim(max(len(rows), 1) - 0.5, -0.5)
  for i in range(0, len(rows), 2):
    ax.axhspan(i - 0.5, i + 0.5, color=_BAND, zorder=0, linewidth=0)
  if rows:
    _fill(ax, rows, len(names), font)
  _label(ax, rows, names, [f'{int(group.size):,}' for group in groups], font)
  _title_and_legend(ax, rows, summary(graph))
  return ax


def _rows(graph: ChannelGraph) -> list[_Row]:
  """The leaves that are in some group, in natural order; those of the same parts share a row."""
  found: dict[str, dict[int, list[tuple[int, bool]]]] = {}
  for i, group in enumerate(graph.groups):
    for member in group.members:
      axes = found.setdefault(member.path, {}).setdefault(i, [])
      axes.append((member.axis, member.position.whole))
  # Of a row that holds several collections (params and batch_stats, say) the larger is named.
  sizes = collections.Counter(_collection(path) for path in found)
  first = lambda path: (-sizes[_collection(path)], natural(path))
  alike: dict[tuple[Any, ...], list[str]] = {}
  for path in sorted(found, key=first):
    kind = tuple((i, tuple(sorted(set(axes)))) for i, axes in found[path].items())
    alike.setdefault(kind, []).append(path)
  return [_Row(_row_label(paths), _cells(kind)) for kind, paths in alike.items()]


def _collection(path: str) -> str:
  return path.split('/')[0] if '/' in path else ''


def _cells(kind: tuple[Any, ...]) -> dict[int, tuple[str, bool]]:
  numbers = lambda axes: ','.join(str(axis) for axis in sorted({axis for axis, _ in axes}))
  return {i: (numbers(axes), all(whole for _, whole in axes)) for i, axes in kind}


def _row_label(paths: list[str]) -> str:
  """As many names as there is room for."""
  names = fold(Place(path) for path in paths)
  label = rest = ''
  for shown in range(min(len(names), _LABEL), 0, -1):
    rest = f' and {len(names) - shown:,} more' if shown < len(names) else ''
    label = ', '.join(names[:shown])
    if len(label + rest) <= _LABEL:
      break
  return shorten(label, _LABEL - len(rest)) + rest


def _new_axes(labels: Sequence[str], names: Sequence[str]) -> Axes:
  try:
    import matplotlib.pyplot as plt
  except ImportError as error:
    raise _checks.missing_library('ChannelGraph.plot', 'matplotlib', 'plot') from error
  letter = 0.62 * _FONT / _POINTS
  longest = lambda texts: letter * max(map(len, texts), default=0)
  width = longest(labels) + max(_NARROWEST, _CELL * len(names)) + 0.3
  height = longest(names) + _CELL * max(len(labels), 3) + 1.3
  return plt.subplots(figsize=(min(_LARGEST, width), min(_LARGEST, height)), layout='constrained')[
    1
  ]


def _font_size(ax: Axes, rows: int, columns: int) -> float:
  """As large as a cell allows, between the smallest that can be read and the usual one."""
  return min(_FONT, max(_SMALLEST, 0.75 * min(_points(ax, rows, columns))))


def _points(ax: Axes, rows: int, columns: int) -> tuple[float, float]:
  """Height of a row and width of a column."""
  box = ax.get_window_extent()
  point = ax.figure.dpi / _POINTS
  return box.height / point / max(rows, 1), box.width / point / max(columns, 1)


def _fill(ax: Axes, rows: list[_Row], columns: int, font: float) -> None:
  from matplotlib.colors import ListedColormap

  filled = np.full((len(rows), columns), np.nan)
  for i, row in enumerate(rows):
    for group, (axes, whole) in row.cells.items():
      filled[i, group] = whole
      color = 'white' if whole else 'black'
      ax.text(group, i, axes, color=color, size=0.85 * font, ha='center', va='center_baseline')
  edges = [np.arange(n + 1) - 0.5 for n in (columns, len(rows))]
  colors = ListedColormap([_PART, _WHOLE])
  ax.pcolormesh(*edges, filled, cmap=colors, vmin=0, vmax=1, edgecolors='white', linewidth=0.5)


def _label(ax: Axes, rows: list[_Row], names: list[str], sizes: list[str], font: float) -> None:
  """Leaves on the left, names below, sizes on top: all, or as many as there is room for."""
  high, wide = _points(ax, len(rows), len(names))
  down = range(0, len(rows), max(1, math.ceil(font / high)))
  across = range(0, len(names), max(1, math.ceil(font / wide)))
  # parse_math=False: a path may hold dollar signs.
  style = {'fontsize': font, 'parse_math': False}
  ax.set_yticks(down, [rows[i].label for i in down], **style)
  ax.set_xticks(across, [names[i] for i in across], rotation=90, **style)
  top = ax.secondary_xaxis('top')
  top.set_xticks(across, [sizes[i] for i in across], rotation=90 if wide < 30 else 0, **style)
  for axis in (ax, top):
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def _title_and_legend(ax: Axes, rows: list[_Row], title: str) -> None:
  from matplotlib.patches import Patch

  found = {whole for row in rows for _, whole in row.cells.values()}
  labels = {True: (_WHOLE, 'the axis with this number'), False: (_PART, 'a part or factor of it')}
  handles = [Patch(color=labels[w][0], label=labels[w][1]) for w in (True, False) if w in found]
  ax.set_title(title.replace('; ', ';\n'), loc='left', fontsize=_FONT + 1, pad=8)
  if handles:
    place = {'loc': 'upper right', 'bbox_to_anchor': (-0.02, -0.02), 'borderaxespad': 0.0}
    ax.legend(handles=handles, frameon=False, fontsize=_FONT, **place)
