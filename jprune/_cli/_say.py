"""What is printed, to whoever still reads it."""

from __future__ import annotations

import os
import sys


def say(text: str) -> None:
  """Prints a text. A reader that has seen enough, as ``head`` has, is no reason to stop."""
  try:
    sys.stdout.write(text + '\n')
    sys.stdout.flush()
  except BrokenPipeError:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
