"""The safetensors file: where its tensors lie, its header, and the reading of raw bytes.

The library judges every file, before a new one takes its name and before an old one is read.
The bytes are moved here: its writer wants all tensors in memory at once, and its NumPy reader
knows neither bfloat16 nor float8.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import stat
import struct
import threading
from collections.abc import Iterable, Iterator
from io import FileIO
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from jprune import _checks
from jprune.io import _errors
from jprune.io._leaf import Tensor

LENGTH = struct.Struct('<Q')  # a file begins with the length of its header
METADATA = '__metadata__'

# dtype name -> the format's code, and the axes that one element takes there. Dtypes that the
# format (since 0.4.3 of the library) can't name are stored as raw bytes, complex numbers as
# pairs; jprune's own metadata keeps the true name.
_RAW = (
  'float8_e3m4',
  'float8_e4m3',
  'float8_e4m3b11fnuz',
  'float8_e4m3fnuz',
  'float8_e5m2fnuz',
  'float8_e8m0fnu',
  'float4_e2m1fn',
  'int2',
  'uint2',
  'int4',
  'uint4',
)
CODES: dict[str, tuple[str, tuple[int, ...]]] = {
    'bool': ('BOOL', ()),
    'bfloat16': ('BF16', ()),
    'float8_e4m3fn': ('F8_E4M3', ()),
    'float8_e5m2': ('F8_E5M2', ()),
    **{f'float{n}': (f'F{n}', ()) for n in (16, 32, 64)},
    **{f'int{n}': (f'I{n}', ()) for n in (8, 16, 32, 64)},
    **{f'uint{n}': (f'U{n}', ()) for n in (8, 16, 32, 64)},
    'complex64': ('F32', (2,)),
    'complex128': ('F64', (2,)),
    **dict.fromkeys(_RAW, ('U8', ())),
}  # fmt: skip


class Span(NamedTuple):
  """A tensor as the header names it; ``begin`` and ``end`` count from the header's end."""

  code: str
  shape: tuple[int, ...]
  begin: int
  end: int


def library(function: str) -> Any:
  """The safetensors package, imported when it is needed."""
  try:
    import safetensors
  except ImportError:
    raise _checks.missing_library(function, 'safetensors', 'io') from None
  return safetensors


def layout(tensors: Iterable[Tensor]) -> dict[str, Span]:
  """Where each tensor lies: without gaps, wide items first, so that every item is aligned."""
  spans, begin = {}, 0
  for tensor in sorted(tensors, key=lambda tensor: -tensor.dtype.itemsize):
    end = begin + tensor.nbytes
    spans[tensor.name] = as_span(tensor, begin, end)
    begin = end
  return spans


def as_span(tensor: Tensor, begin: int, end: int) -> Span:
  code, axes = _code(tensor.dtype)
  return Span(code, (*tensor.shape, *axes), begin, end)


@functools.cache
def _code(dtype: np.dtype) -> tuple[str, tuple[int, ...]]:
  return CODES[dtype.name]


def header(spans: dict[str, Span], metadata: dict[str, str]) -> bytes:
  """The header with its length before it, padded with spaces so that the data is aligned."""
  entries: dict[str, Any] = {METADATA: metadata}
  for name, span in spans.items():
    offsets = [span.begin, span.end]
    entries[name] = {'dtype': span.code, 'shape': span.shape, 'data_offsets': offsets}
  text = json.dumps(entries, separators=(',', ':')).encode()
  text += b' ' * (-len(text) % 8)
  return LENGTH.pack(len(text)) + text


def write_at(file: BinaryIO, position: int, array: np.ndarray) -> memoryview:
  """Writes the raw bytes of an array; returns them."""
  raw = array.reshape(-1).view(np.uint8).data
  file.seek(position)
  file.write(raw)
  return raw


def check_written(function: str, safetensors: Any, temporary: str) -> None:
  """A header that the library can't read never takes the place of an old file."""
  try:
    safetensors.safe_open(temporary, framework='numpy').__exit__(None, None, None)
  except safetensors.SafetensorError as error:
    raise _errors.not_storable_tree(function, error) from None


@contextlib.contextmanager
def opened(function: str, path: Any) -> Iterator[Reader]:
  """A file that the library takes for one, as long as it is read.

  Raises:
    ImportError: if safetensors is not installed.
    OSError: if there is no such file, or it can't be read.
    TypeError: if ``path`` is no path.
    ValueError: if it is no regular file, truncated, damaged or of another format.
  """
  with contextlib.closing(reader(function, _checks.as_path(function, path))) as found:
    yield found


def reader(function: str, name: str) -> Reader:
  """:func:`opened` for a name that :func:`jprune._checks.as_path` gave; its caller closes it."""
  library(function)
  _errors.check_input(function, name)
  # a pipe that took the file's name meanwhile would let us wait
  flags = os.O_RDONLY | getattr(os, 'O_NONBLOCK', 0) | getattr(os, 'O_BINARY', 0)
  try:
    handle = os.open(name, flags)
  except OSError as error:
    raise _errors.not_read(function, 'path', name, error) from None
  file = open(handle, 'rb', buffering=0)  # noqa: SIM115
  try:
    return Reader(function, name, file)
  except BaseException:
    file.close()
    raise


class Reader:
  """An open file, judged by the library: its metadata, and its tensors by name."""

  def __init__(self, function: str, path: str, file: FileIO):
    safetensors = library(function)
    self.function, self.path, self._file = function, path, file
    status = os.fstat(file.fileno())
    size, self.mode = status.st_size, stat.S_IMODE(status.st_mode) & 0o666
    # of the library, or of a file that changes after the library has judged it
    faults = (ValueError, TypeError, AttributeError, LookupError, OSError, RecursionError)
    try:
      (length,) = LENGTH.unpack(file.read(LENGTH.size))
      with safetensors.safe_open(path, framework='numpy') as judged:
        # sorted, as the library gives them in another order each time
        self.metadata = dict(sorted((judged.metadata() or {}).items()))
      entries = json.loads(file.read(min(length, size)))
      entries.pop(METADATA, None)
      self.spans = {name: _parsed(entry) for name, entry in entries.items()}
    except (safetensors.SafetensorError, struct.error, *faults) as error:
      raise _errors.broken_file(function, path, size, error) from None
    self._start = LENGTH.size + length
    self._lock = threading.Lock()  # of the file's position

  def raw(self, tensor: Tensor) -> np.ndarray:
    """The bytes of a tensor.

    Raises:
      ValueError: as :meth:`span`.
    """
    self.span(tensor)  # before that much memory is taken
    array = np.empty(tensor.nbytes, np.uint8)
    self.read_into(tensor, 0, array)
    return array

  def read_into(self, tensor: Tensor, position: int, out: np.ndarray) -> None:
    """Fills ``out`` with the bytes of a tensor that begin at a position in it.

    Raises:
      ValueError: as :meth:`span`, or if the file ends before.
    """
    span, rest = self.span(tensor), out.data
    with self._lock:
      self._file.seek(self._start + span.begin + position)
      while rest.nbytes:  # a system reads at most 2 GiB at once
        count = self._file.readinto(rest)
        if not count:
          raise ValueError(f"tensor '{tensor.name}' is cut short")
        rest = rest[count:]

  def span(self, tensor: Tensor) -> Span:
    """Where a tensor lies, which must be there with just this dtype and shape.

    Raises:
      ValueError: if it isn't.
    """
    span = self.spans.get(tensor.name)
    if span is None:
      raise ValueError(f"tensor '{tensor.name}' is missing")
    if span != as_span(tensor, span.begin, span.end):
      raise ValueError(f"tensor '{tensor.name}' is {span.code} of shape {span.shape}")
    return span

  def file_of(self, name: str) -> str:
    """The path of the file that holds a tensor."""
    return self.path

  @property
  def files(self) -> dict[str, tuple[str, ...]]:
    """The tensors in each file, by its path."""
    return {self.path: tuple(self.spans)}

  @property
  def closed(self) -> bool:
    return self._file.closed

  def close(self) -> None:
    self._file.close()


def _parsed(entry: dict[str, Any]) -> Span:
  return Span(entry['dtype'], tuple(entry['shape']), *entry['data_offsets'])
