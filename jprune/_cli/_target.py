"""The pruned file, written leaf by leaf beside its name."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, BinaryIO

import jax.numpy as jnp
import numpy as np

from jprune._cli import _errors
from jprune._cli._scores import ranges
from jprune._cli._select import Choice, Shown
from jprune._cli._source import ModelSource
from jprune.io import _atomic, _container, _leaf, _save
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


def write(path: str, source: ModelSource, choice: Choice, sparse: bool, shown: Shown) -> None:
  """Writes all leaves; the file appears when it is complete."""
  plans = planned(source, choice, sparse)
  tensors = [tensor for plan in plans for tensor in _leaf.tensors(plan)]
  _check_names([tensor.name for tensor in tensors])
  spans = _container.layout(tensors)
  contents = {'version': _save.VERSION, 'masks': sparse, 'tree': source.description}

  def header(checksums: Sequence[int]) -> bytes:
    own = _save._metadata(contents, plans, checksums)
    return _container.header(spans, {**source.metadata, **own})

  start = len(header([0] * len(plans)))  # checksums are of one length, so this is final
  with _atomic.replacing(path, source.mode | 0o600, 'prune', 'OUT') as (file, temporary):
    checksums = [
      _write(file, start, spans, source, choice, i, plans[i])
      for i in shown('writing', list(range(len(plans))))
    ]
    file.seek(0)
    file.write(header(checksums))
    file.flush()
    _container.check_written('prune', _container.library('prune'), temporary)


def _write(
  file: BinaryIO,
  start: int,
  spans: Any,
  source: ModelSource,
  choice: Choice,
  i: int,
  plan: _leaf.Leaf,
) -> int:
  """Writes one leaf; returns its checksum. All that it took is freed on return."""
  checksum = 0
  for tensor, array in zip(_leaf.tensors(plan), _pruned(source, choice, i, plan), strict=True):
    raw = _container.write_at(file, start + spans[tensor.name].begin, array)
    checksum = zlib.crc32(raw, checksum)
  return checksum


def _pruned(source: ModelSource, choice: Choice, i: int, plan: _leaf.Leaf) -> list[np.ndarray]:
  """The contents of a leaf's tensors."""
  values, mask = source.read(i)
  if i in choice.kept:
    mask = choice.mask(i, values, mask).reshape(plan.shape)
    if np.count_nonzero(mask) != choice.kept[i]:
      raise _errors.input_changed(plan.path)
  if mask is None or plan.format != 'dense':
    return _leaf.encode(plan, values, mask)
  _zero(values, mask)
  return [values, _leaf.packed(mask)] if plan.kept < plan.size else [values]


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
