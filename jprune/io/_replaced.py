"""A set of files that takes the place of another all at once.

What makes a set is its index, so that the rename of a new index over the old one is the moment at
which the new set stands. Until then its files lie beside the old ones under names of their own:

1. Each is written and synced as ``.model-<token>-00001-of-0000N.safetensors.tmp``, then renamed to
   ``model-<token>-00001-of-0000N.safetensors``.
2. The index that names these replaces the old one.
3. The old files are removed, hard links give the new ones their plain names,
   ``model-00001-of-0000N.safetensors``, and an index of these replaces the first. (Where there are
   no hard links the names with the token stay.)

A process may be killed at any moment: the index that stands names files that are complete. What it
left is known by its token, and goes with the next save. All other files in the folder, such as
``config.json``, stay; those that loaders would take for weights of the new set refuse it.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from jprune import _checks
from jprune.io import _atomic, _errors
from jprune.io._orbax import MARKS
from jprune.io._shards import INDEX, read_index

try:
  import fcntl
except ImportError:  # Windows
  fcntl = None

_TOKEN = '[0-9a-f]{16}'


class Place:
  """A folder in which a set of files is being written.

  Attributes:
    folder: its path.
    token: of this save.
    names: the plain names of the files.
  """

  def __init__(self, function: str, argument: str, folder: str, stem: str, count: int, token: str):
    self.function, self.argument, self.folder, self.token = function, argument, folder, token
    self._stem = stem
    self.names = [numbered(stem, i, count) for i in range(count)]
    self.index = os.path.join(folder, stem + INDEX)
    self._mode: int | None = None  # of an index that is replaced
    with contextlib.suppress(OSError):
      self._mode = stat.S_IMODE(os.stat(self.index).st_mode)
    self._old: set[str] = set()

  def temporary(self, i: int) -> str:
    """Where file ``i`` is written."""
    return os.path.join(self.folder, f'.{self._tokened(i)}.tmp')

  def prepare(self) -> None:
    """Removes what killed saves left, and refuses weights that aren't replaced.

    Raises:
      ValueError: if there are some, or the index that is there can't be read.
    """
    if os.path.lexists(self.index):
      self._old = set(read_index(self.function, self.index)[0].values())
    interrupted = any(re.fullmatch(self._pattern(_TOKEN), name) for name in self._old)
    others, plain = [], re.compile(self._pattern(None))
    own = re.compile(rf'{self._pattern(_TOKEN)}|\.{self._pattern(_TOKEN)}\.tmp')
    for name in sorted(os.listdir(self.folder)):
      if name in self._old or name == self._stem + INDEX:
        continue
      if own.fullmatch(name) or (interrupted and plain.fullmatch(name)):
        _removed(os.path.join(self.folder, name))
      elif name in (f'{self._stem}.safetensors', *MARKS) or name.endswith(INDEX):
        others.append(name)
      elif plain.fullmatch(name):
        others.append(name)
    if others:
      raise _errors.folder_taken(self.function, self.argument, self.folder, others)

  def commit(self, index: Callable[[Sequence[str]], str]) -> None:
    """Puts the new set in the place of the old one.

    Args:
      index: the text of the index, by the names of the files.
    """
    tokened = [self._tokened(i) for i in range(len(self.names))]
    try:
      with self.cleared_on_failure(), _atomic._said(self._worded):
        for i, name in enumerate(tokened):
          os.replace(self.temporary(i), os.path.join(self.folder, name))
      _atomic._sync_folder(self.folder)
      self._write(index(tokened))
    except BaseException:
      self._remove(tokened)
      raise
    self._remove(self._old - set(tokened))
    linked: list[str] = []
    try:  # the set stands: what fails now leaves it under the names that it has
      for name, plain in zip(tokened, self.names):
        os.link(os.path.join(self.folder, name), os.path.join(self.folder, plain))
        linked.append(plain)
      self._write(index(self.names))
    except OSError:
      self._remove(linked)
    else:
      self._remove(tokened)

  @contextlib.contextmanager
  def cleared_on_failure(self) -> Iterator[None]:
    """After an exception no file is left of those that were written."""
    try:
      yield
    except BaseException:
      for i in range(len(self.names)):
        _removed(self.temporary(i))
      raise

  @contextlib.contextmanager
  def writing(self, i: int, mode: int) -> Iterator[BinaryIO]:
    """File ``i``, synced at the end."""
    name = self.temporary(i)
    with _atomic._said(self._worded):
      handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, 'O_BINARY', 0), mode)
    with _atomic._said(self._worded, _atomic._FULL), open(handle, 'r+b') as file:
      yield file
      file.flush()
      with _atomic._said(self._worded):
        os.fsync(file.fileno())
        if self._mode is not None:
          os.chmod(name, self._mode)

  def _write(self, text: str) -> None:
    with _atomic.replacing(self.index, function=self.function, argument=self.argument) as (file, _):
      file.write(text.encode())

  def _remove(self, names: Sequence[str] | set[str]) -> None:
    for name in names:
      _removed(os.path.join(self.folder, name))

  def _worded(self, error: OSError) -> OSError:
    return _checks.not_written(self.function, self.argument, self.folder, error)

  def _tokened(self, i: int) -> str:
    return numbered(f'{self._stem}-{self.token}', i, len(self.names))

  def _pattern(self, token: str | None) -> str:
    middle = '' if token is None else f'-{token}'
    return rf'{re.escape(self._stem)}{middle}-\d{{5,}}-of-\d{{5,}}\.safetensors'


def numbered(stem: str, i: int, count: int) -> str:
  """The name of file ``i`` of a set, as Hugging Face has it."""
  return f'{stem}-{i + 1:05}-of-{count:05}.safetensors'


@contextlib.contextmanager
def folder_for(function: str, argument: str, path: str) -> Iterator[None]:
  """Makes the folder, and locks it; one that was made goes again if nothing came into it."""
  made = not os.path.isdir(path)
  with _atomic._said(lambda error: _checks.not_written(function, argument, path, error)):
    os.makedirs(path, exist_ok=True)  # another process may have made it meanwhile
  try:
    with _locked(path):
      yield
  except BaseException:
    if made:
      with contextlib.suppress(OSError):
        os.rmdir(path)
    raise


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
  """Waits until no other save writes into the folder, where the file system has locks."""
  if fcntl is None:
    yield
    return
  handle = os.open(path, os.O_RDONLY)
  try:
    with contextlib.suppress(OSError):
      fcntl.flock(handle, fcntl.LOCK_EX)
    yield
  finally:
    os.close(handle)


def _removed(path: str) -> None:
  with contextlib.suppress(OSError):
    os.unlink(path)
