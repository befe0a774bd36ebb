"""One leaf of a tally: its numbers, and why it was skipped."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jprune import tree
from jprune.graph import Macs
from jprune.masks._storage import smallest_storage

NOT_SELECTED = 'not selected'  # where it isn't known why


@dataclasses.dataclass(frozen=True)
class LeafTally:
  """One leaf of a :class:`Tally`.

  Attributes:
    path: canonical leaf path.
    shape: shape of the leaf; ``None`` if the leaf is no array (it then has no weights).
    dtype: name of its dtype; the name of its type if it is no array.
    size: number of weights.
    nonzero: weights that its mask keeps (all, if the mask is ``None``); in a tally without
      masks, weights that aren't zero.
    bytes_dense: bytes of all values.
    bytes_stored: bytes in the smallest of three formats, as :func:`jprune.save` writes the leaf
      with its mask, by which a leaf that has lost a few weights only takes a little more than
      ``bytes_dense``; in a tally without masks never more, for zeros may stay values.
    format: that format: ``'dense'``, ``'bitmask'`` or ``'index'``.
    skipped: why nothing of this leaf was pruned; ``None`` if something was. Masks don't say how
      they were made: a reason to have none is that of the default selection, by names or roles, as
      long as it explains all masks; of masks that prune whole channels of ``fn``, why its axes are
      frozen; else ``'not selected'``.
    macs: in a tally of a function, the multiply-adds (:class:`jprune.graph.Macs`) of the products
      that multiply by this leaf.
    shape_shrunk: in a tally of a function, the shape without the channels that are wholly pruned.
    role: in a tally with roles, the kind of the leaf's: ``'kernel'``, ``'vector'``, ``'table'``,
      ``'state'`` or ``'unused'``.
    counted: whether its zeros were: it has a mask or, in a tally without masks, values.

  Examples:
    >>> row = jprune.tally({'w': jnp.ones((2, 2))}, {'w': jnp.eye(2, dtype=bool)}).rows[0]
    >>> row.path, row.shape, row.nonzero, row.sparsity
    ('w', (2, 2), 2, 0.5)
  """

  path: str
  shape: tuple[int, ...] | None
  dtype: str
  size: int
  nonzero: int
  bytes_dense: int
  bytes_stored: int
  format: str
  skipped: str | None = None
  macs: Macs | None = None
  shape_shrunk: tuple[int, ...] | None = None
  role: str | None = None
  counted: bool = True

  @property
  def sparsity(self) -> float:
    """Fraction of zeros in [0, 1]; 0.0 for a leaf without weights."""
    return fraction_of_zeros(self.size, self.nonzero)

  @property
  def compression(self) -> float:
    """Dense bytes over stored bytes: 1.0 if there are none, ``inf`` if nothing is stored."""
    return ratio_of_bytes(self.bytes_dense, self.bytes_stored)

  def to_dict(self) -> dict[str, Any]:
    """Fields, sparsity and compression as plain, JSON-serialisable Python values.

    ``macs`` and ``shape_shrunk`` are there only in a tally of a function, ``role`` only in one with
    roles.
    """
    shape = None if self.shape is None else list(self.shape)
    fields = {**dataclasses.asdict(self), 'shape': shape, **ratios(self)}
    small = fields.pop('shape_shrunk')
    del fields['macs']
    if self.role is None:
      del fields['role']
    if self.macs is None:
      return fields
    return {**fields, 'macs': self.macs._asdict(), 'shape_shrunk': list(small)}


def row_of(
  path: str,
  leaf: Any,
  nonzero: int,
  mask: Any,
  masked: bool,
  role: str | None = None,
  usual: str | None = None,
) -> LeafTally:
  """One leaf of a tally.

  Args:
    path: its path.
    leaf: an array, a shape struct, or anything.
    nonzero: how many of its weights are.
    mask: its mask; anything but ``None`` counts as one.
    masked: whether the tally is of masks.
    role: the kind of its role.
    usual: why it has no mask, if that is known.
  """
  why = _why_skipped(leaf, nonzero, mask, masked, usual)
  counted = mask is not None if masked else has_values(leaf)
  if not is_arraylike(leaf):
    kind = type(leaf).__name__
    return LeafTally(path, None, kind, 0, 0, 0, 0, 'dense', why, role=role, counted=counted)
  shape, dtype = shape_of(leaf), dtype_of(leaf)
  stored = smallest_storage(shape, nonzero, dtype.itemsize, masked)
  size = size_of(leaf)
  counts = size, nonzero, size * dtype.itemsize, stored.bytes
  about = stored.format, why
  return LeafTally(path, shape, str(dtype), *counts, *about, role=role, counted=counted)


def bytes_shrunk(row: LeafTally) -> int:
  """Bytes of all values without the channels that are wholly pruned."""
  return row.bytes_dense // max(row.size, 1) * math.prod(row.shape_shrunk or ())


def _why_skipped(leaf: Any, nonzero: int, mask: Any, masked: bool, usual: str | None) -> str | None:
  """Why nothing of a leaf was pruned; ``None`` if some was."""
  size = size_of(leaf)
  if nonzero < size:
    return None
  if not is_arraylike(leaf):
    return 'not an array'
  if size == 0:
    return 'no weights'
  if not masked:
    return 'no zeros' if has_values(leaf) else 'zeros not counted'
  if mask is not None:
    return 'its mask keeps every weight'
  if not jnp.issubdtype(dtype_of(leaf), jnp.inexact):
    return 'not floating'
  return usual or NOT_SELECTED


def is_arraylike(leaf: Any) -> bool:
  """An array, a shape struct, or a Python number."""
  return tree.is_array(leaf) or isinstance(leaf, (bool, int, float, complex))


def shape_of(leaf: Any) -> tuple[int, ...]:
  return tuple(int(n) for n in np.shape(leaf))


def dtype_of(leaf: Any) -> Any:
  return leaf.dtype if tree.is_array(leaf) else jax.dtypes.canonicalize_dtype(type(leaf))


def size_of(leaf: Any) -> int:
  if tree.is_array(leaf):
    return tree.size(leaf)
  return 1 if is_arraylike(leaf) else 0


def has_values(leaf: Any) -> bool:
  """Whether there are numbers to count (not in shape structs, nor in random keys)."""
  if not tree.is_array(leaf):
    return is_arraylike(leaf)
  number = jnp.issubdtype(leaf.dtype, np.number) or leaf.dtype == np.bool_
  return number and hasattr(leaf, '__array__')


def fraction_of_zeros(size: int, nonzero: int) -> float:
  return (size - nonzero) / size if size else 0.0


def ratio_of_bytes(dense: int, stored: int) -> float:
  if stored == 0:
    return math.inf if dense else 1.0
  return dense / stored


def ratios(counted: Any) -> dict[str, float | None]:
  """Sparsity and compression of a leaf or of the whole, as JSON has them: without infinity."""
  compression = None if math.isinf(counted.compression) else counted.compression
  return {'sparsity': counted.sparsity, 'compression': compression}
