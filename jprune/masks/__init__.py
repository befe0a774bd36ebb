"""Scores and a sparsity to masks; what masks do to params.

- scores to masks: ``top_k``, ``top_k_global``, ``top_k_rows``, ``n_of_m``, ``threshold``
- whole channels: ``channels``
- masks without scores: ``bernoulli``, ``from_zeros``
- what goes together: ``Unstructured``, ``NOfM``, ``Block``, ``Channel``, ``ChannelGroups``
- masks on params: ``apply``, ``straight_through``, ``rewind``, ``sparse_init``
- masks among themselves: ``combine``, ``invert``; at one bit a weight: ``pack``, ``unpack``
"""

from jprune.masks._apply import apply as apply
from jprune.masks._apply import combine as combine
from jprune.masks._apply import invert as invert
from jprune.masks._apply import straight_through as straight_through
from jprune.masks._channels.channels import channels as channels
from jprune.masks._channels.groups import ChannelGroups as ChannelGroups
from jprune.masks._n_of_m import n_of_m as n_of_m
from jprune.masks._pack import PackedMask as PackedMask
from jprune.masks._pack import pack as pack
from jprune.masks._pack import unpack as unpack
from jprune.masks._patterns import Block as Block
from jprune.masks._patterns import Channel as Channel
from jprune.masks._patterns import NOfM as NOfM
from jprune.masks._patterns import Unstructured as Unstructured
from jprune.masks._rewind import rewind as rewind
from jprune.masks._sparse_init import sparse_init as sparse_init
from jprune.masks._threshold import bernoulli as bernoulli
from jprune.masks._threshold import from_zeros as from_zeros
from jprune.masks._threshold import threshold as threshold
from jprune.masks._top_k import top_k as top_k
from jprune.masks._top_k import top_k_global as top_k_global
from jprune.masks._top_k import top_k_rows as top_k_rows

__all__ = [
  'Block',
  'Channel',
  'ChannelGroups',
  'NOfM',
  'PackedMask',
  'Unstructured',
  'apply',
  'bernoulli',
  'channels',
  'combine',
  'from_zeros',
  'invert',
  'n_of_m',
  'pack',
  'rewind',
  'sparse_init',
  'straight_through',
  'threshold',
  'top_k',
  'top_k_global',
  'top_k_rows',
  'unpack',
]
