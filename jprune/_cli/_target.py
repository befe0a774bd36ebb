"""The pruned checkpoint, written leaf by leaf; it appears when it is complete."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

import jax.numpy as jnp
import numpy as np

from jprune._cli import _errors, _output
from jprune._cli._output import Output
from jprune._cli._scores import ranges
from jprune._cli._select import Choice, Shown
from jprune._cli._source import ModelSource
from jprune._shrunk_files import PLAN
from jprune.io import _beside, _container, _leaf, _replaced, _shards, _writer
from jprune.masks._storage import smallest_storage


def planned(source: ModelSource, choice: Choice, sparse: bool) -> list[_leaf.Leaf]:
  """How each leaf is going to be stored.

  Dense: the tensors of the input and no masks, so that every library can read them. Sparse: as
  ``jprune.save`` stores them; a leaf that isn't selected keeps the mask it had.
  """
  plans = []
  for i, plan in enumerate(source.plans):
    if not sparse:
      plan = plan._replace(format='dense', kept=plan.size, mask=None)
    elif i in choice.kept:
      kept = choice.kept[i]
      storage = smallest_storage(plan.shape, kept, jnp.dtype(plan.dtype).itemsize)
      plan = plan._replace(format=storage.format, kept=kept, mask='bool')
    plans.append(plan)
  return plans


def foreseen(output: Output, source: ModelSource, choice: Choice, sparse: bool) -> tuple[int, int]:
  """How many bytes would be written, without headers, and to how many files."""
  plans = _checked(source, choice, sparse)
  files = 1 if output.file else len(_output.groups(source, plans, output.most))
  return sum(map(_writer.nbytes, plans)), files


def _checked(source: ModelSource, choice: Choice, sparse: bool) -> list[_leaf.Leaf]:
  plans = planned(source, choice, sparse)
  _check_names([tensor.name for plan in plans for tensor in _leaf.tensors(plan)])
  return plans


def write(
  output: Output, source: ModelSource, choice: Choice, sparse: bool, shown: Shown
) -> _beside.Beside:
  """Writes all leaves, and what belongs beside them, which it returns."""
  plans = _checked(source, choice, sparse)
  groups = _output.groups(source, plans, output.most)
  found, folder = _beside.Beside([], []), source.folder or ''
  if source.folder is not None and source.files is not None and output.is_folder:
    found = _beside.beside(folder, {os.path.basename(path) for path in source.paths})
  with contextlib.ExitStack() as stack:
    copy = stack.enter_context(_beside.copying('prune', folder, output.path, found.copied, 'OUT'))
    contents = {'masks': sparse, 'tree': source.description}
    if source.plan is not None:  # a small model stays one
      contents[PLAN] = source.plan.to_dict()
    out = stack.enter_context(
      _writing(output, source, [[plans[i] for i in group] for group in groups], contents)
    )
    for i in shown('writing', [i for group in groups for i in group]):
      _put(out, source, choice, i, plans[i])
    copy()
  return found


@contextlib.contextmanager
def _writing(
  output: Output, source: ModelSource, groups: Sequence[Sequence[_leaf.Leaf]], contents: dict
) -> Iterator[_writer.Writer]:
  """The file or the files."""
  common = {'metadata': source.metadata, 'argument': 'OUT', 'mode': source.mode | 0o600}
  if output.file is None:
    index = source.files.index_metadata if isinstance(source.files, _shards.Shards) else None
    order = [plan.path for plan in source.plans]
    named = {**_output.names(source, output.most), 'order': order, 'index': index}
    with _writer.several_files('prune', output.path, groups, contents, **named, **common) as out:
      yield out
    return
  with contextlib.ExitStack() as stack:
    if output.is_folder:
      stack.enter_context(_replaced.folder_for('prune', 'OUT', output.path))
    by_path = {plan.path: plan for group in groups for plan in group}
    plans = [by_path[plan.path] for plan in source.plans]
    yield stack.enter_context(_writer.one_file('prune', output.file, plans, contents, **common))


def _put(
  out: _writer.Writer, source: ModelSource, choice: Choice, i: int, plan: _leaf.Leaf
) -> None:
  """Writes one leaf. All that it took is freed on return."""
  values, mask = source.read(i)
  if i in choice.kept:
    mask = choice.mask(i, values, mask).reshape(plan.shape)
    if np.count_nonzero(mask) != choice.kept[i]:
      raise _errors.input_changed(plan.path)
  if plan.mask is None and mask is not None:
    _zero(values, mask)
    mask = None
  out.put(plan.path, values, mask)


def _zero(values: np.ndarray, mask: np.ndarray) -> None:
  """In place; selected, not multiplied: no NaN, no -0.0."""
  flat, keep = values.reshape(-1), mask.reshape(-1)
  zero = np.zeros((), values.dtype)
  for begin, end in ranges(values.size):
    np.copyto(flat[begin:end], zero, where=~keep[begin:end])


def _check_names(names: list[str]) -> None:
  seen = {_container.METADATA}
  for name in names:
    if name in seen:
      raise _errors.name_taken(name)
    seen.add(name)
