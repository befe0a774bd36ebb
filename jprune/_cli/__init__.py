"""The command line: checkpoints tallied and pruned, one leaf in memory at a time.

``_parser`` knows the words, ``_source`` reads leaves, ``_scores`` and ``_scales`` give their
weights a rank, ``_count`` and ``_select`` find out which of them stay, ``_output`` says where what
is left goes, ``_target`` writes it, and ``_tally`` and ``_prune`` put these together, one for each
command; ``_say`` prints.
"""

from jprune._cli._main import main as main
