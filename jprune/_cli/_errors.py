"""What is said when something is wrong; every message names function, argument, value and fix."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from jprune._checks.words import kind, listed, message

_OPTIONS = {
  'where=': '--where ',
  '`where`': '`--where`',
  'pad=True': '--pad',
  '`axis`': '`--axis`',
  # what a shell has no words for
  'where=None, which': 'none, so the default, which',
  'jprune.tree.skipped(params) says why. A predicate chooses exactly.': 'jprune.tree.skipped says '
  'why. --where with the path of a leaf chooses exactly that.',
  'pass a list of their paths, a predicate (path, leaf) -> bool, or a tree of bools.': 'pass their '
  'paths, each with a --where of its own.',
}


def as_options(text: str, file: str) -> str:
  """A message of the library in the words of the command line; what is quoted stays as it is.

  Args:
    text: the message.
    file: what the command calls the file that it reads.
  """
  words = {**_OPTIONS, '`path`': f'`{file}`', '`params`': f'`{file}`'}
  longest_first = sorted(words, key=len, reverse=True)
  pattern = "'[^']*'|" + '|'.join(map(re.escape, longest_first))
  text = re.sub(r'\bwhere\[\d+\](?==)', 'where', text)  # each --where is one entry of a list
  said = re.sub(pattern, lambda found: words.get(found[0], found[0]), text)
  return re.sub(r'--where ([.,;])', r'--where\1', said)


def output_is_input(
  path: str, function: str = 'prune', argument: str = 'OUT', given: str = 'IN'
) -> ValueError:
  fix = 'Write to a new name; the old file can be deleted afterwards.'
  constraint = f'another file or folder than {given}'
  return ValueError(message(function, argument, constraint, repr(path), fix))


def output_exists(path: str, function: str = 'prune', argument: str = 'OUT') -> ValueError:
  got = f'{path!r}, which exists'
  return ValueError(message(function, argument, 'a new file', got, 'Pass --force to replace it.'))


def other_output(path: str) -> ValueError:
  constraint, fix = 'a safetensors file or a folder', "End it with '.safetensors'."
  return ValueError(message('prune', 'OUT', constraint, repr(path), fix))


def output_beside_input(path: str) -> ValueError:
  constraint, fix = 'outside of the folder of IN', 'Name OUT last, in another folder.'
  return ValueError(message('prune', 'OUT', constraint, repr(path), fix))


def file_for_several(path: str) -> ValueError:
  fix = 'Name a folder; an OUT that ends with .safetensors is one file, without --max-shard-size.'
  constraint, got = 'a folder for several files', f'{path!r}, the name of a file'
  return ValueError(message('prune', 'OUT', constraint, got, fix))


def other_weights(folder: str, name: str) -> ValueError:
  constraint, got = 'a folder without other weights', f"{folder!r}, which holds '{name}'"
  return ValueError(message('prune', 'OUT', constraint, got, 'Choose another folder.'))


def several_folders(function: str, folders: Sequence[str]) -> ValueError:
  constraint, fix = 'files of one folder', 'Pass those of one model.'
  return ValueError(message(function, 'path', constraint, f'those of {listed(folders)}', fix))


def no_part(function: str, path: str) -> ValueError:
  """Of several names, one of what is a model by itself, or of no weights at all."""
  constraint, got = 'one model', f'{path!r} among others'
  fix = "Pass one folder or one index alone, or files, such as those of '*.safetensors'."
  return ValueError(message(function, 'path', constraint, got, fix))


def without_index(function: str, path: str) -> ValueError:
  got = f'some of several, {path!r} among them, without what their index says'
  return ValueError(message(function, 'path', 'a whole checkpoint', got, 'Pass the folder.'))


def not_storable(function: str, path: str, leaf: Any) -> ValueError:
  fix = 'Save the arrays of numbers by themselves first.'
  return ValueError(message(function, 'path', 'a checkpoint of arrays', kind(leaf), fix, path))


def no_arrays(function: str, path: str) -> ValueError:
  constraint = 'a checkpoint with at least one array'
  return ValueError(message(function, 'path', constraint, f'{path!r}, which has none'))


def weight_is_nan(path: str) -> ValueError:
  fix = 'Mend the file, or leave that leaf out with --where.'
  return ValueError(message('prune', 'IN', 'free of NaN in the selected leaves', 'NaN', fix, path))


_DEQUANTISE = (
  'Dequantise the weights first (weight times scale, in a floating dtype), or leave them out with '
  "--where, such as --where '^(?!.*NAME)'."
)


def part_of_quantised(path: str, weights: str) -> ValueError:
  constraint, got = 'a filter of weights', f"what quantises '{weights}'"
  fix = 'Scales and zero points are never pruned; name the weights.'
  return ValueError(message('prune', '--where', constraint, got, fix, path))


def unknown_scales(path: str, shape: Any, name: str, scales: Any) -> ValueError:
  constraint = 'of weights with floating scales for a tensor, its channels or its blocks'
  got = f"scales '{name}' of {kind(scales)} for weights of shape {shape}"
  return ValueError(message('prune', 'IN', constraint, got, _DEQUANTISE, path))


def other_zero(path: str, zero_points: str) -> ValueError:
  constraint = 'of weights in which 0 stands for 0.0'
  got = f"zero points '{zero_points}' other than 0"
  return ValueError(message('prune', 'IN', constraint, got, _DEQUANTISE, path))


def without_scales(path: str) -> ValueError:
  constraint = 'of weights that are all scaled or none, to compare them between leaves'
  got = 'float8 weights without scales beside them'
  fix = 'Prune every leaf by itself, without --distribution global, or leave it out with --where.'
  return ValueError(message('prune', 'IN', constraint, got, fix, path))


def unknown_axis(found: str | None) -> ValueError:
  """Nothing in the file says which axis of a kernel is multiplied along."""
  got = 'none for a file ' + (f'of format {found!r}' if found else 'that names no format')
  fix = (
    'Pass --axis 1 for kernels (out, in, ...) as PyTorch has them, --axis -2 for (..., in, out) '
    'as Flax has them.'
  )
  return ValueError(message('prune', '--axis', 'given with --n-of-m', got, fix))


def name_taken(name: str) -> ValueError:
  fix = 'Pass --format dense, which adds no tensors.'
  constraint = 'a file whose leaves need differently named tensors'
  return ValueError(message('prune', 'OUT', constraint, f"two tensors '{name}'", fix))


def input_changed(path: str) -> ValueError:
  constraint = 'left alone until OUT is written'
  got = 'other weights than a moment ago'
  return ValueError(message('prune', 'IN', constraint, got, 'Run it again.', path))
