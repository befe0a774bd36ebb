"""What the processes of one program do together, so that a leaf that spans them can be written.

Files of a set are dealt out to processes, the largest first, each to the one that has the least to
write. A leaf is gathered to the process that writes it, a piece at a time: only what that process
hasn't goes over the network, as raw bytes, whatever mesh the leaf lies on.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from jprune import _hosts
from jprune.io import _errors, _leaf
from jprune.io._boxes import Box, box_of
from jprune.masks._pack import PackedMask

R = TypeVar('R')

_PIECE = 2**26  # bytes of each process in one transfer


def spans(leaf: Any, replicated: bool = False) -> bool:
  """Whether a leaf or mask lies in part on other processes; copies there count if so asked."""
  array = leaf.bits if isinstance(leaf, PackedMask) else leaf
  if not isinstance(array, jax.Array) or array.is_fully_addressable:
    return False
  return replicated or not array.is_fully_replicated


def dealt(sizes: Sequence[int]) -> list[int]:
  """Which process writes each file, by the files' bytes; the same on all processes.

  Examples:
    >>> dealt([5, 3, 2])
    [0, 0, 0]
  """
  loads, owners = [0] * jax.process_count(), [0] * len(sizes)
  for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
    owners[i] = min(range(len(loads)), key=loads.__getitem__)
    loads[owners[i]] += sizes[i]
  return owners


class Attempt:
  """What may fail on one process while the others go on: all of them hear of it, and none waits."""

  def __init__(self, function: str):
    self._function = function
    self._error: Exception | None = None
    self._over = False

  @contextlib.contextmanager
  def cleared(self) -> Iterator[None]:
    """Raises what was agreed on when all processes have cleared up."""
    try:
      yield
    except Exception:
      if self._over:
        shared(b'.')
      raise

  def do(self, call: Callable[..., R], *args: Any) -> R | None:
    """Calls, unless something failed before; keeps what it raises."""
    if self._error is None:
      try:
        return call(*args)
      except Exception as error:
        self._error = error
    return None

  def agree(self) -> None:
    """Waits for all processes.

    Raises:
      Exception: what was raised here.
      RuntimeError: if only others failed.
    """
    failed = np.flatnonzero(_hosts.from_all(np.array([self._error is not None], np.uint8))[:, 0])
    self._over = bool(failed.size)
    if self._error is not None:
      raise self._error
    if failed.size:
      raise _errors.elsewhere_failed(self._function, failed.tolist())


def shared(text: bytes) -> bytes:
  """The text of the first process, on all of them; each passes one of the same length."""
  return _hosts.from_all(np.frombuffer(text, np.uint8))[0].tobytes()


def added(counts: Sequence[int]) -> list[int]:
  """Sums over all processes, exact up to 2^63."""
  return [int(n) for n in _hosts.from_all(np.array(counts, np.int64)).sum(axis=0)]


def kept(masks: Sequence[Any]) -> list[int | None]:
  """How many weights each mask keeps; ``None`` where there is no mask."""
  own = [0 if mask is None else _kept_here(mask) for mask in masks]
  return [None if mask is None else n for mask, n in zip(masks, added(own))]


def _kept_here(mask: Any) -> int:
  """What this process adds to the sum of all."""
  if not spans(mask, replicated=True):
    return int(np.count_nonzero(_leaf.host_mask(mask))) if jax.process_index() == 0 else 0
  if isinstance(mask, PackedMask):  # the last byte of a row is not known by a shard alone
    whole = host_mask(mask, 0)
    return 0 if whole is None else int(np.count_nonzero(whole))
  shards = [shard for shard in mask.addressable_shards if shard.replica_id == 0]
  return sum(int(np.count_nonzero(_leaf.host(shard.data))) for shard in shards)


def host_mask(mask: Any, owner: int) -> np.ndarray | None:
  """:func:`jprune.io._leaf.host_mask` on the owner; ``None`` on others."""
  if not isinstance(mask, PackedMask):
    return host(mask, owner)
  bits = host(mask.bits, owner)
  return None if bits is None else _leaf.unpacked_rows(bits, mask)


def host(leaf: Any, owner: int) -> np.ndarray | None:
  """A whole leaf on the host of its owner; ``None`` on others. All processes must call."""
  mine = jax.process_index() == owner
  if not spans(leaf):
    return _leaf.host(leaf) if mine else None
  shards = {_key(box): data for box, data in _local(leaf)}
  dtype = np.dtype(leaf.dtype)
  sent = _sent(leaf, owner)
  if not mine:
    own = [_leaf.host(shards[_key(box)]) for box in sent.get(jax.process_index(), [])]
    stream = np.concatenate([x.reshape(-1).view(np.uint8) for x in own] or [np.empty(0, np.uint8)])
    _transfer(stream, sent, dtype, receiving=False)
    return None
  out = np.empty(leaf.shape, dtype)
  for box, data in _local(leaf):
    out[box] = _leaf.host(data)
  received = _transfer(np.empty(0, np.uint8), sent, dtype, receiving=True)
  for process, boxes in sent.items():
    begin = 0
    for box in boxes:
      end = begin + _count(box) * dtype.itemsize
      part = received[process][begin:end].view(dtype)
      out[box] = part.reshape(tuple(each.stop - each.start for each in box))
      begin = end
  return out


def _local(leaf: jax.Array) -> list[tuple[Box, jax.Array]]:
  return [(box_of(leaf.shape, each.index)[0], each.data) for each in leaf.addressable_shards]


def _sent(leaf: jax.Array, owner: int) -> dict[int, list[Box]]:
  """The boxes that each process sends to the owner, of those that it hasn't itself."""
  places = leaf.sharding.devices_indices_map(leaf.shape)
  by_box: dict[Any, tuple[Box, set[int]]] = {}
  for device, index in places.items():
    box = box_of(leaf.shape, index)[0]
    by_box.setdefault(_key(box), (box, set()))[1].add(device.process_index)
  sent: dict[int, list[Box]] = {}
  for _, (box, processes) in sorted(by_box.items()):
    if owner not in processes:
      sent.setdefault(min(processes), []).append(box)
  return sent


def _transfer(
  stream: np.ndarray, sent: dict[int, list[Box]], dtype: np.dtype, receiving: bool
) -> dict[int, np.ndarray]:
  """The streams of all who send, in pieces of few sizes, as each size compiles something."""
  sizes = {process: sum(map(_count, boxes)) * dtype.itemsize for process, boxes in sent.items()}
  out = {process: np.empty(size, np.uint8) for process, size in sizes.items() if receiving}
  longest = max(sizes.values(), default=0)
  for begin in range(0, longest, _PIECE):
    length = min(_PIECE, longest - begin)
    piece = np.zeros(1 << max(10, (length - 1).bit_length()), np.uint8)
    own = stream[begin : begin + length]
    piece[: own.size] = own
    gathered = _hosts.from_all(piece)
    for process, received in out.items():
      part = received[begin : begin + length]
      part[:] = gathered[process, : part.size]
  return out


def _key(box: Box) -> tuple[tuple[int, int], ...]:
  return tuple((part.start, part.stop) for part in box)


def _count(box: Box) -> int:
  return math.prod(part.stop - part.start for part in box)
