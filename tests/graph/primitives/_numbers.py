"""What a status says in numbers: arrays that obey it, and whether an array does.

All that the tests know of the meaning of a status, and of the facts beside it, stands here.
"""

import jax.numpy as jnp
import numpy as np

from jprune.graph._axes.pruned import (
  ANY,
  BAD,
  FRAIL,
  INFINITE,
  MADE,
  NAN,
  NEGATIVE,
  NULL,
  REAL,
  SIGNS,
  TORN,
  UNIFORM,
  WILD,
  ZERO,
  Facts,
  Status,
)
from tests.graph.primitives._places import along, lines_of, lying_on

NAMES = {ZERO: 'zero', UNIFORM: 'uniform', ANY: 'any', BAD: 'bad'}
_BITS = {
  'negative': NEGATIVE,
  'null': NULL,
  'infinite': INFINITE,
  'nan': NAN,
  'signs': SIGNS,
  'frail': FRAIL,
  'torn': TORN,
}
_POOL = (-2.0, -1.0, -0.5, 0.0, -0.0, 0.5, 1.0, 2.0)
_CHANCES = {ZERO: 0.45, UNIFORM: 0.25, ANY: 0.2, BAD: 0.1}


def named(status, atom):
  """What is said of an atom, in words."""
  bits = [name for name, bit in _BITS.items() if status.facts.get(atom) & bit]
  return ' '.join([NAMES[status.get(atom)], *(f'({bit})' for bit in bits)])


def anything(rng, shape, dtype, low, high):
  """Finite numbers from ``low`` to ``high``, some of them twice, and zeros of either sign."""
  if jnp.issubdtype(dtype, np.bool_):
    return rng.random(shape) < 0.5
  if jnp.issubdtype(dtype, np.integer):
    return rng.integers(low, high + 1, shape).astype(dtype)
  if jnp.issubdtype(dtype, np.complexfloating):
    parts = (anything(rng, shape, np.float64, low, high) for _ in range(2))
    return _complex(*parts).astype(dtype)
  pool = [x for x in _POOL if low <= x <= high]
  x = np.where(rng.random(shape) < 0.5, rng.uniform(low, high, shape), rng.choice(pool, shape))
  return x.astype(dtype)


# ----------------------------------------------------------------------------- statuses to numbers


def assumed(rng, operand, atoms):
  """A status for an operand with these atoms, zero along half of them in most cases.

  What is said of pruned units of one holds also for entries that lie on those of another.
  """
  dtype = operand.dtype
  inexact = jnp.issubdtype(dtype, np.inexact)
  wild = inexact and not operand.finite
  real = jnp.issubdtype(dtype, np.floating) or jnp.issubdtype(dtype, np.signedinteger)
  entries = rng.choice([REAL, 0, NULL], p=[0.7, 0.15, 0.15]) if real else REAL
  if wild and rng.random() < 0.15:
    entries |= rng.choice([INFINITE, NAN, WILD])
  signs = SIGNS if inexact and rng.random() < 0.5 else 0
  if rng.random() < 0.08:
    facts = Facts(int(NULL | signs), dict.fromkeys(atoms, int(NULL | signs)))
    return Status(ZERO, dict.fromkeys(atoms, ZERO), facts)
  pool = [each for each in _CHANCES if wild or each != BAD]
  chances = np.array([_CHANCES[each] for each in pool])
  of = {atom: int(rng.choice(pool, p=chances / chances.sum())) for atom in atoms}
  if rng.random() < 0.3:
    of = dict.fromkeys(atoms, ZERO)  # as of a param
  doubt = FRAIL | TORN if BAD in of.values() else 0
  entries |= (NULL if ZERO in of.values() else 0) | (REAL | WILD if doubt else 0)
  common = int(entries | signs | MADE)
  said = {atom: NULL | signs | doubt if of[atom] == ZERO else common for atom in atoms}
  return Status(UNIFORM, of, Facts(common, said))


def obeying(rng, x, dims, status, pruned):
  """``x``, changed so that it has the status.

  Args:
    rng: for what is left open.
    x: the array.
    dims: its dimensions.
    status: what it has to obey.
    pruned: for each atom that loses some, their indices.
  """
  x = _ranging(rng, np.array(x), status.facts.default)
  if status.default == ZERO:
    x = np.zeros_like(x)
  lines = {atom: lines_of(dims, atom, gone) for atom, gone in pruned.items()}
  for _ in range(3):  # an atom that lies on two axes takes more than one round
    for atom in _having(status, UNIFORM, lines):
      for axis, line in lines[atom]:
        along(x, axis)[line] = along(x, axis)[line[:1]]
  for atom in _having(status, ZERO, lines):
    for axis, line in lines[atom]:
      along(x, axis)[line] = 0
  if status.facts.default & SIGNS:
    x = _signed(rng, x)
  if jnp.issubdtype(x.dtype, np.inexact):
    wild = rng.choice([np.inf, -np.inf, np.nan], x.shape).astype(x.dtype)
    on = lambda said: lying_on(x.shape, dims, {a: pruned[a] for a in _having(status, said, lines)})
    wild = np.where(on(ZERO), np.nan, wild)  # of a product with zero nothing else is left
    x = np.where(on(BAD) & (rng.random(x.shape) < 0.7), wild, x).astype(x.dtype)
  return x


def _ranging(rng, x, flags):
  """Numbers of the kinds that there may be."""
  if jnp.issubdtype(x.dtype, np.floating) or jnp.issubdtype(x.dtype, np.signedinteger):
    x = x if flags & NEGATIVE else np.abs(x)
    x = -np.abs(x) if flags & NEGATIVE and rng.random() < 0.2 else x
    x = x if flags & NULL else np.where(x == 0, np.ones_like(x), x)
  pool = [np.inf, -np.inf] if flags & NEGATIVE else [np.inf]
  pool = pool * bool(flags & INFINITE) + [np.nan] * bool(flags & NAN)
  if not pool:
    return x
  return np.where(rng.random(x.shape) < 0.25, rng.choice(pool, x.shape).astype(x.dtype), x)


# ----------------------------------------------------------------------------- numbers to statuses


def violation(x, dims, status, pruned):
  """What is not as the status says: ``(side, text)``, or ``None``."""
  x = np.asarray(x)
  flags = _flags(x.shape, dims, status, pruned)
  if status.default == ZERO and (~lying_on(x.shape, dims, pruned) & (x != 0) & (x == x)).any():
    return 'claim', 'claimed zero everywhere'
  for atom, gone in pruned.items():
    others = {a: g for a, g in pruned.items() if a is not atom and _is_wild(status, a)}
    free = ~lying_on(x.shape, dims, others)
    if status.facts.get(atom) & (FRAIL | TORN):
      free &= x == x
    for axis, line in lines_of(dims, atom, gone):
      entries, counted = along(x, axis)[line], along(free, axis)[line]
      if not _is_as_said(entries, counted, status.get(atom), status.facts.get(atom)):
        return 'claim', f'along axis {axis} {named(status, atom)}: {_shown(entries)}'
  for name, wrong in _kinds(x).items():
    if (wrong & (flags & _KINDS[name] == 0)).any():
      return 'facts', f'{name}, which it is said not to be: {_shown(x[wrong])}'
  return None


_KINDS = {'negative': NEGATIVE, 'zero': NULL, 'infinite': INFINITE, 'NaN': NAN}
_ALL = REAL | WILD | SIGNS


def _flags(shape, dims, status, pruned):
  """What each entry may be; NaN also where it is what a zero or something infinite becomes."""
  spelt = lambda flags: flags | (NAN if flags & (INFINITE | FRAIL | TORN) else 0)
  out = np.where(lying_on(shape, dims, pruned), _ALL, spelt(status.facts.default))
  for atom in pruned:
    flags = _ALL if status.get(atom) == BAD else spelt(status.facts.get(atom))
    out = np.where(lying_on(shape, dims, {atom: pruned[atom]}), out & flags, out)
  return out | (NAN if status.facts.lost else 0)


def _kinds(x):
  """Which entries are what facts tell apart."""
  if jnp.issubdtype(x.dtype, np.bool_):
    return {}
  wild = {}
  if jnp.issubdtype(x.dtype, np.inexact):
    wild = {'infinite': np.isinf(x), 'NaN': np.isnan(x)}
  if jnp.issubdtype(x.dtype, np.complexfloating):
    return wild
  with np.errstate(invalid='ignore'):
    return {'negative': x < 0, 'zero': x == 0, **wild}


def _is_wild(status, atom):
  return status.get(atom) == BAD or status.facts.get(atom) & (WILD | FRAIL | TORN)


def _is_as_said(entries, counted, said, flags):
  """Whether entries are zero, or along the first axis those of the first that counts."""
  if said not in (ZERO, UNIFORM) or not len(entries):
    return True
  value = np.take_along_axis(entries, np.argmax(counted, 0)[None], 0)
  value = np.zeros_like(value) if said == ZERO else value
  alike = same(entries, value)
  if jnp.issubdtype(entries.dtype, np.floating) and not flags & SIGNS:
    alike &= (entries != 0) | (np.signbit(entries) == np.signbit(value))
  return not (counted & ~alike).any()


def unclaimed(x, status):
  """Where a result is NaN that may have been lost, so that nothing is said of it."""
  doubt = status.facts.lost or status.facts.default & (NAN | FRAIL | TORN)
  return (x != x) if doubt else np.zeros(np.shape(x), bool)


# ----------------------------------------------------------------------------------------- numbers


def same(a, b):
  """Which numbers are equal, or both NaN."""
  return (a == b) | ((a != a) & (b != b))


def _having(status, value, lines):
  return [atom for atom in lines if status.get(atom) == value]


def _complex(real, imaginary):
  out = np.empty(np.shape(real), np.complex128)  # a sum would lose the sign of zero
  out.real, out.imag = real, imaginary
  return out


def _signed(rng, x):
  """Zeros of either sign."""
  if jnp.issubdtype(x.dtype, np.complexfloating):
    return _complex(*(_signed(rng, part) for part in (x.real, x.imag))).astype(x.dtype)
  if not jnp.issubdtype(x.dtype, np.floating):
    return x
  return np.where((x == 0) & (rng.random(x.shape) < 0.5), -x, x)


def _shown(entries):
  return np.array2string(np.asarray(entries).reshape(-1)[:8], separator=', ')
