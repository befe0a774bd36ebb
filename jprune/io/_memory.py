"""How much memory a leaf takes and how much there is: asked before anything is allocated.

A leaf that keeps few weights is small in a file and as large as any other in memory, so that what
a file says of its leaves is all that tells whether they can be had. A system that hands out
memory before it has it, as Linux does, would rather kill the process than refuse.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

import jax.numpy as jnp

from jprune.io import _errors
from jprune.io._leaf import Leaf

_SMALL = 2**26  # bytes that aren't worth a look


def needed(leaf: Leaf) -> int:
  """Bytes of a leaf and of its mask, a bool for each weight, when they are loaded."""
  return leaf.size * (jnp.dtype(leaf.dtype).itemsize + (leaf.mask is not None))


def check_fit(function: str, path: str, leaves: Sequence[Leaf], together: bool = False) -> None:
  """Refuses leaves for which there isn't the memory.

  Args:
    function: who asks, for the message.
    path: of the file.
    leaves: as the file describes them.
    together: whether all of them are to stay in this memory, or pass through it one by one.

  Raises:
    ValueError: that names the largest leaf.
  """
  if not leaves:
    return
  largest = max(leaves, key=needed)
  # each is copied once on its way to its device
  need = needed(largest) + (sum(map(needed, leaves)) if together else 0)
  if need < _SMALL:
    return
  there = available()
  if there is not None and need > there:
    raise too_large(function, path, largest, there)


def too_large(function: str, path: str, leaf: Leaf, there: int | None = None) -> ValueError:
  kind = f'{leaf.dtype} of shape {leaf.shape}'
  return _errors.leaf_too_large(function, path, leaf.path, kind, needed(leaf), there)


def available() -> int | None:
  """Bytes that can be had without driving others out; ``None`` where the system doesn't tell."""
  found = [_of_machine(), _of_group('/sys/fs/cgroup')]
  return min((each for each in found if each is not None), default=None)


def _of_machine() -> int | None:
  with contextlib.suppress(OSError, ValueError, LookupError):
    with open('/proc/meminfo', 'rb') as file:
      rows = dict(line.split(b':', 1) for line in file)
    return sum(1024 * int(rows[name].split()[0]) for name in (b'MemAvailable', b'SwapFree'))
  with contextlib.suppress(OSError, ValueError, AttributeError):
    return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
  return None


def _of_group(folder: str) -> int | None:
  """What a container's limit leaves, which is ``max`` where there is none; caches can go."""
  with contextlib.suppress(OSError, ValueError, LookupError):
    with open(f'{folder}/memory.max', 'rb') as file:
      limit = int(file.read())
    with open(f'{folder}/memory.current', 'rb') as file:
      used = int(file.read())
    with open(f'{folder}/memory.stat', 'rb') as file:
      rows = dict(line.split() for line in file)
    return max(0, limit - used + int(rows[b'inactive_file']))
  return None
