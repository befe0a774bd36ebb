"""One overall sparsity to a sparsity for each leaf.

- by shapes: ``uniform``, ``er``, ``erk``
- by scores: ``global_``, ``owl``
- by hand: ``fixed``

A distribution is any ``(params, scores, sparsity) -> sparsities``: a tree with the structure of
the params, a Python float for each leaf that is pruned, ``None`` where ``scores`` is ``None``. What
it needs it says by attributes: see :class:`jprune.typing.Distribution`.
"""

from jprune.distributions._erdos_renyi import er as er
from jprune.distributions._erdos_renyi import erk as erk
from jprune.distributions._fixed import fixed as fixed
from jprune.distributions._global import global_ as global_
from jprune.distributions._owl import owl as owl
from jprune.distributions._uniform import uniform as uniform

__all__ = [
  'er',
  'erk',
  'fixed',
  'global_',
  'owl',
  'uniform',
]
