"""What a masked leaf takes at rest: the formula that the tally announces and the file follows."""

from __future__ import annotations

import math
from typing import NamedTuple

SHAPE_ITEM = 8  # one int64 for each dimension
ROW_OFFSET = 8  # one int64 for each row


class Storage(NamedTuple):
  """How a leaf is stored.

  Attributes:
    format: ``'dense'`` (all values), ``'bitmask'`` (kept values, a bit for each weight, where
      each row starts) or ``'index'`` (kept values and their flat positions).
    bytes: size of its tensors in the file, without the file's header.
  """

  format: str
  bytes: int


def index_bytes(size: int) -> int:
  """Bytes of one flat position: int32 as long as it can name every weight, else int64."""
  return 4 if size <= 2**31 else 8


def smallest_storage(shape: tuple[int, ...], nonzero: int, itemsize: int) -> Storage:
  """The smallest of the three formats; dense before bitmask before index where they tie.

  Args:
    shape: of the leaf. A row is a run along the last axis.
    nonzero: how many weights are kept.
    itemsize: bytes of one weight.

  Examples:
    >>> smallest_storage((1024, 1024), 104858, 4)
    Storage(format='bitmask', bytes=558712)
    >>> smallest_storage((1024, 1024), 1024, 4).format, smallest_storage((8,), 8, 4).format
    ('index', 'dense')
  """
  size = math.prod(shape)
  cols = shape[-1] if shape else 1
  rows = size // cols if cols else 0
  values, header = nonzero * itemsize, SHAPE_ITEM * len(shape)
  bitmask = values + rows * (-(-cols // 8) + ROW_OFFSET) + header
  index = values + nonzero * index_bytes(size) + header
  options = [Storage('dense', size * itemsize), Storage('bitmask', bitmask), Storage('index', index)]
  return min(options, key=lambda option: option.bytes)
