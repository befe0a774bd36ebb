"""A file that appears whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from typing import BinaryIO

from jprune import _checks

try:
  import fcntl
except ImportError:  # Windows, where leftovers stay
  fcntl = None

# of writing alone: other errors may be those of a file that is read meanwhile
_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


@contextlib.contextmanager
def replacing(
  path: str, mode: int = 0o666, function: str = 'save', argument: str = 'path'
) -> Iterator[tuple[BinaryIO, str]]:
  """Yields a new file and its temporary path; on leaving, the file takes the place of ``path``.

  The temporary file lies in the same folder, so that the last step is a rename within one file
  system. Whatever is raised inside, the old file stays as it was and the temporary one goes. What
  a killed process left of one is removed by the next: nobody holds its lock any more.

  Args:
    path: of the file. One that is there hands on its permissions.
    mode: the permissions that a new file may have at most; the umask takes its part of them.
    function: who asks, for the message.
    argument: what the path is called there.

  Raises:
    OSError: of the system's kind, if the file can't be created, written, or put in its place.
  """
  worded = lambda error: _checks.not_written(function, argument, path, error)
  target = os.path.realpath(path)  # a link is written through, as open(path, 'wb') would
  _remove_leftovers(target)
  with _said(worded):
    handle, temporary = _created(target, mode)
  try:
    with _held(handle):
      with _said(worded, _FULL), open(handle, 'r+b') as file:
        yield file, temporary
        file.flush()
        with _said(worded):
          os.fsync(file.fileno())
      with _said(worded):
        _hand_on_permissions(target, temporary)
        os.replace(temporary, target)
  except BaseException:  # KeyboardInterrupt too
    with contextlib.suppress(FileNotFoundError):
      os.unlink(temporary)
    raise
  _sync_folder(os.path.dirname(target))


@contextlib.contextmanager
def _said(worded: Callable[[OSError], OSError], only: tuple[int, ...] = ()) -> Iterator[None]:
  """Errors of the system in our words: all of them, or those that no other file can have."""
  try:
    yield
  except OSError as error:
    of_another = only and (error.errno not in only or error.filename is not None)
    if of_another or error.strerror is None:  # None: worded already
      raise
    raise worded(error) from None


# ---------------------------------------------------------------------------- temporary files


def _temporary(target: str, token: str) -> tuple[str, str]:
  """Folder and name of a temporary file: no longer than the target's own, unless that is short."""
  folder, name = os.path.split(target)
  longest = max(30, len(os.fsencode(name)) - 22)  # 22 for the dots, the token and the ending
  while len(os.fsencode(name)) > longest:
    name = name[:-1]
  return folder, f'.{name}.{token}.tmp'


def _created(target: str, mode: int) -> tuple[int, str]:
  """A new temporary file, locked for as long as this process writes it."""
  # Not tempfile.mkstemp: its files are readable by their owner alone, whatever the umask says.
  flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, 'O_BINARY', 0)
  while True:
    temporary = os.path.join(*_temporary(target, secrets.token_hex(8)))
    handle = os.open(temporary, flags, mode)
    if fcntl is not None:
      with contextlib.suppress(OSError):  # a file system without locks: nothing is removed there
        fcntl.flock(handle, fcntl.LOCK_EX)
    if os.path.lexists(temporary):
      return handle, temporary
    os.close(handle)  # taken for a leftover before it was locked


@contextlib.contextmanager
def _held(handle: int) -> Iterator[None]:
  """Keeps the lock when the file is closed, until it has its name."""
  lock = None if fcntl is None else os.dup(handle)
  try:
    yield
  finally:
    if lock is not None:
      os.close(lock)


def _remove_leftovers(target: str) -> None:
  """Removes the temporary files whose writers are gone. One that can't be removed may stay."""
  folder, name = _temporary(target, '\0')
  pattern = re.compile(re.escape(name).replace(re.escape('\0'), '[0-9a-f]{16}'), re.DOTALL)
  with contextlib.suppress(OSError), os.scandir(folder) as entries:
    for entry in entries:
      if pattern.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
        _remove_if_unlocked(entry.path)


def _remove_if_unlocked(temporary: str) -> None:
  if fcntl is None:
    return
  with contextlib.suppress(OSError):  # locked: another save that is still running
    handle = os.open(temporary, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
      fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
      os.unlink(temporary)
    finally:
      os.close(handle)


def _hand_on_permissions(target: str, temporary: str) -> None:
  with contextlib.suppress(FileNotFoundError):
    os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))


def _sync_folder(folder: str) -> None:
  """Makes the rename survive a power cut, where the system can (Windows can't)."""
  with contextlib.suppress(OSError):
    handle = os.open(folder, os.O_RDONLY)
    try:
      os.fsync(handle)
    finally:
      os.close(handle)
