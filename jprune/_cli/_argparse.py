"""A parser that colours its headings and says what a misspelt word may have meant."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from jprune._cli import _style

_EXCEPT = ('except', 'exclude', 'ignore', 'skip')  # what one may try for all but some leaves
# newer Pythons colour and suggest by themselves, each in its own way
_OURS: dict[str, Any] = {} if sys.version_info < (3, 14) else {'color': False}


class Parser(argparse.ArgumentParser):
  """An ``ArgumentParser`` with descriptions as they were written and no abbreviations."""

  def __init__(self, *args: Any, **kwargs: Any):
    raw = argparse.RawDescriptionHelpFormatter
    super().__init__(*args, formatter_class=raw, allow_abbrev=False, **_OURS, **kwargs)

  def check_options(self, words: Sequence[str]) -> None:
    """Refuses options that there are not, before anything that they would have said is missed."""
    known = [name for action in self._actions for name in action.option_strings]
    for word in words:
      name = word.partition('=')[0]
      if word == '--':
        return
      if re.match('--?[A-Za-z]', name) and name not in known:
        less = " To leave leaves out, say --where '^(?!.*REGEX)'."
        out = name.strip('-') in _EXCEPT and '--where' in known
        self.error(f'there is no option {name}.{less if out else meant(name, known)}')

  def _check_value(self, action: argparse.Action, value: Any) -> None:
    if action.choices is not None and value not in action.choices:
      choices = list(map(str, action.choices))
      known = list(choices)
      if isinstance(action, argparse._SubParsersAction):  # `jprune version`
        known += self._option_string_actions
      said = f'must be one of {", ".join(choices)}; got {value!r}.{meant(str(value), known)}'
      raise argparse.ArgumentError(action, said)

  def error(self, message: str) -> NoReturn:
    self.print_usage(sys.stderr)
    said = _style.error(f'{self.prog}: error: {message}\n', sys.stderr)
    self.exit(2, said)

  def print_usage(self, file: Any = None) -> None:
    _write(self.format_usage(), file or sys.stdout)

  def print_help(self, file: Any = None) -> None:
    _write(self.format_help(), file or sys.stdout)


def meant(word: str, known: Iterable[str]) -> str:
  """`` Did you mean ...?``, or nothing if no word is close."""
  bare = {each.lstrip('-').lower(): each for each in known}
  found = difflib.get_close_matches(word.lstrip('-').lower(), bare, n=1)
  return f' Did you mean {bare[found[0]]}?' if found else ''


def _write(text: str, file: Any) -> None:
  if file is not None:
    file.write(_style.usage(text, file))
