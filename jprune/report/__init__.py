"""What pruning saved: a tally of weights and bytes as text, HTML, plain data and a plot."""

from jprune.report._leaf import LeafTally as LeafTally
from jprune.report._tally import Tally as Tally
from jprune.report._tally import tally as tally
