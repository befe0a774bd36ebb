"""A count of multiply-adds as text, HTML and plain data."""

from __future__ import annotations

import html as _html
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from jprune.graph._macs.count import MacCount
  from jprune.graph._macs.products import Macs

_WIDTH = 100
_GAP = '  '


def text(count: MacCount) -> str:
  """A table of at most 100 columns: a row for each leaf, one for each line of other products."""
  header, *body, total = lines = _cells(count)
  widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
  widths[0] = min(widths[0], _WIDTH - sum(widths[1:]) - len(_GAP) * (len(widths) - 1))
  rule = '-' * (sum(widths) + len(_GAP) * (len(widths) - 1))
  table = [_aligned(header, widths), rule, *(_aligned(line, widths) for line in body), rule]
  below = notes(count)
  return '\n'.join([*table, _aligned(total, widths), *([''] if below else []), *below])


def html(count: MacCount) -> str:
  """A plain table with all paths in full."""
  header, *body, total = _cells(count)
  left = ' style="text-align: left"'
  cell = lambda tag, i, text: f'<{tag}{"" if i else left}>{_html.escape(text)}</{tag}>'
  row = lambda tag, line: f'<tr>{"".join(cell(tag, i, text) for i, text in enumerate(line))}</tr>'
  lines = ['<table>', '<thead>', row('th', header), '</thead>', '<tbody>']
  lines += [row('td', line) for line in body]
  lines += ['</tbody>', '<tfoot>', row('th', total), '</tfoot>', '</table>']
  return '\n'.join([*lines, *(f'<p>{_html.escape(note.strip())}</p>' for note in notes(count))])


def summary(count: MacCount) -> str:
  """The totals in short."""
  if not count.masked:
    return f'{count.dense:,} multiply-adds'
  return f'{count.dense:,} multiply-adds, {count.sparse:,} sparse, {count.shrunk:,} shrunk'


def notes(count: MacCount) -> list[str]:
  """What a reader has to know besides, a line each."""
  out = []
  if count.partly:
    units, groups = sum(count.partly.values()), len(count.partly)
    which = f'{_plural(units, "unit")} of {_plural(groups, "group")}'
    out.append(f'Not shrunk: {which}, pruned in some of their members only.')
  if count.uncounted:
    out.append('Not all is counted:')
    out += [f'  {each}'[:_WIDTH] for each in count.uncounted]
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
    'uncounted': list(count.uncounted),
    'partly': dict(count.partly),
  }


def _cells(count: MacCount) -> list[list[str]]:
  """Header, rows and total; leaves that no product uses have no row."""
  names = ('dense', 'sparse', 'shrunk') if count.masked else ('MACs',)
  share = lambda macs: f'{100 * macs.dense / count.dense:.2f}%' if count.dense else '0.00%'
  line = lambda label, macs: [label, *(f'{n:,}' for n in macs[: len(names)]), share(macs)]
  used = {path: macs for path, macs in count.leaves.items() if macs.dense}
  rows = [line(printable(path), macs) for path, macs in used.items()]
  rows += [line(label, macs) for label, macs in _others(count).items()]
  total = f'total, {_plural(len(count.equations), "product")}'
  sums = (count.dense, count.sparse, count.shrunk)[: len(names)]
  return [['leaf', *names, 'share'], *rows, [total, *(f'{n:,}' for n in sums), '']]


def _others(count: MacCount) -> dict[str, Macs]:
  """Products of no single leaf, those of one source line together."""
  out: dict[str, Macs] = {}
  for row in count.equations:
    if row.leaf is None:
      label = f'({row.primitive}, {row.line})' if row.line else f'({row.primitive})'
      before = out.get(label)
      out[label] = type(row.macs)(*map(sum, zip(before, row.macs))) if before else row.macs
  return out


def _aligned(line: list[str], widths: list[int]) -> str:
  label, *numbers = line
  cells = [f'{_shorten(label, widths[0]):<{widths[0]}}']
  cells += [f'{number:>{width}}' for number, width in zip(numbers, widths[1:])]
  return _GAP.join(cells).rstrip()


def _shorten(name: str, width: int) -> str:
  if len(name) <= width:
    return name
  head = (width - 1) // 2
  return f'{name[:head]}…{name[len(name) - (width - 1 - head) :]}'


def printable(path: str) -> str:
  """A path that stays on its line, whatever the keys of a dict may hold."""
  return ''.join(c if c.isprintable() else '?' for c in path) or '(root)'


def _plural(number: int, noun: str) -> str:
  return f'{number:,} {noun}' if number == 1 else f'{number:,} {noun}s'
