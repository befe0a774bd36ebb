"""Functional pruning for JAX and Flax: masks as data, exact counts, exact zeros.

Params go in, masks come out; masks compose with any training loop::

  masks = jprune.prune(params, sparsity=0.9)
  params = jprune.apply(params, masks)
  tx = optax.chain(optax.adamw(1e-3), jprune.keep_pruned(masks))
  print(jprune.tally(params, masks))

Rooms load when they are first asked for, so that ``jprune --help`` needs no JAX.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from jprune import distributions as distributions
  from jprune import graph as graph
  from jprune import io as io
  from jprune import masks as masks
  from jprune import reconstruct as reconstruct
  from jprune import report as report
  from jprune import schedules as schedules
  from jprune import scores as scores
  from jprune import sensitivity as sensitivity
  from jprune import transforms as transforms
  from jprune import tree as tree
  from jprune import typing as typing
  from jprune._prune import prune as prune
  from jprune._shrink import Plan as Plan
  from jprune._shrink import Shrunk as Shrunk
  from jprune._shrink.shrink import shrink as shrink
  from jprune._shrunk_files import load_shrunk as load_shrunk
  from jprune._shrunk_files import save_shrunk as save_shrunk
  from jprune._synflow_prune import synflow_prune as synflow_prune
  from jprune.io import load as load
  from jprune.io import save as save
  from jprune.masks import Block as Block
  from jprune.masks import Channel as Channel
  from jprune.masks import ChannelGroups as ChannelGroups
  from jprune.masks import NOfM as NOfM
  from jprune.masks import Unstructured as Unstructured
  from jprune.masks import apply as apply
  from jprune.masks import rewind as rewind
  from jprune.masks import sparse_init as sparse_init
  from jprune.report import tally as tally
  from jprune.transforms import keep_pruned as keep_pruned
  from jprune.transforms import mask_updates as mask_updates

__version__ = '0.1.0'

__all__ = [
  'Block',
  'Channel',
  'ChannelGroups',
  'NOfM',
  'Plan',
  'Shrunk',
  'Unstructured',
  'apply',
  'distributions',
  'graph',
  'io',
  'keep_pruned',
  'load',
  'load_shrunk',
  'mask_updates',
  'masks',
  'prune',
  'reconstruct',
  'report',
  'rewind',
  'save',
  'save_shrunk',
  'schedules',
  'scores',
  'sensitivity',
  'shrink',
  'sparse_init',
  'synflow_prune',
  'tally',
  'transforms',
  'tree',
  'typing',
]

_HOMES = {
  '_prune': ('prune',),
  '_shrink': ('Plan', 'Shrunk'),
  '_shrink.shrink': ('shrink',),
  '_shrunk_files': ('load_shrunk', 'save_shrunk'),
  '_synflow_prune': ('synflow_prune',),
  'io': ('load', 'save'),
  'masks': (
    'Block',
    'Channel',
    'ChannelGroups',
    'NOfM',
    'Unstructured',
    'apply',
    'rewind',
    'sparse_init',
  ),
  'report': ('tally',),
  'transforms': ('keep_pruned', 'mask_updates'),
}
"""Where the names are that are no rooms themselves."""
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
  """Loads a public name when it is first asked for (PEP 562)."""
  if name not in __all__:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  home = importlib.import_module(f'{__name__}.{_HOME.get(name, name)}')
  globals()[name] = value = getattr(home, name) if name in _HOME else home
  return value


def __dir__() -> list[str]:
  return sorted([*__all__, *(name for name in globals() if name.startswith('__'))])
