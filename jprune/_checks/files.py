"""The tally, and files."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jprune._checks.words import kind, listed, message


def traced(function: str, argument: str, path: str, leaf: Any) -> TypeError:
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
  fix = "Pass a file name such as 'sparse.safetensors'."
  if not isinstance(path, (str, os.PathLike)):
    raise TypeError(message(function, argument, 'a str or os.PathLike', kind(path), fix))
  name = os.fspath(path)
  if not name:
    raise ValueError(message(function, argument, 'the name of a file', repr(name), fix))
  if os.path.isdir(name):
    got = f'the folder {name!r}'
    raise ValueError(message(function, argument, 'the name of a file', got, 'Add a file name.'))
  return name


def check_output(function: str, path: str, argument: str = 'path') -> None:
  """Refuses a name that can't become that of a file: for its folder, or for what is there."""
  folder = os.path.dirname(os.path.realpath(path))
  if not os.path.isdir(folder):
    fix = f'Create {folder!r} first.'
    raise FileNotFoundError(message(function, argument, 'in an existing folder', repr(path), fix))
  if not os.access(folder, os.W_OK | os.X_OK):
    constraint, fix = 'in a folder that can be written to', 'Choose another folder.'
    raise PermissionError(message(function, argument, constraint, repr(path), fix))
  if os.path.exists(path) and not stat.S_ISREG(mode := os.stat(path).st_mode):
    what = _SPECIAL.get(stat.S_IFMT(mode), 'a device')
    constraint, fix = 'a regular file or a new name', 'Choose another name.'
    raise ValueError(message(function, argument, constraint, f'{path!r}, {what}', fix))


# renaming a file over one of these would replace it
_SPECIAL = {stat.S_IFIFO: 'a pipe', stat.S_IFSOCK: 'a socket'}


def no_file(function: str, path: str) -> FileNotFoundError:
  fix = f'There is no such file in {os.path.dirname(os.path.abspath(path))!r}.'
  return FileNotFoundError(message(function, 'path', 'an existing file', repr(path), fix))


def check_distinct(function: str, paths: Sequence[str]) -> None:
  """Keys that hold a ``/`` can give two leaves one path."""
  twice = sorted({path for path in paths if paths.count(path) > 1}) if _repeats(paths) else []
  if twice:
    fix = "Rename a key that contains '/'."
    got = f'several leaves {listed(twice)}'
    raise ValueError(message(function, 'params', 'a tree with one leaf for each path', got, fix))


def _repeats(paths: Sequence[str]) -> bool:
  return len(set(paths)) < len(paths)


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


def broken_file(function: str, path: str, size: int, error: Exception) -> ValueError:
  fix = 'It is truncated, damaged or of another format; save it again.'
  got = f'{path!r} of {size} bytes ({error})'
  return ValueError(message(function, 'path', 'a complete safetensors file', got, fix))


def foreign_file(function: str, path: str) -> ValueError:
  fix = 'Read it with safetensors.flax.load_file, and save it with jprune.save.'
  got = f'{path!r}, a safetensors file of another tool'
  return ValueError(message(function, 'path', 'a file that jprune.save wrote', got, fix))


def newer_file(function: str, path: str, version: Any, known: int) -> ValueError:
  got = f'{path!r} of version {version!r}'
  constraint = f'a file of version {known} or older'
  return ValueError(message(function, 'path', constraint, got, 'Upgrade jprune.'))


def damaged_file(function: str, path: str, detail: Any, leaf: str | None = None) -> ValueError:
  fix = 'The file is damaged or was edited by another tool; save it again.'
  got = f'{path!r} ({detail})'
  return ValueError(message(function, 'path', 'an undamaged file', got, fix, leaf))


def like_other_paths(function: str, expected: Sequence[str], found: Sequence[str]) -> ValueError:
  missing = [path for path in expected if path not in set(found)]
  extra = [path for path in found if path not in set(expected)]
  parts = [f'no leaf {listed(missing)}'] if missing else []
  parts += [f'an unknown leaf {listed(extra)}'] if extra else []
  got = ' and '.join(parts) or f'{len(found)} leaves for {len(expected)}'
  fix = 'Leave like= out to see the saved tree as plain containers.'
  return ValueError(message(function, 'like', 'a tree with the leaf paths of the file', got, fix))


def like_other_leaf(
  function: str, path: str, leaf: Any, dtype: str, shape: tuple[int, ...]
) -> ValueError:
  fix = "Pass like= with the file's shapes and dtypes, and cast after loading."
  constraint = f'{dtype} of shape {shape}, as in the file'
  return ValueError(message(function, 'like', constraint, kind(leaf), fix, path))


def check_x64(function: str, path: str, dtype: str) -> None:
  wide = dtype in ('float64', 'int64', 'uint64', 'complex128')
  if wide and not jax.config.jax_enable_x64:
    fix = "Call jax.config.update('jax_enable_x64', True) first; JAX would cut it to 32 bits."
    constraint = 'a file of numbers of at most 32 bits'
    raise ValueError(message(function, 'path', constraint, dtype, fix, path))
