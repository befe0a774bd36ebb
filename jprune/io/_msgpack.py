"""A ``.msgpack`` file as ``flax.serialization.to_bytes`` makes it, read leaf by leaf.

Flax writes a tree of dicts in which an array is an extension of msgpack: its shape, the name of
its dtype and its bytes, again packed. Where those are too many for one extension it writes a dict
of flat arrays. What is read of an array at first is its shape and where its bytes lie.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import mmap
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jprune import _checks, tree
from jprune.io import _container, _errors, _leaf, _memory
from jprune.io._boxes import Box
from jprune.io._lazy import LazyArray

END = '.msgpack'
_CHUNKED = '__msgpack_chunked_array__'
_ARRAY, _COMPLEX, _SCALAR = 1, 2, 3  # Flax's extensions
_SHORT = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}  # extensions of fixed size
_LONG = {0xC7: 1, 0xC8: 2, 0xC9: 4}  # bytes of the size of others
_HEAD = 2**12  # bytes that are read at once; shape and dtype of an array take fewer


@dataclasses.dataclass(frozen=True)
class _Stored:
  """An array in the file: pairs of where its bytes begin and how many there are."""

  shape: tuple[int, ...]
  dtype: np.dtype
  parts: tuple[tuple[int, int], ...]


def leaves(function: str, path: str) -> Any:
  """The tree of a file; its leaves are lazy. Numbers are arrays; texts stay what they are.

  Raises:
    ImportError: if msgpack isn't installed.
    OSError: if it can't be read.
    ValueError: if it is damaged, or not of Flax.
  """
  try:
    import msgpack
  except ImportError:
    raise _checks.missing_library(function, 'msgpack', 'io') from None
  _errors.check_input(function, path)
  try:
    with open(path, 'rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
      cursor = _Cursor(msgpack, data)
      found = cursor.tree()
      if cursor.position() != len(data):
        raise ValueError('something follows its end')
  except (ValueError, LookupError, TypeError, RecursionError, msgpack.UnpackException) as error:
    detail = error if type(error) is ValueError else repr(error)
    raise _checks.damaged_file(function, path, detail) from None
  except OSError as error:
    raise _errors.not_read(function, 'path', path, error) from None
  paths, stored, treedef = tree.flatten(found)
  if not paths:
    raise _errors.no_tensors(function, path)
  _checks.check_distinct(function, paths)
  return treedef.unflatten([_lazy(function, path, *each) for each in zip(paths, stored)])


class _Cursor:
  """A place in the file, which steps over arrays."""

  def __init__(self, msgpack: Any, data: mmap.mmap):
    self._msgpack, self._data = msgpack, data
    self._unpacker = functools.partial(msgpack.Unpacker, raw=False, read_size=_HEAD)
    self._jump(0)

  def _jump(self, to: int) -> None:
    self._data.seek(to)
    self._base = to
    self._next = self._unpacker(self._data, strict_map_key=False)

  def position(self) -> int:
    return self._base + self._next.tell()

  def tree(self) -> Any:
    at = self.position()
    if at >= len(self._data):
      raise ValueError('it is cut short')
    first = self._data[at]
    if first & 0xF0 == 0x80 or first in (0xDE, 0xDF):
      count = self._next.read_map_header()
      return _unchunked({self._next.unpack(): self.tree() for _ in range(count)})
    if first & 0xF0 == 0x90 or first in (0xDC, 0xDD):
      return [self.tree() for _ in range(self._next.read_array_header())]
    if first in _SHORT or first in _LONG:
      return self._extension(at, first)
    return self._next.unpack()

  def _extension(self, at: int, first: int) -> Any:
    wide = _LONG.get(first, 0)
    size = _SHORT.get(first) or int.from_bytes(self._data[at + 1 : at + 1 + wide], 'big')
    begin = at + wide + 2
    code, end = self._data[begin - 1], begin + size
    if end > len(self._data):
      raise ValueError('it is cut short')
    self._jump(end)
    if code == _COMPLEX:
      return complex(*self._msgpack.unpackb(self._data[begin:end]))
    if code not in (_ARRAY, _SCALAR):
      raise ValueError(f'it holds an extension {code}, which is none of Flax')
    head = self._unpacker()
    head.feed(self._data[begin : min(begin + _HEAD, end)])
    if head.read_array_header() != 3:
      raise ValueError('it holds an array that is none of Flax')
    shape, dtype = tuple(head.unpack()), jnp.dtype(head.unpack())
    _leaf.check_shape(shape, dtype.itemsize)
    bytes_ = math.prod(shape) * dtype.itemsize
    if head.tell() + bytes_ > size:
      raise ValueError('it holds an array of fewer bytes than its shape asks for')
    return _Stored(shape, dtype, ((end - bytes_, bytes_),))


def _unchunked(found: dict[Any, Any]) -> Any:
  """A dict, or the array that it stands for."""
  if _CHUNKED not in found:
    return found
  numbered = lambda each: [each[str(i)] for i in range(len(each))]
  shape, chunks = tuple(numbered(found['shape'])), numbered(found['chunks'])
  dtype = chunks[0].dtype
  parts = tuple(part for chunk in chunks for part in chunk.parts)
  if sum(size for _, size in parts) != math.prod(shape) * dtype.itemsize:
    raise ValueError('it holds an array in parts that are not all of it')
  return _Stored(shape, dtype, parts)


def _lazy(function: str, file: str, path: str, stored: Any) -> Any:
  if isinstance(stored, (bool, int, float, complex)):
    return _constant(path, stored)
  if not isinstance(stored, _Stored):
    return stored
  if stored.dtype.name not in _container.CODES:
    raise _errors.no_numbers(function, file, path, stored.dtype.name)
  size = math.prod(stored.shape)
  plan = _leaf.Leaf(path, stored.dtype.name, stored.shape, 'dense', size, None)

  def read(box: Box | None) -> tuple[np.ndarray, None]:
    _memory.check_fit(function, file, [plan])
    raw, place = np.empty(size * stored.dtype.itemsize, np.uint8), 0
    try:
      with open(file, 'rb', buffering=0) as handle:
        for begin, count in stored.parts:
          handle.seek(begin)
          end = place + count
          while place < end:  # a system reads at most 2 GiB at once
            found = handle.readinto(raw[place:end].data)
            if not found:
              raise _checks.damaged_file(function, file, 'it is cut short', path)
            place += found
    except OSError as error:
      raise _errors.not_read(function, 'path', file, error) from None
    values = raw.view(stored.dtype).reshape(stored.shape)
    return (values if box is None else values[box].copy()), None

  return LazyArray(path, stored.shape, stored.dtype, read)


def _constant(path: str, number: complex) -> LazyArray:
  """A number that is no array, of the dtype that JAX would give it, if it fits."""
  dtype = jax.dtypes.canonicalize_dtype(type(number))
  if isinstance(number, int) and not -(2**31) <= number < 2**31:
    dtype = np.dtype(np.int64 if number < 2**63 else np.uint64)
  values = np.array(number, dtype)
  return LazyArray(path, (), dtype, lambda box: (values.copy(), None))
