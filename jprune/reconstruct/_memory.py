"""How much memory of a device is in use, and was at most."""

from __future__ import annotations

import math
from collections import Counter

import jax

_PEAK = 'peak_bytes_in_use'
_ALLOCATOR, _ARRAYS = 'its allocator', 'live arrays after each stage'


class Watch:
  """Looks at all devices of this process when it is told to."""

  def __init__(self) -> None:
    self._before = _by_allocator(_PEAK)
    self._most = 0

  def look(self) -> None:
    """To be called when much is held."""
    used = _by_allocator('bytes_in_use') or _by_arrays()
    self._most = max(self._most, *used.values())

  def peak(self) -> tuple[int, str]:
    """The most of any device in bytes, and what says so; exact where an allocator saw it grow."""
    grown = [
      size for place, size in _by_allocator(_PEAK).items() if size > self._before.get(place, 0)
    ]
    source = _ALLOCATOR if self._before else _ARRAYS
    return max([self._most, *grown]), source


def _by_allocator(what: str) -> dict[int, int]:
  """What a statistic of the allocators says of each device; nothing where there are none."""
  found = {device.id: device.memory_stats() for device in jax.local_devices()}
  return {place: stats[what] for place, stats in found.items() if stats and what in stats}


def _by_arrays() -> dict[int, int]:
  """Bytes of all arrays of the process, whoever holds them, by device."""
  sizes: Counter[int] = Counter({device.id: 0 for device in jax.local_devices()})
  for x in jax.live_arrays():
    if not x.is_deleted():
      size = math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
      sizes.update({device.id: size for device in x.sharding.addressable_devices})
  return dict(sizes)
