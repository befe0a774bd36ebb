"""Optax gradient transformations: what keeps pruned weights at zero while a model trains.

- under masks that stay: ``keep_pruned``, ``mask_updates``
- from dense to sparse: ``gradual``, ``movement``, ``soft_movement``, ``straight_through``,
  ``sr_ste``, ``s_ste``, ``ac_dc``, ``admm``
- sparse from the start: ``static``, ``sparse_evolution``, ``rigl``, ``granet``, ``mest``, ``srigl``
- towards whole channels: ``group_lasso``, ``batch_norm_scale``, ``growing``
- what a state holds: ``masks_of``, ``metrics``; whether weights stay pruned: ``check``
- a method of one's own: ``sparse_training`` of a ``Method``
"""

from jprune.masks._in_state import masks_of as masks_of
from jprune.masks._in_state import metrics as metrics
from jprune.transforms._ac_dc import ac_dc as ac_dc
from jprune.transforms._admm import admm as admm
from jprune.transforms._behind_masks import sr_ste as sr_ste
from jprune.transforms._behind_masks import straight_through as straight_through
from jprune.transforms._check import check as check
from jprune.transforms._gradual import gradual as gradual
from jprune.transforms._keep_pruned import KeepPrunedState as KeepPrunedState
from jprune.transforms._keep_pruned import keep_pruned as keep_pruned
from jprune.transforms._mask_updates import MaskUpdatesState as MaskUpdatesState
from jprune.transforms._mask_updates import mask_updates as mask_updates
from jprune.transforms._method import Method as Method
from jprune.transforms._method import Step as Step
from jprune.transforms._movement import movement as movement
from jprune.transforms._movement import soft_movement as soft_movement
from jprune.transforms._penalty import PenaltyState as PenaltyState
from jprune.transforms._regularize import GrowingState as GrowingState
from jprune.transforms._regularize import batch_norm_scale as batch_norm_scale
from jprune.transforms._regularize import group_lasso as group_lasso
from jprune.transforms._regularize import growing as growing
from jprune.transforms._s_ste import s_ste as s_ste
from jprune.transforms._sparse_to_sparse import granet as granet
from jprune.transforms._sparse_to_sparse import mest as mest
from jprune.transforms._sparse_to_sparse import rigl as rigl
from jprune.transforms._sparse_to_sparse import sparse_evolution as sparse_evolution
from jprune.transforms._sparse_to_sparse import static as static
from jprune.transforms._sparse_training import Settings as Settings
from jprune.transforms._sparse_training import SettingsAndDistribution as SettingsAndDistribution
from jprune.transforms._sparse_training import SettingsAndPattern as SettingsAndPattern
from jprune.transforms._sparse_training import sparse_training as sparse_training
from jprune.transforms._srigl import srigl as srigl
from jprune.transforms._state import SparseState as SparseState

__all__ = [
  'GrowingState',
  'KeepPrunedState',
  'MaskUpdatesState',
  'Method',
  'PenaltyState',
  'Settings',
  'SettingsAndDistribution',
  'SettingsAndPattern',
  'SparseState',
  'Step',
  'ac_dc',
  'admm',
  'batch_norm_scale',
  'check',
  'gradual',
  'granet',
  'group_lasso',
  'growing',
  'keep_pruned',
  'mask_updates',
  'masks_of',
  'mest',
  'metrics',
  'movement',
  'rigl',
  's_ste',
  'soft_movement',
  'sparse_evolution',
  'sparse_training',
  'sr_ste',
  'srigl',
  'static',
  'straight_through',
]
