"""Where the units of the groups lie along a dimension."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from jprune.graph._axes.atoms import Atom, Dim, Dims, Family, resolve, size_of

Numbers: TypeAlias = Mapping[Family, Mapping[Atom, int]]


def numbered(leaves: Iterable[Dims]) -> Numbers:
  """The single indices that may go, by family, in the order in which the leaves have them."""
  out: dict[Family, dict[Atom, int]] = {}
  for dims in leaves:
    for dim in dims:
      for atom in free_atoms(dim):
        if atom.family is not None:
          family = out.setdefault(atom.family.root(), {})
          family.setdefault(atom, len(family))
  return out


def free_atoms(dim: Dim) -> Iterator[Atom]:
  """The atoms in the dimension, and in the segments of its sums, that may go."""
  for atom in resolve(dim):
    if atom.segments is not None:
      for part in atom.segments:
        yield from free_atoms(part)
    elif atom.frozen is None:
      yield atom


def layout(dim: Dim, numbers: Numbers) -> list[tuple[Any, np.ndarray]]:
  """For each group with units in the dimension: to which of them its indices belong."""
  dim = resolve(dim)
  total, minor = size_of(dim), 1
  out: list[tuple[Any, np.ndarray]] = []
  for atom in reversed(dim):
    index = np.arange(total) // minor % atom.size
    out += [(owner, units[index]) for owner, units in _layout_of(atom, numbers)]
    minor *= atom.size
  return out


def _layout_of(atom: Atom, numbers: Numbers) -> list[tuple[Any, np.ndarray]]:
  if atom.segments is None:
    if atom.frozen is not None:
      return []
    if atom.family is not None:
      family = atom.family.root()
      return [(family, np.array([numbers[family][atom]], np.int32))]
    return [(atom, np.arange(atom.size, dtype=np.int32))] if atom.size > 1 else []
  merged: dict[tuple[Any, int], np.ndarray] = {}
  start = 0
  for part in atom.segments:
    end = start + size_of(part)
    seen: dict[Any, int] = {}
    for owner, units in layout(part, numbers):
      turn = seen[owner] = seen.get(owner, -1) + 1
      if (owner, turn) not in merged:
        merged[owner, turn] = np.full(atom.size, -1, np.int32)
      merged[owner, turn][start:end] = units
    start = end
  return [(owner, units) for (owner, _), units in merged.items()]
