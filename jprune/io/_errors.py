"""What is said when something is wrong; every message names function, argument, value and fix."""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jprune._checks.files import _of_system, _special
from jprune._checks.foreign import foreign, is_state
from jprune._checks.words import differing, kind, listed, message, quoted, shortened, shown


def check_input(function: str, path: str, argument: str = 'path') -> None:
  """Refuses what can't be read from its beginning to its end: a name without a file, a pipe."""
  try:
    status = os.stat(path)
  except FileNotFoundError:
    folder, name = os.path.split(os.path.abspath(path))
    fix = f'There is no such file in {quoted(folder)}.{_meant(name, folder)}'
    got = quoted(path)
    raise FileNotFoundError(message(function, argument, 'an existing file', got, fix)) from None
  except OSError as error:  # a name too long, a loop of links, a folder that may not be entered
    raise not_read(function, argument, path, error) from None
  if not stat.S_ISREG(status.st_mode):
    constraint, got = 'a regular file', f'{quoted(path)}, {_special(status.st_mode)}'
    fix = 'Copy what it gives into a file first.'
    raise ValueError(message(function, argument, constraint, got, fix))


def _meant(name: str, folder: str) -> str:
  """`` Did you mean ...?``, or nothing if no name in the folder is close."""
  try:
    near = difflib.get_close_matches(name, os.listdir(folder), 1, 0.8)
  except OSError:  # no folder, or one that may not be looked into
    return ''
  return f' Did you mean {quoted(near[0])}?' if near else ''


def not_read(function: str, argument: str, path: str, error: OSError) -> OSError:
  return _of_system(function, argument, 'a file that can be read', path, error)


def not_storable(
  function: str, argument: str, path: str, leaf: Any, params: Any = None
) -> TypeError:
  """A leaf without bytes to store: a key, a tracer, a shape, a function."""
  shown = kind(leaf)
  if isinstance(leaf, Tracer):
    shown, fix = f'a traced {shown}', 'Call it outside jit, grad and vmap.'
  elif isinstance(leaf, jax.ShapeDtypeStruct):
    shown, fix = f'a shape struct of shape {leaf.shape}', 'Pass arrays that have values.'
  elif found := foreign(params):
    shown, fix = f'{found.called} with {shown}', found.as_params
  elif hasattr(leaf, 'dtype') and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    fix = 'Save jax.random.key_data(key), and wrap it again after loading.'
    if is_state(params):
      fix = (
        'Leave random keys out: nnx.filter_state(state, nnx.Not(nnx.RngState)), or save the params '
        'of jprune.nnx.functional(model), which has none.'
      )
  elif hasattr(leaf, 'dtype'):
    fix = 'Cast it to a dtype of JAX.'
  else:
    fix = 'Filter it out of the tree, or make a number an array with jnp.asarray.'
  constraint = 'a tree of arrays of numbers or bools'
  return TypeError(message(function, argument, constraint, shown, fix, path))


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
  fix = 'Read it leaf by leaf with jprune.io.open, or whole with safetensors.flax.load_file.'
  got = f'{quoted(path)}, a safetensors file of another tool'
  return ValueError(message(function, 'path', 'a file that jprune.save wrote', got, fix))


def not_as_planned(function: str, plan: Any, values: Any, kept: int | None) -> ValueError:
  """A leaf that changed between two looks at it, or a caller's mistake."""
  constraint = f'{plan.dtype} of shape {plan.shape} with {plan.kept:,} kept weights, as before'
  got = 'other counts' if values is None else kind(values)
  got += '' if kept is None else f' with {kept:,}'
  fix = 'Leave the weights alone until the file is written.'
  return ValueError(message(function, 'params', constraint, got, fix, shortened(plan.path)))


def not_all_put(function: str, paths: Sequence[str]) -> ValueError:
  got = f'none for {listed(paths)}'
  return ValueError(message(function, 'params', 'values for every leaf', got))


# -------------------------------------------------------------------------------- several files


def bad_index(shape: Sequence[int], index: Any) -> IndexError:
  constraint = f'ints and slices within a leaf of shape {tuple(shape)}'
  fix = 'Read the leaf whole for other kinds of indexing.'
  return IndexError(message('read', 'index', constraint, shortened(repr(index)), fix))


def no_checkpoint(function: str, folder: str, others: Sequence[str]) -> ValueError:
  constraint, got = 'a checkpoint', f'the folder {quoted(folder)}, which holds no safetensors file'
  fix = 'Name the folder of the files, or that of a checkpoint of Orbax.'
  if function == 'load':
    fix = 'Name the folder of the files; one of Orbax is read by jprune.io.open.'
  if others and function != 'load':
    fix = f'Name the file that is meant, such as {quoted(others[0])}.'
  return ValueError(message(function, 'path', constraint, got, fix))


def several_checkpoints(function: str, folder: str, names: Sequence[str]) -> ValueError:
  got = f'the folder {quoted(folder)} with {listed(names)}'
  fix = 'Pass the path of the file or of the index that is meant.'
  return ValueError(message(function, 'path', 'one checkpoint', got, fix))


def closed(path: str, leaf: str) -> ValueError:
  fix = 'Read inside of the with block of jprune.io.open.'
  got = f'{quoted(path)}, which was closed'
  return ValueError(message('read', 'path', 'open', got, fix, shortened(leaf)))


def unfinished(function: str, path: str) -> ValueError:
  got = f'{quoted(path)}, which Orbax has not finished'
  fix = 'Its save was cut short; take an earlier step.'
  return ValueError(message(function, 'path', 'a whole checkpoint', got, fix))


def broken_orbax(function: str, path: str, error: Exception) -> ValueError:
  got = f'{quoted(path)} ({shortened(error)})'
  fix = 'It is damaged, or of a version of Orbax that is not installed.'
  return ValueError(message(function, 'path', 'a checkpoint that Orbax can read', got, fix))


def no_tensors(function: str, path: str) -> ValueError:
  constraint = 'a file with at least one tensor'
  return ValueError(message(function, 'path', constraint, f'{quoted(path)}, which has none'))


def unnamed_tensor(function: str, path: str) -> ValueError:
  constraint = 'a file whose tensors have names'
  fix = 'Save that tensor under a name first.'
  return ValueError(message(function, 'path', constraint, f"{quoted(path)} with a tensor ''", fix))


def unknown_code(function: str, name: str, code: str, known: Sequence[str]) -> ValueError:
  """A dtype of the safetensors format that NumPy can't count in."""
  constraint = f'a file of tensors of {", ".join(known)}'
  fix = 'Convert that tensor first.'
  return ValueError(message(function, 'path', constraint, code, fix, shortened(name)))


def one_of_several(function: str, path: str, which: str) -> ValueError:
  got = f"{quoted(path)}, which is one file of several, '{shortened(which)}'"
  fix = 'Pass the folder, or the index.'
  return ValueError(message(function, 'path', 'a whole checkpoint', got, fix))


def index_missing(function: str, folder: str) -> ValueError:
  got = f'the folder {quoted(folder)}, whose index is missing'
  fix = 'Its save was cut short, or the copy of it; save or copy it again.'
  return ValueError(message(function, 'path', 'a whole checkpoint', got, fix))


def shard_missing(function: str, path: str, names: Sequence[str]) -> FileNotFoundError:
  got = f'{quoted(path)}, without {listed(names)}'
  fix = 'Copy the missing file there, or save all of them again.'
  return FileNotFoundError(message(function, 'path', 'a whole checkpoint', got, fix))


def broken_index(function: str, path: str, error: Exception) -> ValueError:
  detail = error if type(error) is ValueError else repr(error)
  got = f'{quoted(path)} ({shortened(detail)})'
  fix = 'It is damaged or of another format; save it again.'
  return ValueError(message(function, 'path', 'an index of safetensors files', got, fix))


def tensor_twice(function: str, path: str, name: str, files: Sequence[str]) -> ValueError:
  got = f"{quoted(path)}, of which {listed(files)} both hold tensor '{shortened(name)}'"
  fix = 'They are of different saves; save them again.'
  return ValueError(message(function, 'path', 'files that hold each tensor once', got, fix))


def index_at_odds(
  function: str, path: str, file: str, missing: Sequence[str], extra: Sequence[str]
) -> ValueError:
  parts = [f'lacks {listed(missing)}'] if missing else []
  parts += [f'holds {listed(extra)}, which the index does not place there'] if extra else []
  got = f"{quoted(path)}, whose file '{file}' {' and '.join(parts)}"
  fix = 'Index and files are of different saves; save them again.'
  return ValueError(message(function, 'path', 'an index that fits its files', got, fix))


def not_a_folder(function: str, argument: str, path: str) -> ValueError:
  fix = 'Leave max_shard_size= out to write one file.'
  got = f'{quoted(path)}, which is a file'
  return ValueError(message(function, argument, 'a folder for several files', got, fix))


def folder_taken(function: str, argument: str, path: str, names: Sequence[str]) -> ValueError:
  """Other weights, which loaders would take for those of the new set or before them."""
  got = f'{quoted(path)}, which holds {listed(names)} of no index that is replaced'
  fix = 'Choose another folder, or move these files away.'
  constraint = 'a folder without other weights'
  return ValueError(message(function, argument, constraint, got, fix))


def bad_shard_size(function: str, size: Any) -> ValueError:
  constraint = "a positive int, of bytes, or a text such as '5GB' or '512MiB'"
  fix = 'Leave it out to write one file.'
  return ValueError(message(function, 'max_shard_size', constraint, shown(size), fix))


def check_metadata(function: str, metadata: Any, own: Sequence[str]) -> None:
  """Refuses what is no dict of texts, and the names of jprune's own."""
  constraint, given = 'a dict of texts by their names', {} if metadata is None else metadata
  if not isinstance(given, Mapping) or not all(isinstance(x, str) for x in chain(*given.items())):
    got, fix = shortened(repr(given)), 'Make other things texts, such as with json.dumps.'
    raise ValueError(message(function, 'metadata', constraint, got, fix))
  taken = [name for name in own if name in given]
  if taken:
    got, fix = f"{listed(taken)}, jprune's own", 'Choose another name.'
    raise ValueError(message(function, 'metadata', constraint, got, fix))


def elsewhere_failed(function: str, processes: Sequence[int]) -> RuntimeError:
  got = f'an error on process {", ".join(map(str, processes))}'
  fix = 'See there what it was; the old checkpoint is as it was.'
  return RuntimeError(message(function, 'path', 'written by all processes', got, fix))


# ----------------------------------------------------------------------------------- contents


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


# ------------------------------------------------------------------------------ other formats


def other_format(function: str, path: str, what: str, lines: Sequence[str]) -> ValueError:
  """One that isn't read, with the lines that convert it; an indented line is code."""
  got, fix = f'{quoted(path)}, {what}', 'Convert it first:'
  constraint = 'a checkpoint of safetensors, .npz, .msgpack or Orbax'
  code = ''.join(f'\n    {line}' for line in lines)
  return ValueError(message(function, 'path', constraint, got, fix) + code)


def read_by_open(function: str, path: str) -> ValueError:
  fix = 'Read it with jprune.io.open.'
  return ValueError(message(function, 'path', 'a safetensors file', quoted(path), fix))


def no_numbers(function: str, path: str, leaf: str, dtype: str) -> ValueError:
  got = f'{quoted(path)} with an array of {dtype}'
  fix = 'Save the arrays of numbers by themselves first.'
  name = shortened(leaf)
  return ValueError(message(function, 'path', 'a file of arrays of numbers', got, fix, name))
