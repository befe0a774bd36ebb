"""What is known of entries at pruned indices: zero, equal, anything; as bits, also their sign."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import NamedTuple, cast

from jprune.graph._axes.atoms import Atom


class Pruned(enum.IntEnum):
  """What is known of the entries at pruned indices of an atom, from best to worst."""

  ZERO = 0
  """They are zero."""
  UNIFORM = 1
  """They are one and the same for all pruned indices."""
  ANY = 2
  """They may be anything."""
  BAD = 3
  """They may be infinite or NaN."""


ZERO, UNIFORM, ANY, BAD = Pruned


# What entries may be. Where no bit is set, they are positive and finite.
NEGATIVE = 1
NULL = 2
INFINITE = 4
NAN = 8
# Entries at pruned indices that are equal may still differ in the sign of zero: 0 * x is -0.0 for
# a negative x.
SIGNS = 16
# They may be NaN where their status says something else, as those of h * x are where x is NaN; in
# that case those that stay are NaN as well.
FRAIL = 32
# The same, where those that stay may be infinite instead, as with h / 0: sums of the two differ.
TORN = 64
# The value was computed; without this bit it is a param, moved at most.
MADE = 128
REAL = NEGATIVE | NULL
WILD = INFINITE | NAN


class Facts(NamedTuple):
  """What else is known of entries, as bits: what is known of several values is joined by ``|``.

  Attributes:
    default: what any entry may be.
    of: for each atom of the value that may be pruned, what entries at its pruned indices may be.
    lost: atoms that were summed over though their pruned entries may be NaN.
  """

  default: int
  of: Mapping[Atom, int]
  lost: frozenset[Atom] = frozenset()

  def get(self, atom: Atom) -> int:
    """What the entries at pruned indices may be, also of an atom that the value doesn't have."""
    return self.of.get(atom, self.default)


class Status(NamedTuple):
  """What the entries of a value at pruned indices are.

  Attributes:
    default: along what the value is constant: ``ZERO`` if it is zero everywhere, else ``UNIFORM``.
    of: for each atom of the value that may be pruned.
    facts: what else is known; rules leave it out, the walk puts it in.
  """

  default: int
  of: Mapping[Atom, int]
  facts: Facts | None = None

  @property
  def known(self) -> Facts:
    """What else is known, once the walk has put it in."""
    return cast(Facts, self.facts)

  def get(self, atom: Atom) -> int:
    """The status along an atom, also one that the value doesn't have."""
    return self.of.get(atom, self.default)
