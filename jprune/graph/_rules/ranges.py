"""What the entries of values may be: negative, zero, infinite, NaN.

Bits, so that what is known of several values is joined by ``|``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jprune.graph._rules.base import RULES
from jprune.graph._rules.sites import Site

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

_MOST_READ = 2**24

Range = Callable[[Site, Sequence[int]], int]


def of_value(value: Any) -> int:
  """What the entries of a constant are."""
  return MADE | (_of_number(value) if isinstance(value, (bool, int, float)) else _of_array(value))


def _of_array(value: Any) -> int:
  dtype = getattr(value, 'dtype', None)
  if dtype is None or not jnp.issubdtype(dtype, jnp.number):
    return REAL
  if np.size(value) > _MOST_READ:
    return REAL
  if isinstance(value, Tracer) or not getattr(value, 'is_fully_addressable', True):
    return REAL
  x = np.asarray(value)
  if np.iscomplexobj(x) and not np.imag(x).any():
    x = np.real(x)
  if np.iscomplexobj(x):
    infinite = INFINITE if np.isinf(x).any() else 0
    return REAL | infinite | (NAN if np.isnan(x).any() else 0)
  if x.ndim == 0:
    return _of_number(x.item())
  x = x.astype(np.float64)
  found = NEGATIVE * bool((x < 0).any()) | NULL * bool((x == 0).any())
  found |= SIGNS * bool(((x == 0) & np.signbit(x)).any())
  return found | INFINITE * bool(np.isinf(x).any()) | NAN * bool(np.isnan(x).any())


def _of_number(x: Any) -> int:
  if x != x:
    return NAN
  if x == 0:
    return NULL | (SIGNS if math.copysign(1.0, x) < 0 else 0)
  return (NEGATIVE if x < 0 else 0) | (INFINITE if x in (math.inf, -math.inf) else 0)


def range_of(site: Site, flags: Sequence[int]) -> int:
  """What entries of an equation's results may be, from what those of its operands may be."""
  rule = RULES.get(site.name)
  found = None if rule is None else rule.ranges
  return unknown(site, flags) if found is None else found(site, flags)


def joined(site: Site, flags: Sequence[int]) -> int:
  """Whatever one of the operands may be."""
  out = 0
  for each in flags:
    out |= each
  return out


def unknown(site: Site, flags: Sequence[int]) -> int:
  """Of either sign, and infinite only where an operand is."""
  return indefinite(joined(site, flags)) | REAL


def indefinite(x: int) -> int:
  """Infinities that meet, or meet zero, and their sine are NaN."""
  return x | NAN if x & INFINITE else x


def summed(site: Site, flags: Sequence[int]) -> int:
  """Sums of numbers of both signs may be zero, and so are those of none."""
  out = indefinite(joined(site, flags))
  return out | NULL if out & NEGATIVE or is_empty(site) else out


def multiplied(site: Site, flags: Sequence[int]) -> int:
  return indefinite(joined(site, flags)) | NULL


def powers(site: Site, flags: Sequence[int]) -> int:
  return indefinite(flags[0])


def largest(site: Site, flags: Sequence[int]) -> int:
  return flags[0] | (REAL | INFINITE if is_empty(site) else 0)


def window(site: Site, flags: Sequence[int]) -> int:
  return joined(site, flags) | REAL | INFINITE


def no_sign(site: Site, flags: Sequence[int]) -> int:
  """Zero or one, or whatever else is neither negative nor infinite."""
  return NULL


def is_empty(site: Site) -> bool:
  """Whether the first operand has no entries."""
  return 0 in site.in_shapes[0]
