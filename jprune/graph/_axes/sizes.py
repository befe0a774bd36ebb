"""How much of a dimension stays once units are left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from jprune.graph._axes.atoms import Atom, Dim, leaves, resolve, size_of

World: TypeAlias = frozenset[Atom]
"""The atoms that are represented by one pruned index of theirs, as ghosts are computed."""

NOWHERE: World = frozenset()


class Sizes:
  """Which indices of a dimension stay, and how many.

  Attributes:
    keeps: for each atom that loses some, a bool array: which of its indices stay.
  """

  def __init__(self, keeps: Mapping[Atom, np.ndarray]) -> None:
    self.keeps = {atom: keep for atom, keep in keeps.items() if not keep.all()}

  def keep(self, dim: Dim, world: World = NOWHERE) -> np.ndarray | None:
    """A bool array over a dimension, or ``None`` where all stays."""
    dim = resolve(dim)
    if not any(atom in self.keeps for atom in leaves(dim)):
      return None
    out = np.ones(1, bool)
    for atom in dim:
      out = np.logical_and.outer(out, self._of(atom, world)).reshape(-1)
    return out

  def _of(self, atom: Atom, world: World) -> np.ndarray:
    if atom.segments is None:
      keep = self.keeps.get(atom)
      if keep is None:
        return np.ones(atom.size, bool)
      return np.arange(atom.size) == np.argmin(keep) if atom in world else keep
    found = ((part, self.keep(part, world)) for part in atom.segments)
    return np.concatenate([np.ones(size_of(p), bool) if k is None else k for p, k in found])

  def small_size(self, dim: Dim, world: World = NOWHERE) -> int:
    """How many indices of a dimension stay."""
    total = 1
    for atom in resolve(dim):
      if atom.segments is not None:
        total *= sum(self.small_size(part, world) for part in atom.segments)
      elif atom in world:
        total *= 1
      else:
        keep = self.keeps.get(atom)
        total *= atom.size if keep is None else int(keep.sum())
    return total
