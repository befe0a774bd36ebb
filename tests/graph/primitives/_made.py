"""Primitives that make something of nothing, or of random keys."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import primitives

from tests.graph.primitives._instances import Instance, Operand, form, sizes

_SEED = Operand((), 'uint32', 0, 9)


@form('iota')
def _iota(rng):
  shape, axis = sizes(rng, 2), int(rng.integers(2))
  dtype = rng.choice(['float64', 'int32'])
  fn = lambda x: x + lax.broadcasted_iota(dtype, shape, axis)
  return Instance(fn, (Operand(shape, dtype),), alike=False)


@form('iota')
def _iota_alone(rng):
  """It is a result, so that something of it may be pruned; ``x`` goes another way."""
  shape, axis = sizes(rng, 2), int(rng.integers(2))
  fn = lambda x: (lax.broadcasted_iota('int32', shape, axis) * 1, x + 1)
  return Instance(fn, (Operand(shape),), alike=False)


@form('random_bits random_seed')
def _random_bits(rng):
  shape = sizes(rng, 2)
  fn = lambda x, seed: x + jax.random.bits(jax.random.key(seed), shape, 'uint32')
  return Instance(fn, (Operand(shape, 'uint32', 0, 3), _SEED), alike=False)


@form('rng_bit_generator')
def _generator(rng):
  shape = sizes(rng, 2)
  fn = lambda x, key: x + lax.rng_bit_generator(key, shape, dtype=np.uint32)[1]
  operands = Operand(shape, 'uint32', 0, 3), Operand((4,), 'uint32', 0, 9)
  return Instance(fn, operands, alike=False, batched=False)


@form('rng_uniform')
def _uniform(rng):
  shape = sizes(rng, 2)
  fn = lambda x, a: x * 0 + lax.floor(lax.rng_uniform(0.0, 1.0, shape)) + a
  return Instance(fn, (Operand(shape), Operand(())), alike=False, batched=False)


@form('random_seed random_wrap random_unwrap random_fold_in random_split random_clone')
def _keys(rng):
  shape = sizes(rng, 2)

  def fn(x, seed):
    key = jax.random.key(seed)
    key = jax.random.fold_in(jax.random.clone(key), 3)
    first, second = jax.random.split(key)
    raw = jax.random.key_data(first)
    again = jax.random.wrap_key_data(raw)
    return x + (raw[0] % 7), second, again

  return Instance(fn, (Operand(shape, 'uint32', 0, 3), _SEED))


@form('threefry2x32')
def _threefry(rng):
  """A result is a hash of the count; beside it goes what may be pruned."""
  shape = sizes(rng, 1)
  bits = lambda key: primitives.threefry2x32_p.bind(key, key, np.arange(2, dtype=np.uint32), key)
  fn = lambda x, key: (x + 1, *bits(jnp.stack([key, key])))
  return Instance(fn, (Operand(shape), _SEED), alike=False, batched=False)


@form('platform_index')
def _platform(rng):
  fn = lambda x: lax.platform_dependent(x, cpu=jnp.sin, default=jnp.cos)
  return Instance(fn, (Operand(sizes(rng, 2)),))
