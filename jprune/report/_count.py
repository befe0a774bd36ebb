"""Exact counts of the values of leaves, packed masks among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jprune import _nonzeros
from jprune._entry import explicit
from jprune.masks import PackedMask


@explicit
def nonzeros(leaves: Sequence[Any]) -> list[int]:
  """How many values of each leaf aren't zero; the kept weights, if the leaf is a mask.

  NaN and denormals are nonzero, -0.0 is zero.

  Args:
    leaves: NumPy or concrete JAX arrays of numbers or bools, scalars, or
      :class:`jprune.masks.PackedMask`.

  Returns:
    Python ints. Arrays that span processes are counted over all of them, so every process must
    then make the same call.
  """
  packed = [isinstance(leaf, PackedMask) for leaf in leaves]
  ones = [_nonzeros.BITS if yes else _nonzeros.VALUES for yes in packed]
  arrays = [leaf.bits if yes else leaf for leaf, yes in zip(leaves, packed)]
  padding = [_padding(leaf) for leaf, yes in zip(leaves, packed) if yes]
  totals = _nonzeros.totals(arrays + padding, ones + [_nonzeros.BITS] * len(padding))
  excess = iter(totals[len(arrays) :])
  return [total - next(excess) if yes else total for total, yes in zip(totals, packed)]


def _padding(mask: PackedMask) -> Any:
  """The bits past the end of each row, which are no weights (zero, if :func:`pack` made them)."""
  used = (1 if mask.length is None else mask.length) % 8
  if not used or not mask.bits.size:
    return np.zeros((), np.uint8)
  return mask.bits[..., -1] >> np.uint8(used)
