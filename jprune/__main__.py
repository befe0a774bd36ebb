"""``jprune``, or ``python -m jprune``: tally and prune checkpoints without a script."""

import os
import signal
import sys

from jprune._cli import main


def run() -> int:
  """Runs the command line as a process of its own; the entry of the console script."""
  # Leaves are counted on the host: a GPU would only be taken from someone who computes on it.
  os.environ.setdefault('JAX_PLATFORMS', 'cpu')  # JAX reads it when it loads
  # A polite kill unwinds like any failure, so that no temporary file stays behind.
  for name in ('SIGTERM', 'SIGHUP'):  # Windows has no SIGHUP
    number = getattr(signal, name, None)
    if number and signal.getsignal(number) != signal.SIG_IGN:  # as nohup sets it
      signal.signal(number, lambda number, frame: sys.exit(128 + number))
  as_module = os.path.basename(sys.argv[0]) == '__main__.py'
  return main(program='python -m jprune' if as_module else 'jprune')


if __name__ == '__main__':
  sys.exit(run())
