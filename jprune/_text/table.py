"""Tables and lists of names as lines of at most ``WIDTH`` columns."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Sequence

from jprune._text.words import shorten

WIDTH = 100
GAP = '  '
_NARROWEST = 16  # columns of the first column, however long the words of the second are


def table(
  header: Sequence[str],
  rows: Sequence[Sequence[str]],
  total: Sequence[str] | None = None,
  words: Collection[int] = (0,),
) -> list[str]:
  """Aligned lines: the header, a rule, the rows; another rule and the total if there is one.

  Args:
    header: one word for each column.
    rows: one cell for each column, or a heading alone.
    total: the last line.
    words: which columns hold words; the others hold numbers. Where all do, the last one is of
      sentences, which are never cut.

  Examples:
    >>> lines = table(['leaf', 'size'], [['block/'], ['  kernel', '12']], ['total', '12'])
    >>> for line in lines:
    ...   print(line)
    leaf      size
    --------------
    block/
      kernel    12
    --------------
    total       12
  """
  lines = [header, *rows, *([] if total is None else [total])]
  if len(words) == len(header):
    return _with_sentences(lines)
  widths = _widths(lines)
  rule = '-' * (sum(widths) + len(GAP) * (len(widths) - 1))
  first, *body = (_aligned(line, widths, words) for line in lines)
  if total is not None:
    body.insert(len(body) - 1, rule)
  return [first, rule, *body]


def room(lines: Sequence[Sequence[str]]) -> int:
  """How many columns there are for the first cells of rows like these."""
  _, *others = _widths(lines)
  return WIDTH - sum(others) - len(GAP) * len(others)


def _with_sentences(lines: Sequence[Sequence[str]]) -> list[str]:
  """A table whose last cells are sentences."""
  apart = [(line[:-1], line[-1]) if len(line) > 1 else (line, '') for line in lines]
  widths = _widths([cells for cells, _ in apart])
  before = sum(widths) + len(GAP) * (len(widths) - 1)
  aligned = lambda cells: f'{_aligned(cells, widths, range(len(widths))):{before}}'
  header, *body = (f'{aligned(cells)}{GAP}{sentence}'.rstrip() for cells, sentence in apart)
  return [header, '-' * min(max(map(len, [header, *body])), WIDTH), *body]


def _widths(lines: Sequence[Sequence[str]]) -> list[int]:
  """Of each column; the first one is cut where there is no room, before that the second."""
  whole = [line for line in lines if len(line) == len(lines[0])]
  widths = [max(len(line[i]) for line in whole) for i in range(len(lines[0]))]
  fixed = len(GAP) * (len(widths) - 1) + sum(widths[2:])
  if len(widths) > 1:
    widths[1] = min(widths[1], max(WIDTH - fixed - min(_NARROWEST, widths[0]), 0))
  widths[0] = min(widths[0], WIDTH - fixed - sum(widths[1:2]))
  return widths


def _aligned(line: Sequence[str], widths: Sequence[int], words: Collection[int]) -> str:
  if len(line) < len(widths):
    return shorten(line[0], WIDTH)
  cells = [shorten(cell, width) for cell, width in zip(line, widths, strict=True)]
  padded = [
    f'{cell:<{width}}' if i in words else f'{cell:>{width}}'
    for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
  ]
  return GAP.join(padded).rstrip()


def wrapped(sentence: str) -> list[str]:
  """Lines that fit most terminals."""
  return textwrap.wrap(sentence, 80, break_long_words=False, break_on_hyphens=False)


def spread(count: int, shown: int) -> list[int]:
  """So many places out of ``count``, evenly, both ends among them."""
  if shown < 2:
    return list(range(count))[:shown]
  return [round(i * (count - 1) / (shown - 1)) for i in range(shown)]


def listed(names: Sequence[str], start: str, indent: str, lines: int) -> list[str]:
  """Names one after the other, over at most so many lines; then how many more there are."""
  most = min(len(names), lines * WIDTH // 3)  # a name and its comma take three columns or more
  out: list[str] = []
  for shown in range(most, 0, -1):
    rest = f' and {len(names) - shown:,} more' if shown < len(names) else ''
    out = _listed(names[:shown], start, indent, rest)
    if len(out) <= lines:
      break
  return out


def _listed(names: Sequence[str], start: str, indent: str, rest: str) -> list[str]:
  out, line = [], start
  for i, name in enumerate(names):
    tail = ',' if i + 1 < len(names) else rest
    name = shorten(name, WIDTH - len(indent) - len(tail)) + tail
    gap = ' ' if line.rstrip() == line else ''
    if line.strip() and len(line + gap + name) > WIDTH:
      out.append(line.rstrip())
      line, gap = indent, ''
    line += gap + name
  return [*out, line]
