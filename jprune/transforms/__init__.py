"""Optax gradient transformations: what keeps pruned weights at zero while a model trains."""

from jprune.transforms._keep_pruned import KeepPrunedState as KeepPrunedState
from jprune.transforms._keep_pruned import keep_pruned as keep_pruned
from jprune.transforms._mask_updates import MaskUpdatesState as MaskUpdatesState
from jprune.transforms._mask_updates import mask_updates as mask_updates
