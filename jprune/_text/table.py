"""Tables, sentences and lists of names as lines that fit the terminal."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Collection, Iterable, Sequence

from jprune._text.fold_paths import Place, fold
from jprune._text.names import headed, shortened
from jprune._text.words import printable

GAP = '  '
_WIDTH, _NARROWEST = 100, 40  # columns where there is no terminal, and at least
_NAME = 16  # columns of the first column, however long the words of the second are
_BESIDE = 24  # columns of a sentence that stands beside other cells
_SENTENCE = 80  # columns of a sentence on its own, however wide the terminal is


def width() -> int:
  """Columns of the terminal that is printed to, as ``COLUMNS`` or itself has them; else 100.

  What goes to a file, a pipe, a notebook or a test doesn't depend on the terminal beside it.
  """
  columns = os.environ.get('COLUMNS', '')
  if columns.isdecimal() and int(columns):
    return max(int(columns), _NARROWEST)
  try:
    found = os.get_terminal_size(sys.stdout.fileno()).columns
  except (AttributeError, OSError, ValueError):  # none, closed, or no terminal
    found = 0
  return max(found or _WIDTH, _NARROWEST)


def table(
  header: Sequence[str],
  rows: Sequence[Sequence[str]],
  total: Sequence[str] | None = None,
  words: Collection[int] = (0,),
  under: Sequence[Sequence[str]] | None = None,
) -> list[str]:
  """Aligned lines: the header, a rule, the rows; another rule and the total if there is one.

  First cells that don't fit share a heading that names their first keys; where that isn't enough
  they are cut, different ones to different texts. Where the other columns don't fit beside them the
  table goes on below, with the first column again.

  Args:
    header: one word for each column.
    rows: one cell for each column.
    total: the last line.
    words: which columns hold words; the others hold numbers, which are never cut. Where all hold
      words, the last one is of sentences, which go on on the next line.
    under: lines below each row, as they are; such a table has no headings.

  Examples:
    >>> lines = table(['leaf', 'size'], [['kernel', '12'], ['bias', '4']], ['total', '16'])
    >>> for line in lines:
    ...   print(line)
    leaf    size
    ------------
    kernel    12
    bias       4
    ------------
    total     16
  """
  lines = [header, *rows, *([] if total is None else [total])]
  if len(words) == len(header):
    return _with_sentences(lines)
  widths = _widths(lines, words)
  blocks = _blocks(widths)
  first = min(widths[0], *(max(_beside(widths, block), _NAME) for block in blocks))
  headings, labels = _labels([row[0] for row in rows], first, under is not None)
  names = [header[0], *labels, *(() if total is None else total[:1])]
  first = min(first, max(map(len, names)))
  out: list[str] = []
  for block in blocks:
    places = [0, *block]
    cells = [[name, *(line[i] for i in block)] for name, line in zip(names, lines, strict=True)]
    held = [place for place, i in enumerate(places) if i in words]
    top, *body = _aligned(cells, [first, *(widths[i] for i in block)], held)
    rule = '-' * (first + sum(widths[i] + len(GAP) for i in block))
    last = [] if total is None else [rule, body.pop()]
    body = _joined(headings, body, under if block is blocks[-1] else None)
    out += [*([''] if out else []), top, rule, *body, *last]
  return out


def _labels(names: Sequence[str], most: int, whole: bool) -> tuple[Sequence[str], Sequence[str]]:
  return ([''] * len(names), names) if whole else headed(names, most)


def _joined(
  headings: Sequence[str], body: Sequence[str], under: Sequence[Sequence[str]] | None
) -> list[str]:
  """Each heading once, above the rows that it is for."""
  shown = shortened(headings, width())
  out, above = [], ''
  for place, (heading, line) in enumerate(zip(headings, body, strict=True)):
    if heading and heading != above:
      out.append(shown[heading])
    above = heading
    out += [line, *(under[place] if under else ())]
  return out


def _widths(lines: Sequence[Sequence[str]], words: Collection[int]) -> list[int]:
  """Of each column; words but the first are cut where they wouldn't fit beside the first alone."""
  widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
  most = width() - _NAME - len(GAP)
  return [min(wide, most) if i in words and i else wide for i, wide in enumerate(widths)]


def _beside(widths: Sequence[int], block: Sequence[int]) -> int:
  """How many columns there are for the first cells beside those of a block."""
  return width() - sum(widths[i] + len(GAP) for i in block)


def _blocks(widths: Sequence[int]) -> list[list[int]]:
  """The columns but the first in as few runs as fit, none much wider than the others."""
  widest = max(widths[1:], default=0) + len(GAP)
  most = max(width() - min(_NAME, widths[0]), widest)
  fewest = _runs(widths, most)
  for less in range(most - 1, widest - 1, -1):
    narrower = _runs(widths, less)
    if len(narrower) > len(fewest):
      break
    fewest = narrower
  return fewest


def _runs(widths: Sequence[int], most: int) -> list[list[int]]:
  runs: list[list[int]] = [[]]
  taken = 0
  for i in range(1, len(widths)):
    taken += widths[i] + len(GAP)
    if taken > most and runs[-1]:
      runs.append([])
      taken = widths[i] + len(GAP)
    runs[-1].append(i)
  return runs


def _with_sentences(lines: Sequence[Sequence[str]]) -> list[str]:
  """A table whose last cells are sentences: beside the others, or below where they are wide.

  A line of one cell is a heading.
  """
  rows = [line for line in lines if len(line) > 1]
  widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
  before = sum(widths) + len(GAP) * len(widths)
  start = before if width() - before >= _BESIDE else 2 * len(GAP)
  headings = shortened([line[0] for line in lines if len(line) == 1], width())
  out: list[str] = []
  header = 0
  for line in lines:
    if len(line) == 1:
      out.append(headings[line[0]])
      continue
    (cells,) = _aligned([line[:-1]], widths, range(len(widths)))
    if start == before:
      out += wrapped(line[-1], f'{cells:{before}}', ' ' * start, width())
    else:
      out += [*wrapped(cells, '', GAP, width()), *wrapped(line[-1], ' ' * start, ' ' * start)]
    header = header or len(out)
  return [*out[:header], '-' * max(map(len, out)), *out[header:]]


def _aligned(
  lines: Sequence[Sequence[str]], widths: Sequence[int], words: Collection[int]
) -> list[str]:
  """Lines of cells that are cut to the widths and padded."""
  columns = []
  for i, (cells, wide) in enumerate(zip(zip(*lines, strict=True), widths, strict=True)):
    cut = shortened(cells, wide)
    columns.append([f'{cut[x]:<{wide}}' if i in words else f'{cut[x]:>{wide}}' for x in cells])
  return [GAP.join(cells).rstrip() for cells in zip(*columns, strict=True)]


def wrapped(sentence: str, start: str = '', indent: str = '', most: int | None = None) -> list[str]:
  """Lines that fit the terminal; no word, number or path is cut."""
  most = min(_SENTENCE, width()) if most is None else most
  wrapper = textwrap.TextWrapper(most, start, indent)
  wrapper.break_long_words = wrapper.break_on_hyphens = False
  return [line.rstrip() for line in wrapper.wrap(sentence)] or [start.rstrip()]


def spread(count: int, shown: int) -> list[int]:
  """So many places out of ``count``, evenly, both ends among them."""
  if shown < 2:
    return list(range(count))[:shown]
  return [round(i * (count - 1) / (shown - 1)) for i in range(shown)]


def paths_listed(paths: Iterable[str], start: str, indent: str, lines: int) -> list[str]:
  """Paths, in full where they fit on a line, else like ones as one."""
  names = [printable(path) for path in paths]
  whole = start + ', '.join(names)
  if len(whole) <= width():
    return [whole]
  return listed(fold(map(Place, names)), start, indent, lines)


def listed(names: Iterable[str], start: str, indent: str, lines: int) -> list[str]:
  """Names one after the other, over at most so many lines; then how many more there are.

  What they start with is wrapped where it is long, and doesn't count.
  """
  names = list(names)
  *above, start = wrapped(start, '', indent, width()) if len(start) > width() // 2 else [start]
  if above and not start.endswith(' '):
    start += ' '
  most = min(len(names), lines * width() // 3)  # a name and its comma take three columns or more
  whole = shortened(names, width() - len(indent) - len(f' and {len(names):,} more'))
  out: list[str] = []
  for shown in range(most, 0, -1):
    rest = f' and {len(names) - shown:,} more' if shown < len(names) else ''
    out = _listed([whole[name] for name in names[:shown]], start, indent, rest)
    if len(out) <= lines:
      break
  return [*above, *out]


def _listed(names: Sequence[str], start: str, indent: str, rest: str) -> list[str]:
  out, line, most = [], start, width()
  for i, name in enumerate(names):
    name += ',' if i + 1 < len(names) else rest
    gap = ' ' if line.rstrip() == line else ''
    if line.strip() and len(line + gap + name) > most:
      out.append(line.rstrip())
      line, gap = indent, ''
    line += gap + name
  return [*out, line]
