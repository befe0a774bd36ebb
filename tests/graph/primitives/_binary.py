"""Primitives of several operands that work entry by entry."""

import jax
import numpy as np
from jax import lax

from tests.graph.primitives._instances import Instance, Operand, form, forms, sizes

_LITERALS = (-2.0, -1.0, 0.0, -0.0, 0.5, 1.0, 2.0)


def _function(name):
  return {
    'and': lax.bitwise_and,
    'or': lax.bitwise_or,
    'xor': lax.bitwise_xor,
    'add_any': lambda x, y: jax.vjp(lambda z: (z, z), x)[1]((x, y))[0],
    'regularized_incomplete_beta': lax.betainc,
  }.get(name) or getattr(lax, name)


def _pair(dtype, low=-2, high=2):
  """Two arrays; or an array and a scalar, an array, or a row or column, that is written there."""

  def make(name, rng):
    fn, shape = _function(name), sizes(rng, rng.integers(1, 4))
    operand = Operand(shape, dtype, low, high)
    kind = rng.integers(4) if name != 'add_any' else 0
    if kind == 0:
      return Instance(fn, (operand, operand))
    if kind == 1:
      low_too = [value for value in _LITERALS if value >= low]
      other = np.asarray(rng.choice(low_too)).astype(dtype)[()]
    else:
      short = [1 if kind == 2 and rng.random() < 0.5 else n for n in shape]
      other = rng.integers(max(low, -1), 2, short).astype(dtype)
    spread = lambda: lax.broadcast_in_dim(other, shape, range(len(shape))) if kind > 1 else other
    left = rng.random() < 0.5
    fn_of_one = lambda x: fn(spread(), x) if left else fn(x, spread())
    return Instance(fn_of_one, (operand,), alike=False)

  return make


forms('add sub mul div rem max min pow atan2 nextafter eq ne ge gt le lt', _pair('float64'))
forms('add sub mul div pow eq ne', _pair('complex128'))
forms('add sub mul div rem max min and or xor eq ne ge gt le lt', _pair('int32'))
forms('add sub mul div rem max min and or xor', _pair('uint8', 0, 3))
forms('and or xor eq ne gt max', _pair('bool', 0, 1))
forms('shift_left shift_right_logical shift_right_arithmetic', _pair('int32', -1, 33))
forms('shift_left shift_right_logical shift_right_arithmetic', _pair('uint8', 0, 9))
forms('add_any', _pair('float64'))
forms('igamma igammac zeta polygamma', _pair('float64'))


@form('complex')
def _complex(rng):
  operand = Operand(sizes(rng, 2))
  return Instance(lax.complex, (operand, operand))


@form('regularized_incomplete_beta')
def _beta(rng):
  operand = Operand(sizes(rng, 2))
  return Instance(lax.betainc, (operand, operand, operand))


@form('polynomial')
def _polynomial(rng):
  """Coefficients are operands, numbers, zeros or rows; many of them are run over."""
  shape = sizes(rng, 2)
  short = [1 if rng.random() < 0.5 else n for n in shape]
  row = rng.integers(-1, 2, short).astype('float64')
  numbers = [float(rng.choice(_LITERALS)) for _ in range(rng.choice([1, 9]))]
  fn = lambda x, c: lax.polynomial(x, [*numbers, c, row])
  return Instance(fn, (Operand(shape), Operand(shape)), alike=False)


@form('polynomial')
def _polynomial_of_integers(rng):
  operand = Operand(sizes(rng, 2), 'int32')
  return Instance(lambda x, c: lax.polynomial(x, [1, c, 0, c]), (operand, operand))


@form('mul add sub')
def _outer(rng):
  """Each operand lies along another axis."""
  m, n = sizes(rng, 2)
  spread = lambda x, axis: lax.broadcast_in_dim(x, (m, n), (axis,))
  fns = (lax.mul, lax.add, lax.sub)
  return Instance(
    lambda x, y: [fn(spread(x, 0), spread(y, 1)) for fn in fns], (Operand((m,)), Operand((n,)))
  )


@form('mul add sub max')
def _with_itself(rng):
  """Both coordinates of an entry are indices of one axis."""
  (n,) = sizes(rng, 1)
  spread = lambda x, axis: lax.broadcast_in_dim(x, (n, n), (axis,))
  fns = (lax.mul, lax.add, lax.sub, lax.max)
  return Instance(lambda x: [fn(spread(x, 0), spread(x, 1)) for fn in fns], (Operand((n,)),))


@form('select_n')
def _select(rng):
  shape, n = sizes(rng, rng.integers(1, 4)), int(rng.choice([2, 3]))
  which = Operand(shape, 'bool') if n == 2 else Operand(shape, 'int32', 0, 2, lifted=False)
  dtype = rng.choice(['float64', 'int32', 'complex128', 'bool'])
  return Instance(lax.select_n, (which, *[Operand(shape, dtype)] * n))


@form('select_n')
def _select_scalars(rng):
  """A scalar that decides for all entries; cases that are written there."""
  shape, value = sizes(rng, 2), float(rng.choice(_LITERALS))
  if rng.random() < 0.5:
    operands = Operand((), 'bool'), Operand(shape), Operand(shape)
    return Instance(lax.select_n, operands)
  order = int(rng.choice([1, -1]))
  fn = lambda which, x: lax.select_n(which, *[x, lax.full_like(x, value)][::order])
  return Instance(fn, (Operand(shape, 'bool'), Operand(shape)))


@form('clamp')
def _clamp(rng):
  shape = sizes(rng, rng.integers(1, 4))
  dtype = rng.choice(['float64', 'int32'])
  return Instance(lax.clamp, (Operand(shape, dtype),) * 3)


@form('clamp')
def _clamp_scalars(rng):
  shape, dtype = sizes(rng, 2), rng.choice(['float64', 'int32'])
  low, high = np.sort(rng.choice(_LITERALS, 2)).astype(dtype)
  kind = rng.integers(3)
  if kind == 0:
    return Instance(lambda x: lax.clamp(low, x, high), (Operand(shape, dtype),))
  if kind == 1:
    return Instance(lax.clamp, (Operand((), dtype), Operand(shape, dtype), Operand((), dtype)))
  return Instance(lambda a, x: lax.clamp(a, x, high), (Operand((), dtype), Operand(shape, dtype)))


@form('pow')
def _pow_of_whole(rng):
  shape, y = sizes(rng, 2), int(rng.integers(-2, 4))
  if rng.random() < 0.5:
    return Instance(lambda x: lax.pow(x, y), (Operand(shape),))
  return Instance(lax.pow, (Operand(shape), Operand(shape, 'int32')))
