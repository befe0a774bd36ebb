"""The pruned file, written leaf by leaf beside its name."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from jprune._cli import _errors
from jprune._cli._scores import ranges
from jprune._cli._select import Choice, Shown
from jprune._cli._source import ModelSource
from jprune.io import _container, _leaf, _writer
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
  _check_names([tensor.name for plan in plans for tensor in _leaf.tensors(plan)])
  contents = {'masks': sparse, 'tree': source.description}
  mode = source.reader.mode | 0o600
  with _writer.one_file(
    'prune', path, plans, contents, metadata=source.metadata, argument='OUT', mode=mode
  ) as out:
    for i in shown('writing', list(range(len(plans)))):
      _put(out, source, choice, i, plans[i])


def _put(
  out: _writer.Writer, source: ModelSource, choice: Choice, i: int, plan: _leaf.Leaf
) -> None:
  """Writes one leaf. All that it took is freed on return."""
  out.put(plan.path, *_pruned(source, choice, i, plan))


def _pruned(
  source: ModelSource, choice: Choice, i: int, plan: _leaf.Leaf
) -> tuple[np.ndarray, np.ndarray | None]:
  """A leaf's values, and its mask if that is stored; else its zeros are among the values."""
  values, mask = source.read(i)
  if i in choice.kept:
    mask = choice.mask(i, values, mask).reshape(plan.shape)
    if np.count_nonzero(mask) != choice.kept[i]:
      raise _errors.input_changed(plan.path)
  if mask is None or plan.mask is not None:
    return values, mask
  _zero(values, mask)
  return values, None


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
