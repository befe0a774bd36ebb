"""The tally, and files."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jprune._checks.words import differing, kind, listed, message, quoted, shortened


def traced(function: str, argument: str, path: str | None, leaf: Any) -> TypeError:
  fix = 'Call it outside jit, grad and vmap.'
  got = f'a traced {kind(leaf)}'
  return TypeError(message(function, argument, 'arrays with values at hand', got, fix, path))


def no_values(function: str, argument: str, path: str, leaf: Any) -> TypeError:
  fix = 'Kept weights can be counted in real masks only; params may be shape structs.'
  got = f'a shape struct of shape {tuple(leaf.shape)}'
  return TypeError(message(function, argument, 'arrays with values at hand', got, fix, path))


def missing_library(function: str, library: str, extra: str) -> ImportError:
  fix = f"Run pip install 'jprune[{extra}]'."
  return ImportError(f"{function}: needs {library}, which isn't installed. {fix}")


def as_path(function: str, path: Any, argument: str = 'path') -> str:
  """The name of a file as a str; refused if no file can have it, whatever the system holds."""
  fix = "Pass a file name such as 'sparse.safetensors'."
  if not isinstance(path, (str, os.PathLike)):
    raise TypeError(message(function, argument, 'a str or os.PathLike', kind(path), fix))
  name, constraint = os.fsdecode(path), 'the name of a file'
  if not name:
    raise ValueError(message(function, argument, constraint, repr(name), fix))
  if '\0' in name or not _encodes(name):
    fix = 'Leave out NUL and lone surrogates.'
    raise ValueError(message(function, argument, constraint, quoted(name), fix))
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


def check_input(function: str, path: str, argument: str = 'path') -> None:
  """Refuses what can't be read from its beginning to its end: a name without a file, a pipe."""
  try:
    status = os.stat(path)
  except FileNotFoundError:
    fix = f'There is no such file in {quoted(os.path.dirname(os.path.abspath(path)))}.'
    got = quoted(path)
    raise FileNotFoundError(message(function, argument, 'an existing file', got, fix)) from None
  except OSError as error:  # a name too long, a loop of links, a folder that may not be entered
    raise not_read(function, argument, path, error) from None
  if not stat.S_ISREG(status.st_mode):
    constraint, got = 'a regular file', f'{quoted(path)}, {_special(status.st_mode)}'
    fix = 'Copy what it gives into a file first.'
    raise ValueError(message(function, argument, constraint, got, fix))


def not_read(function: str, argument: str, path: str, error: OSError) -> OSError:
  return _of_system(function, argument, 'a file that can be read', path, error)


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
    constraint, fix = 'in a folder that can be written to', 'Choose another folder.'
    raise PermissionError(message(function, argument, constraint, quoted(path), fix))
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


def not_storable(function: str, argument: str, path: str, leaf: Any) -> TypeError:
  """A leaf without bytes to store: a key, a tracer, a shape, a function."""
  shown = kind(leaf)
  if isinstance(leaf, jax.core.Tracer):
    shown, fix = f'a traced {shown}', 'Call it outside jit, grad and vmap.'
  elif isinstance(leaf, jax.ShapeDtypeStruct):
    shown, fix = f'a shape struct of shape {leaf.shape}', 'Pass arrays that have values.'
  elif hasattr(leaf, 'dtype') and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    fix = 'Save jax.random.key_data(key), and wrap it again after loading.'
  elif hasattr(leaf, 'dtype'):
    fix = 'Cast it to a dtype of JAX.'
  else:
    fix = 'Filter it out of the tree, or make a number an array with jnp.asarray.'
  constraint = 'a tree of arrays of numbers or bools'
  return TypeError(message(function, argument, constraint, shown, fix, path))


def not_addressable(function: str, argument: str, path: str, leaf: Any) -> ValueError:
  fix = 'Gather it first with jax.experimental.multihost_utils.process_allgather(..., tiled=True).'
  got = f'{kind(leaf)}, partly on other processes'
  return ValueError(message(function, argument, 'on devices of this process', got, fix, path))


def tensor_name_taken(function: str, name: str) -> ValueError:
  constraint = 'a tree whose leaves need differently named tensors in the file'
  fix = 'Rename the key that ends like that.'
  return ValueError(message(function, 'params', constraint, f"two tensors '{name}'", fix))


def not_storable_tree(function: str, error: Exception) -> ValueError:
  constraint = 'a tree that the safetensors format can hold'
  fix = 'Look for odd characters in its keys.'
  return ValueError(message(function, 'params', constraint, f'a header it refuses ({error})', fix))


def nested_too_deeply(function: str) -> ValueError:
  constraint, got = 'a tree that can be walked', 'one that nests too deeply'
  fix = 'Flatten it first, or raise sys.setrecursionlimit.'
  return ValueError(message(function, 'params', constraint, got, fix))


def broken_file(function: str, path: str, size: int, error: Exception) -> ValueError:
  fix = 'It is truncated, damaged or of another format; save it again.'
  got = f'{quoted(path)} of {size} bytes ({shortened(error)})'
  return ValueError(message(function, 'path', 'a complete safetensors file', got, fix))


def foreign_file(function: str, path: str) -> ValueError:
  fix = 'Read it with safetensors.flax.load_file, and save it with jprune.save.'
  got = f'{quoted(path)}, a safetensors file of another tool'
  return ValueError(message(function, 'path', 'a file that jprune.save wrote', got, fix))


def newer_file(function: str, path: str, version: int, known: int) -> ValueError:
  got = f'{quoted(path)} of version {shortened(version)}'
  constraint = f'a file of version {known} or older'
  return ValueError(message(function, 'path', constraint, got, 'Upgrade jprune.'))


def damaged_file(function: str, path: str, detail: Any, leaf: str | None = None) -> ValueError:
  fix = 'The file is damaged or was edited by another tool; save it again.'
  got = f'{quoted(path)} ({shortened(detail)})'
  name = None if leaf is None else shortened(leaf)
  return ValueError(message(function, 'path', 'an undamaged file', got, fix, name))


def leaf_too_large(
  function: str, path: str, leaf: str, kind_: str, need: int, free: int | None
) -> ValueError:
  fix = 'Take a machine with more memory; of a small file it may be damage.'
  there = 'and there are no more' if free is None else f'and {free:,} are free'
  got = f'{quoted(path)} ({kind_} takes {need:,} bytes in memory, {there})'
  constraint = 'a file of leaves that fit into memory'
  return ValueError(message(function, 'path', constraint, got, fix, shortened(leaf)))


def like_other_paths(function: str, expected: Sequence[str], found: Sequence[str]) -> ValueError:
  got = differing(expected, found) or f'{len(found)} leaves for {len(expected)}'
  fix = 'Leave like= out to see the saved tree as plain containers.'
  return ValueError(message(function, 'like', 'a tree with the leaf paths of the file', got, fix))


def like_other_leaf(
  function: str, path: str, leaf: Any, dtype: str, shape: tuple[int, ...]
) -> ValueError:
  fix = "Pass like= with the file's shapes and dtypes, and cast after loading."
  constraint = f'{dtype} of shape {shape}, as in the file'
  return ValueError(message(function, 'like', constraint, kind(leaf), fix, path))


def check_x64(function: str, path: str, leaf: str, dtype: str) -> None:
  wide = dtype in ('float64', 'int64', 'uint64', 'complex128')
  if wide and not jax.config.jax_enable_x64:
    fix = "Call jax.config.update('jax_enable_x64', True) first; JAX would cut it to 32 bits."
    constraint = 'a file of numbers of at most 32 bits'
    got = f'{quoted(path)} with {dtype}'
    raise ValueError(message(function, 'path', constraint, got, fix, shortened(leaf)))
