"""What is printed, to whoever still reads it."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from jprune._cli import _errors


def say(text: str) -> None:
  """Prints a text. A reader that has seen enough, as ``head`` has, is no reason to stop."""
  if sys.stdout is None:  # closed before we began
    return
  encoding = sys.stdout.encoding or 'utf-8'
  try:
    sys.stdout.write(text.encode(encoding, 'replace').decode(encoding) + '\n')
    sys.stdout.flush()
  except BrokenPipeError:
    _drop(sys.stdout)
  except OSError as error:
    _drop(sys.stdout)
    raise _errors.not_printed(error) from None


def _drop(stream: TextIO) -> None:
  """Lets what can't be written go, else Python tries again at its end."""
  os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
