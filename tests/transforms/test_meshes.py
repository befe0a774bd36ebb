"""Sparse training over eight devices equals that on one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jprune import schedules, transforms
from jprune.masks import unpack
from jprune.transforms import masks_of

STEPS = 6
KEY = jax.random.key(3)
PARAMS = {
  'kernel': jax.random.normal(jax.random.key(0), (8, 16)),
  'bias': jnp.linspace(-1.0, 1.0, 8),
}
GRADS = [
  jax.tree.map(lambda p: jax.random.normal(jax.random.key(i), p.shape), PARAMS)  # noqa: B023
  for i in range(STEPS)
]
RISING = schedules.cubic(0.3, 0.8, 0, 4)
momentum = functools.partial(optax.sgd, 0.1, momentum=0.9)
adam = functools.partial(optax.adam, 0.1)
METHODS = {
  'gradual': lambda: transforms.gradual(momentum(), RISING, every=2, packed=True),
  'static': lambda: transforms.static(momentum(), 0.7, key=KEY),
  'sparse_evolution': lambda: transforms.sparse_evolution(adam(), 0.7, every=2, key=KEY),
  'rigl': lambda: transforms.rigl(adam(), 0.7, every=2, key=KEY, packed=True),
  'granet': lambda: transforms.granet(momentum(), RISING, every=2, key=KEY),
  'mest': lambda: transforms.mest(momentum(), 0.7, every=2, key=KEY),
  'srigl': lambda: transforms.srigl(momentum(), 0.7, every=2, key=KEY, ablate='kernel'),
  'straight_through': lambda: transforms.straight_through(momentum(), 0.7),
  'movement': lambda: transforms.movement(momentum(), 0.7, every=2),
  'ac_dc': lambda: transforms.ac_dc(momentum(), 0.7, every=2, begin=2, end=6),
  'admm': lambda: transforms.admm(adam(), 0.7, every=2, end=4, weighted=True),
}


@pytest.fixture(autouse=True)
def _fast():
  jax.config.update('jax_disable_most_optimizations', True)  # the time here is that of compiling
  with jax.numpy_dtype_promotion('standard'):  # optax promotes
    yield
  jax.config.update('jax_disable_most_optimizations', False)


def trained(tx, params, compilations):
  """Masks after each step, the last params, the state, and how often a step was compiled."""
  state = tx.init(params)

  @jax.jit
  def step(grads, state, params):
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state

  masks, compiled = [], 0
  for given in GRADS:
    grads = jax.tree.map(lambda g, p: jax.device_put(g, p.sharding), given, params)
    before = len(compilations)
    params, state = step(grads, state, params)
    compiled += len(compilations) - before
    if isinstance(state, transforms.SparseState):
      masks.append(jax.device_get(masks_of(state)))
  return masks, params, state, compiled


@functools.cache
def on_one_device(name):
  return trained(METHODS[name](), PARAMS, [])[:2]


def on_mesh(kind, spec):
  mesh = jax.make_mesh((8,), ('d',), axis_types=(kind,))
  put = lambda x, spec: jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec)))
  return {'kernel': put(PARAMS['kernel'], spec), 'bias': put(PARAMS['bias'], ())}


def check(name, kind, spec, compilations):
  params = on_mesh(kind, spec)
  made = METHODS[name]()
  alone = trained(
    adam() if name in ('sparse_evolution', 'rigl', 'admm') else momentum(), params, compilations
  )[3]
  masks, moved, state, compiled = trained(made, params, compilations)
  wanted, weights = on_one_device(name)
  jax.tree.map(np.testing.assert_array_equal, masks, wanted)
  assert len({m.tobytes() for m in (unpack(m)['kernel'] for m in masks)}) > (name != 'static')
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), moved, weights)
  assert compiled <= alone
  sharding = params['kernel'].sharding
  held = [moved['kernel'], *(x for x in jax.tree.leaves(state) if x.shape == (8, 16))]
  assert len(held) > 1
  assert all(x.sharding.is_equivalent_to(sharding, 2) for x in held)


@pytest.mark.parametrize('name', METHODS)
def test_axes_in_types(name, compilations):
  check(name, AxisType.Explicit, (None, 'd'), compilations)
