"""Functional pruning for JAX and Flax: masks as data, exact counts, exact zeros.

Params go in, masks come out; masks compose with any training loop::

  masks = jprune.prune(params, sparsity=0.9)
  params = jprune.apply(params, masks)
  tx = optax.chain(optax.adamw(1e-3), jprune.keep_pruned(masks))
  print(jprune.tally(params, masks))

The everyday names are here, as in ``help(jprune.prune)``; the rest is one namespace for each job:

- ``scores``, ``distributions``, ``masks``: how much weights matter, and which of them go
- ``schedules``, ``transforms``: optimizers that prune while a network trains
- ``graph``: what a function does with its params: channels, multiply-adds, statistics of inputs
- ``reconstruct``, ``sensitivity``: one shot with repair; thresholds from validation data
- ``report``, ``io``: what was saved; sparse files, and those that are larger than memory
- ``nnx``, ``equinox``: modules to pure functions and back
- ``tree``, ``typing``: paths of leaves; the words of signatures

Guides and recipes: https://jprune.github.io/jprune/
"""

# All of it loads at once, under the lock of this module: threads that load rooms one by one get in
# each other's way. Only the command line loads what it needs, so that `jprune --help` needs no JAX.

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any


def _is_the_command() -> bool:
  """Whether this process is ``jprune`` or ``python -m jprune``."""
  program = os.path.basename(next(iter(getattr(sys, 'argv', [])), ''))
  return program in ('jprune', 'jprune.exe') or (program == '-m' and 'jprune' in sys.orig_argv)


if TYPE_CHECKING or not _is_the_command():
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

if TYPE_CHECKING:
  from jprune import equinox as equinox
  from jprune import nnx as nnx
else:  # by which a type checker would believe in every name

  def __getattr__(name: str) -> Any:
    """The rooms of other libraries, which load when they are asked for."""
    if name in ('equinox', 'nnx'):
      return importlib.import_module(f'{__name__}.{name}')
    this = sys.modules[__name__]
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}', name=name, obj=this)


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


def __dir__() -> list[str]:
  return sorted([*__all__, *(name for name in globals() if name.startswith('__'))])
