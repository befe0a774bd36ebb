"""A checkpoint as trees of leaves that stay in their files."""

from __future__ import annotations

import os
from typing import Any

import jax.numpy as jnp
import numpy as np

from jprune import _checks, tree
from jprune._entry import Opened
from jprune.io import _errors, _foreign, _leaf, _load, _read, _shards, _structure, _trees
from jprune.io._boxes import Box
from jprune.io._lazy import LazyArray, Read
from jprune.io._read import Pair
from jprune.io._shards import Files, Shards
from jprune.io._writer import CHECKSUM, KEY
from jprune.tree._quantised import scales_of
from jprune.typing import Masks, Params


class Checkpoint(Opened):
  """What :func:`jprune.io.open` gives: trees of lazy leaves over open files.

  As a context manager it closes the files at the end; :meth:`close` does so too. Leaves that are
  read later raise.

  Attributes:
    path: of the file, folder or index, as it was given.
    params: tree of :class:`LazyArray`: of a checkpoint of :func:`jprune.save` the saved tree (as
      :func:`jprune.load` gives it), of Orbax and Flax the nested tree, of others a flat dict by the
      names of the tensors, sorted.
    masks: tree of the same structure, leaves :class:`LazyArray` of bools or ``None``; ``None`` if
      the checkpoint was saved without.
    metadata: texts of other tools in the files' headers, on which all files agree, and in the
      index, such as ``{'format': 'pt'}``.
    shards: which leaves each file holds: paths of leaves by the file's path.
    scales: of a quantised checkpoint, the leaf that scales it by the path of each quantised leaf.

  Examples:
    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   path = os.path.join(folder, 'model.safetensors')
    ...   jprune.save(path, {'fc': {'w': jnp.ones((2, 3)), 'b': jnp.zeros(2)}})
    ...   with jprune.io.open(path) as model:
    ...     model.params['fc']
    {'b': LazyArray('fc/b', float32[2]), 'w': LazyArray('fc/w', float32[2, 3])}
  """

  def __init__(
    self,
    path: str,
    params: Params,
    masks: Masks,
    metadata: dict[str, str],
    shards: dict[str, tuple[str, ...]],
    files: Any,
  ):
    self.path, self.params, self.masks = path, params, masks
    self.metadata, self.shards, self._files = metadata, shards, files
    paths, leaves, _ = tree.flatten(params)
    by_path = dict(zip(paths, leaves))
    dtypes = [leaf.dtype.name if tree.is_array(leaf) else None for leaf in leaves]
    pairs = zip(paths, scales_of(paths, dtypes))
    self.scales: dict[str, LazyArray] = {path: by_path[s] for path, s in pairs if s is not None}

  def close(self) -> None:
    """Closes the files; leaves can't be read any more."""
    if self._files is not None:
      self._files.close()

  def __enter__(self) -> Checkpoint:
    return self

  def __exit__(self, *_: Any) -> None:
    self.close()

  def __repr__(self) -> str:
    leaves = len(tree.flatten(self.params)[1])
    return f'Checkpoint({self.path!r}, leaves={leaves}, files={len(self.shards)})'


def open(path: str | os.PathLike[str]) -> Checkpoint:
  """Opens a checkpoint of any size without reading its weights.

  It may be a safetensors file, of :func:`jprune.save` or of another tool; a folder of such files
  with their index, ``model.safetensors.index.json``, or that index; a folder of numbered files,
  ``model-00001-of-00003.safetensors``, without one; a folder that Orbax's ``StandardCheckpointer``
  or ``PyTreeCheckpointer`` wrote, on a local disk; an ``.npz`` file of NumPy; a ``.msgpack`` file
  of ``flax.serialization.to_bytes``. All headers are read and compared with the index, so that
  what is missing is said now. Files of pickles are refused, with the lines that convert them.

  The leaves are :class:`LazyArray`: ``leaf.read()`` reads one, ``leaf[i]`` one step of a stack of
  layers. A tree of them goes wherever shapes are asked for (``jax.eval_shape``,
  :func:`jprune.graph.channels`), and to :func:`jprune.save`, which reads one leaf at a time.

  Args:
    path: of the file, the folder or the index.

  Returns:
    A :class:`Checkpoint`, best used as a context manager.

  Raises:
    ImportError: if safetensors, or for its files msgpack, or for its folders Orbax, is not
      installed.
    FileNotFoundError: if there is no such file, or a file that belongs to it is missing.
    OSError: if a file can't be read.
    TypeError: if ``path`` is no path.
    ValueError: if it is no checkpoint, several, or one of another format; if a file is truncated
      or damaged; if index and files don't fit; if two files hold one tensor.

  Examples:
    >>> import os, tempfile
    >>> from safetensors.flax import save_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   path = os.path.join(folder, 'model.safetensors')
    ...   save_file({'fc.weight': jnp.ones((2, 3)), 'fc.bias': jnp.zeros(2)}, path)
    ...   with jprune.io.open(path) as model:
    ...     for name, leaf in model.params.items():
    ...       print(name, leaf.shape, leaf.dtype, leaf.read().sum())
    fc.bias (2,) float32 0.0
    fc.weight (2, 3) float32 6.0
  """
  return open_for('open', path)


def index_of(checkpoint: Checkpoint) -> tuple[str, dict[str, Any]] | None:
  """Of a set the folder in which its files lie, and what its index says besides."""
  files = checkpoint._files
  if not isinstance(files, Shards):
    return None
  return os.path.dirname(next(iter(checkpoint.shards))), files.index_metadata


def open_for(function: str, path: Any) -> Checkpoint:
  """:func:`open`, for a caller of that name."""
  name = _checks.as_path(function, path, folders=True)
  found = _trees.opened(function, name)
  if found is not None:
    shards = {found.path: tuple(tree.flatten(found.params)[0])}
    return Checkpoint(name, found.params, None, {}, shards, found.files)
  files = _shards.reader(function, name)
  try:
    return _checkpoint(name, files)
  except BaseException:
    files.close()
    raise


def _checkpoint(path: str, files: Files) -> Checkpoint:
  """The trees of safetensors files, of ours or of others."""
  if KEY in files.metadata:
    contents, plans, checksums = _load._contents(files)
    description, masked = contents['tree'], contents['masks']
  else:
    plans = _foreign.plans(files)
    checksums = [None] * len(plans)
    description, masked = _structure.describe({plan.path: 0 for plan in plans}), False
  reads = [_reading(files, *pair) for pair in zip(plans, checksums, strict=True)]
  leaves = [LazyArray(p.path, p.shape, jnp.dtype(p.dtype), r) for p, r in zip(plans, reads)]
  masks = [_mask(*pair) for pair in zip(plans, reads)]
  build = lambda flat: _structure.restore(description, flat)
  metadata = {k: v for k, v in files.metadata.items() if k not in (KEY, CHECKSUM)}
  shards = {
    file: tuple(plan.path for plan in plans if _leaf.tensors(plan)[0].name in names)
    for file, names in ((file, set(names)) for file, names in files.files.items())
  }
  return Checkpoint(path, build(leaves), build(masks) if masked else None, metadata, shards, files)


def _reading(files: Files, plan: _leaf.Leaf, checksum: str | None) -> Read:
  """Reads values and mask of a leaf in a box."""

  def read(box: Box | None) -> Pair:
    if files.closed:
      raise _errors.closed(files.path, plan.path)
    if box is None:
      return _read.read(files, plan, checksum)
    return _read.read_part(files, plan, checksum, box)

  return read


def _mask(plan: _leaf.Leaf, read: Read) -> LazyArray | None:
  """The mask of a leaf, read as its values are."""
  if plan.mask is None:
    return None
  mask: Any = lambda box: read(box)[::-1]
  return LazyArray(plan.path, plan.shape, np.bool_, mask)
