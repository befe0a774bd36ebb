"""A file that appears whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from typing import BinaryIO

# of writing alone: other errors may be those of a file that is read meanwhile
_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


@contextlib.contextmanager
def replacing(path: str, mode: int = 0o666) -> Iterator[tuple[BinaryIO, str]]:
  """Yields a new file and its temporary path; on leaving, the file takes the place of ``path``.

  The temporary file lies in the same folder, so that the last step is a rename within one file
  system. Whatever is raised inside, the old file stays as it was and the temporary one goes.

  Args:
    path: of the file. One that is there hands on its permissions.
    mode: the permissions that a new file may have at most; the umask takes its part of them.
  """
  target = os.path.realpath(path)  # a link is written through, as open(path, 'wb') would
  folder, name = os.path.split(target)
  # Not tempfile.mkstemp: its files are readable by their owner alone, whatever the umask says.
  temporary = os.path.join(folder, f'.{name[:100]}.{secrets.token_hex(8)}.tmp')
  flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, 'O_BINARY', 0)
  try:
    with open(_created(temporary, flags, mode, path), 'wb') as file:
      yield file, temporary
      file.flush()
      os.fsync(file.fileno())
    if os.path.exists(target):
      os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))
    os.replace(temporary, target)
  except BaseException as error:  # KeyboardInterrupt too
    with contextlib.suppress(FileNotFoundError):
      os.unlink(temporary)
    if isinstance(error, OSError) and error.errno in _FULL and error.filename is None:
      raise OSError(error.errno, error.strerror, path) from None
    raise
  _sync_folder(folder)


def _created(temporary: str, flags: int, mode: int, path: str) -> int:
  try:
    return os.open(temporary, flags, mode)
  except OSError as error:  # by the name that the user knows
    raise OSError(error.errno, error.strerror, path) from None


def _sync_folder(folder: str) -> None:
  """Makes the rename survive a power cut, where the system can (Windows can't)."""
  with contextlib.suppress(OSError):
    handle = os.open(folder, os.O_RDONLY)
    try:
      os.fsync(handle)
    finally:
      os.close(handle)
