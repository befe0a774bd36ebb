"""One safetensors file in the making: leaves come in any order, and go to their places."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import BinaryIO

import numpy as np

from jprune.io import _container, _errors, _leaf

_CHUNK = 2**24  # bytes that are read back at once


class Growing:
  """A file whose leaves are put one by one.

  Where each tensor lies is settled at the start, so that nothing waits in memory.

  Attributes:
    plans: its leaves by their paths.
    checksums: of the leaves that are complete, by their paths.
  """

  def __init__(
    self,
    function: str,
    file: BinaryIO,
    temporary: str,
    plans: Sequence[_leaf.Leaf],
    metadata: Callable[[Mapping[str, int]], dict[str, str]],
  ):
    """Lays out the file.

    Args:
      function: who writes, for messages.
      file: empty, open for writing and reading.
      temporary: its path.
      plans: of its leaves.
      metadata: gives what its header says, by the checksums; as long whatever they are.
    """
    self._function, self._file, self._temporary = function, file, temporary
    self._metadata = metadata
    self.plans = {plan.path: plan for plan in plans}
    self._spans = _container.layout(t for plan in plans for t in _leaf.tensors(plan))
    self._start = len(_container.header(self._spans, metadata(dict.fromkeys(self.plans, 0))))
    self._steps: dict[str, dict[int, int]] = {}  # how many weights each step keeps
    self._turns: dict[str, int] = {}  # how many steps there are
    self.checksums: dict[str, int] = {}

  def put(self, path: str, values: np.ndarray, mask: np.ndarray | None = None) -> None:
    """Writes a leaf. Weights under ``False`` aren't written, or as zeros.

    Raises:
      ValueError: if it isn't as it was planned.
    """
    plan = self.plans[path]
    kept = plan.size if mask is None else int(np.count_nonzero(mask))
    if kept != plan.kept or (values.dtype.name, values.shape) != (plan.dtype, plan.shape):
      raise _errors.not_as_planned(self._function, plan, values, kept)
    checksum = 0
    for tensor, array in zip(_leaf.tensors(plan), _leaf.encode(plan, values, mask), strict=True):
      raw = _container.write_at(self._file, self._position(tensor), array)
      checksum = zlib.crc32(raw, checksum)
    self.checksums[path] = checksum

  def put_step(
    self,
    path: str,
    i: int,
    values: np.ndarray,
    mask: np.ndarray | None = None,
    axis: int = 0,
  ) -> None:
    """Writes step ``i`` along an axis, with a mask the first, of a leaf that is stored dense.

    Raises:
      ValueError: if it isn't as it was planned.
    """
    plan = self.plans[path]
    before, (steps, *after) = plan.shape[:axis], plan.shape[axis:] or (0,)
    fits = (values.dtype.name, values.shape) == (plan.dtype, (*before, *after))
    in_bytes = mask is None or (after and not axis)  # else steps share bytes of the mask
    if not (fits and in_bytes and plan.format == 'dense' and 0 <= i < steps):
      raise _errors.not_as_planned(self._function, plan, values, None)
    step = plan._replace(shape=values.shape, kept=values.size)
    if mask is not None:
      step = step._replace(kept=int(np.count_nonzero(mask)))
    arrays = _leaf.encode(step, values, mask)
    tensors = _leaf.tensors(plan)
    if len(tensors) == 2 and len(arrays) == 1:  # of this step nothing is pruned
      arrays.append(_leaf.packed(np.ones(values.shape, bool)))
    for tensor, array in zip(tensors, arrays):
      pieces = array.reshape(math.prod(before), -1)
      for k, piece in enumerate(pieces):
        place = self._position(tensor) + (k * steps + i) * piece.nbytes
        _container.write_at(self._file, place, piece)
    self._steps.setdefault(path, {})[i] = step.kept
    self._turns[path] = steps

  def seal(self) -> None:
    """Writes the header, once all leaves are there.

    Raises:
      ValueError: if some aren't, or what was put in steps keeps other counts than planned; if the
        library refuses the header.
    """
    for path, steps in self._steps.items():
      plan = self.plans[path]
      if len(steps) == self._turns[path]:
        if sum(steps.values()) != plan.kept:
          raise _errors.not_as_planned(self._function, plan, None, sum(steps.values()))
        self.checksums[path] = self._checksum(plan)
    missing = [path for path in self.plans if path not in self.checksums]
    if missing:
      raise _errors.not_all_put(self._function, missing)
    self._file.seek(0)
    self._file.write(_container.header(self._spans, self._metadata(self.checksums)))
    self._file.flush()
    safetensors = _container.library(self._function)
    _container.check_written(self._function, safetensors, self._temporary)

  def _position(self, tensor: _leaf.Tensor) -> int:
    return self._start + self._spans[tensor.name].begin

  def _checksum(self, plan: _leaf.Leaf) -> int:
    """Of a leaf that came in steps, in whichever order: read back."""
    self._file.flush()
    checksum = 0
    for tensor in _leaf.tensors(plan):
      self._file.seek(self._position(tensor))
      for begin in range(0, tensor.nbytes, _CHUNK):
        raw = self._file.read(min(_CHUNK, tensor.nbytes - begin))
        checksum = zlib.crc32(raw, checksum)
    return checksum
