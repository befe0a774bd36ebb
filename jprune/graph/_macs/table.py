"""A count of multiply-adds as text, HTML and plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jprune._text import html as page
from jprune._text.table import table, width, wrapped
from jprune._text.words import count as short
from jprune._text.words import percent, plural, printable

if TYPE_CHECKING:
  from jprune.graph._macs.count import MacCount
  from jprune.graph._macs.products import Macs


def text(count: MacCount) -> str:
  """A table: a row for each leaf, one for each line of other products."""
  below = [line for note in _below(count) for line in beside(note)]
  return '\n'.join([*table(*_cells(count)), *([''] if below else []), *below])


def html(count: MacCount) -> str:
  """A plain table with all paths in full."""
  return '\n'.join([page.table(*_cells(count)), *map(page.paragraph, _below(count))])


def summary(count: MacCount) -> str:
  """The totals in short."""
  if not count.masked:
    return f'{count.dense:,} multiply-adds'
  return f'{count.dense:,} multiply-adds, {count.sparse:,} sparse, {count.shrunk:,} shrunk'


def _below(count: MacCount) -> list[str]:
  """The totals, where the table has them in short; the notes."""
  return [*([exact(count)] if short(count.dense) != f'{count.dense:,}' else []), *notes(count)]


def exact(count: MacCount) -> str:
  """The totals to the last multiply-add."""
  if not count.masked:
    return f'Multiply-adds: {count.dense:,}.'
  return (
    f'Multiply-adds: {count.dense:,} dense, {count.sparse:,} sparse, {count.shrunk:,} as shrunk.'
  )


def beside(note: str) -> list[str]:
  """A note as lines; those of an entry of a list go on further right."""
  return wrapped(note, indent='    ' if note.startswith(' ') else '', most=width())


def notes(count: MacCount) -> list[str]:
  """What a reader has to know besides, a line each."""
  out = []
  if count.partly:
    units, groups = sum(count.partly.values()), len(count.partly)
    which = f'{plural(units, "unit")} of {plural(groups, "group")}'
    out.append(f'Not shrunk: {which}, pruned in some of their members only.')
  if count.skipped:
    out.append('Skipped:')
    out += [f'  {name}: {why}' for name, why in count.skipped]
  return out


def as_dict(count: MacCount) -> dict[str, Any]:
  """All as plain Python values."""
  rows = [
    {'primitive': r.primitive, 'line': r.line, 'leaf': r.leaf, 'times': r.times} | r.macs._asdict()
    for r in count.equations
  ]
  return {
    'total': {'dense': count.dense, 'sparse': count.sparse, 'shrunk': count.shrunk},
    'others': count.others._asdict(),
    'leaves': {path: macs._asdict() for path, macs in count.leaves.items()},
    'equations': rows,
    'skipped': dict(count.skipped),
    'partly': dict(count.partly),
  }


def _cells(count: MacCount) -> tuple[list[str], list[list[str]], list[str]]:
  """Header, rows and total; leaves that no product uses have no row."""
  names = ('dense', 'sparse', 'shrunk') if count.masked else ('MACs',)
  share = lambda macs: percent(macs.dense, count.dense)
  line = lambda label, macs: [label, *map(short, macs[: len(names)]), share(macs)]
  used = {path: macs for path, macs in count.leaves.items() if macs.dense}
  rows = [line(printable(path), macs) for path, macs in used.items()]
  rows += [line(label, macs) for label, macs in _others(count).items()]
  total = f'total, {plural(len(count.equations), "product")}'
  sums = (count.dense, count.sparse, count.shrunk)[: len(names)]
  return ['leaf', *names, 'share'], rows, [total, *map(short, sums), '']


def _others(count: MacCount) -> dict[str, Macs]:
  """Products of no single leaf, those of one source line together."""
  out: dict[str, Macs] = {}
  for row in count.equations:
    if row.leaf is None:
      label = f'({row.primitive}, {row.line})' if row.line else f'({row.primitive})'
      before = out.get(label)
      out[label] = type(row.macs)(*map(sum, zip(before, row.macs))) if before else row.macs
  return out
