"""A checkpoint of any library, of one file or many, read leaf by leaf."""

from __future__ import annotations

import contextlib
import functools
import glob
import operator
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jprune import _checks, tree
from jprune._cli import _errors
from jprune._shrink import Plan
from jprune._shrunk_files import plan_of
from jprune.io import _container, _leaf, _load, _shards, _structure, _trees
from jprune.io._foreign import plans as foreign_plans
from jprune.io._lazy import LazyArray
from jprune.io._writer import CHECKSUM, KEY
from jprune.tree._quantised import Quantised, quantised

Read = Callable[[], tuple[np.ndarray, np.ndarray | None]]
"""A leaf and its mask, if it has one."""


class ModelSource(NamedTuple):
  """An open checkpoint.

  Attributes:
    files: of safetensors; ``None`` for those of others.
    paths: of the files that are read; none for a checkpoint of Orbax.
    folder: in which the checkpoint lies; ``None`` for a file that was named by itself.
    plans: its leaves, by their names, or in the order of their tree.
    reads: what reads them.
    description: the tree of the leaves, as :mod:`jprune.io._structure` has it.
    masked: whether it holds masks.
    metadata: of other libraries.
    origin: what to call it, if its layout says where a kernel's axes are.
    quantised: what belongs to leaves of quantised weights, by their paths.
    plan: of a small model, what it was shrunk by.
  """

  files: _shards.Files | None
  paths: list[str]
  folder: str | None
  plans: list[_leaf.Leaf]
  reads: list[Read]
  description: Any
  masked: bool
  metadata: dict[str, str]
  origin: str | None
  quantised: dict[str, Quantised]
  plan: Plan | None = None

  @property
  def order(self) -> list[int]:
    """The leaves in the order of the tree that ``jprune.load`` gives."""
    return jax.tree.leaves(self.tree(list(range(len(self.plans)))))

  def tree(self, leaves: list[Any]) -> Any:
    """The tree that ``jprune.load`` gives, with these leaves in it."""
    return _structure.restore(self.description, leaves)

  def struct(self, i: int) -> jax.ShapeDtypeStruct:
    """A leaf without values."""
    return jax.ShapeDtypeStruct(self.plans[i].shape, jnp.dtype(self.plans[i].dtype))

  def structs(self) -> Any:
    """The tree of all leaves without values; quantised weights as what they stand for."""
    return self.tree([self.dequantised(i) for i in range(len(self.plans))])

  def dequantised(self, i: int) -> jax.ShapeDtypeStruct:
    """A leaf without values, float32 if its weights are numbers that are scaled."""
    found = self.quantised.get(self.plans[i].path)
    struct = self.struct(i)
    return jax.ShapeDtypeStruct(struct.shape, jnp.float32) if found and found.plain else struct

  def skipped(self) -> dict[int, str | None]:
    """Why the default selection leaves a leaf out, if it does, by its place among the plans."""
    return dict(zip(self.order, tree.skipped(self.structs()), strict=True))

  @property
  def mode(self) -> int:
    """The permissions that whoever reads all of it must have."""
    return functools.reduce(operator.and_, (os.stat(path).st_mode for path in self.paths), 0o666)

  def read(self, i: int) -> tuple[np.ndarray, np.ndarray | None]:
    """A leaf and its mask, if it has one; the only way to the data."""
    return self.reads[i]()


@contextlib.contextmanager
def opened(function: str, paths: Sequence[str]) -> Iterator[ModelSource]:
  """What a command was given: a file, a folder, an index, a glob, or several files of one model.

  Raises:
    ValueError: if it is empty, or holds a dtype that NumPy hasn't; if files lie in several
      folders; and all that :func:`jprune.io.open` raises.
  """
  names = [name for path in paths for name in _expanded(function, path)]
  found = _trees.opened(function, names[0]) if len(names) == 1 else None
  if found is not None:
    with found.files or contextlib.nullcontext():
      yield _of_tree(function, found)
    return
  with contextlib.closing(_files(function, names)) as files:
    alone = os.path.isfile(names[0]) and [names[0]] == list(files.files)
    folder = None if alone else os.path.dirname(next(iter(files.files)))
    yield _own(files, folder) if KEY in files.metadata else _foreign(files, folder)


def _expanded(function: str, path: str) -> list[str]:
  """The names that a glob stands for; one that finds nothing stands for itself."""
  name = _checks.as_path(function, path, folders=True)
  return [name] if os.path.lexists(name) else sorted(glob.glob(name)) or [name]


def _files(function: str, names: list[str]) -> _shards.Files:
  """Opens a checkpoint, or several files as one; with their index, if they are all of its."""
  if len(names) == 1:
    return _shards.reader(function, names[0])
  for name in names:
    if os.path.isdir(name) or name.endswith('.json') or _trees.is_tree(name):
      raise _errors.no_part(function, name)
  folders = sorted({os.path.dirname(_checks.as_path(function, name)) for name in names})
  if len(folders) > 1:
    raise _errors.several_folders(function, folders)
  parts = dict.fromkeys(os.path.basename(name) for name in names)
  for index in glob.glob(f'*{_shards.INDEX}', root_dir=folders[0] or None):
    path = os.path.join(folders[0], index)
    if set(_shards.read_index(function, path)[0].values()) == set(parts):
      return _shards.reader(function, path)
  found = _shards.Shards(function, folders[0] or os.curdir, folders[0], parts, {})
  for each in found.readers.values():
    if _shards.SHARD in each.metadata:
      found.close()
      raise _errors.without_index(function, each.path)
  return found


def _own(files: _shards.Files, folder: str | None) -> ModelSource:
  contents, plans, checksums = _load._contents(files)
  reads = [_reading(files, *pair) for pair in zip(plans, checksums, strict=True)]
  metadata = {k: v for k, v in files.metadata.items() if k not in (KEY, CHECKSUM)}
  tree_and_masks = contents['tree'], contents['masks']
  return ModelSource(
    files,
    list(files.files),
    folder,
    plans,
    reads,
    *tree_and_masks,
    metadata,
    'a file of jprune',
    _quantised(plans),
    plan_of(files, contents),
  )


def _foreign(files: _shards.Files, folder: str | None) -> ModelSource:
  """Every tensor is a leaf of one flat dict, by its own name, whatever that name holds."""
  plans = foreign_plans(files)
  reads = [_reading(files, plan, None) for plan in plans]
  description = _structure.describe({plan.path: 0 for plan in plans})
  metadata = {**files.metadata}
  return ModelSource(
    files,
    list(files.files),
    folder,
    plans,
    reads,
    description,
    False,
    metadata,
    None,
    _quantised(plans),
  )


def _of_tree(function: str, found: _trees.Tree) -> ModelSource:
  paths, leaves, _ = tree.flatten(found.params)
  plans, reads = [], []
  for path, leaf in zip(paths, leaves):
    if not isinstance(leaf, LazyArray) or leaf.dtype.name not in _container.CODES:
      raise _errors.not_storable(function, path, leaf)
    plans.append(_leaf.Leaf(path, leaf.dtype.name, leaf.shape, 'dense', leaf.size, None))
    reads.append(leaf.read_masked)
  if not plans:
    raise _errors.no_arrays(function, found.path)
  description, folder = _structure.describe(found.params), os.path.isdir(found.path)
  where = ([], found.path) if folder else ([found.path], None)
  told = description, False, {}, found.origin
  return ModelSource(None, *where, plans, reads, *told, _quantised(plans))


def _reading(files: _shards.Files, plan: _leaf.Leaf, checksum: str | None) -> Read:
  return lambda: _load.read(files, plan, checksum)


def _quantised(plans: list[_leaf.Leaf]) -> dict[str, Quantised]:
  found = quantised([plan.path for plan in plans], [plan.dtype for plan in plans])
  return {plan.path: each for plan, each in zip(plans, found) if each is not None}
