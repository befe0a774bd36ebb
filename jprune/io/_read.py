"""One leaf out of its files, whole or in part."""

from __future__ import annotations

import contextlib
import math
import zlib
from collections.abc import Iterator

import numpy as np

from jprune import _checks
from jprune.io import _leaf, _memory
from jprune.io._boxes import Box, read_box
from jprune.io._shards import Files

Pair = tuple[np.ndarray, np.ndarray | None]
"""Values, and the mask if the leaf has one."""


def read(files: Files, plan: _leaf.Leaf, checksum: str | None) -> Pair:
  """One leaf and its mask, if it has one, on the host.

  Raises:
    ValueError: if it isn't as the metadata and the checksum (``None``: there is none) say, or
      doesn't fit into memory.
  """
  _memory.check_fit(files.function, files.path, [plan])
  arrays, found = [], 0
  with _said(files, plan):
    for tensor in _leaf.tensors(plan):
      raw = files.raw(tensor)
      if checksum is not None:
        found = zlib.crc32(raw.data, found)
      arrays.append(raw.view(tensor.dtype).reshape(tensor.shape))
    if checksum is not None and f'{found:08x}' != checksum:
      raise ValueError('its data has another checksum')
    return _leaf.decode(plan, arrays)


def read_part(files: Files, plan: _leaf.Leaf, checksum: str | None, box: Box) -> Pair:
  """A leaf and its mask in a box, of which hardly more is read than that.

  Of a leaf that is stored as positions all is read, of one stored as a bitmask whole steps of the
  first axis. The checksum is that of the whole leaf.

  Raises:
    ValueError: as :func:`read`.
  """
  if all(part.stop - part.start == n for part, n in zip(box, plan.shape)):
    return read(files, plan, checksum)
  if plan.format == 'index' or (plan.format == 'bitmask' and len(plan.shape) < 2):
    values, mask = read(files, plan, checksum)
    return values[box].copy(), None if mask is None else mask[box].copy()
  with _said(files, plan):
    return (_dense if plan.format == 'dense' else _bitmask)(files, plan, box)


def _dense(files: Files, plan: _leaf.Leaf, box: Box) -> Pair:
  tensor, *bits = _leaf.tensors(plan)
  values = read_box(files, tensor, box)
  if plan.mask is None or not bits:
    return values, None if plan.mask is None else np.ones(values.shape, bool)
  begin, end = box[-1].start // 8, -(-box[-1].stop // 8)
  packed = read_box(files, bits[0], (*box[:-1], slice(begin, end)))
  bools = np.unpackbits(packed, axis=-1, bitorder='little').view(bool)
  return values, bools[..., box[-1].start - 8 * begin : box[-1].stop - 8 * begin].copy()


def _bitmask(files: Files, plan: _leaf.Leaf, box: Box) -> Pair:
  """Whole steps of the first axis, by where their first rows begin, and what of them is asked."""
  _, compressed, bitmask, offsets = _leaf.tensors(plan)
  rows, count = math.prod(plan.shape[1:-1]), offsets.shape[0]
  begin, end = (rows * i for i in (box[0].start, box[0].stop))
  starts = read_box(files, offsets, (slice(begin, min(end + 1, count)),)).tolist()
  first, last = (starts[0], starts[-1] if end < count else plan.kept) if begin < end else (0, 0)
  bits = read_box(files, bitmask, (box[0], *(slice(0, n) for n in bitmask.shape[1:])))
  bools = np.unpackbits(bits, axis=-1, count=plan.shape[-1], bitorder='little').view(bool)
  if not 0 <= first <= last <= plan.kept or np.count_nonzero(bools) != last - first:
    raise ValueError("its row offsets don't fit its bitmask")
  values = np.zeros(bools.shape, compressed.dtype)
  values[bools] = read_box(files, compressed, (slice(first, last),))
  inner = (slice(None), *box[1:])
  return values[inner].copy(), bools[inner].copy()


@contextlib.contextmanager
def _said(files: Files, plan: _leaf.Leaf) -> Iterator[None]:
  """What is wrong with a leaf, by the file that holds it."""
  try:
    yield
  except ValueError as error:
    file = files.file_of(_leaf.tensors(plan)[0].name)
    raise _checks.damaged_file(files.function, file, error, plan.path) from None
  except MemoryError:
    raise _memory.too_large(files.function, files.path, plan) from None
