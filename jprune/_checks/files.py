"""The tally, and files."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Sequence
from typing import Any

from jprune._checks.words import kind, listed, message, quoted, shortened


def traced(function: str, argument: str, path: str | None, leaf: Any) -> TypeError:
  fix = 'Call it outside jit, grad and vmap.'
  got = f'a traced {kind(leaf)}'
  return TypeError(message(function, argument, 'arrays with values at hand', got, fix, path))


def missing_library(function: str, library: str, extra: str) -> ImportError:
  fix = f"Run pip install 'jprune[{extra}]'."
  return ImportError(f"{function}: needs {library}, which isn't installed. {fix}")


def as_path(function: str, path: Any, argument: str = 'path', folders: bool = False) -> str:
  """The name of a file as a str; refused if no file can have it, whatever the system holds.

  Args:
    function: who asks, for the message.
    path: what the user gave.
    argument: what it is called there.
    folders: whether it may be that of a folder too.
  """
  fix = "Pass a file name such as 'sparse.safetensors'."
  if not isinstance(path, (str, os.PathLike)):
    raise TypeError(message(function, argument, 'a str or os.PathLike', kind(path), fix))
  name, constraint = os.fsdecode(path), 'the name of a file'
  if not name:
    raise ValueError(message(function, argument, constraint, repr(name), fix))
  if '\0' in name or not _encodes(name):
    fix = 'Leave out NUL and lone surrogates.'
    raise ValueError(message(function, argument, constraint, quoted(name), fix))
  if folders:
    return name
  if os.path.isdir(name) or os.path.basename(name) in ('', os.curdir, os.pardir):
    got = f'the folder {quoted(name)}'
    raise ValueError(message(function, argument, constraint, got, 'Add a file name.'))
  return name


def _encodes(name: str) -> bool:
  try:
    os.fsencode(name)
  except UnicodeEncodeError:
    return False
  return True


def check_output(function: str, path: str, argument: str = 'path') -> None:
  """Refuses a name that can't become that of a file: for its folder, or for what is there."""
  try:
    mode = os.stat(path).st_mode
  except FileNotFoundError:
    mode = None
  except OSError as error:
    raise not_written(function, argument, path, error) from None
  target = os.path.realpath(path)
  for folder in (os.path.join(os.getcwd(), os.path.dirname(path)), os.path.dirname(target)):
    if not os.path.isdir(folder):
      constraint, fix = 'in an existing folder', f'Create {quoted(folder)} first.'
      raise FileNotFoundError(message(function, argument, constraint, quoted(path), fix))
  if not os.access(folder, os.W_OK | os.X_OK):
    raise folder_not_writable(function, argument, path)
  if mode is None:
    return
  fix = 'Choose another name.'
  if not stat.S_ISREG(mode):  # renaming a file over a pipe or a device would replace it
    constraint, got = 'a regular file or a new name', f'{quoted(path)}, {_special(mode)}'
    raise ValueError(message(function, argument, constraint, got, fix))
  if not os.path.exists(target):  # as of a file in /proc/self/fd that was deleted
    constraint, got = 'a file that has a name', f'{quoted(path)}, which leads to none'
    raise ValueError(message(function, argument, constraint, got, fix))
  if not os.access(path, os.W_OK):
    constraint = 'a file that can be written to'
    raise PermissionError(message(function, argument, constraint, quoted(path), fix))


def folder_not_writable(function: str, argument: str, path: str) -> PermissionError:
  constraint, fix = 'in a folder that can be written to', 'Choose another folder.'
  return PermissionError(message(function, argument, constraint, quoted(path), fix))


def not_written(function: str, argument: str, path: str, error: OSError) -> OSError:
  return _of_system(function, argument, 'a file that can be written', path, error)


def _of_system(function: str, argument: str, constraint: str, path: str, error: OSError) -> OSError:
  """What the system says of a file, by the name that the user knows."""
  fix = 'Choose another name or folder.'
  if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
    fix = 'Make room there, or choose another folder.'
  got = f'{quoted(path)} ({error.strerror})'
  worded = type(error)(message(function, argument, constraint, got, fix))
  worded.errno = error.errno
  return worded


def _special(mode: int) -> str:
  return {stat.S_IFIFO: 'a pipe', stat.S_IFSOCK: 'a socket'}.get(stat.S_IFMT(mode), 'a device')


def check_distinct(function: str, paths: Sequence[str]) -> None:
  """Keys that hold a ``/`` can give two leaves one path."""
  twice = sorted(path for path, count in Counter(paths).items() if count > 1)
  if twice:
    fix = "Rename a key that contains '/'."
    got = f'several leaves {listed(twice)}'
    raise ValueError(message(function, 'params', 'a tree with one leaf for each path', got, fix))


def damaged_file(function: str, path: str, detail: Any, leaf: str | None = None) -> ValueError:
  fix = 'The file is damaged or was edited by another tool; save it again.'
  got = f'{quoted(path)} ({shortened(detail)})'
  name = None if leaf is None else shortened(leaf)
  return ValueError(message(function, 'path', 'an undamaged file', got, fix, name))


def not_shrunk(function: str, small: Any) -> TypeError:
  fix = 'For params and masks there is jprune.save.'
  return TypeError(message(function, 'small', 'what jprune.shrink returns', kind(small), fix))


def no_plan_in_file(function: str, path: str) -> ValueError:
  fix = 'jprune.load reads it.'
  got = f'{quoted(path)}, a file of params alone'
  return ValueError(message(function, 'path', 'a file that jprune.save_shrunk wrote', got, fix))
