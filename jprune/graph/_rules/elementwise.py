"""Primitives that work entry by entry."""

from __future__ import annotations

import functools
import operator
from typing import Any

from jprune.graph._axes.atoms import Atom, Dims, fresh, fresh_all, size_of
from jprune.graph._axes.pruned import ANY, BAD, UNIFORM, ZERO, Status
from jprune.graph._program.evaluate import bound
from jprune.graph._program.traits import Trait, has
from jprune.graph._rules.base import no_sign, rule
from jprune.graph._rules.elementwise_ranges import RANGES
from jprune.graph._rules.sites import CoupleSite, Equation, SmallSite, StatusSite

# Of Equinox: they hand their operand on, and complain where it is batched or differentiated.
_HANDED_ON = 'nonbatchable nontraceable nondifferentiable_backward'
_PLACED = f'sharding_constraint layout_constraint reshard pvary name {_HANDED_ON}'

_NAMES = (
  'abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e '
  'bitcast_convert_type cbrt ceil clamp clz complex conj convert_element_type copy cos cosh '
  'device_put digamma div eq erf erf_inv erfc exp exp2 expm1 floor ge gt igamma igammac imag '
  'integer_pow is_finite le lgamma log log1p log2 logistic lt max min mul ne neg nextafter not '
  'one_minus_square optimization_barrier or polygamma polynomial population_count pow real '
  'reduce_precision regularized_incomplete_beta rem round rsqrt select_if_vmap select_n shift_left '
  'shift_right_arithmetic shift_right_logical sign sin sinh sqrt square stop_gradient sub tan tanh '
  f'xor zeta {_PLACED}'
).split()

_OF = {
  Trait.KEEPS_ZERO: (
    'neg sign floor ceil round sin tan tanh asin atan sinh asinh atanh erf erf_inv expm1 log1p '
    'sqrt cbrt square abs real imag conj convert_element_type copy stop_gradient reduce_precision '
    'optimization_barrier add sub add_any or xor ne gt lt shift_left shift_right_logical '
    'shift_right_arithmetic bitcast_convert_type device_put atan2 complex population_count '
    f'integer_pow select_n select_if_vmap max min clamp nextafter {_PLACED}'
  ),
  Trait.BREAKS_ZERO: 'log log2 rsqrt digamma lgamma bessel_i1e acosh',
  Trait.KEEPS_SIGN: (
    'abs add add_any complex convert_element_type copy device_put imag optimization_barrier real '
    f'select_if_vmap select_n sqrt square stop_gradient sub {_PLACED}'
  ),
  Trait.SIGN_OF_FIRST: 'sub',
  Trait.FORGETS_SIGN: 'abs square cos cosh exp exp2 logistic erfc acos one_minus_square',
  Trait.TELLS_SIGN: 'atan2 nextafter bitcast_convert_type',
  Trait.TELLS_COMPLEX_SIGN: (
    'sqrt rsqrt log log1p log2 pow acos asin atan acosh asinh atanh cbrt sign'
  ),
  Trait.CUT_BELOW_ZERO: 'sqrt rsqrt log log1p log2 pow cbrt',
  Trait.STAYS_REAL: 'add mul cosh exp exp2 square convert_element_type copy stop_gradient',
  Trait.MOVES: 'convert_element_type copy stop_gradient',
  Trait.RESHAPES: 'convert_element_type copy',
  Trait.READS_PART: 'convert_element_type',
  Trait.KEEPS_AXES: 'copy real imag',
  Trait.ABSORBS: 'mul div rem polynomial',
  Trait.SCALES: 'mul div',
  Trait.NEGATES: 'neg',
  Trait.DIVIDES: 'div rem',
  Trait.ADDS: 'add sub add_any',
  Trait.CATCHES: 'pow bitcast_convert_type',
  Trait.WRAPS: 'add sub mul neg abs integer_pow pow square one_minus_square polynomial',
  Trait.SPREADS: f'copy {_PLACED}',
  Trait.CASTS: (
    f'convert_element_type copy reduce_precision optimization_barrier stop_gradient {_PLACED}'
  ),
  Trait.EACH: 'optimization_barrier',
  Trait.STOPS: 'stop_gradient',
  Trait.CHOOSES: 'select_n select_if_vmap',
  Trait.FOLDS: (
    'abs add and clamp convert_element_type copy div eq ge gt le lt max min mul ne neg not '
    f'optimization_barrier or rem select_n sign stop_gradient sub xor {_HANDED_ON}'
  ),
}
_INVERTED = {
  'div': lambda eqn: 1,
  'pow': lambda eqn: 0,
  'integer_pow': lambda eqn: 0 if eqn.params['y'] < 0 else None,
  'rsqrt': lambda eqn: 0,
  'digamma': lambda eqn: 0,
}


def _traits(name: str) -> Trait:
  of = [trait for trait, names in _OF.items() if name in names.split()]
  return functools.reduce(operator.or_, of, Trait.ELEMENTWISE | Trait.GHOSTS)


_OTHER_WIDTH = 'read as another dtype of another width'


def _couple(site: CoupleSite, ins: list[Dims]) -> list[Dims]:
  if site.name == 'bitcast_convert_type' and site.out_shapes[0] != site.in_shapes[0]:
    site.freeze_all(ins, _OTHER_WIDTH)
    return [fresh_all(site.out_shapes[0], site.cause(_OTHER_WIDTH))]
  shapes = site.out_shapes
  outs = []
  for k, shape in enumerate(shapes):
    operands = ins if len(shapes) == 1 else [ins[k]]  # a barrier: result k is operand k
    outs.append(tuple(_axis(site, operands, i, size) for i, size in enumerate(shape)))
  return outs


def _axis(site: CoupleSite, ins: list[Dims], i: int, size: int) -> Any:
  found = [dims[i] for dims in ins if len(dims) > i and size_of(dims[i]) == size]
  if not found:
    return fresh(size)
  for dim in found[1:]:
    site.unify(found[0], dim)
  return found[0]


def _status(site: StatusSite, ins: list[Status]) -> list[Status]:
  outs = []
  for k, var in enumerate(site.eqn.outvars):
    used = list(range(len(ins))) if len(site.eqn.outvars) == 1 else [k]
    mine = [ins[j] for j in used]
    of = {}
    for atom in site.prunable(var):
      values = [status.get(atom) for status in mine]
      times = {site.times(site.eqn.invars[j], atom) for j in used if atom in ins[j].of}
      if times <= {site.times(var, atom)}:
        of[atom] = combined(site, values)
      else:  # outer products and sums: the operands lie at different indices of the atom
        zero = site.name == 'mul' and max(values) == ZERO
        of[atom] = ZERO if zero else max(ANY, *values)
    outs.append(Status(combined(site, [status.default for status in mine]), of))
  return outs


def combined(site: Equation, values: list[int]) -> int:
  """The status of ``f(values)``."""
  worst = max(values, default=UNIFORM)
  name = site.name
  if worst == BAD:
    return BAD
  if name in ('mul', 'and'):
    return ZERO if ZERO in values else worst
  if name in ('div', 'rem'):
    return BAD if values[1] == ZERO else ZERO if values[0] == ZERO else worst
  if name == 'pow' and values[0] == ZERO:
    return ZERO if (_written(site, 1) or 0.0) > 0 else BAD
  if name == 'integer_pow' and values[0] == ZERO and site.params['y'] <= 0:
    return BAD if site.params['y'] < 0 else UNIFORM
  if has(site.eqn, Trait.BREAKS_ZERO) and worst == ZERO:
    return BAD
  if has(site.eqn, Trait.CHOOSES):
    cases = values[1:]
    return ZERO if max(cases) == ZERO else max(max(cases), values[0], UNIFORM)
  if name in ('max', 'min', 'clamp') and _keeps_zero(site, values):
    return ZERO
  if worst == ZERO and has(site.eqn, Trait.KEEPS_ZERO):
    return ZERO
  return max(worst, UNIFORM)


def _keeps_zero(site: Equation, values: list[int]) -> bool:
  """Whether a bound lets zero through: ``max(x, -1)`` of zero is zero."""
  if site.name == 'clamp':
    low, high = _written(site, 0), _written(site, 2)
    return values[1] == ZERO and low is not None and high is not None and low <= 0 <= high
  for this, other in ((0, 1), (1, 0)):
    bound = _written(site, other)
    if values[this] == ZERO and bound is not None:
      return bound <= 0 if site.name == 'max' else bound >= 0
  return False


def _written(site: Equation, operand: int) -> float | None:
  return site.scalar(operand)


for _name in _NAMES:
  rule(
    _name,
    _couple,
    _status,
    ranges=RANGES.get(_name),
    **({'inverts': _INVERTED[_name]} if _name in _INVERTED else {}),
    traits=_traits(_name),
  )


# ---------------------------------------------------------------------------- made from nothing


def _couple_made(site: CoupleSite, ins: list[Dims]) -> list[Dims]:
  site.freeze_all(ins, f'an operand of {site.name}')
  return [tuple(fresh(size) for size in shape) for shape in site.out_shapes]


def _status_iota(site: StatusSite, ins: list[Status]) -> list[Status]:
  (var,) = site.eqn.outvars
  along = site.frame.dims[var]
  of: dict[Atom, int] = dict.fromkeys(site.prunable(var), UNIFORM)
  for atom in site.atoms_of(along[site.params['dimension']]):
    of[atom] = ANY
  return [Status(UNIFORM, of)]


def _status_drawn(site: StatusSite, ins: list[Status]) -> list[Status]:
  return [Status(UNIFORM, dict.fromkeys(site.prunable(var), ANY)) for var in site.eqn.outvars]


def _small_made(site: SmallSite, xs: list[Any]) -> list[Any]:
  """All entries are made, then the kept ones taken: those that the full function has there."""
  return [site.take(x, dims) for x, dims in zip(bound(site.eqn, xs), site.outs())]


rule(
  'iota',
  _couple_made,
  _status_iota,
  _small_made,
  ranges=no_sign,
  reorders=lambda eqn: [eqn.params['dimension']],
  traits=Trait.FOLDS,
)
rule('random_bits rng_bit_generator', _couple_made, _status_drawn, _small_made)
rule('rng_uniform', _couple_made, _status_drawn, _small_made, traits=Trait.DRAWS)


def _couple_keys(site: CoupleSite, ins: list[Dims]) -> list[Dims]:
  site.freeze_all(ins, f'an operand of {site.name}')
  return [fresh_all(shape, site.cause('a random key')) for shape in site.out_shapes]


# Keys have no channels, and neither has the number of a platform.
rule(
  'random_seed random_wrap random_unwrap random_fold_in random_split random_clone threefry2x32 '
  'platform_index',
  _couple_keys,
)
