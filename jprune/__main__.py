"""``python -m jprune``: tally and prune checkpoints without a script."""

import os
import signal
import sys

import jax

from jprune._cli import main


def _run() -> int:
  # Leaves are counted on the host: a GPU would only be taken from someone who computes on it.
  if 'JAX_PLATFORMS' not in os.environ:
    jax.config.update('jax_platforms', 'cpu')
  # A polite kill unwinds like any failure, so that no temporary file stays behind.
  for name in ('SIGTERM', 'SIGHUP'):  # Windows has no SIGHUP
    number = getattr(signal, name, None)
    if number and signal.getsignal(number) != signal.SIG_IGN:  # as nohup sets it
      signal.signal(number, lambda number, frame: sys.exit(128 + number))
  return main()


if __name__ == '__main__':
  sys.exit(_run())
