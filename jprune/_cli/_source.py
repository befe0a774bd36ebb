"""A safetensors file of any library, read leaf by leaf."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jprune import _checks, tree
from jprune._cli import _errors
from jprune.io import _container, _leaf, _load, _structure
from jprune.io._writer import CHECKSUM, KEY

# code of the format -> dtype; complex numbers and raw bytes share the codes of plain dtypes
_DTYPES: dict[str, str] = {}
for _name, (_code, _) in _container.CODES.items():
  _DTYPES.setdefault(_code, _name)


class ModelSource(NamedTuple):
  """An open file.

  Attributes:
    reader: the file.
    plans: its leaves, in the file's order.
    checksums: of each leaf, if jprune wrote the file.
    description: the tree of the leaves, as :mod:`jprune.io._structure` has it.
    masked: whether it holds masks.
    metadata: of other libraries.
  """

  reader: _container.Reader
  plans: list[_leaf.Leaf]
  checksums: list[str] | None
  description: Any
  masked: bool
  metadata: dict[str, str]

  @property
  def is_own(self) -> bool:
    """Whether jprune wrote it."""
    return self.checksums is not None

  @property
  def order(self) -> list[int]:
    """The leaves in the order of the tree that ``jprune.load`` gives."""
    return jax.tree.leaves(self.tree(list(range(len(self.plans)))))

  def tree(self, leaves: list[Any]) -> Any:
    """The tree that ``jprune.load`` gives, with these leaves in it."""
    return _structure.restore(self.description, leaves)

  def struct(self, i: int) -> jax.ShapeDtypeStruct:
    """A leaf without values."""
    return jax.ShapeDtypeStruct(self.plans[i].shape, jnp.dtype(self.plans[i].dtype))

  def structs(self) -> Any:
    """The tree of all leaves without values."""
    return self.tree([self.struct(i) for i in range(len(self.plans))])

  def skipped(self) -> dict[int, str | None]:
    """Why the default selection leaves a leaf out, if it does, by its place in the file."""
    return dict(zip(self.order, tree.skipped(self.structs()), strict=True))

  def read(self, i: int) -> tuple[np.ndarray, np.ndarray | None]:
    """A leaf and its mask, if it has one; the only way to the file's data."""
    checksum = None if self.checksums is None else self.checksums[i]
    return _load.read(self.reader, self.plans[i], checksum)


@contextlib.contextmanager
def opened(function: str, path: str) -> Iterator[ModelSource]:
  """A file that the safetensors library takes for one.

  Raises:
    ValueError: if it is empty, or holds a dtype that NumPy hasn't; and all that
      :func:`jprune.io._container.opened` raises.
  """
  with _container.opened(function, path) as reader:
    if not reader.spans:
      raise _errors.no_tensors(function, reader.path)
    yield _own(reader) if KEY in reader.metadata else _foreign(reader)


def _own(reader: _container.Reader) -> ModelSource:
  contents, plans, checksums = _load._contents(reader)
  metadata = {k: v for k, v in reader.metadata.items() if k not in (KEY, CHECKSUM)}
  return ModelSource(reader, plans, checksums, contents['tree'], contents['masks'], metadata)


def _foreign(reader: _container.Reader) -> ModelSource:
  """Every tensor is a leaf of one flat dict, by its own name, whatever that name holds."""
  names = sorted(reader.spans)
  plans = []
  for name in names:
    span = reader.spans[name]
    if span.code not in _DTYPES:
      raise _errors.unknown_code(reader.function, name, span.code, _DTYPES)
    dtype = _DTYPES[span.code]
    try:
      _leaf.check_shape(span.shape, jnp.dtype(dtype).itemsize)
    except ValueError as error:
      raise _checks.damaged_file(reader.function, reader.path, error, name) from None
    plans.append(_leaf.Leaf(name, dtype, span.shape, 'dense', math.prod(span.shape), None))
  return ModelSource(
    reader, plans, None, _structure.describe(dict.fromkeys(names, 0)), False, {**reader.metadata}
  )
