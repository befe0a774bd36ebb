"""Params and masks on disk: safetensors, in one file or several, each leaf at its smallest.

- ``save`` writes, ``load`` reads it all
- ``open`` gives a ``Checkpoint`` of leaves that are read on demand, each a ``LazyArray``
"""

# A leaf becomes the tensors that `_leaf` lists, `_container` places them in a file, `_structure`
# describes the tree around them, `_writer` puts leaves into their files one at a time, `_atomic`
# makes a file appear all at once and `_replaced` a set of them. `_shards` opens all files of a
# checkpoint as if they were one, `_read` gets leaves or parts of them out; `_lazy` is what `open`
# gives. `_trees` opens what isn't of safetensors, by `_orbax`, `_npz` and `_msgpack`; `_refused`
# says how to convert the rest. `_spread` and `_together` are saving by several processes.

from jprune.io._lazy import LazyArray as LazyArray
from jprune.io._load import load as load
from jprune.io._open import Checkpoint as Checkpoint
from jprune.io._open import open as open
from jprune.io._save import save as save

__all__ = [
  'Checkpoint',
  'LazyArray',
  'load',
  'open',
  'save',
]
