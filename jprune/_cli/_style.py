"""Colours, where a person reads."""

from __future__ import annotations

import os
import re
from typing import TextIO

_BOLD, _DIM, _RED, _END = '\033[1m', '\033[2m', '\033[1;31m', '\033[0m'


def wanted(stream: TextIO | None) -> bool:
  """Whether a stream takes colours: a terminal, unless ``NO_COLOR`` or ``FORCE_COLOR`` say."""
  if os.environ.get('NO_COLOR'):
    return False
  if os.environ.get('FORCE_COLOR'):
    return True
  return os.environ.get('TERM') != 'dumb' and stream is not None and stream.isatty()


def usage(text: str, stream: TextIO | None) -> str:
  """Headings of a help text in bold."""
  if not wanted(stream):
    return text
  return re.sub(r'^(usage:|[a-z][^\n]*:$)', rf'{_BOLD}\1{_END}', text, flags=re.MULTILINE)


def error(text: str, stream: TextIO | None) -> str:
  """``program: error: ...`` with that word in red."""
  return text.replace('error:', f'{_RED}error:{_END}', 1) if wanted(stream) else text


def table(text: str, stream: TextIO | None) -> str:
  """Heads of tables in bold, their rules dimmed."""
  if not wanted(stream):
    return text
  text = re.sub(r'^(.+)(?=\n-{8,}$)', rf'{_BOLD}\1{_END}', text, flags=re.MULTILINE)
  return re.sub(r'^-{8,}$', rf'{_DIM}\g<0>{_END}', text, flags=re.MULTILINE)
