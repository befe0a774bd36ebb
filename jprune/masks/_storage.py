"""What a masked leaf takes at rest: the formula that the tally announces and the file follows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

SHAPE_ITEM = 8  # one int64 for each dimension
ROW_OFFSET = 8  # one int64 for each row

# Text in the header: entries of a leaf and the characters that their names add to its path, and
# what an entry, a leaf, a key of the tree and the file take besides.
TENSORS = {'dense': (1, 0), 'partial': (2, 5), 'bitmask': (4, 37), 'index': (3, 21)}
TENSOR_HEADER, LEAF_HEADER, KEY, FILE_HEADER = 49, 49, 7, 115


class Storage(NamedTuple):
  """How a leaf is stored.

  Attributes:
    format: ``'dense'`` (all values and, if any is pruned, a bit for each weight), ``'bitmask'``
      (kept values, a bit for each weight, where each row starts) or ``'index'`` (kept values
      and their flat positions).
    bytes: size of its tensors in the file, without the file's header.
  """

  format: str
  bytes: int


def index_bytes(size: int) -> int:
  """Bytes of one flat position: int32 as long as it can name every weight, else int64."""
  return 4 if size <= 2**31 else 8


class Rate(NamedTuple):
  """What a format takes: ``fixed`` bytes, and ``each`` for every weight that is kept."""

  format: str
  fixed: int
  each: int


def rates(shape: tuple[int, ...], itemsize: int, masked: bool = True) -> tuple[Rate, ...]:
  """What each of the three formats takes; arguments as for :func:`smallest_storage`."""
  size = math.prod(shape)
  cols = shape[-1] if shape else 1
  rows = size // cols if cols else 0
  header, bits = SHAPE_ITEM * len(shape), rows * -(-cols // 8)
  return (
    Rate('dense', size * itemsize + bits * masked, 0),
    Rate('bitmask', bits + rows * ROW_OFFSET + header, itemsize),
    Rate('index', header, itemsize + index_bytes(size)),
  )


def smallest_storage(
  shape: tuple[int, ...], nonzero: int, itemsize: int, masked: bool = True
) -> Storage:
  """The smallest of the three formats; dense before bitmask before index where they tie.

  Args:
    shape: of the leaf. A row is a run along the last axis.
    nonzero: how many weights are kept. A leaf that keeps all of them needs no stored mask.
    itemsize: bytes of one weight.
    masked: whether it is to be known which weights are kept. Without that the dense format is its
      values, zeros and all.

  Examples:
    >>> smallest_storage((1024, 1024), 104858, 4)
    Storage(format='bitmask', bytes=558712)
    >>> smallest_storage((1024, 1024), 1024, 4).format, smallest_storage((8,), 8, 4).format
    ('index', 'dense')
    >>> smallest_storage((8,), 7, 4)
    Storage(format='dense', bytes=33)
    >>> smallest_storage((8,), 7, 4, masked=False)
    Storage(format='dense', bytes=32)
  """
  found = rates(shape, itemsize, masked and nonzero < math.prod(shape))
  options = [Storage(rate.format, rate.fixed + rate.each * nonzero) for rate in found]
  return min(options, key=lambda option: option.bytes)


def header_bytes(
  paths: Sequence[str], shapes: Sequence[tuple[int, ...]], storages: Sequence[Storage]
) -> int:
  """What the file's header takes: the tensors' names and places, and the tree's description.

  Adds up with the ``bytes`` of the leaves to the size of the file. A few digits are guessed
  (dtype names, counts, offsets), which is about 2 % of the header.

  Args:
    paths: canonical path of each leaf.
    shapes: of each leaf.
    storages: of each leaf, as :func:`smallest_storage` names it.

  Examples:
    >>> storage = smallest_storage((64, 64), 400, 4)
    >>> storage.bytes, header_bytes(['kernel'], [(64, 64)], [storage])
    (2640, 495)
  """
  offsets = 2 * len(str(sum(storage.bytes for storage in storages)))
  total = FILE_HEADER
  for path, shape, storage in zip(paths, shapes, storages, strict=True):
    dims, count = len(str(shape)) - len(shape) - 1, len(str(math.prod(shape)))
    partial = storage.format == 'dense' and storage.bytes % max(math.prod(shape), 1)
    # The bits of a partial mask are what keeps the bytes from being a multiple of the size.
    tensors, suffixes = TENSORS['partial' if partial else storage.format]
    total += tensors * (TENSOR_HEADER + len(path) + offsets) + suffixes + (tensors - 1) * count
    total += LEAF_HEADER + len(path) + dims * (1 if storage.format == 'index' else 2)
  return total + _tree_text(paths)


def _tree_text(paths: Sequence[str]) -> int:
  """Each key once, with its quotes, as in a tree of dicts."""
  total, above = 0, list[str]()
  for keys in sorted(path.split('/') for path in paths):
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(above, keys))
    shared = sum(1 for _ in same)
    total += sum(len(key) + 1 + KEY for key in keys[shared:])
    above = keys
  return total
