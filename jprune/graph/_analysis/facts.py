"""What is known of values beside which entries are zero: whether they are finite, and signs.

``0 * x`` is zero only where ``x`` is finite, and ``0 / x`` only where ``x`` is not zero. Elsewhere
the masked function holds NaN at pruned entries. As a rule that NaN reaches its results, of which
nothing is claimed then; but a function may catch it, as ``where(isfinite(y), y, 1)`` does. So
entries remember that they may be NaN instead of what their status says, and sums over them that
they may have lost one. Where such a value is compared, the first are taken for anything, the
others frozen.

Zeros have signs, which products give them and a few functions tell apart.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from jprune.graph._axes.atoms import Atom
from jprune.graph._axes.pruned import (
  ANY,
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
from jprune.graph._program.traits import Trait, has
from jprune.graph._rules.base import RULES, either, inverted, unknown
from jprune.graph._rules.sites import Site, StatusSite

CAUGHT = 'its pruned entries may be 0 / 0 or 0 * inf, and their NaN is caught'
_DOUBT = SIGNS | FRAIL | TORN


def of_param(leaf: Any, atoms: Sequence[Atom]) -> Facts:
  """Of a param whose pruned entries are 0.0, of that sign."""
  unsigned = jnp.issubdtype(leaf.dtype, jnp.unsignedinteger) or leaf.dtype == bool
  return Facts(NULL if unsigned else REAL, dict.fromkeys(atoms, NULL))


def undoubted(status: Status) -> Status:
  """What a derivative rule is given: what becomes of a NaN of its operands, the function shows."""
  known = status.known
  of = {atom: flags & ~(FRAIL | TORN) for atom, flags in known.of.items()}
  return status._replace(facts=Facts(known.default & ~(FRAIL | TORN), of))


@functools.cache
def _is_inexact(dtype: Any) -> bool:
  return jnp.issubdtype(dtype, jnp.inexact)


def with_facts(site: StatusSite, ins: Sequence[Status], outs: Sequence[Status]) -> list[Status]:
  """The statuses of an equation's results, and what else is known of them.

  Where an operand may be NaN instead of what its status says, or have lost a NaN in a sum, and the
  equation may catch it, the results may be anything, and what was lost is frozen.
  """
  catches = _catches(site)
  lost = frozenset().union(*(status.known.lost for status in ins)) | _newly_lost(site, ins)
  if catches and lost:
    for atom in lost:
      site.freeze((atom,), CAUGHT)
    lost = frozenset()
  found = []
  for k, (var, out) in enumerate(zip(site.eqn.outvars, outs)):
    one = [ins[k]] if has(site.eqn, Trait.EACH) else ins
    flags = [status.known.default for status in one]
    default, on_all = _revised(site, var, out.default, one, flags, None, catches)
    of, facts = {}, {}
    counts = site.frame.counts(var) if out.of else {}
    for atom, value in out.of.items():
      here = [status.known.get(atom) for status in one]
      if counts.get(atom, 0) > 1:  # at an index that stays by one operand, or axis, or the other
        here = [mine | status.known.default for mine, status in zip(here, one)]
      of[atom], facts[atom] = _revised(site, var, value, one, here, atom, catches)
    found.append(Status(default, of, Facts(on_all, facts, lost)))
  return found


def _revised(
  site: StatusSite,
  var: Any,
  value: int,
  ins: Sequence[Status],
  flags: list[int],
  atom: Atom | None,
  catches: bool,
) -> tuple[int, int]:
  """A status and its flags, of the entries at one atom's pruned indices, or of all."""
  worst = either(site, flags)
  kinds = [status.default if atom is None else status.get(atom) for status in ins]
  if not _is_inexact(var.aval.dtype):
    flags_out = range_of(site, flags) & REAL
    if var.aval.dtype.itemsize < 4 and has(site.eqn, Trait.WRAPS):
      flags_out = REAL
    doubt = 0
    below = inverted(site.eqn)
    if value == ZERO and below == 1 and flags[1] & NULL:  # 0 // 0 is -1
      value = max(UNIFORM, kinds[1])
  else:
    flags_out = range_of(site, flags)
    twice = atom is not None and site.times(var, atom) > 1
    doubt = worst & (FRAIL | TORN) | _torn(site, kinds, flags, twice)
    if has(site.eqn, Trait.CHOOSES) and kinds[0] > UNIFORM and doubt:
      doubt |= TORN  # it may take the NaN of pruned units, and something else of those that stay
    if jnp.issubdtype(var.aval.dtype, jnp.complexfloating) and not _stays_real(site, kinds, flags):
      flags_out |= REAL
  if catches and worst & (FRAIL | TORN):
    value, doubt = max(value, ANY), 0
  if value <= UNIFORM and worst & SIGNS and _tells(site, flags):
    value = max(value, UNIFORM if atom is None else ANY)
  if value == ZERO:
    return value, NULL | doubt | _sign(site, var, kinds, flags)
  made = worst & MADE if has(site.eqn, Trait.MOVES) else MADE
  signs = 0 if _forgets_sign(site, var) else worst & SIGNS
  return value, flags_out & ~(_DOUBT | MADE) | doubt | signs | made


def _stays_real(site: StatusSite, kinds: Sequence[int], flags: Sequence[int]) -> bool:
  """Whether complex operands, real, finite and not negative, give real numbers."""
  real = all(k == ZERO or not each & (NEGATIVE | WILD) for k, each in zip(kinds, flags))
  return has(site.eqn, Trait.STAYS_REAL) and real


def _forgets_sign(site: StatusSite, var: Any) -> bool:
  if jnp.issubdtype(var.aval.dtype, jnp.complexfloating):
    return False
  return has(site.eqn, Trait.FORGETS_SIGN) or not _is_inexact(var.aval.dtype)


def _sign(site: StatusSite, var: Any, kinds: Sequence[int], flags: Sequence[int]) -> int:
  """Whether zeros of the result may be -0.0."""
  if not _is_inexact(var.aval.dtype):
    return 0
  if has(site.eqn, Trait.SIGN_OF_FIRST):
    return flags[0] & SIGNS
  if _is_filled(site):
    return range_of(site, flags) & SIGNS
  return either(site, flags) & SIGNS if has(site.eqn, Trait.KEEPS_SIGN) else SIGNS


def _is_filled(site: StatusSite) -> bool:
  """Whether there is something that it writes where an index is out of range."""
  return site.name in RULES and RULES[site.name].fills is not None


def _torn(site: StatusSite, kinds: Sequence[int], flags: Sequence[int], twice: bool = False) -> int:
  """What a product, or what is filled in, may be instead of zero."""
  if _is_filled(site) and kinds[0] == ZERO:
    return FRAIL if range_of(site, flags) & NAN else 0
  if not has(site.eqn, Trait.ABSORBS) or ZERO not in kinds:
    return 0
  others = [f for k, f in zip(kinds, flags) if k != ZERO or twice]
  wild = either(site, others)
  if has(site.eqn, Trait.DIVIDES) and kinds[0] == ZERO and flags[1] & NULL:
    return FRAIL | TORN
  return (FRAIL if wild & WILD else 0) | (TORN if wild & INFINITE else 0)


def _newly_lost(site: StatusSite, ins: Sequence[Status]) -> frozenset[Atom]:
  """Atoms that end here whose entries may be NaN where those that stay are infinite."""
  known = [f for status in ins for f in (status.known.default, *status.known.of.values())]
  # Scattered, an entry may be added to others than those that are NaN like it.
  tears = TORN | FRAIL if has(site.eqn, Trait.WRITES) else TORN
  if not either(site, known) & (tears | (WILD if has(site.eqn, Trait.ABSORBS) else 0)):
    return frozenset()
  out = set()
  for atom in dict.fromkeys(a for status in ins for a in status.of):
    flags = [status.known.get(atom) for status in ins]
    torn = either(site, flags) | _torn(site, [status.get(atom) for status in ins], flags)
    if torn & tears:
      before = max(site.times(v, atom) for v, s in zip(site.eqn.invars, ins) if atom in s.of)
      if any(site.times(v, atom) < before for v in site.eqn.outvars):
        out.add(atom)
  return frozenset(out)


def _tells(site: StatusSite, flags: Sequence[int]) -> bool:
  if has(site.eqn, Trait.TELLS_SIGN):
    return True
  is_complex = lambda var: jnp.issubdtype(var.aval.dtype, jnp.complexfloating)
  if has(site.eqn, Trait.TELLS_COMPLEX_SIGN) and any(map(is_complex, site.eqn.invars)):
    return not has(site.eqn, Trait.CUT_BELOW_ZERO) or bool(flags[0] & REAL)
  below = inverted(site.eqn)
  return below is not None and bool(flags[below] & SIGNS and flags[below] & NULL)


def _catches(site: StatusSite) -> bool:
  """Whether NaN may go in and come out as something else."""
  if has(site.eqn, Trait.CATCHES) or site.index in site.frame.given_up:
    return True
  if has(site.eqn, Trait.EACH):
    return False
  inexact = lambda v: _is_inexact(v.aval.dtype)
  if not any(map(inexact, site.eqn.invars)):
    return False
  # Numbers of eight bits or fewer may have no NaN.
  plain = all(inexact(v) and v.aval.dtype.itemsize > 1 for v in site.eqn.outvars)
  return not plain


def range_of(site: Site, flags: Sequence[int]) -> int:
  """What entries of an equation's results may be, from what those of its operands may be."""
  rule = RULES.get(site.name)
  found = None if rule is None else rule.ranges
  return unknown(site, flags) if found is None else found(site, flags)
