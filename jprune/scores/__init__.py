"""Params (and data) to the importance of every weight: higher = keep.

- of the weights alone: ``magnitude``, ``lamp``, ``geometric_median``, ``random``
- of the weights and a function, without data: ``synflow``
- of gradients of a loss: ``snip``, ``grasp``, ``taylor``, ``taylor_batches``, ``taylor_samples``,
  ``fisher``, ``obd``
- of captured inputs: ``wanda``, ``ria``, ``obs``, ``correlation``, ``independence``,
  ``activation``, ``activation_mean``, ``activation_active``
"""

from jprune.scores._activation import activation as activation
from jprune.scores._activation import activation_active as activation_active
from jprune.scores._activation import activation_mean as activation_mean
from jprune.scores._correlation import correlation as correlation
from jprune.scores._fisher import fisher as fisher
from jprune.scores._geometric_median import geometric_median as geometric_median
from jprune.scores._grasp import grasp as grasp
from jprune.scores._independence import independence as independence
from jprune.scores._lamp import lamp as lamp
from jprune.scores._magnitude import magnitude as magnitude
from jprune.scores._obd import obd as obd
from jprune.scores._obs import obs as obs
from jprune.scores._random import random as random
from jprune.scores._ria import ria as ria
from jprune.scores._snip import snip as snip
from jprune.scores._synflow import synflow as synflow
from jprune.scores._taylor import taylor as taylor
from jprune.scores._taylor_batches import taylor_batches as taylor_batches
from jprune.scores._taylor_batches import taylor_samples as taylor_samples
from jprune.scores._wanda import wanda as wanda

__all__ = [
  'activation',
  'activation_active',
  'activation_mean',
  'correlation',
  'fisher',
  'geometric_median',
  'grasp',
  'independence',
  'lamp',
  'magnitude',
  'obd',
  'obs',
  'random',
  'ria',
  'snip',
  'synflow',
  'taylor',
  'taylor_batches',
  'taylor_samples',
  'wanda',
]
