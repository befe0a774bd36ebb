"""What is known of values beside which of their entries are zero: signs, and whether they are finite.

``0 * x`` is zero only where ``x`` is finite, and ``0 / x`` only where ``x`` is not zero. Elsewhere the
masked function holds NaN at pruned entries. As a rule that NaN reaches its results, of which nothing
is claimed then; but a function may catch it, as ``jnp.where(jnp.isfinite(y), y, 1)`` does. So entries
remember that they may be NaN instead of what their status says, and sums over them that they may have
lost one; where such a value is compared, the first are taken for anything, and the others frozen.

Zeros have signs, which products give them and a few functions tell apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jprune.graph._atoms import Atom
from jprune.graph._frame import Frame
from jprune.graph._indexing import filling
from jprune.graph._rule import ANY, UNIFORM, ZERO, Facts, Site, Status

# What entries may be; nothing of it is known where no bit is set. To join two is to set both's bits.
NEGATIVE = 1
NULL = 2
INFINITE = 4
NAN = 8
SIGNS = 16  # pruned entries that are equal may still differ in the sign of zero
FRAIL = 32  # pruned entries may be NaN instead of what their status says; so are those that stay
TORN = 64  # they may be NaN where those that stay are infinite
MADE = 128  # more than a param, moved
REAL = NEGATIVE | NULL
WILD = INFINITE | NAN
_DOUBT = SIGNS | FRAIL | TORN

CAUGHT = 'its pruned entries may be 0 / 0 or 0 * inf, and their NaN is caught'
_MOST_READ = 2**20


def of_value(value: Any) -> int:
  """What the entries of a constant are."""
  if isinstance(value, (bool, int, float)):
    return _of_number(value)
  dtype = getattr(value, 'dtype', None)
  if dtype is None or not jnp.issubdtype(dtype, jnp.number):
    return REAL | MADE
  if jnp.issubdtype(dtype, jnp.complexfloating) or np.size(value) > _MOST_READ:
    return REAL | MADE
  try:
    x = np.asarray(value)
  except Exception:  # traced, or spread over processes
    return REAL | MADE
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


def of_param(leaf: Any, atoms: Sequence[Atom]) -> Facts:
  """Of a param whose pruned entries are 0.0, of that sign."""
  unsigned = jnp.issubdtype(leaf.dtype, jnp.unsignedinteger) or leaf.dtype == bool
  return Facts(NULL if unsigned else REAL, dict.fromkeys(atoms, NULL))


# -------------------------------------------------------------------------------- single primitives


def _joined(site: Site, flags: Sequence[int]) -> int:
  out = 0
  for each in flags:
    out |= each
  return out


def _unknown(site: Site, flags: Sequence[int]) -> int:
  return _joined(site, flags) | REAL


def _summed(site: Site, flags: Sequence[int]) -> int:
  """Sums of numbers of both signs may be zero, and so are those of none."""
  out = _joined(site, flags)
  return out | NULL if out & NEGATIVE or _is_empty(site) else out


def _multiplied(site: Site, flags: Sequence[int]) -> int:
  return _joined(site, flags) | NULL


def _largest(site: Site, flags: Sequence[int]) -> int:
  return flags[0] | (REAL | INFINITE if _is_empty(site) else 0)


def _window(site: Site, flags: Sequence[int]) -> int:
  return _joined(site, flags) | REAL | INFINITE


def _positive(site: Site, flags: Sequence[int]) -> int:
  return flags[0] & ~REAL


def _even(site: Site, flags: Sequence[int]) -> int:
  return flags[0] & ~NEGATIVE


def _rounded(site: Site, flags: Sequence[int]) -> int:
  return flags[0] | NULL


def _add(site: Site, flags: Sequence[int]) -> int:
  """A param to which a positive number is added, such as a running variance, is taken as positive."""
  a, b = flags
  out = a | b
  if (not a & MADE and not b & REAL) or (not b & MADE and not a & REAL):
    return out & ~REAL
  return out | NULL if out & NEGATIVE or a & b & NULL else out & ~NULL


def _mul(site: Site, flags: Sequence[int]) -> int:
  same = site.eqn.invars[0] is site.eqn.invars[1]
  return flags[0] & ~NEGATIVE if same else flags[0] | flags[1]


def _div(site: Site, flags: Sequence[int]) -> int:
  a, b = flags
  out = a | (b & ~NULL) | (NULL if b & INFINITE else 0)
  return out | (REAL | WILD if b & NULL else 0)


def _rem(site: Site, flags: Sequence[int]) -> int:
  return _div(site, flags) | NULL


def _max(site: Site, flags: Sequence[int]) -> int:
  a, b = flags
  out = (a | b) & ~REAL | a & b & NEGATIVE
  return out | (a | b) & NULL if a & REAL and b & REAL else out


def _clamp(site: Site, flags: Sequence[int]) -> int:
  low = flags[0]
  out = _joined(site, flags) & ~REAL
  return out | (REAL if low & NEGATIVE else low & NULL)


def _select(site: Site, flags: Sequence[int]) -> int:
  """``where(x > 0, x, 1)`` is positive."""
  cases = list(flags[1:])
  test = _test_of_sign(site)
  if test is not None:
    name, tested = test
    for case, without in enumerate(_CHOSEN.get(name, (0, 0))):
      if origin(site.frame, site.eqn.invars[1 + case]) == tested:
        cases[case] &= ~without
  return _joined(site, cases)


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
  number = frame.scalar(eqn.invars[1])
  return (eqn.primitive.name, origin(frame, eqn.invars[0])) if number == 0 else None


def origin(frame: Frame, var: Any) -> tuple[Frame, Any]:
  """Where a value comes from that is handed into an inlined call."""
  while frame.outer is not None and not isinstance(var, core.Literal) and var in frame.jaxpr.invars:
    outer, _, operands = frame.outer
    frame, var = outer, operands[list(frame.jaxpr.invars).index(var)]
  return frame, var


def _log(site: Site, flags: Sequence[int]) -> int:
  return flags[0] | REAL | _nan_below(flags[0]) | (INFINITE if flags[0] & NULL else 0)


def _log1p(site: Site, flags: Sequence[int]) -> int:
  return flags[0] | (WILD if flags[0] & NEGATIVE else 0)


def _sqrt(site: Site, flags: Sequence[int]) -> int:
  return flags[0] & ~NEGATIVE | _nan_below(flags[0])


def _rsqrt(site: Site, flags: Sequence[int]) -> int:
  return flags[0] & ~REAL | _nan_below(flags[0]) | (INFINITE if flags[0] & NULL else 0)


def _nan_below(x: int) -> int:
  return NAN if x & NEGATIVE else 0


def _integer_pow(site: Site, flags: Sequence[int]) -> int:
  (x,), y = flags, site.params['y']
  out = x & ~NEGATIVE if y % 2 == 0 else x
  return out if y >= 0 else out & ~NULL | (INFINITE if x & NULL else 0)


def _pow(site: Site, flags: Sequence[int]) -> int:
  x, y = flags
  return x | y & ~REAL | _nan_below(x) | (INFINITE if x & NULL and y & NEGATIVE else 0)


def _singular(site: Site, flags: Sequence[int]) -> int:
  """Functions with poles, or without a value outside of some range."""
  return _joined(site, flags) | REAL | WILD


def _gamma(site: Site, flags: Sequence[int]) -> int:
  return flags[0] | REAL | (WILD if flags[0] & REAL else 0)


def _bits(site: Site, flags: Sequence[int]) -> int:
  """Bits may be those of NaN, unless ``or`` has set the exponent, as for what is drawn at random."""
  (var,) = site.eqn.invars
  maker = None if isinstance(var, core.Literal) else site.frame.maker(var)
  drawn = maker is not None and site.frame.jaxpr.eqns[maker].primitive.name == 'or'
  return REAL if drawn else REAL | WILD


def _gathered(site: Site, flags: Sequence[int]) -> int:
  fill = filling(site)
  return flags[0] | (0 if fill is None else of_value(fill))


def _no_sign(site: Site, flags: Sequence[int]) -> int:
  return NULL


_RANGES: dict[str, Callable[[Site, Sequence[int]], int]] = {
  **dict.fromkeys(
    'broadcast_in_dim reshape transpose squeeze expand_dims concatenate stack unstack pad slice '
    'split rev tile dynamic_slice dynamic_update_slice copy copy_p stop_gradient sort '
    'optimization_barrier name sharding_constraint layout_constraint mesh_cast reshard pvary '
    'device_put convert_element_type tanh sinh asinh atan erf expm1 sign cbrt cummax cummin '
    'cumprod reduce_prod pmax pmin min scatter real'.split(),
    _joined,
  ),
  **dict.fromkeys(['reduce_sum', 'psum', 'cumsum'], _summed),
  **dict.fromkeys(['dot_general', 'conv_general_dilated', 'ragged_dot_general'], _multiplied),
  **dict.fromkeys(['reduce_window_sum', 'select_and_scatter_add'], _multiplied),
  **dict.fromkeys(['reduce_max', 'reduce_min'], _largest),
  **dict.fromkeys(['reduce_window', 'reduce_window_max', 'reduce_window_min'], _window),
  **dict.fromkeys(['exp', 'exp2', 'logistic', 'cosh'], _positive),
  **dict.fromkeys(['abs', 'square'], _even),
  **dict.fromkeys(['floor', 'ceil', 'round', 'reduce_precision'], _rounded),
  **dict.fromkeys(['add', 'add_any'], _add),
  **dict.fromkeys(['eq', 'ne', 'lt', 'le', 'gt', 'ge', 'is_finite', 'iota'], _no_sign),
  **dict.fromkeys(['asin', 'acos', 'acosh', 'atanh', 'logit', 'igamma', 'igammac'], _singular),
  **dict.fromkeys(['polygamma', 'zeta', 'regularized_incomplete_beta'], _singular),
  **dict.fromkeys(['lgamma', 'digamma'], _gamma),
  'gather': _gathered,
  'mul': _mul,
  'div': _div,
  'rem': _rem,
  'max': _max,
  'clamp': _clamp,
  'select_n': _select,
  'log': _log,
  'log1p': _log1p,
  'sqrt': _sqrt,
  'rsqrt': _rsqrt,
  'integer_pow': _integer_pow,
  'pow': _pow,
  'bitcast_convert_type': _bits,
}


def _is_empty(site: Site) -> bool:
  return 0 in site.in_shapes[0]


# ------------------------------------------------------------------------------ what is made of that

_MOVE = frozenset(
  'broadcast_in_dim reshape transpose squeeze expand_dims slice split rev gather dynamic_slice copy '
  'convert_element_type stop_gradient'.split()
)
# A zero times what is infinite or NaN is NaN.
_PRODUCTS = frozenset(['mul', 'div', 'rem', 'dot_general', 'conv_general_dilated'])
_PRODUCTS |= {'ragged_dot_general'}
# They are told +0.0 from -0.0; some of complex numbers along a branch cut, others by 1 / 0.
_TELL_SIGNS = frozenset(['atan2', 'nextafter', 'bitcast_convert_type', 'top_k'])
_TELL_COMPLEX = frozenset(
  'sqrt rsqrt log log1p pow acos asin atan acosh asinh atanh cbrt sign'.split()
)
_INVERT = {'div': 1, 'pow': 0, 'integer_pow': 0, 'rsqrt': 0, 'digamma': 0}
# What comes of them is no NaN where an operand is one, or another one.
_CATCH = frozenset(['sort', 'top_k', 'pow', 'select_and_gather_add', 'select_and_scatter_add'])
# What is zero there is +0.0 wherever that of the operand is.
_KEEP_SIGN = frozenset(
  'broadcast_in_dim reshape transpose squeeze expand_dims concatenate stack unstack pad slice split '
  'rev tile dynamic_slice dynamic_update_slice gather copy copy_p stop_gradient name sub add add_any '
  'convert_element_type optimization_barrier sharding_constraint layout_constraint mesh_cast '
  'reshard pvary device_put abs square sqrt select_n reduce_sum reduce_max psum complex real imag'.split()
)


def with_facts(site: Site, ins: Sequence[Status], outs: Sequence[Status]) -> list[Status]:
  """The statuses of an equation's results, and what else is known of them.

  Where an operand may be NaN instead of what its status says, or have lost a NaN in a sum, and the
  equation may catch it, the results may be anything, and what was lost is frozen.
  """
  # In a derivative rule NaN is that of a value, and what becomes of it is seen in the function.
  catches = not site.walk.in_rule and _catches(site)
  lost = frozenset().union(*(status.facts.lost for status in ins)) | _newly_lost(site, ins)
  if catches and lost:
    for atom in lost:
      site.freeze((atom,), CAUGHT)
    lost = frozenset()
  found = []
  for k, (var, out) in enumerate(zip(site.eqn.outvars, outs)):
    one = [ins[k]] if site.name == 'optimization_barrier' else ins
    flags = [status.facts.default for status in one]
    default, on_all = _revised(site, var, out.default, one, flags, None, catches)
    of, facts = {}, {}
    for atom, value in out.of.items():
      here = [status.facts.get(atom) for status in one]
      of[atom], facts[atom] = _revised(site, var, value, one, here, atom, catches)
    found.append(Status(default, of, Facts(on_all, facts, lost)))
  return found


def _revised(
  site: Site,
  var: Any,
  value: int,
  ins: Sequence[Status],
  flags: list[int],
  atom: Atom | None,
  catches: bool,
) -> tuple[int, int]:
  """A status and its flags, of the entries at one atom's pruned indices, or of all."""
  name, joined = site.name, _joined(site, flags)
  kinds = [status.default if atom is None else status.get(atom) for status in ins]
  if not jnp.issubdtype(var.aval.dtype, jnp.inexact):
    flags_out = _RANGES.get(name, _unknown)(site, flags) & REAL
    doubt = 0
    if name == 'div' and value == ZERO and flags[1] & NULL:  # 0 // 0 is -1
      value = max(UNIFORM, kinds[1])
  else:
    flags_out = _RANGES.get(name, _unknown)(site, flags)
    doubt = joined & (FRAIL | TORN) | _torn(site, kinds, flags)
    if jnp.issubdtype(var.aval.dtype, jnp.complexfloating):
      flags_out |= REAL
  if catches and joined & (FRAIL | TORN):
    value, doubt = max(value, ANY), 0
  if value <= UNIFORM and joined & SIGNS and _tells(site, flags):
    value = max(value, UNIFORM if atom is None else ANY)
  if value == ZERO:
    return value, NULL | doubt | _sign(site, var, kinds, flags)
  made = joined & MADE if name in _MOVE else MADE
  return value, flags_out & ~(_DOUBT | MADE) | doubt | joined & SIGNS | made


def _sign(site: Site, var: Any, kinds: Sequence[int], flags: Sequence[int]) -> int:
  """Whether zeros of the result may be -0.0."""
  if not jnp.issubdtype(var.aval.dtype, jnp.inexact):
    return 0
  if site.name == 'sub':
    return flags[0] & SIGNS
  return _joined(site, flags) & SIGNS if site.name in _KEEP_SIGN else SIGNS


def _torn(site: Site, kinds: Sequence[int], flags: Sequence[int]) -> int:
  """What a product, or what is filled in, may be instead of zero."""
  if site.name == 'gather' and kinds[0] == ZERO:
    return FRAIL if _gathered(site, flags) & NAN else 0
  if site.name not in _PRODUCTS or ZERO not in kinds:
    return 0
  others = [f for k, f in zip(kinds, flags) if k != ZERO]
  wild = _joined(site, others)
  if site.name in ('div', 'rem') and kinds[0] == ZERO and flags[1] & NULL:
    return FRAIL | TORN
  return (FRAIL if wild & WILD else 0) | (TORN if wild & INFINITE else 0)


def _newly_lost(site: Site, ins: Sequence[Status]) -> frozenset[Atom]:
  """Atoms that end here whose entries may be NaN where those that stay are infinite."""
  out = set()
  for atom in dict.fromkeys(a for status in ins for a in status.of):
    flags = [status.facts.get(atom) for status in ins]
    torn = _joined(site, flags) | _torn(site, [status.get(atom) for status in ins], flags)
    if torn & TORN:
      before = max(site.times(v, atom) for v, s in zip(site.eqn.invars, ins) if atom in s.of)
      if any(site.times(v, atom) < before for v in site.eqn.outvars):
        out.add(atom)
  return frozenset(out)


def _tells(site: Site, flags: Sequence[int]) -> bool:
  name = site.name
  if name in _TELL_SIGNS:
    return True
  if name in _TELL_COMPLEX and any(
    jnp.issubdtype(v.aval.dtype, jnp.complexfloating) for v in site.eqn.invars
  ):
    return True
  if name == 'integer_pow' and site.params['y'] >= 0:
    return False
  inverted = flags[_INVERT[name]] if name in _INVERT else 0
  return bool(inverted & SIGNS and inverted & NULL)


def _catches(site: Site) -> bool:
  """Whether NaN may go in and come out as something else."""
  if site.name in _CATCH or site.index in site.frame.given_up:
    return True
  if site.name == 'optimization_barrier':
    return False
  inexact = lambda v: jnp.issubdtype(v.aval.dtype, jnp.inexact)
  if not any(map(inexact, site.eqn.invars)):
    return False
  return site.name == 'bitcast_convert_type' or not all(map(inexact, site.eqn.outvars))
