"""An ``.npz`` file of NumPy, read leaf by leaf; pickles in it are refused."""

from __future__ import annotations

import math
import zipfile
import zlib
from typing import Any

import jax.numpy as jnp
import numpy as np

from jprune import _checks
from jprune.io import _container, _errors, _memory
from jprune.io._boxes import Box
from jprune.io._lazy import LazyArray
from jprune.io._leaf import Leaf

END = '.npz'
# what a damaged archive makes of its readers
_FAULTS = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError, RuntimeError)


def opened(function: str, path: str) -> tuple[dict[str, LazyArray], zipfile.ZipFile]:
  """The arrays of a file by their names, sorted, and the open file.

  Raises:
    OSError: if it can't be read.
    ValueError: if it is damaged, has no arrays, or some that are none of numbers.
  """
  _errors.check_input(function, path)
  try:
    archive = zipfile.ZipFile(path)
  except OSError as error:
    raise _errors.not_read(function, 'path', path, error) from None
  except _FAULTS as error:
    raise _checks.damaged_file(function, path, error) from None
  try:
    return _arrays(function, path, archive), archive
  except BaseException:
    archive.close()
    raise


def _arrays(function: str, path: str, archive: zipfile.ZipFile) -> dict[str, LazyArray]:
  found: dict[str, LazyArray] = {}
  for info in archive.infolist():
    name = info.filename.removesuffix('.npy')
    if name in found or name == info.filename:
      detail = 'it holds a name twice' if name in found else 'it holds what is no array'
      raise _checks.damaged_file(function, path, detail, name)
    found[name] = _array(function, path, archive, info, name)
  if not found:
    raise _errors.no_tensors(function, path)
  if '' in found:
    raise _errors.unnamed_tensor(function, path)
  return dict(sorted(found.items()))


def _array(
  function: str, path: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str
) -> LazyArray:
  try:
    with archive.open(info) as file:
      version = np.lib.format.read_magic(file)
      v1 = version == (1, 0)
      header = np.lib.format.read_array_header_1_0 if v1 else np.lib.format.read_array_header_2_0
      shape, _, stored = header(file)
  except _FAULTS as error:
    raise _checks.damaged_file(function, path, error, name) from None
  dtype = _dtype(stored)
  if dtype is None or dtype.name not in _container.CODES:
    raise _errors.no_numbers(function, path, name, str(stored))
  plan = Leaf(name, dtype.name, tuple(shape), 'dense', math.prod(shape), None)

  def read(box: Box | None) -> tuple[np.ndarray, None]:
    if archive.fp is None:
      raise _errors.closed(path, name)
    _memory.check_fit(function, path, [plan])
    try:
      with archive.open(info) as file:
        values = np.lib.format.read_array(file, allow_pickle=False)
    except _FAULTS as error:
      raise _checks.damaged_file(function, path, error, name) from None
    values = np.asarray(values.view(dtype) if stored.kind == 'V' else values, dtype, order='C')
    return (values if box is None else values[box].copy()), None

  return LazyArray(name, plan.shape, dtype, read)


def _dtype(stored: np.dtype) -> Any:
  """What a dtype is in this machine's byte order; ``None`` if it isn't of numbers.

  NumPy has no name for bfloat16 and writes it as two bytes of anything.
  """
  if stored.kind == 'V':
    return jnp.dtype('bfloat16') if stored.itemsize == 2 and stored.fields is None else None
  return stored.newbyteorder('=') if stored.kind in 'biufc' else None
