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
_LAST = np.uint32(0xFFFFFFFF)  # above every key

Keys = Iterable[np.ndarray]
"""The keys of one leaf, in chunks."""


class Cut(NamedTuple):
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


def cuts(leaves: Callable[[str], Iterable[Keys]], k: int) -> list[Cut]:
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
      high += np.bincount(found >> np.uint32(LOW), minlength=high.size)
  bin_, above = _locate(high, k)
  above_bin, within = [], []
  for chunks in leaves('counting 2/2'):
    more, bins, counts = _within(chunks, bin_)
    above_bin.append(more)
    within.append((bins, counts))
  low = np.zeros(2**LOW, np.int64)
  for bins, counts in within:
    low[bins] += counts
  last, more = _locate(low, k - above)
  key = np.uint32(bin_ << LOW | last) if k else _LAST
  return list(_shared(key, last, k - above - more if key and k else 0, above_bin, within))


def mask(size: int, found: Keys, cut: Cut) -> np.ndarray:
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


def _locate(counts: np.ndarray, k: int) -> tuple[int, int]:
  """The bin in which the k-th largest lies, and how many lie in bins above it."""
  at_least = np.cumsum(counts[::-1])  # so many in the highest bin, in the two highest, ...
  place = min(int(np.searchsorted(at_least, k)), counts.size - 1)
  bin_ = counts.size - 1 - place
  return bin_, int(at_least[place] - counts[bin_])


def _within(chunks: Keys, bin_: int) -> tuple[int, np.ndarray, np.ndarray]:
  """Of one leaf: how many keys lie above a bin, and which lower bits occur in it, how often.

  Only those that occur are listed: they are few, and every leaf's are kept to the end.
  """
  above, counts = 0, np.zeros(2**LOW, np.int64)
  for found in chunks:
    upper = found >> np.uint32(LOW)
    above += int(np.count_nonzero(upper > bin_))
    inside = found[upper == bin_] & np.uint32(2**LOW - 1)
    if inside.size:
      counts += np.bincount(inside, minlength=counts.size)
  bins = np.flatnonzero(counts)
  return above, bins.astype(np.uint16), counts[bins]


def _shared(
  key: np.uint32, last: int, left: int, above_bin: list[int], within: list
) -> Iterator[Cut]:
  """Gives the ties to the leaves in order."""
  for above, (bins, counts) in zip(above_bin, within, strict=True):
    if key == _LAST:
      yield Cut(key, 0, 0)
      continue
    there = int(counts[bins == last].sum())
    ties = min(left, there)
    left -= ties
    yield Cut(key, ties, above + int(counts[bins > last].sum()) + ties)
