"""Params and masks to one file, or to several."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import jax

from jprune import _checks, tree
from jprune._entry import check_is_tree, explicit
from jprune.io import _container, _errors, _leaf, _shards, _spread, _structure, _together, _writer
from jprune.masks._apply import aligned
from jprune.masks._pack import PackedMask
from jprune.typing import Masks, Params


@explicit
def save(
  path: str | os.PathLike[str],
  params: Params,
  masks: Masks = None,
  max_shard_size: int | str | None = None,
  metadata: Mapping[str, str] | None = None,
) -> None:
  """Saves params and masks as safetensors, in one file or in several, each leaf at its smallest.

  A leaf with a mask is stored as a bitmask and its kept values (the "sparse-bitmask" layout of
  compressed-tensors), as kept values and their positions, or dense, whichever takes the fewest
  bytes; weights under ``False`` are not stored. A leaf without a mask is stored as it is. Leaves
  pass through the host one at a time; sharded arrays are gathered. A checksum of each leaf goes
  into the header. The file appears all at once: it is written beside ``path`` and renamed, so
  that after a failure the old file is as it was. What a killed save left there goes with the
  next one to the same path.

  With ``max_shard_size`` the path is that of a folder, and what appears in it all at once is a set
  of files in the layout of Hugging Face: ``model-00001-of-00003.safetensors`` and so on, and
  ``model.safetensors.index.json``, which names them and without which they are no checkpoint. A
  set that is there is replaced, whole until the new one is complete, even if the process is killed;
  other files of the folder, such as ``config.json``, stay.

  Where arrays span processes, all processes must make the call, with one path on a file system that
  they share. Each writes some of the files; a leaf is gathered to the process that writes it. If
  one of them fails, all raise.

  Args:
    path: of the file; its folder must exist. A file that is there is replaced. With
      ``max_shard_size`` that of a folder, which is made if it isn't there.
    params: tree of arrays, of any dtype of JAX but typed random keys; leaves of
      :func:`jprune.io.open` are read one at a time.
    masks: tree of the same structure; leaves bool or packed, of the param's shape, or ``None``.
    max_shard_size: bytes of tensors in one file, as a number or as ``'5GB'`` (10^9) or ``'5GiB'``
      (2^30); a leaf that is larger has a file to itself. ``None``: one file.
    metadata: texts for other tools, in the header of each file; :func:`jprune.io.open` gives those
      of a checkpoint. ``{'format': 'pt'}`` is what transformers asks for.

  Raises:
    ImportError: if safetensors is not installed.
    FileNotFoundError: if the folder does not exist.
    OSError: if the folder or the file can't be written to, the name is too long, a link leads
      round in a circle, or the disk is full.
    TypeError: if a leaf is no array with values (a function, a key, a tracer, a shape), or a
      mask is not bool.
    ValueError: if ``path`` is no name for a file, or that of a folder, a pipe or a device, or with
      ``max_shard_size`` that of a file, or of a folder with weights that no index names, or of
      Orbax; if the tree nests hundreds of containers deep, structure or shapes differ, or two
      leaves have one path; if ``max_shard_size`` is no size, or ``metadata`` no dict of texts.
    RuntimeError: if another process could not write its part.

  Examples:
    >>> import os, tempfile
    >>> params = {'w': jnp.array([[1.0, 2.0], [3.0, 4.0]]), 'b': jnp.array([5.0])}
    >>> masks = {'w': jnp.array([[True, False], [False, True]]), 'b': None}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   save(os.path.join(folder, 'sparse.safetensors'), params, masks)
    ...   os.listdir(folder)
    ['sparse.safetensors']

    >>> with tempfile.TemporaryDirectory() as folder:
    ...   save(folder, params, masks, max_shard_size=20)
    ...   sorted(os.listdir(folder))
    ['model-00001-of-00002.safetensors',
     'model-00002-of-00002.safetensors',
     'model.safetensors.index.json']
  """
  write('save', path, params, masks, max_shard_size, metadata)


def write(
  function: str,
  path: Any,
  params: Params,
  masks: Masks = None,
  size: Any = None,
  metadata: Any = None,
  **more: Any,
) -> None:
  """Saves params and masks, and what else jprune's own metadata say, for a caller of that name."""
  _container.library(function)
  target = _checks.as_path(function, path, folders=size is not None)
  most = None if size is None else _writer.shard_bytes(function, size)
  _errors.check_metadata(function, metadata, (_writer.KEY, _writer.CHECKSUM, _shards.SHARD))
  description = _described(function, params)
  leaves, found = _checked(function, params, masks)
  paths = tree.flatten(params)[0]
  contents = {'masks': masks is not None, 'tree': description, **more}
  if any(_together.spans(each, replicated=most is not None) for each in [*leaves, *found]):
    _spread.write(function, target, most, paths, leaves, found, contents, metadata)
    return
  _writer.check_target(function, target, most)
  plans = [_leaf.plan(name, *pair) for name, *pair in zip(paths, leaves, found, strict=True)]
  if most is None:
    writing = _writer.one_file(function, target, plans, contents, metadata=metadata)
  else:
    groups = _writer.groups(plans, most)
    writing = _writer.several_files(function, target, groups, contents, metadata=metadata)
  with writing as out:
    for each in zip(paths, leaves, found, strict=True):
      _put(out, *each)


def _put(out: _writer.Writer, path: str, leaf: Any, mask: Any) -> None:
  """Writes one leaf. What it gathered on the host is freed on return."""
  out.put(path, _leaf.host(leaf), None if mask is None else _leaf.host_mask(mask))


def _checked(function: str, params: Params, masks: Masks) -> tuple[list[Any], list[Any]]:
  """The leaves of params and masks, or the error that says which of them can't be saved."""
  check_is_tree(function, params)
  paths, leaves, _ = tree.flatten(params)
  if not leaves:
    raise _checks.empty_tree(function)
  _checks.check_distinct(function, paths)
  for path, leaf in zip(paths, leaves):
    _check_leaf(function, 'params', path, leaf, params)
    if leaf.dtype.name not in _container.CODES:
      raise _errors.not_storable(function, 'params', path, leaf, params)
  if masks is None:
    return leaves, [None] * len(leaves)
  found = aligned(function, params, masks)
  for path, mask in zip(paths, found):
    if mask is not None:
      _check_leaf(function, 'masks', path, mask.bits if isinstance(mask, PackedMask) else mask)
  return leaves, found


def _described(function: str, params: Params) -> Any:
  try:
    return _structure.describe(params)
  except RecursionError:
    raise _errors.nested_too_deeply(function) from None


def _check_leaf(function: str, argument: str, path: str, leaf: Any, params: Params = None) -> None:
  shape_only = isinstance(leaf, jax.ShapeDtypeStruct)
  if not tree.is_array(leaf) or shape_only or tree.is_traced(leaf):
    raise _errors.not_storable(function, argument, path, leaf, params)
