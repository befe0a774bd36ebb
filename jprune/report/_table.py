"""A tally as text and as HTML: one list of columns serves leaves, totals and both forms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from jprune._text import html as page
from jprune._text.table import paths_listed, table
from jprune._text.words import (
  by_reason,
  byte_size,
  count,
  percent,
  plural,
  printable,
  ratio,
  short_type,
)
from jprune.graph import MacCount, Macs
from jprune.graph._macs.table import beside, exact, notes

if TYPE_CHECKING:
  from jprune.report._tally import Tally

_EMPTIED = 'Emptied, nothing but zeros: '
_LINES = 2  # for the leaves that are skipped for one reason


class _Column(NamedTuple):
  """One column: what it shows of a leaf, and of the whole (``None``: nothing)."""

  header: str
  leaf: Callable[[Any], str]
  total: Callable[[Any], str] | None
  holds_words: bool = True


def _both(header: str, cell: Callable[[Any], str]) -> _Column:
  return _Column(header, cell, cell, holds_words=False)


_LEAF = _Column('leaf', lambda row: printable(row.path), lambda all_: _total_label(all_))
_COLUMNS = (
  _LEAF,
  _Column('shape', lambda row: short_type(row.dtype, row.shape), None),
  _both('size', lambda it: count(it.size)),
  _both('nonzero', lambda it: count(it.nonzero)),
  _both('sparsity', lambda it: percent(it.size - it.nonzero, it.size)),
  _both('dense', lambda it: byte_size(it.bytes_dense)),
  _both('stored', lambda it: byte_size(it.bytes_stored)),
  _Column('as', lambda row: row.format, None),
  _both('ratio', lambda it: ratio(it.compression)),
)
_ROLE = _Column('role', lambda row: row.role or '', None)
_SMALL = _Column('as shrunk', lambda row: _small_type(row), None)
_MACS = _both('MACs', lambda it: count(it.macs.dense))
_FEWER_MACS = (
  _both('sparse', lambda it: count(it.macs.sparse)),
  _both('shrunk', lambda it: count(it.macs.shrunk)),
)


class _Others(NamedTuple):
  """A row for the products that multiply by no single leaf."""

  macs: Macs
  path: str = '(other products)'
  shape_shrunk: None = None


# ---------------------------------------------------------------------------------- whole tables


def text(tally: Tally) -> str:
  """The tables as wide as the terminal, then the exact totals and what was skipped."""
  lines = [*_block(_columns(tally), tally.rows, tally), '']
  if tally.macs is not None:
    rows = [row for row in _with_others(tally, tally.macs) if row.macs.dense]
    lines += [*_block(_mac_columns(tally.macs), rows, tally), '']
  lines += [line for sentence in _exact_totals(tally) for line in beside(sentence)]
  return '\n'.join([*lines, *_emptied(tally), *_skipped(tally)])


def _block(columns: Sequence[_Column], rows: Sequence[Any], tally: Tally) -> list[str]:
  return table(*_cells(columns, rows, tally), _words(columns))


def html(tally: Tally) -> str:
  """A plain table with all paths in full."""
  columns, rows = _columns(tally), tally.rows
  if tally.macs is not None:
    columns = (*columns, *_mac_columns(tally.macs)[1:])
    rows = _with_others(tally, tally.macs)
  lines = [page.table(*_cells(columns, rows, tally), _words(columns))]
  lines += map(page.paragraph, _exact_totals(tally))
  if tally.emptied:
    lines.append(page.paragraph(_EMPTIED + ', '.join(_names(tally.emptied))))
  if tally.skipped:
    lines.append(page.paragraph(_skipped_title(tally)))
  for why, names in by_reason(tally.skipped).items():
    lines.append(page.details(f'{why} ({len(names):,})', names))
  return '\n'.join(lines)


def summary(tally: Tally) -> str:
  """The totals in short."""
  return (
    f'{count(tally.nonzero)} of {count(tally.size)} weights nonzero, '
    f'{byte_size(tally.bytes_dense)} dense, {byte_size(tally.bytes_stored)} as stored'
  )


def _exact_totals(tally: Tally) -> list[str]:
  """The totals to the last weight, byte and multiply-add."""
  stored = f'{tally.bytes_stored:,} as stored; about {byte_size(tally.bytes_file)} as a file'
  lines = [
    f'Nonzero: {tally.nonzero:,} of {plural(tally.size, "weight")}.',
    f'Bytes: {tally.bytes_dense:,} dense, {stored}.',
  ]
  macs = tally.macs
  if macs is None:
    return lines
  if not macs.masked:
    return [*lines, exact(macs), *notes(macs)]
  small = plural(tally.size_shrunk or 0, 'weight')
  shrunk = f'As shrunk: {small}, {tally.bytes_shrunk:,} bytes.'
  return [*lines, exact(macs), shrunk, *notes(macs)]


def _words(columns: Sequence[_Column]) -> list[int]:
  return [i for i, column in enumerate(columns) if column.holds_words]


def _columns(tally: Tally) -> tuple[_Column, ...]:
  has_roles = any(row.role for row in tally.rows)
  return (*_COLUMNS[:2], _ROLE, *_COLUMNS[2:]) if has_roles else _COLUMNS


def _mac_columns(macs: MacCount) -> tuple[_Column, ...]:
  leaf = _LEAF._replace(total=lambda _: 'total')
  return (leaf, _SMALL, _MACS, *_FEWER_MACS) if macs.masked else (leaf, _MACS)


def _with_others(tally: Tally, macs: MacCount) -> list[Any]:
  others = macs.others
  return [*tally.rows, _Others(others)] if others.dense else list(tally.rows)


def _cells(
  columns: Sequence[_Column], rows: Sequence[Any], tally: Tally
) -> tuple[list[str], list[list[str]], list[str]]:
  """Header, rows and total."""
  cell = lambda column, row: (
    '' if isinstance(row, _Others) and column in (_ROLE, *_COLUMNS[1:]) else column.leaf(row)
  )
  body = [[cell(column, row) for column in columns] for row in rows]
  total = [column.total(tally) if column.total else '' for column in columns]
  return [column.header for column in columns], body, total


def _small_type(row: Any) -> str:
  if row.shape_shrunk is None:
    return ''
  return short_type(row.dtype, row.shape_shrunk)


def _emptied(tally: Tally) -> list[str]:
  if not tally.emptied:
    return []
  return paths_listed((row.path for row in tally.emptied), _EMPTIED, '    ', _LINES)


def _skipped(tally: Tally) -> list[str]:
  if not tally.skipped:
    return []
  lines = beside(_skipped_title(tally))
  for why, names in by_reason(tally.skipped).items():
    lines += paths_listed(names, f'  {why} ({len(names):,}): ', '    ', _LINES)
  return lines


def _skipped_title(tally: Tally) -> str:
  rows = [row for row in tally.rows if row.skipped is not None]
  weights = plural(sum(row.size for row in rows), 'weight')
  return f'Skipped: {len(rows):,} of {plural(len(tally.rows), "leaf")}, {weights}.'


def _names(rows: Sequence[Any]) -> list[str]:
  return [printable(row.path) for row in rows]


def _total_label(tally: Tally) -> str:
  return f'total, {plural(len(tally.rows), "leaf")}'
