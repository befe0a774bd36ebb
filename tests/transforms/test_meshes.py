"""Sparse training over eight devices equals that on one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jprune import distributions, transforms
from jprune.masks import unpack
from jprune.transforms import masks_of
from tests.transforms.methods import METHODS, RISING

STEPS = 8
PARAMS = {
  'kernel': jax.random.normal(jax.random.key(0), (8, 16)),
  'bias': jnp.linspace(-1.0, 1.0, 8),
}
SCORES = jax.tree.map(jnp.abs, PARAMS)
MADE = {name: (case.make, optax.sgd(0.1, momentum=0.9)) for name, case in METHODS.items()}
MADE['Adam and a clock'] = MADE['rigl'][0], optax.adam(0.1)
MADE['second moments'] = (
  lambda inner: transforms.admm(inner, 0.7, every=3, end=6, weighted=True),
  optax.adam(0.1),
)
MADE['all weights compete'] = (
  lambda inner: transforms.gradual(
    inner, RISING, every=3, distribution=distributions.global_, scorer=SCORES
  ),
  optax.sgd(0.1),
)


@pytest.fixture(autouse=True)
def _optax_promotes():
  with jax.numpy_dtype_promotion('standard'):
    yield


def gradients(params, step):
  """Gradients that don't depend on where the params have got to, so that rounding stays small."""
  wave = lambda start, x: jax.device_put(jnp.sin(start * 50 + step), x.sharding)
  return jax.tree.map(wave, PARAMS, params)


def trained(tx, params, compile=lambda step: step):
  """Masks after each step, the last params, and the last state."""
  state, masks = tx.init(params), []

  @compile
  def step(grads, state, params):
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state

  for number in range(STEPS):
    params, state = step(gradients(params, number), state, params)
    if isinstance(state, transforms.SparseState):
      masks.append(jax.device_get(unpack(masks_of(state))['kernel']))
  return masks, params, state


@functools.cache
def on_one_device(name):
  make, inner = MADE[name]
  update = jax.jit(inner.update)
  return trained(make(optax.GradientTransformation(inner.init, update)), PARAMS)[:2]


def on_mesh(kind, spec):
  mesh = jax.make_mesh((8,), ('d',), axis_types=(kind,))
  put = lambda x, spec: jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec)))
  return {'kernel': put(PARAMS['kernel'], spec), 'bias': put(PARAMS['bias'], ())}


def compiled(compilations, tx, params):
  """What came of it, and how often a step was compiled."""
  counted = []

  def compile(step):
    step = jax.jit(step)

    def call(*args):
      before = len(compilations)
      out = step(*args)
      counted.append(len(compilations) - before)
      return out

    return call

  return trained(tx, params, compile), sum(counted)


def check(name, params, compilations):
  make, inner = MADE[name]
  (masks, moved, state), number = compiled(compilations, make(inner), params)
  alone = compiled(compilations, inner, params)[1]
  wanted, weights = on_one_device(name)
  assert len({mask.tobytes() for mask in wanted}) > (name != 'static')
  for mask, want in zip(masks, wanted, strict=True):
    np.testing.assert_array_equal(mask, want)
  for leaf in weights:
    np.testing.assert_allclose(moved[leaf], weights[leaf], rtol=1e-5, atol=1e-6)
  assert number <= alone
  held = [moved['kernel'], *(x for x in jax.tree.leaves(state) if x.shape == (8, 16))]
  assert all(x.sharding.is_equivalent_to(params['kernel'].sharding, 2) for x in held)


@pytest.mark.parametrize('name', MADE)
def test_types_agree_and_stay(name):
  """What jit would trace anew for, or refuse: this needs no compiled step."""
  params = on_mesh(AxisType.Explicit, (None, 'd'))
  make, inner = MADE[name]
  tx = make(inner)
  state = tx.init(params)
  moved, after = jax.eval_shape(tx.update, params, state, params)
  types = lambda tree: [(x.shape, x.dtype, jax.typeof(x).sharding) for x in jax.tree.leaves(tree)]
  jax.tree.map(lambda one, other: None, (moved, after), (params, state))
  own = lambda state: state._replace(inner=())
  along = lambda x: x.sharding.spec if x.sharding else PartitionSpec()
  assert [along(x) for x in jax.tree.leaves(moved)] == [s.spec for *_, s in types(params)]
  assert [(x.shape, x.dtype, along(x)) for x in jax.tree.leaves(own(after))] == [
    (shape, dtype, sharding.spec) for shape, dtype, sharding in types(own(state))
  ]


@pytest.mark.parametrize('name', ['Adam and a clock', 'srigl', 's_ste', 'second moments'])
def test_axes_in_types(name, compilations):
  check(name, on_mesh(AxisType.Explicit, (None, 'd')), compilations)


@pytest.mark.parametrize('name', ['movement', 'all weights compete'])
def test_no_axes_in_types(name, compilations):
  check(name, on_mesh(AxisType.Auto, ('d',)), compilations)


def test_within_set_mesh_and_without_jit():
  """Explicit axes: from ``init`` under ``jit`` on."""
  params = on_mesh(AxisType.Explicit, ('d',))
  tx = MADE['rigl'][0](optax.sgd(0.1, momentum=0.9))
  with jax.set_mesh(params['kernel'].sharding.mesh):
    state = jax.jit(tx.init)(params)
    jax.tree.map(np.testing.assert_array_equal, state, tx.init(params))
    updates, state = tx.update(gradients(params, 0), state, params)
    params = optax.apply_updates(params, updates)
  wanted, _ = on_one_device('rigl')
  np.testing.assert_array_equal(unpack(masks_of(state))['kernel'], wanted[0])
  assert params['kernel'].sharding.spec == PartitionSpec('d', None)
  assert (params['kernel'] == 0).sum() == 96
