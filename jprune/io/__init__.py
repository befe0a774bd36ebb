"""Params and masks on disk: one safetensors file, each leaf in its smallest format.

A leaf becomes the tensors that ``_leaf`` lists, ``_container`` places them in the file,
``_structure`` describes the tree around them, ``_atomic`` makes the file appear all at once.
"""

from jprune.io._lazy import LazyArray as LazyArray
from jprune.io._load import load as load
from jprune.io._open import Checkpoint as Checkpoint
from jprune.io._open import open as open
from jprune.io._save import save as save
