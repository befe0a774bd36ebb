"""Primitives of one operand that work entry by entry."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import layout
from jax.extend.core import primitives

from tests.graph.primitives._instances import Instance, Operand, form, forms, sizes


def _shape(rng):
  return sizes(rng, rng.integers(1, 4))


def _of(dtype, low=-2, high=2):
  function = lambda name: lax.bitwise_not if name == 'not' else getattr(lax, name)
  return lambda name, rng: Instance(function(name), (Operand(_shape(rng), dtype, low, high),))


forms(
  'abs acos acosh asin asinh atan atanh bessel_i0e bessel_i1e cbrt ceil cos cosh digamma erf '
  'erf_inv erfc exp exp2 expm1 floor is_finite lgamma log log1p log2 logistic neg one_minus_square '
  'round rsqrt sign sin sinh sqrt square tan tanh',
  _of('float64'),
)
forms(
  'abs acosh asin asinh atanh conj cos cosh exp expm1 imag log log1p log2 logistic neg '
  'one_minus_square real rsqrt sign sin sinh sqrt square tan tanh',
  _of('complex128'),
)
forms('abs neg one_minus_square sign square not population_count clz', _of('int32'))
forms('not population_count clz', _of('uint8', 0, 3))
forms('not', _of('bool'))


def bound(name, **params):
  """A primitive that no function of the interface is."""
  primitive = getattr(primitives, f'{name}_p')
  return lambda *xs: primitive.bind(*xs, **params)


@form('copy')
def _copy(rng):
  return Instance(jnp.copy, (Operand(_shape(rng)),))


@form('convert_element_type')
def _convert(rng):
  kinds = ['float64', 'float32', 'bfloat16', 'int32', 'uint8', 'bool', 'complex128']
  old, new = rng.choice(kinds[:6]), rng.choice(kinds)
  fn = lambda x: lax.convert_element_type(x, new)
  return Instance(fn, (Operand(_shape(rng), old, low=0 if new == 'uint8' else -2),))


@form('bitcast_convert_type')
def _bitcast(rng):
  same = [('float32', 'int32'), ('int32', 'float32'), ('float64', 'uint64'), ('uint8', 'int8')]
  old, new = same[rng.integers(len(same))]
  low = 0 if old == 'uint8' else -2
  return Instance(lambda x: lax.bitcast_convert_type(x, new), (Operand(_shape(rng), old, low),))


@form('bitcast_convert_type')
def _bitcast_width(rng):
  wider = [('float64', 'int32', ()), ('int32', 'float64', (2,)), ('uint8', 'uint32', (4,))]
  old, new, last = wider[rng.integers(len(wider))]
  shape = (*_shape(rng), *last)
  fn = lambda x: lax.bitcast_convert_type(x, new)
  # The last axis has to stay the last, which vmap doesn't see to.
  return Instance(fn, (Operand(shape, old, 0),), batched=not last)


@form('reduce_precision')
def _precision(rng):
  bits = [(8, 7), (5, 10), (2, 1)][rng.integers(3)]
  return Instance(lambda x: lax.reduce_precision(x, *bits), (Operand(_shape(rng)),))


@form('integer_pow')
def _integer_pow(rng):
  y = int(rng.choice([-2, -1, 0, 1, 2, 3]))
  fn = bound('integer_pow', y=y)
  dtype = rng.choice(['float64', 'complex128', 'int32'] if y >= 0 else ['float64', 'complex128'])
  return Instance(fn, (Operand(_shape(rng), dtype),))


@form('name')
def _name(rng):
  return Instance(lambda x: checkpoint_name(x, 'hidden'), (Operand(_shape(rng)),))


@form('optimization_barrier')
def _barrier(rng):
  operands = (Operand(_shape(rng)), Operand(_shape(rng), 'int32'), Operand(_shape(rng)))
  return Instance(lambda *xs: lax.optimization_barrier(xs), operands)


@form('device_put')
def _device_put(rng):
  return Instance(jax.device_put, (Operand(_shape(rng)),))


@form('stop_gradient')
def _stop_gradient(rng):
  return Instance(lax.stop_gradient, (Operand(_shape(rng)),))


def _mesh(kind):
  return jax.make_mesh((1,), ('d',), (getattr(jax.sharding.AxisType, kind),))


@form('sharding_constraint')
def _sharding_constraint(rng):
  place = jax.sharding.NamedSharding(_mesh('Auto'), jax.sharding.PartitionSpec('d'))
  return Instance(lambda x: lax.with_sharding_constraint(x, place), (Operand(_shape(rng)),))


@form('reshard')
def _reshard(rng):
  place = jax.sharding.NamedSharding(_mesh('Explicit'), jax.sharding.PartitionSpec('d'))
  fn = lambda x: jax.sharding.reshard(x, place)
  return Instance(fn, (Operand(_shape(rng)),), batched=False)


@form('layout_constraint')
def _layout_constraint(rng):
  place = layout.Layout((1, 0))
  return Instance(lambda x: layout.with_layout_constraint(x, place), (Operand(sizes(rng, 2)),))
