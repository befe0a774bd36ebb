"""A part of a tensor, of whose bytes hardly more are read than it has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from jprune.io import _errors
from jprune.io._leaf import Tensor

_RUN = 2**15  # bytes for which a read of their own is worth it
_BLOCK = 2**26  # bytes that are read to be thinned out

Box = tuple[slice, ...]
"""A slice for each axis, from a start to a stop within it, step 1."""


class ReadInto(Protocol):
  """What gives the bytes of a tensor."""

  def read_into(self, tensor: Tensor, position: int, out: np.ndarray) -> None: ...


def box_of(shape: Sequence[int], index: Any) -> tuple[Box, tuple[Any, ...]]:
  """The smallest box that holds what an index asks for, and the index of that in it.

  Args:
    shape: of an array.
    index: an int, a slice, or a tuple of them, in which ``...`` may stand.

  Raises:
    IndexError: if it lies outside of the array, or is of another kind.

  Examples:
    >>> box_of((4, 9), (-1, slice(None, None, -4)))
    ((slice(3, 4, None), slice(0, 9, None)), (0, slice(None, None, -4)))
  """
  parts = index if isinstance(index, tuple) else (index,)
  if parts.count(...) > 1 or len(parts) - parts.count(...) > len(shape):
    raise _errors.bad_index(shape, index)
  if ... not in parts:
    parts = (*parts, ...)
  place = parts.index(...)
  fill = (slice(None),) * (len(shape) - len(parts) + 1)
  pairs = [
    _along(shape, index, n, part)
    for n, part in zip(shape, (*parts[:place], *fill, *parts[place + 1 :]), strict=True)
  ]
  return tuple(box for box, _ in pairs), tuple(inner for _, inner in pairs)


def _along(shape: Sequence[int], index: Any, n: int, part: Any) -> tuple[slice, Any]:
  if isinstance(part, slice):
    taken = range(n)[part]
    if not taken:
      return slice(0, 0), slice(None)
    low, high = sorted((taken[0], taken[-1]))
    return slice(low, high + 1), slice(None, None, taken.step)
  if not isinstance(part, (int, np.integer)) or isinstance(part, bool) or not -n <= part < n:
    raise _errors.bad_index(shape, index)
  start = int(part) % n
  return slice(start, start + 1), 0


def read_box(source: ReadInto, tensor: Tensor, box: Box) -> np.ndarray:
  """The part of a tensor in a box, row-major.

  Runs of bytes are read one by one where they are long; where they are short, what lies between
  them is read too, a block at a time.

  Raises:
    ValueError: if the tensor isn't as its source has it.
  """
  sizes = tuple(part.stop - part.start for part in box)
  out = np.empty(sizes, tensor.dtype)
  if not out.size:
    return out
  cut = [i for i, n in enumerate(sizes) if n < tensor.shape[i]]
  axis = cut[-1] if cut else 0  # what follows it is one run
  rows, run = math.prod(sizes[:axis]), math.prod(sizes[axis:]) * tensor.dtype.itemsize
  if rows > 1 and run < _RUN:
    return _thinned(source, tensor, box, axis, out)
  strides = [math.prod(tensor.shape[i + 1 :]) * tensor.dtype.itemsize for i in range(len(sizes))]
  first = sum(part.start * stride for part, stride in zip(box, strides))
  flat = out.reshape(-1).view(np.uint8).reshape(rows, run)
  for row, place in zip(flat, np.ndindex(*sizes[:axis])):
    step = sum(i * stride for i, stride in zip(place, strides))
    source.read_into(tensor, first + step, row)
  return out


def _thinned(source: ReadInto, tensor: Tensor, box: Box, axis: int, out: np.ndarray) -> np.ndarray:
  """Reads all along an axis, and keeps what is in the box."""
  wide = [*box[:axis], slice(0, tensor.shape[axis]), *box[axis + 1 :]]
  each = math.prod(part.stop - part.start for part in wide[1:]) * tensor.dtype.itemsize
  step, start = max(1, _BLOCK // each), box[0].start
  for begin in range(0, len(out), step):
    end = min(begin + step, len(out))
    part = read_box(source, tensor, (slice(start + begin, start + end), *wide[1:]))
    out[begin:end] = part[(slice(None),) * axis + (box[axis],)]
  return out
