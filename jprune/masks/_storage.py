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


def smallest_storage(shape: tuple[int, ...], nonzero: int, itemsize: int) -> Storage:
  """The smallest of the three formats; dense before bitmask before index where they tie.

  Args:
    shape: of the leaf. A row is a run along the last axis.
    nonzero: how many weights are kept. A leaf that keeps all of them needs no stored mask.
    itemsize: bytes of one weight.

  Examples:
    >>> smallest_storage((1024, 1024), 104858, 4)
    Storage(format='bitmask', bytes=558712)
    >>> smallest_storage((1024, 1024), 1024, 4).format, smallest_storage((8,), 8, 4).format
    ('index', 'dense')
    >>> smallest_storage((8,), 7, 4)
    Storage(format='dense', bytes=33)
  """
  size = math.prod(shape)
  cols = shape[-1] if shape else 1
  rows = size // cols if cols else 0
  values, header = nonzero * itemsize, SHAPE_ITEM * len(shape)
  bits = rows * -(-cols // 8)
  dense = size * itemsize + (bits if nonzero < size else 0)
  bitmask = values + bits + rows * ROW_OFFSET + header
  index = values + nonzero * index_bytes(size) + header
  options = [Storage('dense', dense), Storage('bitmask', bitmask), Storage('index', index)]
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
