"""The axis algebra: every dimension of every value is a row-major product of atoms.

An atom is *free*; *frozen*, with the reason; *bound* to the product that it turned out to be; or a
*sum*: segments laid one after the other, each a product. Unifying two products makes them one and
the same, by the common refinement of their factors. What is left free at the end is a channel.

A dimension of size 1 is the empty product, so broadcasting never couples. Atoms of size 1 occur
only as segments of sums: frozen ones, or the single indices into which a permutation splits an
atom; those remember the family that they came from.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np


class Cause(NamedTuple):
  """Why something is tied or frozen: in words, and the equation that did it, in its frame."""

  text: str
  eqn: Any = None
  frame: Any = None


class Family:
  """The single indices that came from one atom; families merge when their members do."""

  __slots__ = ('parent',)

  def __init__(self) -> None:
    self.parent: Family | None = None

  def root(self) -> Family:
    """The family that this one has become part of."""
    root = self
    while root.parent is not None:
      root = root.parent
    return root

  def merge(self, other: Family) -> None:
    """Makes the two one."""
    mine, theirs = self.root(), other.root()
    if mine is not theirs:
      theirs.parent = mine


class Atom:
  """A factor of a dimension.

  Attributes:
    size: number of indices.
    bound: the product that this atom is, once it is known to be another one.
    segments: of a sum, else ``None``.
    frozen: why no index may go, else ``None``.
    ties: nested pairs of the causes that tied it.
    family: of a single index, else ``None``.
  """

  __slots__ = ('bound', 'family', 'frozen', 'segments', 'size', 'ties')

  def __init__(self, size: int, frozen: Cause | None = None, family: Family | None = None) -> None:
    self.size = size
    self.frozen = frozen
    self.family = family
    self.bound: Dim | None = None
    self.segments: list[Dim] | None = None
    self.ties: Any = None


Dim: TypeAlias = tuple[Atom, ...]
Dims: TypeAlias = tuple[Dim, ...]


def fresh(size: int, frozen: Cause | None = None) -> Dim:
  """A dimension of which nothing is known."""
  return () if size == 1 else (Atom(size, frozen),)


def fresh_all(shape: Sequence[Any], frozen: Cause | None = None) -> Dims:
  """Dimensions of which nothing is known; sizes may be symbolic, as ``jax.export`` has them."""
  return tuple(fresh(int(n) if is_int(n) else n, frozen) for n in shape)


def is_int(size: Any) -> bool:
  """Whether a size is a number: those of ``jax.export`` may be symbols."""
  return isinstance(size, (int, np.integer))


def size_of(dim: Iterable[Atom]) -> int:
  """Number of indices of a product."""
  return math.prod(atom.size for atom in dim)


def resolve(dim: Dim) -> Dim:
  """The product in terms of atoms that are not bound."""
  if all(atom.bound is None for atom in dim):
    return dim
  out: list[Atom] = []
  for atom in dim:
    if atom.bound is not None:
      atom.bound = resolve(atom.bound)
      out += atom.bound
    else:
      out.append(atom)
  return tuple(out)


def freeze(dim: Dim, cause: Cause) -> None:
  """No index of the dimension may go; the first cause stays."""
  for atom in resolve(dim):
    if atom.frozen is None:
      atom.frozen = cause
      for part in atom.segments or ():
        freeze(part, cause)


def is_frozen(dim: Dim) -> bool:
  """Whether no index of the dimension may go."""
  return all(atom.frozen is not None for atom in leaves(dim))


def leaves(dim: Dim) -> Iterator[Atom]:
  """The free and frozen atoms in the dimension and in the segments of its sums."""
  for atom in resolve(dim):
    if atom.segments is None:
      yield atom
    else:
      for part in atom.segments:
        yield from leaves(part)


def counts(dims: Iterable[Dim]) -> dict[Atom, int]:
  """For each free or frozen atom, how many coordinates of one entry are indices of it."""
  total: dict[Atom, int] = {}
  for atom in itertools.chain.from_iterable(map(resolve, dims)):
    found: dict[Atom, int] = {} if atom.segments is not None else {atom: 1}
    for part in atom.segments or ():  # an index lies in one of the segments
      for each, times in counts([part]).items():
        found[each] = max(found.get(each, 0), times)
    for each, times in found.items():
      total[each] = total.get(each, 0) + times
  return total
