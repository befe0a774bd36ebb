"""What is printed, to whoever still reads it."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from jprune._cli import _style


def say(text: str) -> None:
  """Prints a text. A reader that has seen enough, as ``head`` has, is no reason to stop."""
  if sys.stdout is None:  # closed before we began
    return
  encoding = sys.stdout.encoding or 'utf-8'
  try:
    text = _style.table(text, sys.stdout).encode(encoding, 'replace').decode(encoding)
    sys.stdout.write(f'{text}\n')
    sys.stdout.flush()
  except BrokenPipeError:
    _drop(sys.stdout)
  except OSError as error:
    _drop(sys.stdout)
    said = f'the standard output must be open for writing; got {error.strerror!r}.'
    raise OSError(said) from None


def _drop(stream: TextIO) -> None:
  """Lets what can't be written go, else Python tries again at its end."""
  os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
