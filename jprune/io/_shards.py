"""Which safetensors files make one checkpoint, and the reading of them as if they were one.

Several files are a checkpoint by their index, ``<name>.safetensors.index.json`` in the layout of
Hugging Face: ``weight_map`` says which file beside it holds which tensor. A folder without an
index is read where the names of its files leave no doubt: one file, or all of
``<name>-00001-of-0000N.safetensors``. All files are opened at once, so that a set that is replaced
meanwhile can still be read.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jprune import _checks
from jprune.io import _container, _errors, _refused, _trees
from jprune.io._container import Reader, Span
from jprune.io._leaf import Tensor

INDEX = '.safetensors.index.json'  # the end of an index's name
SHARD = 'jprune_shard'  # of the metadata of one file of several: which one it is
_NUMBERED = re.compile(r'(.+)-(\d{5,})-of-(\d{5,})\.safetensors')
_MOST = 2**30  # bytes of an index


@contextlib.contextmanager
def opened(function: str, path: Any) -> Iterator[Files]:
  """A file, or the files of a folder or an index, as long as they are read.

  Raises:
    ImportError: if safetensors is not installed.
    OSError: if there is no such file or folder, or it can't be read.
    TypeError: if ``path`` is no path.
    ValueError: if it is no checkpoint, or one of its files is truncated, damaged, missing, or at
      odds with the index.
  """
  with contextlib.closing(reader(function, path)) as found:
    yield found


def reader(function: str, path: Any) -> Files:
  """:func:`opened`; its caller closes it."""
  name = _checks.as_path(function, path, folders=True)
  _refused.check(function, name)
  if os.path.isfile(name) and _trees.is_tree(name):
    raise _errors.read_by_open(function, name)
  _container.library(function)
  if os.path.isdir(name):
    return _of_folder(function, name)
  if name.endswith('.index.json'):
    return _of_index(function, name)
  return _alone(_container.reader(function, name))


def _of_folder(function: str, folder: str) -> Files:
  try:
    names = sorted(name for name in os.listdir(folder) if not name.startswith('.'))
  except OSError as error:
    raise _errors.not_read(function, 'path', folder, error) from None
  indices = [name for name in names if name.endswith(INDEX)]
  files = [name for name in names if name.endswith('.safetensors')]
  if len(indices) > 1:
    raise _errors.several_checkpoints(function, folder, indices)
  if indices:
    whole = indices[0].removesuffix('.index.json')
    index = os.path.join(folder, indices[0])
    weight_map, _ = read_index(function, index)
    if whole in files and whole not in weight_map.values():
      raise _errors.several_checkpoints(function, folder, [whole, indices[0]])
    return _of_index(function, index)
  if not files:
    _refused.check_folder(function, folder, names)
    others = [os.path.join(folder, name) for name in names if _trees.is_tree(name)]
    raise _errors.no_checkpoint(function, folder, others)
  if len(files) == 1 and not _NUMBERED.fullmatch(files[0]):
    return _alone(_container.reader(function, os.path.join(folder, files[0])))
  return _without_index(function, folder, files)


def _alone(found: Reader) -> Reader:
  """A file by itself, which must not be one of several that jprune wrote."""
  if SHARD in found.metadata:
    found.close()
    raise _errors.one_of_several(found.function, found.path, found.metadata[SHARD])
  return found


def _without_index(function: str, folder: str, files: list[str]) -> Shards:
  """Numbered files of another tool; the tree of ours stands in the index."""
  matches = [_NUMBERED.fullmatch(name) for name in files]
  stems = {(match[1], match[3]) if match else name for match, name in zip(matches, files)}
  if len(stems) > 1:
    raise _errors.several_checkpoints(function, folder, files)
  ((stem, last),) = stems
  width = max(len(match[2]) for match in matches if match)  # 5 for 000163 files too
  wanted = (f'{stem}-{i:0{width}}-of-{last}.safetensors' for i in range(1, int(last) + 1))
  missing = list(itertools.islice((name for name in wanted if name not in files), 3))
  if missing:
    raise _errors.shard_missing(function, folder, missing)
  found = Shards(function, folder, folder, dict.fromkeys(files), {})
  if any(SHARD in each.metadata for each in found.readers.values()):
    found.close()
    raise _errors.index_missing(function, folder)
  return found


def _of_index(function: str, path: str) -> Shards:
  weight_map, metadata = read_index(function, path)
  tensors: dict[str, set[str] | None] = {}
  for name, file in weight_map.items():
    tensors.setdefault(file, set()).add(name)  # pyright: ignore[reportOptionalMemberAccess]
  return Shards(function, path, os.path.dirname(path), tensors, metadata)


def read_index(function: str, path: str) -> tuple[dict[str, str], dict[str, Any]]:
  """The ``weight_map`` and the ``metadata`` of an index.

  Raises:
    ValueError: if it is no index, or names files of other folders.
  """
  _errors.check_input(function, path)
  try:
    with open(path, 'rb') as file:
      size = os.fstat(file.fileno()).st_size  # so much is set aside before it is read
      contents = json.loads(file.read(min(size, _MOST)), object_pairs_hook=unique)
    weight_map, metadata = contents['weight_map'], contents.get('metadata') or {}
    if not (isinstance(weight_map, dict) and weight_map and isinstance(metadata, dict)):
      raise ValueError('its weight_map is no object with tensors')
    for name, file in weight_map.items():
      if not isinstance(file, str):
        raise ValueError(f"tensor '{name}' is in {file!r}")
      odd = os.path.basename(file) != file or file in ('', '.', '..') or '\\' in file
      if odd or '\0' in file or not file.endswith('.safetensors'):
        raise ValueError(f"tensor '{name}' is in {file!r}, which is no safetensors file beside it")
  except OSError as error:
    raise _errors.not_read(function, 'path', path, error) from None
  except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
    raise _errors.broken_index(function, path, error) from None
  return weight_map, metadata


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  """An object of JSON, for ``object_pairs_hook``, of which no key is read twice."""
  found = dict(pairs)
  if len(found) < len(pairs):
    raise ValueError('it has a key twice')
  return found


class Shards:
  """The open files of one checkpoint, to be read like one :class:`Reader`.

  Attributes:
    function: who reads, for messages.
    path: of the index, or of the folder.
    readers: the files by name.
    metadata: texts of the index, and those on which all files agree.
    index_metadata: all that the index says besides.
    spans: the tensors of all files.
  """

  def __init__(
    self,
    function: str,
    path: str,
    folder: str,
    tensors: Mapping[str, set[str] | None],
    metadata: dict[str, Any],
  ):
    """Opens the files.

    Args:
      function: who reads.
      path: what is named in messages.
      folder: of the files.
      tensors: which each file must hold; ``None``: whichever.
      metadata: of the index.
    """
    self.function, self.path, self.readers = function, path, {}
    self._of: dict[str, Reader] = {}
    self.spans: dict[str, Span] = {}
    try:
      for name in sorted(tensors):
        file = os.path.join(folder, name)
        if not os.path.lexists(file):
          raise _errors.shard_missing(function, path, [name])
        self.readers[name] = _container.reader(function, file)
      for name, found in self.readers.items():
        self._add(name, found, tensors)
    except BaseException:
      self.close()
      raise
    common = [set(each.metadata.items()) for each in self.readers.values()]
    texts = {key: text for key, text in metadata.items() if isinstance(text, str)}
    self.index_metadata = metadata
    self.metadata = {**dict(sorted(set.intersection(*common))), **texts}
    self.metadata.pop(SHARD, None)
    self.mode = next(iter(self.readers.values())).mode

  def _add(self, name: str, found: Reader, tensors: Mapping[str, set[str] | None]) -> None:
    listed = tensors[name]
    twice = [tensor for tensor in found.spans if tensor in self._of]
    if twice:
      first = os.path.basename(self._of[twice[0]].path)
      raise _errors.tensor_twice(self.function, self.path, twice[0], [first, name])
    if listed is not None and listed != set(found.spans):
      missing, extra = sorted(listed - set(found.spans)), sorted(set(found.spans) - listed)
      others = {tensor for other in tensors.values() for tensor in other or ()}
      if extra and extra[0] in others:
        other = next(file for file, names in tensors.items() if extra[0] in (names or ()))
        if other in self.readers and extra[0] in self.readers[other].spans:
          raise _errors.tensor_twice(self.function, self.path, extra[0], [name, other])
      raise _errors.index_at_odds(self.function, self.path, name, missing, extra)
    self._of.update(dict.fromkeys(found.spans, found))
    self.spans.update(found.spans)

  def span(self, tensor: Tensor) -> Span:
    """As :meth:`Reader.span`."""
    return self._reader(tensor).span(tensor)

  def raw(self, tensor: Tensor) -> np.ndarray:
    """As :meth:`Reader.raw`."""
    return self._reader(tensor).raw(tensor)

  def read_into(self, tensor: Tensor, position: int, out: np.ndarray) -> None:
    """As :meth:`Reader.read_into`."""
    self._reader(tensor).read_into(tensor, position, out)

  def _reader(self, tensor: Tensor) -> Reader:
    if tensor.name not in self._of:
      raise ValueError(f"tensor '{tensor.name}' is missing")
    return self._of[tensor.name]

  def file_of(self, name: str) -> str:
    """The path of the file that holds a tensor; the index's for one that is nowhere."""
    return self._of[name].path if name in self._of else self.path

  @property
  def files(self) -> dict[str, tuple[str, ...]]:
    """The tensors in each file, by its path."""
    return {each.path: tuple(each.spans) for each in self.readers.values()}

  @property
  def closed(self) -> bool:
    return any(each.closed for each in self.readers.values())

  def close(self) -> None:
    for each in self.readers.values():
      each.close()


Files = Reader | Shards
"""What is read like one file."""
