"""What pruning saved, and what training did to it: as text, HTML, plain data and plots."""

from jprune.report._leaf import LeafTally as LeafTally
from jprune.report._metrics import metrics as metrics
from jprune.report._recorder import Recorder as Recorder
from jprune.report._take import tally as tally
from jprune.report._tally import Tally as Tally
