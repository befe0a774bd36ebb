"""Leaves to one file or to several, one at a time; the checkpoint appears when all are there.

::

  plans = [_leaf.plan(path, leaf, mask), ...]  # formats, and counts of kept weights
  contents = {'tree': _structure.describe(params), 'masks': True}
  with several_files('prune', folder, groups(plans, 5 * 10**9), contents) as out:
    out.put('embed', values, mask)  # NumPy arrays, in any order
    for i, (values, mask) in enumerate(layers):
      out.put_step('layers/kernel', i, values, mask)  # of a leaf that is stored dense

A plan may also be made by hand: ``_leaf.Leaf(path, dtype, shape, 'dense', size, None)`` of a leaf
without a mask. The end of the block finishes the checkpoint; after an exception in it the old one
is as it was. Memory is that of the leaf or step that is put.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jprune import _checks
from jprune.io import _atomic, _container, _errors, _leaf
from jprune.io._growing import Growing
from jprune.io._replaced import Place, folder_for
from jprune.io._shards import SHARD

VERSION = 1
KEY = 'jprune'  # of the metadata: what the tensors stand for, as JSON
CHECKSUM = 'jprune_crc32'  # of that text

_SIZE = re.compile(r'\s*([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([KMGT]?)(I?)B\s*', re.IGNORECASE)


def shard_bytes(function: str, size: Any) -> int:
  """A size of files in bytes: ``'5GB'`` is 5 * 10^9 as Hugging Face has it, ``'5GiB'`` 5 * 2^30.

  Raises:
    ValueError: if it is none.
  """
  if isinstance(size, (int, np.integer)) and not isinstance(size, bool) and size > 0:
    return int(size)
  found = _SIZE.fullmatch(size) if isinstance(size, str) else None
  if found is None or not float(found[1]):
    raise _errors.bad_shard_size(function, size)
  base = 1024 if found[3] else 1000
  return max(1, int(float(found[1]) * base ** ' KMGT'.index(found[2].upper() or ' ')))


def groups(plans: Sequence[_leaf.Leaf], most: int) -> list[list[_leaf.Leaf]]:
  """Leaves in their order, as many to a file as fit; one that is larger has a file to itself."""
  out: list[list[_leaf.Leaf]] = [[]]
  size = 0
  for plan in plans:
    if out[-1] and size + nbytes(plan) > most:
      out.append([])
      size = 0
    out[-1].append(plan)
    size += nbytes(plan)
  return out


def nbytes(plan: _leaf.Leaf) -> int:
  """Bytes of all tensors of a leaf."""
  return sum(tensor.nbytes for tensor in _leaf.tensors(plan))


class Writer:
  """Open files, and where in them each leaf goes."""

  def __init__(self, files: Sequence[Growing]):
    self._files = files
    self._of = {path: file for file in files for path in file.plans}

  def put(self, path: str, values: np.ndarray, mask: np.ndarray | None = None) -> None:
    """As :meth:`Growing.put`."""
    self._of[path].put(path, values, mask)

  def put_step(
    self,
    path: str,
    i: int,
    values: np.ndarray,
    mask: np.ndarray | None = None,
    axis: int = 0,
  ) -> None:
    """As :meth:`Growing.put_step`."""
    self._of[path].put_step(path, i, values, mask, axis)

  def __contains__(self, path: str) -> bool:
    """Whether one of these files is to hold a leaf."""
    return path in self._of

  @property
  def checksums(self) -> dict[str, int]:
    """Of the leaves that are complete."""
    return {path: found for file in self._files for path, found in file.checksums.items()}


@contextlib.contextmanager
def one_file(
  function: str,
  path: str,
  plans: Sequence[_leaf.Leaf],
  contents: Mapping[str, Any],
  *,
  metadata: Mapping[str, str] | None = None,
  argument: str = 'path',
  mode: int = 0o666,
) -> Iterator[Writer]:
  """A file that appears at the end.

  Args:
    function: who writes, for messages.
    path: of the file.
    plans: the leaves, in the order in which the metadata list them.
    contents: what the metadata say besides: ``tree``, ``masks`` and more.
    metadata: texts of other tools for the header.
    argument: what the path is called in messages.
    mode: the permissions that a new file may have at most.

  Raises:
    OSError: if it can't be written.
    ValueError: if a leaf isn't as planned, or the library refuses the header.
  """
  check_names(function, plans)
  whole = lambda checksums: {**(metadata or {}), **described(contents, plans, checksums)}
  with _atomic.replacing(path, mode, function, argument) as (file, temporary):
    growing = Growing(function, file, temporary, plans, whole)
    yield Writer([growing])
    growing.seal()


@contextlib.contextmanager
def several_files(
  function: str,
  path: str,
  groups: Sequence[Sequence[_leaf.Leaf]],
  contents: Mapping[str, Any],
  *,
  metadata: Mapping[str, str] | None = None,
  argument: str = 'path',
  mode: int = 0o666,
  stem: str = 'model',
  names: Sequence[str] | None = None,
  order: Sequence[str] | None = None,
  index: Mapping[str, Any] | None = None,
) -> Iterator[Writer]:
  """Files in a folder, and their index, which appears at the end; see :mod:`_replaced`.

  Args:
    function: who writes, for messages.
    path: of the folder, which is made if it isn't there.
    groups: the leaves of each file.
    contents: what the index says besides: ``tree``, ``masks`` and more.
    metadata: texts of other tools for each header.
    argument: what the path is called in messages.
    mode: the permissions that new files may have at most.
    stem: how the names begin, that of the index too.
    names: of the files, by default numbered.
    index: what else the index says.
    order: paths of the leaves as they are numbered in ``tree``; by default as in the groups.

  Raises:
    OSError: if they can't be written.
    ValueError: if a leaf isn't as planned, the library refuses a header, or the folder holds
      other weights.
  """
  plans = [plan for group in groups for plan in group]
  check_names(function, plans)
  with folder_for(function, argument, path):
    place = Place(function, argument, path, stem, len(groups), secrets.token_hex(8))
    if names is not None:
      place.names = list(names)
    place.prepare()
    with growing_files(place, groups, range(len(groups)), metadata, mode) as files:
      out = Writer(files)
      yield out
    place.commit(lambda names: index_text(groups, contents, out.checksums, names, order, index))


@contextlib.contextmanager
def growing_files(
  place: Place,
  groups: Sequence[Sequence[_leaf.Leaf]],
  mine: Sequence[int],
  metadata: Mapping[str, str] | None,
  mode: int = 0o666,
) -> Iterator[list[Growing]]:
  """Some files of a set, complete and synced at the end under their temporary names."""
  with place.cleared_on_failure(), contextlib.ExitStack() as stack:
    files = []
    for i in mine:
      file = stack.enter_context(place.writing(i, mode))
      texts = {**(metadata or {}), SHARD: place.names[i]}
      files.append(
        Growing(place.function, file, place.temporary(i), groups[i], lambda _, t=texts: t)
      )
    yield files
    for file in files:
      file.seal()


def described(
  contents: Mapping[str, Any], plans: Sequence[_leaf.Leaf], checksums: Mapping[str, int]
) -> dict[str, str]:
  """What jprune's own metadata say of a checkpoint; of one length whatever the checksums."""
  leaves = [[*plan, f'{checksums[plan.path]:08x}'] for plan in plans]
  text = json.dumps({'version': VERSION, **contents, 'leaves': leaves}, separators=(',', ':'))
  return {KEY: text, CHECKSUM: f'{zlib.crc32(text.encode()):08x}'}


def index_text(
  groups: Sequence[Sequence[_leaf.Leaf]],
  contents: Mapping[str, Any],
  checksums: Mapping[str, int],
  names: Sequence[str],
  order: Sequence[str] | None = None,
  more: Mapping[str, Any] | None = None,
) -> str:
  """The index as Hugging Face writes it, with jprune's own metadata among the others."""
  plans = [plan for group in groups for plan in group]
  if order is not None:
    by_path = {plan.path: plan for plan in plans}
    plans = [by_path[path] for path in order]
  size = {'total_size': sum(map(nbytes, plans))}
  metadata = {**(more or {}), **size, **described(contents, plans, checksums)}
  weight_map = {
    tensor.name: name
    for name, group in zip(names, groups, strict=True)
    for plan in group
    for tensor in _leaf.tensors(plan)
  }
  return json.dumps({'metadata': metadata, 'weight_map': weight_map}, indent=2) + '\n'


def check_names(function: str, plans: Sequence[_leaf.Leaf]) -> None:
  """Refuses leaves that need tensors of one name."""
  seen = {_container.METADATA}
  for plan in plans:
    for tensor in _leaf.tensors(plan):
      if tensor.name in seen:
        raise _errors.tensor_name_taken(function, tensor.name)
      seen.add(tensor.name)


def check_target(function: str, path: str, most: int | None, argument: str = 'path') -> None:
  """Refuses a name that can't become that of a file, or of a folder of several."""
  if most is None:
    _checks.check_output(function, path, argument)
  elif not os.path.isdir(path):
    if os.path.lexists(path):
      raise _errors.not_a_folder(function, argument, path)
    _checks.check_output(function, os.path.normpath(path), argument)
  elif not os.access(path, os.W_OK | os.X_OK):
    raise _checks.folder_not_writable(function, argument, path)
