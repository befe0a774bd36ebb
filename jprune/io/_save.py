"""Params and masks to one file."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Sequence
from typing import Any, BinaryIO

import jax

from jprune import _checks, tree
from jprune._entry import explicit
from jprune.io import _atomic, _container, _errors, _leaf, _structure
from jprune.masks._apply import aligned
from jprune.masks._pack import PackedMask
from jprune.typing import Masks, Params

VERSION = 1
KEY = 'jprune'  # of the metadata: what the tensors stand for, as JSON
CHECKSUM = 'jprune_crc32'  # of that text


@explicit
def save(path: str | os.PathLike[str], params: Params, masks: Masks = None) -> None:
  """Saves params and masks as one safetensors file, each leaf in its smallest format.

  A leaf with a mask is stored as a bitmask and its kept values (the "sparse-bitmask" layout of
  compressed-tensors), as kept values and their positions, or dense, whichever takes the fewest
  bytes; weights under ``False`` are not stored. A leaf without a mask is stored as it is. Leaves
  pass through the host one at a time; sharded arrays are gathered. A checksum of each leaf goes
  into the header. The file appears all at once: it is written beside ``path`` and renamed, so
  that after a failure the old file is as it was. What a killed save left there goes with the
  next one to the same path.

  Args:
    path: of the file; its folder must exist. A file that is there is replaced.
    params: tree of arrays, of any dtype of JAX but typed random keys.
    masks: tree of the same structure; leaves bool or packed, of the param's shape, or ``None``.

  Raises:
    ImportError: if safetensors is not installed.
    FileNotFoundError: if the folder does not exist.
    OSError: if the folder or the file can't be written to, the name is too long, a link leads
      round in a circle, or the disk is full.
    TypeError: if a leaf is no array with values (a function, a key, a tracer, a shape), or a
      mask is not bool.
    ValueError: if ``path`` is no name for a file, or that of a folder, a pipe or a device; if the
      tree nests hundreds of containers deep, structure or shapes differ, two
      leaves have one path, or an array lies in part on another process.

  Examples:
    >>> import os, tempfile
    >>> params = {'w': jnp.array([[1.0, 2.0], [3.0, 4.0]]), 'b': jnp.array([5.0])}
    >>> masks = {'w': jnp.array([[True, False], [False, True]]), 'b': None}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   save(os.path.join(folder, 'sparse.safetensors'), params, masks)
    ...   os.listdir(folder)
    ['sparse.safetensors']
  """
  write('save', path, params, masks)


def write(function: str, path: Any, params: Params, masks: Masks = None, **more: Any) -> None:
  """Saves params and masks, and what else stands in the metadata, for a caller of that name."""
  safetensors = _container.library(function)
  target = _checks.as_path(function, path)
  _checks.check_output(function, target)
  description = _described(function, params)
  leaves, found = _checked(function, params, masks)
  plans = [_leaf.plan(name, *pair) for name, *pair in zip(tree.flatten(params)[0], leaves, found)]
  tensors = [tensor for plan in plans for tensor in _leaf.tensors(plan)]
  _check_names(function, [tensor.name for tensor in tensors])
  spans = _container.layout(tensors)
  contents = {'version': VERSION, 'masks': masks is not None, 'tree': description, **more}

  def header(checksums: Sequence[int]) -> bytes:
    return _container.header(spans, _metadata(contents, plans, checksums))

  start = len(header([0] * len(plans)))  # checksums are of one length, so this is final
  with _atomic.replacing(target, function=function) as (file, temporary):
    checksums = [
      _write(file, start, spans, *each) for each in zip(plans, leaves, found, strict=True)
    ]
    file.seek(0)
    file.write(header(checksums))
    file.flush()
    _container.check_written(function, safetensors, temporary)


def _checked(function: str, params: Params, masks: Masks) -> tuple[list[Any], list[Any]]:
  """The leaves of params and masks, or the error that says which of them can't be saved."""
  paths, leaves, _ = tree.flatten(params)
  if not leaves:
    raise _checks.empty_tree(function)
  _checks.check_distinct(function, paths)
  for path, leaf in zip(paths, leaves):
    _check_leaf(function, 'params', path, leaf)
    if leaf.dtype.name not in _container.CODES:
      raise _errors.not_storable(function, 'params', path, leaf)
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


def _check_leaf(function: str, argument: str, path: str, leaf: Any) -> None:
  shape_only = isinstance(leaf, jax.ShapeDtypeStruct)
  if not tree.is_array(leaf) or shape_only or tree.is_traced(leaf):
    raise _errors.not_storable(function, argument, path, leaf)
  here = getattr(leaf, 'is_fully_addressable', True) or getattr(leaf, 'is_fully_replicated', True)
  if not here:
    raise _errors.not_addressable(function, argument, path, leaf)


def _check_names(function: str, names: list[str]) -> None:
  seen = {_container.METADATA}
  for name in names:
    if name in seen:
      raise _errors.tensor_name_taken(function, name)
    seen.add(name)


def _write(file: BinaryIO, start: int, spans: Any, plan: _leaf.Leaf, leaf: Any, mask: Any) -> int:
  """Writes one leaf; returns its checksum. What it gathered on the host is freed on return."""
  mask = None if mask is None else _leaf.host_mask(mask)
  checksum = 0
  for tensor, array in zip(_leaf.tensors(plan), _leaf.encode(plan, _leaf.host(leaf), mask)):
    raw = _container.write_at(file, start + spans[tensor.name].begin, array)
    checksum = zlib.crc32(raw, checksum)
  return checksum


def _metadata(
  contents: dict[str, Any], plans: list[_leaf.Leaf], checksums: Sequence[int]
) -> dict[str, str]:
  leaves = [[*plan, f'{checksum:08x}'] for plan, checksum in zip(plans, checksums, strict=True)]
  text = json.dumps({**contents, 'leaves': leaves}, separators=(',', ':'))
  return {KEY: text, CHECKSUM: f'{zlib.crc32(text.encode()):08x}'}
