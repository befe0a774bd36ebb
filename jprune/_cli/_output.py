"""Where the pruned checkpoint goes: a file for a file, a folder for a folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from jprune import _checks
from jprune._cli import _errors
from jprune._cli._source import ModelSource
from jprune.io import _leaf, _refused, _shards, _trees, _writer
from jprune.io._container import Reader
from jprune.io._orbax import MARKS
from jprune.io._shards import INDEX

_FILE = '.safetensors'
_USUAL = 5 * 10**9  # bytes of a file, where neither the input nor an option says it


class Output(NamedTuple):
  """What is written.

  Attributes:
    path: of the file or folder, as it was given.
    file: path of the one file that holds all weights; ``None`` if there are several.
    is_folder: whether ``path`` is that of a folder.
    most: bytes of each of several files; ``None``: as in the input.
  """

  path: str
  file: str | None
  is_folder: bool
  most: int | None


def output(path: str, source: ModelSource, most: int | None, force: bool) -> Output:
  """Where to write, refused before anything is read if that can't be.

  Args:
    path: as it was given.
    source: the input.
    most: bytes of a file, if the output is to be several.
    force: whether something that is there may be replaced.
  """
  name = _checks.as_path('prune', path, 'OUT', folders=True)
  if name.lower().endswith((*_trees.ENDS, *_refused.ENDS)):
    raise _errors.other_output(name)
  if name.endswith(_FILE) or (source.folder is None and most is None):
    if most is not None:
      raise _errors.file_for_several(name)
    _checks.check_output('prune', _checks.as_path('prune', path, 'OUT'), 'OUT')
    if os.path.exists(name):
      _check_replaced(name, source.paths, force)
    if _is_beside(name, source):
      raise _errors.output_beside_input(name)
    return Output(name, name, False, None)
  _check_folder(name)
  if os.path.isdir(name):
    # that of a lone file too, which may belong to the set that would be replaced
    taken = [os.path.dirname(path) for path in source.paths] or [source.folder or '']
    _check_replaced(name, taken, force or not os.listdir(name))
  alone = most is None and isinstance(source.files, Reader)
  file = os.path.join(name, os.path.basename(source.paths[0])) if alone else None
  if file and os.path.isdir(name):
    _check_alone(name, file)
  return Output(name, file, True, most)


def groups(source: ModelSource, plans: Sequence[_leaf.Leaf], most: int | None) -> list[list[int]]:
  """Which leaves go into each of several files: those that shared one, or as many as fit."""
  if most is None and source.files is not None:
    number = {name: i for i, names in enumerate(source.files.files.values()) for name in names}
    found: dict[int, list[int]] = {}
    for i, plan in enumerate(source.plans):
      found.setdefault(number[_leaf.tensors(plan)[0].name], []).append(i)
    return [found[i] for i in sorted(found)]
  place = {plan.path: i for i, plan in enumerate(plans)}
  fitting = _writer.groups(plans, _USUAL if most is None else most)
  return [[place[plan.path] for plan in group] for group in fitting]


def names(source: ModelSource, most: int | None) -> dict[str, Any]:
  """How several files are called, and their index: as those of the input, where that can be."""
  path = '' if source.files is None else source.files.path
  found = [_shards._NUMBERED.fullmatch(os.path.basename(path)) for path in source.paths]
  stems = {each[1] for each in found if each}
  named = len(stems) == 1 and all(found)
  index = os.path.basename(path).removesuffix(INDEX) if path.endswith(INDEX) else None
  stem = index or (stems.pop() if named else 'model')
  same = most is None and named
  return {'stem': stem, 'names': [each[0] for each in found if each] if same else None}


def _check_folder(name: str) -> None:
  if os.path.lexists(name) and not os.path.isdir(name):
    raise _errors.file_for_several(name)
  _writer.check_target('prune', name, 1, 'OUT')


def _is_beside(name: str, source: ModelSource) -> bool:
  """Whether a file lies among those of a model: it would be one of them, or is.

  So is the last of a list whose OUT was forgotten.
  """
  folder = os.path.dirname(os.path.abspath(name))
  return source.folder is not None and os.path.samefile(folder, source.folder or os.curdir)


def _check_replaced(name: str, taken: Sequence[str], force: bool) -> None:
  if any(os.path.samefile(path or os.curdir, name) for path in taken):
    raise _errors.output_is_input(name)
  if not force:
    raise _errors.output_exists(name)


def _check_alone(folder: str, file: str) -> None:
  """Refuses a folder in which other weights would lie beside a file."""
  for other in sorted(os.listdir(folder)):
    if other in MARKS or (other.endswith((_FILE, INDEX)) and other != os.path.basename(file)):
      raise _errors.other_weights(folder, other)
