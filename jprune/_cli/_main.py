"""The entry: arguments in, exit code out."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from jprune._cli import _style
from jprune._cli._parser import PROGRAM, parsed

INPUTS = {'tally': 'FILE', 'prune': 'IN', 'report': 'FILE'}


def main(argv: Sequence[str] | None = None, program: str = PROGRAM) -> int:
  """Runs one command.

  Args:
    argv: the arguments; by default those of the process.
    program: what the user called it.

  Returns:
    0 if all went well; 1, with one line on the standard error, if the input was refused or the
    output couldn't be written; 130 after Ctrl-C.

  Raises:
    SystemExit: of code 2 if the arguments make no sense, of code 0 after ``--help``.
  """
  args = parsed(argv, program)
  try:
    importlib.import_module(f'jprune._cli._{args.command}').run(args)
  except KeyboardInterrupt:
    return _failed(program, 'interrupted.', 130)
  except MemoryError as error:
    text = f'the largest leaf must fit into memory about twice ({error or "nothing is left"}).'
    return _failed(program, text)
  except (ValueError, TypeError, ImportError, OSError) as error:
    return _failed(program, _worded(error, INPUTS[args.command]))
  return 0


def _worded(error: Exception, file: str) -> str:
  """A message in the words of the command line."""
  from jprune._cli._errors import as_options

  return as_options(str(error), file)


def _failed(program: str, text: str, code: int = 1) -> int:
  """Says on one line what is wrong; lines of code below it, which are indented, stay lines."""
  first, *more = text.split('\n    ')
  lines = [' '.join(first.split()), *(f'    {line}' for line in more)]
  shown = (''.join(c if c.isprintable() else repr(c)[1:-1] for c in line) for line in lines)
  said = '\n'.join(shown)
  if sys.stderr is not None:  # closed before we began
    sys.stderr.write(_style.error(f'{program}: error: {said}\n', sys.stderr))
  return code
