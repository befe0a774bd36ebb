"""The command line: safetensors files tallied and pruned, one leaf in memory at a time.

``_parser`` knows the words, ``_source`` reads leaves, ``_scores`` gives their weights a rank,
``_count`` and ``_select`` find out which of them stay, ``_target`` writes what is left, and
``_tally`` and ``_prune`` put these together, one for each command; ``_say`` prints.
"""

from jprune._cli._main import main as main
