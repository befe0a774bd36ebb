"""Primitives that reduce, order or transform along axes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.graph.primitives._instances import Instance, Operand, form, forms, sizes
from tests.graph.primitives._unary import bound


def _axes(rng, rank, most=None):
  return tuple(sorted(rng.permutation(rank)[: rng.integers(0, (most or rank) + 1)].tolist()))


def _reduce(dtype):
  def make(name, rng):
    low = 1 if name in ('reduce_max', 'reduce_min') and rng.random() < 0.5 else 0
    shape = sizes(rng, rng.integers(1, 4), low)
    fn = bound(name, axes=_axes(rng, len(shape)), **_sharding(name))
    return Instance(fn, (Operand(shape, dtype, 0 if dtype == 'uint8' else -2),))

  return make


@functools.cache
def _sharding(name):
  """Sums have a parameter that not every version knows."""
  fn = {
    'reduce_sum': jnp.sum,
    'reduce_prod': jnp.prod,
    'reduce_max': jnp.max,
    'reduce_min': jnp.min,
  }
  if name not in fn:
    return {}
  (eqn,) = jax.make_jaxpr(lambda x: fn[name](x, axis=0))(np.ones(2)).jaxpr.eqns
  return {key: None for key in eqn.params if key != 'axes'}


forms('reduce_sum reduce_max reduce_min reduce_prod', _reduce('float64'))
forms('reduce_sum reduce_prod', _reduce('complex128'))
forms(
  'reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or reduce_xor', _reduce('int32')
)
forms('reduce_max reduce_min reduce_and reduce_or reduce_xor', _reduce('bool'))
forms('reduce_sum reduce_or', _reduce('uint8'))


@form('argmax argmin')
def _arg(rng):
  shape = sizes(rng, 2, low=1)
  axis = int(rng.integers(2))
  fns = lambda x: (lax.argmax(x, axis, np.int32), lax.argmin(x, axis, np.int32))
  return Instance(fns, (Operand(shape, rng.choice(['float64', 'int32'])),))


@form('reduce')
def _reduce_by_function(rng):
  shape, axes = sizes(rng, 2), _axes(rng, 2)
  fn = lambda x, init: lax.reduce(x, init, lambda a, b: a + b * 2, axes)
  return Instance(fn, (Operand(shape), Operand(())))


@form('reduce')
def _reduce_two(rng):
  shape, axes = sizes(rng, 2), _axes(rng, 2)
  both = lambda a, b: (a[0] + b[0], jnp.minimum(a[1], b[1]) + 1)
  fn = lambda x, y: lax.reduce((x, y), (np.float64(0), np.int32(1)), both, axes)
  return Instance(fn, (Operand(shape), Operand(shape, 'int32')))


def _along(name, rng):
  shape, reverse = sizes(rng, rng.integers(1, 4)), bool(rng.random() < 0.5)
  axis = int(rng.integers(len(shape)))
  dtype = 'float64' if name == 'cumlogsumexp' else rng.choice(['float64', 'int32'])
  fn = lambda x: getattr(lax, name)(x, axis=axis, reverse=reverse)
  return Instance(fn, (Operand(shape, dtype),))


forms('cumsum cumprod cummax cummin cumlogsumexp', _along)


@form('sort')
def _sort(rng):
  shape, axis = sizes(rng, 2), int(rng.integers(2))
  count = int(rng.integers(1, 4))
  keys = int(rng.integers(1, count + 1))
  fn = lambda *xs: lax.sort(xs, axis, is_stable=True, num_keys=keys)
  operands = [Operand(shape, rng.choice(['float64', 'int32'])) for _ in range(count)]
  return Instance(fn, tuple(operands))


@form('top_k')
def _top_k(rng):
  shape = sizes(rng, 2, low=1)
  k = int(rng.integers(1, shape[-1] + 1))
  return Instance(lambda x: lax.top_k(x, k), (Operand(shape),))


@form('fft')
def _fft(rng):
  shape = sizes(rng, rng.integers(2, 4), low=1)
  kind = rng.choice(['fft', 'ifft', 'rfft', 'irfft', 'fft2'])
  if kind == 'fft2':
    return Instance(jnp.fft.fft2, (Operand(shape, 'complex128'),))
  axis = int(rng.integers(len(shape)))
  if kind == 'irfft':
    shape = tuple(n + 1 if i == axis else n for i, n in enumerate(shape))
  fn = lambda x: getattr(jnp.fft, kind)(x, axis=axis)
  return Instance(fn, (Operand(shape, 'float64' if kind == 'rfft' else 'complex128'),))


@form('psum pmax pmin')
def _collective(rng):
  """Over an axis that ``vmap`` has named, of what has it and of what doesn't."""
  shape, axis = sizes(rng, 2, low=1), int(rng.integers(2))
  inner = lambda x, y: (lax.psum(x, 'i'), lax.pmax(x, 'i'), lax.pmin(x, 'i'), lax.psum(x * y, 'i'))
  fn = jax.vmap(inner, (axis, None), axis_name='i')
  return Instance(fn, (Operand(shape), Operand((shape[1 - axis],))))


@form('psum pmax pmin')
def _collective_kept(rng):
  """The axis is there again afterwards."""
  shape = sizes(rng, 2, low=1)
  inner = lambda x: (x - lax.psum(x, 'i'), lax.pmax(x, 'i') * x, x - lax.pmin(x, 'i'))
  return Instance(jax.vmap(inner, axis_name='i'), (Operand(shape),), apart=False)
