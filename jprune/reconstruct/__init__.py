"""One-shot pruning that repairs the surviving weights, from the Gram matrices of their inputs.

- a whole model: ``prune`` gives a ``Repair``, ``plan`` tells before what that will take
- what it repairs by, and what leaves can be given to by themselves: ``sparsegpt``, ``alps``,
  ``least_squares``; without repair: ``per_output``
"""

from jprune.reconstruct._alps import alps as alps
from jprune.reconstruct._least_squares import least_squares as least_squares
from jprune.reconstruct._per_output import per_output as per_output
from jprune.reconstruct._plan import Plan as Plan
from jprune.reconstruct._plan import StagePlan as StagePlan
from jprune.reconstruct._plan import plan as plan
from jprune.reconstruct._prune import prune as prune
from jprune.reconstruct._report import LeafRepair as LeafRepair
from jprune.reconstruct._report import Repair as Repair
from jprune.reconstruct._sparsegpt import sparsegpt as sparsegpt

__all__ = [
  'LeafRepair',
  'Plan',
  'Repair',
  'StagePlan',
  'alps',
  'least_squares',
  'per_output',
  'plan',
  'prune',
  'sparsegpt',
]
