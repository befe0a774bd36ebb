"""The entry: arguments in, exit code out."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jprune._cli import _errors, _prune, _tally
from jprune._cli._parser import PROGRAM, parsed

COMMANDS = {'tally': _tally.run, 'prune': _prune.run}
INPUTS = {'tally': 'FILE', 'prune': 'IN'}


def main(argv: Sequence[str] | None = None) -> int:
  """Runs one command.

  Args:
    argv: the arguments; by default those of the process.

  Returns:
    0 if all went well; 1, with one line on the standard error, if the input was refused or the
    output couldn't be written; 130 after Ctrl-C.

  Raises:
    SystemExit: of code 2 if the arguments make no sense, of code 0 after ``--help``.
  """
  args = parsed(argv)
  try:
    COMMANDS[args.command](args)
  except KeyboardInterrupt:
    return _failed('interrupted.', 130)
  except MemoryError as error:
    return _failed(_errors.out_of_memory(error))
  except (ValueError, TypeError, ImportError, OSError) as error:
    return _failed(_errors.as_options(str(error), INPUTS[args.command]))
  return 0


def _failed(text: str, code: int = 1) -> int:
  line = ''.join(c if c.isprintable() else repr(c)[1:-1] for c in ' '.join(text.split()))
  if sys.stderr is not None:  # closed before we began
    sys.stderr.write(f'{PROGRAM}: error: {line}\n')
  return code
