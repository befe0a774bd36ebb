"""A tally as text and as HTML: one list of columns serves leaves, totals and both forms."""

from __future__ import annotations

import html as _html
import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
  from jprune.report._leaf import LeafTally
  from jprune.report._tally import Tally

WIDTH = 100
_GAP = '  '
_SHORT = {'bfloat': 'bf', 'float': 'f', 'uint': 'u', 'int': 'i', 'complex': 'c'}
_NARROWEST = 16  # columns of the path, however long the shapes are


class _Column(NamedTuple):
  """One column: what it shows of a leaf, and of the whole (``None``: nothing)."""

  header: str
  leaf: Callable[[Any], str]
  total: Callable[[Any], str] | None
  align: str


def _both(header: str, cell: Callable[[Any], str]) -> _Column:
  return _Column(header, cell, cell, '>')


_COLUMNS = (
  _Column('leaf', lambda row: printable(row.path), lambda all_: _total_label(all_), '<'),
  _Column('shape', lambda row: short_type(row), None, '<'),
  _both('size', lambda it: count(it.size)),
  _both('nonzero', lambda it: count(it.nonzero)),
  _both('sparsity', lambda it: percent(it.size - it.nonzero, it.size)),
  _both('dense', lambda it: byte_size(it.bytes_dense)),
  _both('stored', lambda it: byte_size(it.bytes_stored)),
  _Column('as', lambda row: row.format, None, '<'),
  _both('ratio', lambda it: ratio(it.compression)),
)


# ---------------------------------------------------------------------------------- whole tables


def text(tally: Tally) -> str:
  """The table of at most ``WIDTH`` columns, then the exact totals and what was left dense."""
  header, *body, total = lines = [_header(), *_cells(tally)]
  widths = [max(len(line[i]) for line in lines) for i in range(len(_COLUMNS))]
  room = WIDTH - sum(widths[2:]) - len(_GAP) * (len(widths) - 1)
  widths[1] = min(widths[1], room - _NARROWEST)
  headings, labels = _labels([line[0] for line in body], room - widths[1])
  longest = max(len(name) for name in [header[0], total[0], *labels])
  widths[0] = min(longest, room - widths[1])
  rule = '-' * (sum(widths) + len(_GAP) * (len(widths) - 1))
  table = [_aligned(header, widths), rule]
  above = ''
  for heading, label, line in zip(headings, labels, body):
    if heading and heading != above:
      table.append(shorten(heading, WIDTH))
    above = heading
    table.append(_aligned([label, *line[1:]], widths))
  table += [rule, _aligned(total, widths), '']
  return '\n'.join([*table, *_exact_totals(tally), *_left_dense(tally)])


def html(tally: Tally) -> str:
  """A plain table with all paths in full."""
  *body, total = _cells(tally)
  style = ' style="text-align: left"'
  tag = lambda name, line: (
    '<tr>'
    + ''.join(
      f'<{name}{style if column.align == "<" else ""}>{_html.escape(cell)}</{name}>'
      for column, cell in zip(_COLUMNS, line)
    )
    + '</tr>'
  )
  lines = ['<table>', '<thead>', tag('th', _header()), '</thead>', '<tbody>']
  lines += [tag('td', line) for line in body]
  lines += ['</tbody>', '<tfoot>', tag('th', total), '</tfoot>', '</table>']
  lines += [f'<p>{_html.escape(line)}</p>' for line in _exact_totals(tally)]
  if tally.left_dense:
    lines += [f'<p>{_html.escape(_left_dense_title(tally))}</p>', '<ul>']
    for why, rows in tally.left_dense.items():
      names = ', '.join(printable(row.path) for row in rows)
      lines.append(f'<li>{_html.escape(f"{why} ({len(rows)}): {names}")}</li>')
    lines.append('</ul>')
  return '\n'.join(lines)


def summary(tally: Tally) -> str:
  """The totals in short."""
  return (
    f'{count(tally.nonzero)} of {count(tally.size)} weights nonzero, '
    f'{byte_size(tally.bytes_dense)} dense, {byte_size(tally.bytes_stored)} as stored'
  )


def _exact_totals(tally: Tally) -> list[str]:
  """The totals to the last weight and byte."""
  stored = f'{tally.bytes_stored:,} as stored; about {byte_size(tally.bytes_file)} as a file'
  return [
    f'Nonzero: {tally.nonzero:,} of {plural(tally.size, "weight")}.',
    f'Bytes: {tally.bytes_dense:,} dense, {stored}.',
  ]


def _header() -> list[str]:
  return [column.header for column in _COLUMNS]


def _cells(tally: Tally) -> list[list[str]]:
  leaves = [[column.leaf(row) for column in _COLUMNS] for row in tally.rows]
  total = [column.total(tally) if column.total else '' for column in _COLUMNS]
  return [*leaves, total]


def _labels(paths: list[str], width: int) -> tuple[list[str], list[str]]:
  """Headings and row labels: paths that don't fit share a line that names their first keys.

  As few keys go to the heading as make the most labels fit; a run of rows that fit in full needs
  no heading.
  """
  overlong = lambda depth: sum(len(label) > width for label in _split(paths, depth, width)[1])
  deepest = max(path.count('/') for path in paths)
  return _split(paths, min(range(deepest + 1), key=overlong), width)


def _split(paths: list[str], depth: int, width: int) -> tuple[list[str], list[str]]:
  keys = [path.split('/') for path in paths]
  heads = ['/'.join(each[: min(depth, len(each) - 1)]) for each in keys]
  headings, labels = [], []
  for head, run in itertools.groupby(zip(heads, paths), key=lambda pair: pair[0]):
    whole = [path for _, path in run]
    fits = not head or all(len(path) <= width for path in whole)
    headings += ['' if fits else f'{head}/'] * len(whole)
    labels += whole if fits else [f'  {path[len(head) + 1 :]}' for path in whole]
  return headings, labels


def _aligned(line: list[str], widths: list[int]) -> str:
  cells = [shorten(cell, width) for cell, width in zip(line, widths)]
  padded = [f'{cell:{column.align}{width}}' for cell, column, width in zip(cells, _COLUMNS, widths)]
  return _GAP.join(padded).rstrip()


def _left_dense(tally: Tally) -> list[str]:
  if not tally.left_dense:
    return []
  lines = [_left_dense_title(tally)]
  for why, rows in tally.left_dense.items():
    lines.append(_listing(f'  {why} ({len(rows)}): ', [printable(row.path) for row in rows]))
  return lines


def _left_dense_title(tally: Tally) -> str:
  rows = [row for group in tally.left_dense.values() for row in group]
  weights = plural(sum(row.size for row in rows), 'weight')
  return f'Left dense: {len(rows):,} of {plural(len(tally.rows), "leaf")}, {weights}.'


def _listing(start: str, names: list[str]) -> str:
  """As many names as a line holds, then how many more there are."""
  for shown in range(len(names), 0, -1):
    rest = f' and {len(names) - shown:,} more' if shown < len(names) else ''
    line = start + ', '.join(names[:shown]) + rest
    if len(line) <= WIDTH:
      return line
  rest = f' and {len(names) - 1:,} more' if len(names) > 1 else ''
  return start + shorten(names[0], WIDTH - len(start) - len(rest)) + rest


# ------------------------------------------------------------------------------------ single cells


def shorten(name: str, width: int) -> str:
  """A name cut in the middle, so that both its ends stay to be read.

  Examples:
    >>> shorten('encoder/block_11/mlp/kernel', 16)
    'encoder…p/kernel'
  """
  if len(name) <= width:
    return name
  head = (width - 1) // 2
  tail = width - 1 - head
  return f'{name[:head]}…{name[len(name) - tail :]}'


def count(number: int) -> str:
  """A count in at most seven characters, exact below a million.

  Examples:
    >>> count(999999), count(25557032), count(8030261248)
    ('999,999', '25.56 M', '8.030 G')
  """
  return f'{number:,}' if number < 10**6 else _scaled(number, 4, 'kMGTPE')


def byte_size(number: int) -> str:
  """Bytes in decimal units, three digits.

  Examples:
    >>> byte_size(999), byte_size(1234567), byte_size(999999)
    ('999 B', '1.23 MB', '1.00 MB')
  """
  return f'{number} B' if number < 1000 else _scaled(number, 3, 'kMGTPE') + 'B'


def percent(part: int, whole: int) -> str:
  """A share; 0.00% and 100.00% are said only of none and of all.

  Examples:
    >>> percent(9, 10), percent(1, 10**6), percent(10**6 - 1, 10**6)
    ('90.00%', '<0.01%', '>99.99%')
  """
  shown = f'{100 * part / whole:.2f}%' if whole else '0.00%'
  if shown == '0.00%' and part > 0:
    return '<0.01%'
  return '>99.99%' if shown == '100.00%' and part < whole else shown


def ratio(value: float) -> str:
  """A compression ratio, three digits.

  Examples:
    >>> ratio(1.0), ratio(10.24), ratio(1234.5)
    ('1.00x', '10.2x', '1,234x')
  """
  if math.isinf(value):
    return 'inf'
  return f'{value:,.{_decimals(value, 3)}f}x'


def short_type(row: LeafTally) -> str:
  """Dtype and shape as JAX abbreviates them, such as ``f32[3,3,64,64]``."""
  if row.shape is None:
    return row.dtype
  dtype = row.dtype
  for long, short in _SHORT.items():
    if dtype.startswith(long):
      dtype = short + dtype[len(long) :]
      break
  return f'{dtype}[{",".join(str(n) for n in row.shape)}]'


def _scaled(number: int, digits: int, units: str) -> str:
  """``number`` in thousands, millions, ... with so many significant digits."""
  value, unit = number / 1000, 0
  while unit + 1 < len(units) and float(f'{value:.{_decimals(value, digits)}f}') >= 1000:
    value, unit = value / 1000, unit + 1
  return f'{value:.{_decimals(value, digits)}f} {units[unit]}'


def _decimals(value: float, digits: int) -> int:
  """Decimals that show ``digits`` significant digits of a value of at least 1."""
  decimals = max(0, digits - len(str(int(value))))
  rounded = round(value, decimals)  # 9.996 shows as 10.0, not as 10.00
  return max(0, digits - len(str(int(rounded))))


def plural(number: int, noun: str) -> str:
  if number != 1:
    noun = 'leaves' if noun == 'leaf' else f'{noun}s'
  return f'{number:,} {noun}'


def _total_label(tally: Tally) -> str:
  return f'total, {plural(len(tally.rows), "leaf")}'


def printable(path: str) -> str:
  """A path that stays on its line, whatever the keys of a dict may hold."""
  return ''.join(c if c.isprintable() else '?' for c in path) or '(root)'
