"""A safetensors checkpoint of another tool: every tensor is a dense leaf by its own name."""

from __future__ import annotations

import math

import jax.numpy as jnp

from jprune import _checks
from jprune.io import _container, _errors, _leaf
from jprune.io._shards import Files

# code of the format -> dtype; complex numbers and raw bytes share the codes of plain dtypes
_DTYPES: dict[str, str] = {}
for _name, (_code, _) in _container.CODES.items():
  _DTYPES.setdefault(_code, _name)


def plans(files: Files) -> list[_leaf.Leaf]:
  """The leaves, sorted by their names, which may hold anything.

  Raises:
    ValueError: if there is none, one without a name, or one of a dtype that NumPy hasn't.
  """
  if not files.spans:
    raise _errors.no_tensors(files.function, files.path)
  if '' in files.spans:  # the path of a leaf that is a tree by itself, stored under another name
    raise _errors.unnamed_tensor(files.function, files.file_of(''))
  return [_plan(files, name, files.spans[name]) for name in sorted(files.spans)]


def _plan(files: Files, name: str, span: _container.Span) -> _leaf.Leaf:
  if span.code not in _DTYPES:
    raise _errors.unknown_code(files.function, name, span.code, sorted(_DTYPES))
  dtype = _DTYPES[span.code]
  try:
    _leaf.check_shape(span.shape, jnp.dtype(dtype).itemsize)
  except ValueError as error:
    raise _checks.damaged_file(files.function, files.file_of(name), error, name) from None
  return _leaf.Leaf(name, dtype, span.shape, 'dense', math.prod(span.shape), None)
