"""The tables that lines are drawn from."""

import re
from typing import Any, NamedTuple

from tests.programs import _calls, _hard, _lanes, _layers, _moves, _values
from tests.programs._control import CONTROL


class Entry(NamedTuple):
  """A template or a function, and how often it is drawn."""

  entry: Any
  weight: float = 1.0


class Tables(NamedTuple):
  """What a program draws from, and its bodies."""

  main: dict[str, Entry]
  hard: dict[str, Entry]
  bodies: tuple[dict[str, Entry], ...]


def _templates(*texts):
  """One entry for each line."""
  out = {}
  for line in '\n'.join(texts).replace(' \\\n', ' ').split('\n'):
    count, template = re.fullmatch(r'(?:(\d+) \* )?(.*)', line).groups()
    if template and not template.startswith('# '):
      out[template] = Entry(template, float(count or 1))
  return out


def _functions(entries, times=1.0):
  return {name: Entry(fn, weight * times) for name, (fn, weight) in entries.items()}


assert _lanes  # its entries are control flow too
_PLAIN = _templates(
  '\n'.join(f'{name}($x)' for name in _values.UNARY.split()), _values.VALUES, _moves.MOVES
)
_HARD = _templates(_hard.HARD)
_CALLS = _functions(_calls.ALL)
TABLES = Tables(
  {**_PLAIN, **_CALLS, **_functions(CONTROL, 2.0), **_functions(_layers.ALL, 1.5)},
  _HARD,
  (
    {**_PLAIN, **_CALLS, **{k: Entry(e.entry, 0.15 * e.weight) for k, e in _HARD.items()}},
    _PLAIN,
    {**_PLAIN, **_functions(CONTROL, 8.0)},
  ),
)
