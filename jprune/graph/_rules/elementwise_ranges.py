"""What may come of primitives that work entry by entry: negative, zero, infinite, NaN."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jprune.graph._axes.pruned import INFINITE, MADE, NAN, NEGATIVE, NULL, REAL, WILD
from jprune.graph._program.constants import constant, scalar
from jprune.graph._program.frame import Frame
from jprune.graph._rules.base import Range, either, indefinite, no_sign
from jprune.graph._rules.sites import Site


def _positive(site: Site, flags: Sequence[int]) -> int:
  return flags[0] & ~REAL | (NULL if flags[0] & INFINITE else 0)


def _even(site: Site, flags: Sequence[int]) -> int:
  return flags[0] & ~NEGATIVE


def _rounded(site: Site, flags: Sequence[int]) -> int:
  return flags[0] | NULL


def _add(site: Site, flags: Sequence[int]) -> int:
  """A param plus a positive number, as a running variance has it, is taken to be positive."""
  a, b = flags
  out = indefinite(a | b) if a & b & INFINITE else a | b
  if (not a & MADE and not b & REAL) or (not b & MADE and not a & REAL):
    return out & ~REAL
  return out | NULL if out & NEGATIVE or a & b & NULL else out & ~NULL


def _mul(site: Site, flags: Sequence[int]) -> int:
  same = site.eqn.invars[0] is site.eqn.invars[1]
  return flags[0] & ~NEGATIVE if same else indefinite(flags[0] | flags[1])


def _div(site: Site, flags: Sequence[int]) -> int:
  a, b = flags
  whole = not jnp.issubdtype(site.eqn.outvars[0].aval.dtype, jnp.inexact)
  out = indefinite(a | (b & ~NULL)) | (NULL if whole or b & INFINITE else 0)
  return out | (REAL | WILD if b & NULL else 0)


def _rem(site: Site, flags: Sequence[int]) -> int:
  return indefinite(_div(site, flags)) | NULL


def _max(site: Site, flags: Sequence[int]) -> int:
  a, b = flags
  if -math.inf in (bounds := [scalar(site.frame, var) for var in site.eqn.invars]):
    return flags[1 - bounds.index(-math.inf)]  # as softmax takes it, which is no bound
  out = (a | b) & ~REAL | a & b & NEGATIVE
  return out | (a | b) & NULL if a & REAL and b & REAL else out


def _min(site: Site, flags: Sequence[int]) -> int:
  """What is not negative is infinite upwards only, where a finite bound ends it."""
  out = either(site, flags)
  bounded = any(not b & WILD and not a & NEGATIVE for a, b in (flags, flags[::-1]))
  return out & ~INFINITE if bounded else out


def _clamp(site: Site, flags: Sequence[int]) -> int:
  least = flags[0] | flags[2]  # where the bounds are the wrong way round, the high one is it
  out = either(site, flags) & ~REAL
  if not (flags[0] | flags[2]) & WILD:
    out &= ~INFINITE
  return out | (REAL if least & NEGATIVE else least & NULL)


def _select(site: Site, flags: Sequence[int]) -> int:
  """``where(x > 0, x, 1)`` is positive."""
  cases = list(flags[1:])
  test = _test_of_sign(site)
  if test is not None:
    name, tested = test
    for case, without in enumerate(_CHOSEN.get(name, (0, 0))):
      if origin(site.frame, site.eqn.invars[1 + case]) == tested:
        cases[case] &= ~without
  return either(site, cases)


# What ``x`` is not where a comparison with zero is false, and where it is true.
_CHOSEN = {
  'ne': (0, NULL),
  'eq': (NULL, 0),
  'gt': (0, REAL),
  'ge': (NULL, 0),
  'lt': (0, NULL),
  'le': (REAL, 0),
}


def _test_of_sign(site: Site) -> tuple[str, Any] | None:
  """The comparison with zero by which an equation selects, and what is compared."""
  if len(site.eqn.invars) != 3:
    return None
  frame, var = origin(site.frame, site.eqn.invars[0])
  index = None if isinstance(var, core.Literal) else frame.maker(var)
  if index is None or (eqn := frame.jaxpr.eqns[index]).primitive.name not in _CHOSEN:
    return None
  number = scalar(frame, eqn.invars[1])
  return (eqn.primitive.name, origin(frame, eqn.invars[0])) if number == 0 else None


def origin(frame: Frame, var: Any) -> tuple[Frame, Any]:
  """Where a value comes from that is handed into an inlined call."""
  while frame.outer is not None and not isinstance(var, core.Literal) and var in frame.jaxpr.invars:
    outer, _, operands = frame.outer
    frame, var = outer, operands[list(frame.jaxpr.invars).index(var)]
  return frame, var


def _select_if_vmap(site: Site, flags: Sequence[int]) -> int:
  return flags[1] | flags[2]


def _converted(site: Site, flags: Sequence[int]) -> int:
  """Fractions become whole numbers; integers that don't fit become anything."""
  old, new = site.eqn.invars[0].aval.dtype, site.eqn.outvars[0].aval.dtype
  if new == jnp.bool_ or not jnp.issubdtype(new, jnp.integer):
    return flags[0]
  if jnp.issubdtype(old, jnp.integer) and jnp.iinfo(old).bits < jnp.iinfo(new).bits:
    return flags[0]
  return flags[0] if old in (new, jnp.dtype(bool)) else REAL


def _log(site: Site, flags: Sequence[int]) -> int:
  return flags[0] | REAL | _nan_below(flags[0]) | (INFINITE if flags[0] & NULL else 0)


def _log1p(site: Site, flags: Sequence[int]) -> int:
  return flags[0] | (WILD if flags[0] & NEGATIVE else 0)


def _sqrt(site: Site, flags: Sequence[int]) -> int:
  return flags[0] & ~NEGATIVE | _nan_below(flags[0])


def _rsqrt(site: Site, flags: Sequence[int]) -> int:
  poles = INFINITE | NEGATIVE if flags[0] & NULL else 0
  return flags[0] & ~REAL | _nan_below(flags[0]) | poles | (NULL if flags[0] & INFINITE else 0)


def _nan_below(x: int) -> int:
  return NAN if x & NEGATIVE else 0


def _integer_pow(site: Site, flags: Sequence[int]) -> int:
  (x,), y = flags, site.params['y']
  out = x & ~NEGATIVE if y % 2 == 0 else x
  if y >= 0:
    return out
  poles = INFINITE | NEGATIVE if x & NULL else 0
  return out & ~NULL | poles | (NULL if x & INFINITE else 0)


def _pow(site: Site, flags: Sequence[int]) -> int:
  x, y = flags
  poles = INFINITE | NEGATIVE if x & NULL and y & NEGATIVE else 0
  return x | y & ~REAL | _nan_below(x) | poles | (NULL if (x | y) & INFINITE else 0)


def _singular(site: Site, flags: Sequence[int]) -> int:
  """Functions with poles, or without a value outside of some range."""
  return either(site, flags) | REAL | WILD


def _gamma(site: Site, flags: Sequence[int]) -> int:
  return flags[0] | REAL | (WILD if flags[0] & REAL else 0)


def _erf_inv(site: Site, flags: Sequence[int]) -> int:
  """It has a value between -1 and 1, which is where ``jax.random.normal`` draws from."""
  made = _maker(site.frame, site.eqn.invars[0])
  params = {} if made is None else made.params
  inside = params['jaxpr'].eqns if params.get('name') == '_uniform' and 'jaxpr' in params else ()
  drawn = any(eqn.primitive.name == 'random_bits' for eqn in inside)
  return flags[0] if drawn else _singular(site, flags)


def _maker(frame: Frame, var: Any) -> Any:
  """The equation that makes a value."""
  index = None if isinstance(var, core.Literal) else frame.maker(var)
  return None if index is None else frame.jaxpr.eqns[index]


def _bits(site: Site, flags: Sequence[int]) -> int:
  """Bits may be those of NaN, unless an exponent is put before shifted ones, as in random draws."""
  made = _maker(site.frame, site.eqn.invars[0])
  if made is None or made.primitive.name != 'or':
    return REAL | WILD
  shifted = _maker(site.frame, made.invars[0])
  one = np.ones((), site.eqn.outvars[0].aval.dtype).view(f'u{made.outvars[0].aval.dtype.itemsize}')
  exponent = constant(site.frame, made.invars[1])
  drawn = shifted is not None and shifted.primitive.name == 'shift_right_logical'
  return REAL if drawn and exponent is not None and (exponent == one).all() else REAL | WILD


def _each(names: str, found: Range) -> dict[str, Range]:
  return dict.fromkeys(names.split(), found)


RANGES: dict[str, Range] = {
  **_each(
    'copy stop_gradient optimization_barrier name sharding_constraint layout_constraint '
    'reshard pvary device_put tanh sinh asinh atan erf expm1 sign cbrt real nonbatchable '
    'nontraceable nondifferentiable_backward',
    either,
  ),
  **_each('exp exp2 logistic cosh', _positive),
  **_each('abs square', _even),
  **_each('floor ceil round reduce_precision', _rounded),
  **_each('add add_any', _add),
  **_each('eq ne lt le gt ge is_finite', no_sign),
  **_each('asin acos acosh atanh igamma igammac', _singular),
  **_each('polygamma zeta regularized_incomplete_beta', _singular),
  **_each('log log2', _log),
  **_each('lgamma digamma', _gamma),
  'erf_inv': _erf_inv,
  'convert_element_type': _converted,
  'mul': _mul,
  'div': _div,
  'rem': _rem,
  'max': _max,
  'min': _min,
  'clamp': _clamp,
  'select_n': _select,
  'select_if_vmap': _select_if_vmap,
  'log1p': _log1p,
  'sqrt': _sqrt,
  'rsqrt': _rsqrt,
  'integer_pow': _integer_pow,
  'pow': _pow,
  'bitcast_convert_type': _bits,
}
"""Of what works entry by entry; other rules name theirs where they are entered."""
