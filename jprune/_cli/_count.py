"""Exactly k over leaves that pass by one at a time, found by counting.

Scores are float32 and not negative, so that their bits, read as a number, rank as they do. The
upper bits of all keys are counted first; the bin in which rank k falls says which lower bits
are worth counting. So the k-th largest key of any number of leaves is known after two passes,
and which leaf has how many weights above it; a third pass can write. Counts are 64-bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from jprune._cli._scores import Chunk, ranges

LOW = 15  # bits that the second pass counts; the first counts the upper 17, of which 16 occur
_FEW = 2**12  # so few keys are sorted: that is faster than to clear and to read all bins
_LAST = np.uint32(0xFFFFFFFF)  # above every key

Keys = Iterable[np.ndarray]
"""The keys of one leaf, in chunks."""


class Cutoff(NamedTuple):
  """What one leaf keeps: all keys above ``key``, and the first ``ties`` that equal it.

  Attributes:
    key: the k-th largest.
    ties: how many of those that equal it are kept, lowest flat index first.
    kept: how many weights that makes.
  """

  key: np.uint32
  ties: int
  kept: int


def keys(size: int, chunk: Chunk, before: np.ndarray | None) -> Iterator[np.ndarray]:
  """Keys of a leaf's weights, uint32: 0 for what an earlier mask pruned, else the score's + 1."""
  for begin, end in ranges(size):
    found = chunk(begin, end).view(np.uint32) + np.uint32(1)
    if before is not None:
      found[~before.reshape(-1)[begin:end]] = 0
    yield found


def cuts(leaves: Callable[[str], Iterable[Keys]], k: int) -> list[Cutoff]:
  """What each leaf keeps if the k largest weights of all leaves are to stay.

  Among equal scores the earlier leaf, and in it the lower flat index, comes first. What was
  pruned before never comes back, so that fewer than k may stay.

  Args:
    leaves: gives the keys of every leaf, always in the same order; asked twice, with a word for
      what is being done.
    k: how many to keep.
  """
  high = np.zeros(2 ** (32 - LOW), np.int64)
  for chunks in leaves('counting 1/2'):
    for found in chunks:
      _tick(high, found >> np.uint32(LOW))
  bin_, above = _locate(high, k)
  above_bin, within, low = [], [], np.zeros(2**LOW, np.int64)
  for chunks in leaves('counting 2/2'):
    more, bins, counts = _within(chunks, bin_, low)
    above_bin.append(more)
    within.append((bins, counts))
  for bins, counts in within:
    low[bins] += counts
  last, more = _locate(low, k - above)
  key = np.uint32(bin_ << LOW | last) if k else _LAST
  return list(_shared(key, last, k - above - more if key and k else 0, above_bin, within))


def cut(leaf: Callable[[], Keys], size: int, k: int) -> Cutoff:
  """What a lone leaf keeps, as :func:`cuts` of it alone.

  Args:
    leaf: gives its keys; may be asked twice.
    size: how many there are.
    k: how many to keep.
  """
  if size > _FEW:
    return cuts(lambda word: [leaf()], k)[0]
  if not k:
    return Cutoff(_LAST, 0, 0)
  found = np.concatenate(list(leaf()))
  key = np.partition(found, size - k)[size - k]
  above = int(np.count_nonzero(found > key))
  return Cutoff(key, k - above, k) if key else Cutoff(key, 0, above)


def mask(size: int, found: Keys, cut: Cutoff) -> np.ndarray:
  """The flat mask of a leaf by its cut."""
  out, begin, left = np.empty(size, bool), 0, cut.ties
  for each in found:
    part = out[begin : begin + each.size]
    np.greater(each, cut.key, out=part)
    if left:
      ties = np.flatnonzero(each == cut.key)[:left]
      part[ties] = True
      left -= ties.size
    begin += each.size
  return out


def _tick(counts: np.ndarray, values: np.ndarray) -> None:
  """Counts values, in place; few of them without a pass over all bins."""
  if values.size <= _FEW:
    np.add.at(counts, values, 1)
  else:
    counts += np.bincount(values, minlength=counts.size)


def _locate(counts: np.ndarray, k: int) -> tuple[int, int]:
  """The bin in which the k-th largest lies, and how many lie in bins above it."""
  at_least = np.cumsum(counts[::-1])  # so many in the highest bin, in the two highest, ...
  place = min(int(np.searchsorted(at_least, k)), counts.size - 1)
  bin_ = counts.size - 1 - place
  return bin_, int(at_least[place] - counts[bin_])


def _within(chunks: Keys, bin_: int, zeros: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
  """Of one leaf: how many keys lie above a bin, and which lower bits occur in it, how often.

  Only those that occur are listed: they are few, and every leaf's are kept to the end.

  Args:
    chunks: its keys.
    bin_: the bin.
    zeros: a zero for each value of the lower bits; so it is again afterwards.
  """
  above, some = 0, []
  for found in chunks:
    upper = found >> np.uint32(LOW)
    above += int(np.count_nonzero(upper > bin_))
    inside = found[upper == bin_] & np.uint32(2**LOW - 1)
    _tick(zeros, inside)
    some.append(inside if inside.size <= _FEW else np.flatnonzero(zeros))
  bins = np.unique(np.concatenate(some)) if some else np.zeros(0, np.uint16)
  counts = zeros[bins]
  zeros[bins] = 0
  return above, bins.astype(np.uint16), counts


def _shared(
  key: np.uint32, last: int, left: int, above_bin: list[int], within: list
) -> Iterator[Cutoff]:
  """Gives the ties to the leaves in order."""
  for above, (bins, counts) in zip(above_bin, within, strict=True):
    if key == _LAST:
      yield Cutoff(key, 0, 0)
      continue
    there = int(counts[bins == last].sum())
    ties = min(left, there)
    left -= ties
    yield Cutoff(key, ties, above + int(counts[bins > last].sum()) + ties)
