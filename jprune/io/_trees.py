"""Checkpoints of other tools that are a tree of arrays each: of Orbax, of Flax, of NumPy."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from jprune.io import _msgpack, _npz, _orbax, _refused

ENDS = (_npz.END, _msgpack.END)


class Tree(NamedTuple):
  """A checkpoint that is open.

  Attributes:
    params: the tree; its leaves are lazy.
    path: of the file, or of the folder of the arrays.
    origin: what to call it, if its layout says where a kernel's axes are.
    files: what has to be closed.
  """

  params: Any
  path: str
  origin: str | None
  files: Any


def opened(function: str, path: str) -> Tree | None:
  """The tree of a file or a folder; ``None`` if it is none of these.

  Raises:
    ImportError: if the package that reads it isn't installed.
    OSError: if it can't be read.
    ValueError: if it is damaged, or holds several trees.
  """
  folder = _orbax.folder_of(function, path)
  if folder is not None:
    return Tree(_orbax.leaves(function, folder), folder, 'a checkpoint of Orbax', None)
  if not is_tree(path) or os.path.isdir(path):
    return None
  if path.lower().endswith(_npz.END):
    params, files = _npz.opened(function, path)
    return Tree(params, path, None, files)
  return Tree(_msgpack.leaves(function, path), path, 'a file of Flax', None)


def is_tree(path: str) -> bool:
  """Whether a file is called so, and isn't one of safetensors nevertheless."""
  return path.lower().endswith(ENDS) and not _refused.is_safetensors(path)
