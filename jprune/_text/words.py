"""Names, counts, bytes, shares and shapes in few characters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

_SHORT = {'bfloat': 'bf', 'float': 'f', 'uint': 'u', 'int': 'i', 'complex': 'c'}


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


def percent(part: float, whole: float) -> str:
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


def short_type(dtype: str, shape: Sequence[int] | None) -> str:
  """Dtype and shape as JAX abbreviates them, such as ``f32[3,3,64,64]``; no shape if none is known.

  Examples:
    >>> short_type('bfloat16', (3, 4)), short_type('dict', None)
    ('bf16[3,4]', 'dict')
  """
  if shape is None:
    return dtype
  for long, short in _SHORT.items():
    if dtype.startswith(long):
      dtype = short + dtype[len(long) :]
      break
  return f'{dtype}[{",".join(map(str, shape))}]'


def number(value: float | None) -> str:
  """A metric, an error, a threshold: four digits, in full between 0.0001 and a million.

  Examples:
    >>> number(0.8125), number(12345.6), number(1.2e-07), number(None)
    ('0.8125', '12,346', '1.2e-07', '')
  """
  if value is None:
    return ''
  return f'{value:,.0f}' if 1e4 <= abs(value) < 999_999.5 else f'{value:.4g}'


def uncertainty(value: float) -> str:
  """A standard error, two digits: more say nothing."""
  return f'{value:.2g}'


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
  """A count and what is counted.

  Examples:
    >>> plural(1, 'leaf'), plural(1200, 'axis')
    ('1 leaf', '1,200 axes')
  """
  if number != 1:
    noun = {'leaf': 'leaves', 'axis': 'axes'}.get(noun, f'{noun}s')
  return f'{number:,} {noun}'


def as_regex(glob: str) -> str:
  """What a regular expression searches for where this was meant for names of files; or ''.

  Examples:
    >>> as_regex('*/Dense_*/kernel'), as_regex('(')
    ('Dense_.*/kernel', '')
  """
  return glob.strip('*/').replace('*', '.*') if glob.startswith('*') else ''


def printable(name: str) -> str:
  """A name that stays on its line, whatever the keys of a dict may hold; two stay two.

  Examples:
    >>> printable('kernel'), printable('a' + chr(10) + 'b'), printable('')
    ('kernel', 'a␊b', '(root)')
  """
  return ''.join(c if c.isprintable() else _picture(ord(c)) for c in name) or '(root)'


def _picture(code: int) -> str:
  return chr(0x2400 + code) if code < 0x20 else f'⟨{code:x}⟩'


def by_reason(skipped: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
  """What a report skipped, those of one reason together, printable.

  Examples:
    >>> by_reason([('a', 'frozen'), ('b', 'unused'), ('c', 'frozen')])
    {'frozen': ['a', 'c'], 'unused': ['b']}
  """
  found: dict[str, list[str]] = {}
  for name, why in skipped:
    found.setdefault(why, []).append(printable(name))
  return found
