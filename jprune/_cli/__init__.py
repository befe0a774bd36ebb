"""The command line: checkpoints tallied, pruned and reported on, one leaf in memory at a time.

``_parser`` knows the words, with ``_options`` for their values and ``_argparse`` for how a typo is
answered; ``_source`` reads leaves, ``_scores`` and ``_scales`` give their
weights a rank, ``_count`` and ``_select`` find out which of them stay, ``_output`` says where what
is left goes, ``_target`` writes it, and ``_tally``, ``_prune`` and ``_report`` put these together,
one for each command; ``_say`` prints, ``_style`` has the colours.

What runs before a command does, the parser among it, loads neither JAX nor NumPy: help, a typo's
answer and completion are there at once.
"""

from jprune._cli._main import main as main
