"""A channel graph as a picture. matplotlib is imported only when something is drawn."""

from __future__ import annotations

import collections
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from jprune import _figure
from jprune._figure import BLUE, FONT, GREY
from jprune._text.fold_paths import Place, fold, natural
from jprune._text.names import shorten, shortened
from jprune._text.words import printable
from jprune.graph._channels.text import folded, summary

if TYPE_CHECKING:
  from matplotlib.axes import Axes

  from jprune.graph._channels.graph import ChannelGraph
  from jprune.graph._channels.groups import Group

_LABEL, _NAME = 48, 32  # characters beside a row, below a column
_PART = 0.2  # opacity of the cell of a part, on which a number is read
_LEVEL = 3  # characters that a column has room for
_MOST_GROUPS = 16  # columns, before like groups share one
_SMALLEST = 4.0  # points
_POINTS = 72.0  # an inch
_CELL, _NARROWEST = 0.25, 2.4  # inches: a cell, all columns together


class _Row(NamedTuple):
  """Leaves that belong to the same groups in the same way."""

  label: str
  cells: dict[int, tuple[str, bool]]  # by group: which axes, and whether the whole of them


def draw(graph: ChannelGraph, given: Axes | None) -> Axes:
  """A row for all leaves of one kind, a column for each group; filled where they meet.

  Where there are many groups, those that differ in numbers only share a column.
  """
  columns = [(group.name, [group]) for group in graph.groups]
  if len(columns) > _MOST_GROUPS:
    columns = folded(graph.groups)
  rows = _rows([groups for _, groups in columns])
  order = list(dict.fromkeys(i for row in rows for i in row.cells))
  rows = [row._replace(cells={order.index(i): c for i, c in row.cells.items()}) for row in rows]
  names = [printable(columns[i][0]) for i in order]
  shown = shortened(names, _NAME)
  size = _size([row.label for row in rows], list(shown.values()))
  with _figure.axes('ChannelGraph.plot', given, *size) as ax:
    font = _font_size(ax, len(rows), len(names))
    ax.set_xlim(-0.5, max(len(names), 1) - 0.5)
    ax.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    for i in range(0, len(rows), 2):
      ax.axhspan(i - 0.5, i + 0.5, color=GREY, alpha=0.1, zorder=0, linewidth=0)
    if rows:
      _fill(ax, rows, font)
    sizes = [_sizes(columns[i][1]) for i in order]
    _label(ax, rows, [shown[name] for name in names], sizes, font)
    _title_and_legend(ax, rows, summary(graph))
    return ax


def _sizes(alike: Sequence[Group]) -> str:
  each = f'{len(alike):,} x ' if len(alike) > 1 else ''
  return f'{each}{int(alike[0].size):,}'


def _rows(columns: Sequence[Sequence[Group]]) -> list[_Row]:
  """The leaves that are in some group, in natural order; those of the same parts share a row."""
  found: dict[str, dict[int, list[tuple[int, bool]]]] = {}
  for i, groups in enumerate(columns):
    for member in (member for group in groups for member in group.members):
      axes = found.setdefault(member.path, {}).setdefault(i, [])
      axes.append((member.axis, member.position.whole))
  # Of a row that holds several collections (params and batch_stats, say) the larger is named.
  sizes = collections.Counter(_collection(path) for path in found)
  first = lambda path: (-sizes[_collection(path)], natural(path))
  alike: dict[tuple[Any, ...], list[str]] = {}
  for path in sorted(found, key=first):
    kind = tuple((i, tuple(sorted(set(axes)))) for i, axes in found[path].items())
    alike.setdefault(kind, []).append(path)
  labels = _apart([_row_label(paths) for paths in alike.values()])
  return [_Row(label, _cells(kind)) for label, kind in zip(labels, alike, strict=True)]


def _apart(labels: Sequence[str]) -> list[str]:
  """Labels of which some are cut: the same ones get numbers."""
  seen = collections.Counter[str]()
  out = []
  for label in labels:
    seen[label] += 1
    number = f' ~{seen[label]}' if seen[label] > 1 else ''
    out.append(shorten(label, _LABEL - len(number)) + number)
  return out


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


def _size(labels: Sequence[str], names: Sequence[str]) -> tuple[float, float]:
  """Height and width of a new figure, in inches."""
  letter = 0.6 * FONT / _POINTS
  longest = lambda texts: letter * max(map(len, texts), default=0)
  width = longest(labels) + max(_NARROWEST, _CELL * len(names)) + 0.3
  height = longest(names) + _CELL * max(len(labels), 3) + 1.6
  return height, max(_figure.WIDTH, width)


def _font_size(ax: Axes, rows: int, columns: int) -> float:
  """As large as a cell allows, between the smallest that can be read and the usual one."""
  return min(FONT, max(_SMALLEST, 0.75 * min(_points(ax, rows, columns))))


def _points(ax: Axes, rows: int, columns: int) -> tuple[float, float]:
  """Height of a row and width of a column."""
  box = ax.get_window_extent()
  point = ax.figure.dpi / _POINTS
  return box.height / point / max(rows, 1), box.width / point / max(columns, 1)


def _fill(ax: Axes, rows: list[_Row], font: float) -> None:
  from matplotlib.collections import PatchCollection
  from matplotlib.colors import to_rgba
  from matplotlib.patches import Rectangle

  cells = [(i, j, *cell) for i, row in enumerate(rows) for j, cell in row.cells.items()]
  squares = [Rectangle((j - 0.45, i - 0.45), 0.9, 0.9) for i, j, *_ in cells]
  colors = [to_rgba(BLUE, 1.0 if whole else _PART) for *_, whole in cells]
  ax.add_collection(PatchCollection(squares, facecolors=colors, edgecolors='none'))
  for i, j, axes, whole in cells:
    color = 'white' if whole else GREY
    ax.text(j, i, axes, color=color, size=0.85 * font, ha='center', va='center_baseline')


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
  texts = [sizes[i] for i in across]
  upright = max(map(len, texts), default=0) > _LEVEL
  top.set_xticks(across, texts, rotation=90 if upright else 0, **style)
  for axis in (ax, top):
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def _title_and_legend(ax: Axes, rows: list[_Row], title: str) -> None:
  from matplotlib.patches import Patch

  found = {whole for row in rows for _, whole in row.cells.values()}
  labels = {True: (1.0, 'the axis with this number'), False: (_PART, 'a part or factor of it')}
  handles = [
    Patch(color=BLUE, alpha=labels[w][0], linewidth=0, label=labels[w][1])
    for w in (True, False)
    if w in found
  ]
  ax.set_title(title.replace('; ', ';\n'), loc='left', pad=8)
  if handles:
    place = {'loc': 'upper right', 'bbox_to_anchor': (-0.02, -0.02), 'borderaxespad': 0.0}
    ax.legend(handles=handles, frameon=False, **place)
