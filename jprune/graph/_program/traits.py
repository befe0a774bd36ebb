"""What is known of single primitives besides what they do with axes: the rules enter it.

``has(eqn, Trait.FOLDS)`` instead of a list of names wherever somebody has to know.
"""

from __future__ import annotations

import enum

from jax.extend.core import JaxprEqn


class Trait(enum.Flag):
  """One thing that is true of a primitive or not."""

  # ----------------------------------------------------------------------- what becomes of entries
  ELEMENTWISE = enum.auto()
  """Works entry by entry."""
  MOVES = enum.auto()
  """Moves the entries of its first operand, or of all operands, and changes none."""
  JOINS = enum.auto()
  """Of what moves: lays the entries of all its operands side by side."""
  SPREADS = enum.auto()
  """Has the value of its operand in every entry if that is one value, known or not."""
  RESHAPES = enum.auto()
  """Keeps all entries of its operand, in another form at most: real numbers stay real."""
  CASTS = enum.auto()
  """Gives each entry in another dtype or precision at most, or at another place of the machine."""
  EACH = enum.auto()
  """Has as many results as operands, each of which is its operand."""
  STOPS = enum.auto()
  """Lets no derivative through."""
  SCALES = enum.auto()
  """Multiplies or divides its operands, entry by entry."""
  ADDS = enum.auto()
  """Adds or subtracts its operands, entry by entry."""
  NEGATES = enum.auto()
  """Gives each entry with the other sign."""
  DIVIDES = enum.auto()
  """Divides, with a remainder or not: zero by zero is NaN."""
  CHOOSES = enum.auto()
  """Takes each entry from one of its operands, by the first of them."""
  DRAWS = enum.auto()
  """Gives another value each time, though no effect says so."""
  LOOKS_UP = enum.auto()
  """Takes entries at indices."""
  AT_STARTS = enum.auto()
  """Of what looks up: one window, whose first index along each axis is an operand of its own."""
  WRITES = enum.auto()
  """Gives its first operand, some of whose entries are replaced or added to."""
  READS_PART = enum.auto()
  """May need only some entries of its operand, or hand them to what does."""
  KEEPS_AXES = enum.auto()
  """Has the axes of its operand, of other lengths at most, each made of the one at its place."""

  # ------------------------------------------------------------------------------- zeros and signs
  KEEPS_ZERO = enum.auto()
  """``f(0) = 0``."""
  BREAKS_ZERO = enum.auto()
  """``f(0)`` is infinite, NaN, or depends on the sign of zero."""
  KEEPS_SIGN = enum.auto()
  """What is zero is +0.0 wherever that of the operands is."""
  SIGN_OF_FIRST = enum.auto()
  """What is zero is +0.0 wherever that of the first operand is."""
  FORGETS_SIGN = enum.auto()
  """Is the same at +0.0 and at -0.0 of a real number."""
  TELLS_SIGN = enum.auto()
  """Tells +0.0 from -0.0."""
  TELLS_COMPLEX_SIGN = enum.auto()
  """Tells signs of zeros of complex numbers: along a branch cut, or by 1 / 0."""
  CUT_BELOW_ZERO = enum.auto()
  """Of these the cut lies along the negative real numbers."""
  STAYS_REAL = enum.auto()
  """Makes of complex numbers that are real and not negative such numbers."""

  # ------------------------------------------------------------------------------- NaN and infinity
  ABSORBS = enum.auto()
  """Multiplies: a zero times what is infinite or NaN is NaN."""
  CATCHES = enum.auto()
  """What comes of it is no NaN where an operand is one, or another one."""
  WRAPS = enum.auto()
  """Integers of fewer than 32 bits are likely to wrap."""

  # --------------------------------------------------------------------------------- how it is run
  FOLDS = enum.auto()
  """May be evaluated while tracing, where a rule asks for an index."""
  GHOSTS = enum.auto()
  """Can be computed at one pruned index alone."""
  INLINE = enum.auto()
  """Calls equations that are those of the caller, and so are the ghosts in them."""
  OWN_RULE = enum.auto()
  """Brings its own derivative rule."""
  APART = enum.auto()
  """Has a derivative rule, so the ghost of a result is its own, of the ghosts of the operands."""


NONE = Trait(0)
_TRAITS: dict[str, Trait] = {}


def enter(name: str, traits: Trait) -> None:
  """What is true of the primitive of this name."""
  _TRAITS[name] = traits


def has(eqn: JaxprEqn, trait: Trait) -> bool:
  """Whether all of this is true of an equation's primitive; nothing is of one without a rule."""
  return trait in _TRAITS.get(eqn.primitive.name, NONE)
