"""Like names as one: ``block_{0..11}/{bias,scale}``.

Folding is exact: a folded name stands for all combinations of what its braces hold, and for no
other. Numbers fold first, then keys of paths.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

from jprune._text.words import printable

_MOST_KEYS = 6  # that one pair of braces holds
_MOST_PARTS = 99  # numbers or keys of a name, and what lies between; one of more folds with none
_NUMBER = re.compile('([0-9]{1,18})')  # Python refuses to read numbers of thousands of digits
_BRACE = re.compile('([{}])')
_SEPARATOR = re.compile('([/.])')

# For each place in a name the alternatives that may stand there.
_Row: TypeAlias = tuple[tuple[str, ...], ...]
# What the rows stand for, as indices.
_Rows: TypeAlias = dict[_Row, list[int]]


class Place(NamedTuple):
  """A leaf or one of its axes, and where along it something lies (nothing: everywhere)."""

  path: str
  axis: int | None = None
  where: str = ''


def fold(places: Iterable[Place]) -> list[str]:
  """The places as few names.

  Examples:
    >>> fold([Place(f'b_{i}/norm/{k}', 0) for i in range(3) for k in ('bias', 'scale')])
    ['b_{0..2}/norm/{bias,scale}[0]']
    >>> fold([Place('conv/kernel', 0), Place('conv/kernel', 1), Place('out/kernel', 1, '2:4')])
    ['conv/kernel[0,1]', 'out/kernel[1] 2:4']
    >>> fold(Place(f'layers.{i}.{k}.weight') for i in range(32) for k in ('q', 'k'))
    ['layers.{0..31}.{q,k}.weight']
  """
  rows: _Rows = {}
  for index, (path, axis, where) in enumerate(places):
    number = '' if axis is None else str(axis)
    rows.setdefault(((where,), (number,), *_parts(path)), []).append(index)
  keyed: _Rows = {}
  for (where, axes, *parts), found in _numbers_merged(rows).items():
    keys = [(key,) for key in _keys(parts)]
    keyed.setdefault((where, axes, *reversed(keys)), []).extend(found)
  names = []
  for (where,), axes, *keys in _keys_merged(keyed):
    path = ''.join(key[0] if len(key) == 1 else f'{{{_commas(key)}}}' for key in reversed(keys))
    brackets = '' if axes == ('',) else f'[{_listed(axes)}]'
    names.append(f'{path}{brackets}{where and " "}{where}')
  return names


def fold_names(names: Sequence[str]) -> list[tuple[str, list[int]]]:
  """Names that differ in numbers only as one, with the indices of those that it stands for.

  Examples:
    >>> fold_names(['layer_0/in', 'layer_1/in', 'out', 'layer_2/in'])
    [('layer_{0..2}/in', [0, 1, 3]), ('out', [2])]
  """
  rows: _Rows = {}
  for index, name in enumerate(names):
    rows.setdefault(tuple(_parts(name)), []).append(index)
  return [(_joined(row), sorted(found)) for row, found in _numbers_merged(rows).items()]


def template(name: str) -> str:
  """A name without its numbers."""
  return _NUMBER.sub('#', name)


def natural(name: str) -> list[str | int]:
  """What to sort names by, so that ``block_2`` stands before ``block_10``."""
  return [int(part) if i % 2 else part for i, part in enumerate(_NUMBER.split(name))]


def _parts(name: str) -> list[tuple[str]]:
  """Text and numbers in turn; a name's own braces are none of ours."""
  text = _BRACE.sub(r'\\\1', printable(name))
  parts = _NUMBER.split(text)
  return [(part,) for part in (parts if len(parts) <= _MOST_PARTS else [text])]


def _keys(parts: Sequence[tuple[str, ...]]) -> list[str]:
  """Keys and separators in turn, numbers within them."""
  out = ['']
  for place, part in enumerate(parts):
    first, *others = [_cell(part)] if place % 2 else _SEPARATOR.split(part[0])
    out[-1] += first
    out += others
  return out if len(out) <= _MOST_PARTS else [''.join(out)]


def _numbers_merged(rows: _Rows) -> _Rows:
  """Numbers stand at the odd places of a row; the last fold first."""
  longest = max(map(len, rows), default=0)
  for place in reversed(range(1, longest, 2)):
    rows = _merged(rows, [row for row in rows if len(row) > place], place)
  return rows


def _keys_merged(rows: _Rows) -> _Rows:
  """Keys stand at each second place from 2 on, the last first; those with folded numbers stay."""
  for place in range(2, max(map(len, rows), default=0), 2):
    able = [row for row in rows if len(row) > place and not any('{' in key for key in row[place])]
    rows = _merged(rows, able, place, _MOST_KEYS)
  return rows


def _merged(rows: _Rows, able: list[_Row], place: int, most: int | None = None) -> _Rows:
  """Rows that are the same but at one place, as one with (at most so many) alternatives there."""
  alike: dict[tuple[_Row, _Row], list[_Row]] = {}
  for row in able:
    alike.setdefault((row[:place], row[place + 1 :]), []).append(row)
  first: dict[_Row, _Row] = {}
  merged: dict[_Row, _Row] = {}  # each made and hashed once: it may be as long as there are names
  for each in alike.values():
    step = most or len(each)
    for part in (each[i : i + step] for i in range(0, len(each), step)):
      if len(part) > 1:
        first |= dict.fromkeys(part, part[0])
        options = tuple(row[place][0] for row in part)
        merged[part[0]] = (*part[0][:place], options, *part[0][place + 1 :])
  if not merged:
    return rows
  out: _Rows = {}
  for row, found in rows.items():
    out.setdefault(first.get(row, row), []).extend(found)
  return {merged.get(row, row): found for row, found in out.items()}


def _joined(row: Sequence[tuple[str, ...]]) -> str:
  return ''.join(map(_cell, row))


def _cell(part: tuple[str, ...]) -> str:
  return part[0] if len(part) == 1 else f'{{{_listed(part)}}}'


def _commas(keys: Sequence[str]) -> str:
  return ','.join(key.replace(',', r'\,') for key in keys)


def _listed(numbers: Sequence[str]) -> str:
  """Numbers in order, three and more that follow each other as ``0..2``."""
  runs: list[list[str]] = []
  for number in sorted(numbers, key=lambda number: (int(number), number)):
    if runs and _follows(number, runs[-1]):
      runs[-1].append(number)
    else:
      runs.append([number])
  return ','.join(f'{run[0]}..{run[-1]}' if len(run) > 2 else ','.join(run) for run in runs)


def _follows(number: str, run: Sequence[str]) -> bool:
  """Whether a number is the next of a run, and written like it: 08..10, or 8..10."""
  padded = run[0] != str(int(run[0]))
  alike = len(number) == len(run[0]) if padded else number == str(int(number))
  return alike and int(number) == int(run[-1]) + 1
