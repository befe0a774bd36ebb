"""What pruning saved, and what training did to it: as text, HTML, plain data and plots.

- what pruning saved: ``tally`` gives a ``Tally``, a ``LeafTally`` for each leaf
- the same within a compiled step: ``metrics``
- what training did, step by step: ``Recorder``
"""

from jprune.report._leaf import LeafTally as LeafTally
from jprune.report._metrics import metrics as metrics
from jprune.report._recorder import Recorder as Recorder
from jprune.report._take import tally as tally
from jprune.report._tally import Tally as Tally

__all__ = [
  'LeafTally',
  'Recorder',
  'Tally',
  'metrics',
  'tally',
]
