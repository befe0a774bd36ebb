"""What is said when something is wrong; every message names function, argument, value and fix."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jprune._checks.files import _of_system, _special
from jprune._checks.words import differing, kind, message, quoted, shortened


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


def not_storable(function: str, argument: str, path: str, leaf: Any) -> TypeError:
  """A leaf without bytes to store: a key, a tracer, a shape, a function."""
  shown = kind(leaf)
  if isinstance(leaf, Tracer):
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
  # jax adds its flags to the class when it is imported
  if wide and not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
    fix = "Call jax.config.update('jax_enable_x64', True) first; JAX would cut it to 32 bits."
    constraint = 'a file of numbers of at most 32 bits'
    got = f'{quoted(path)} with {dtype}'
    raise ValueError(message(function, 'path', constraint, got, fix, shortened(leaf)))
