"""``check`` against what optax can put around and behind ``keep_pruned``."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jprune
from jprune.transforms import check, keep_pruned, mask_updates
from tests.transforms import methods

PARAMS = {'kernel': jnp.linspace(-1.0, 1.0, 32).reshape(4, 8), 'bias': jnp.ones(8)}
MASKS = {'kernel': jnp.abs(PARAMS['kernel']) > 0.5, 'bias': None}
KEEP, MASK = keep_pruned(MASKS), mask_updates(MASKS)
SGD = optax.sgd(0.1, momentum=0.9)
NOISE = optax.add_noise(0.1, 0.5, 0)
ONE_HIDDEN = {'kernel': True, 'bias': False}

KEPT = {
  'last': lambda: optax.chain(SGD, KEEP),
  'packed': lambda: optax.chain(SGD, keep_pruned(jprune.masks.pack(MASKS))),
  'around accumulation': lambda: optax.chain(
    optax.MultiSteps(SGD, 3).gradient_transformation(), KEEP
  ),
  'inside of accumulation': lambda: optax.MultiSteps(optax.chain(SGD, KEEP), 3),
  'inside of a guard': lambda: optax.apply_if_finite(optax.chain(SGD, KEEP), 3),
  'after a warm-up from zero': lambda: optax.chain(
    optax.sgd(optax.linear_schedule(0.0, 0.1, 10)), KEEP
  ),
  'noise before': lambda: optax.chain(SGD, NOISE, KEEP),
  'one leaf masked': lambda: optax.chain(SGD, optax.masked(KEEP, ONE_HIDDEN)),
  'a frozen leaf': lambda: optax.chain(
    optax.partition({'on': SGD, 'off': optax.set_to_zero()}, {'kernel': 'on', 'bias': 'off'}), KEEP
  ),
  'in a partition': lambda: optax.partition(
    {'on': optax.chain(SGD, KEEP), 'off': optax.set_to_zero()}, {'kernel': 'on', 'bias': 'off'}
  ),
  'updates alone': lambda: optax.chain(MASK, SGD),
  'updates and weights': lambda: optax.chain(MASK, SGD, KEEP),
  'nothing pruned yet': lambda: optax.chain(SGD, keep_pruned(jprune.prune(PARAMS, 0.0))),
}
REVIVED = {
  'first': (lambda: optax.chain(KEEP, SGD), r'followed by 2 others \(Trace\): put it last'),
  'before decay': (lambda: optax.chain(SGD, KEEP, optax.add_decayed_weights(0.1)), '1 other: put'),
  'before momentum': (lambda: optax.chain(KEEP, optax.trace(0.9)), r'1 other \(Trace\)'),
  'before an average': (lambda: optax.chain(SGD, KEEP, optax.scale(0.5)), '1 other: put'),
  'before clipping': (lambda: optax.chain(SGD, KEEP, optax.clip_by_global_norm(0.001)), '1 other'),
  'before noise': (
    lambda: optax.chain(SGD, KEEP, NOISE),
    r'16 of 16 pruned weights that come back, in step 0, at leaf .kernel.*\(AddNoise\)',
  ),
  'in a chain of chains': (
    lambda: optax.chain(optax.chain(SGD, KEEP), optax.scale(0.5)),
    r'followed by 1 other: put it last',
  ),
  'before accumulation': (
    lambda: optax.chain(KEEP, optax.MultiSteps(SGD, 3).gradient_transformation()),
    r'in step 2, at leaf .kernel.*\(MultiSteps\)',
  ),
  'in a scaled wrapper': (lambda: doubled(optax.chain(SGD, KEEP)), 'Something around keep_pruned'),
  'updates and noise': (
    lambda: optax.chain(MASK, SGD, NOISE),
    r'end the chain with jprune.keep_pruned\(masks\)',
  ),
  'nothing pruned yet': (
    lambda: optax.chain(keep_pruned(jprune.prune(PARAMS, 0.0)), SGD),
    '16 of 16 pruned weights that were not 0.0 before and still are not',
  ),
  'a method that has not begun': (
    lambda: optax.chain(
      jprune.transforms.gradual(SGD, jprune.schedules.one_shot(0.5, 50), every=10), optax.scale(2.0)
    ),
    'what prunes is followed by 1 other: put it last',
  ),
}


@pytest.fixture(autouse=True)
def as_optax_promotes():
  """Noise and accumulation of optax mix dtypes."""
  with jax.numpy_dtype_promotion('standard'):
    yield


def doubled(inner):
  def update_fn(updates, state, params=None):
    updates, state = inner.update(updates, state, params)
    return jax.tree.map(lambda u: 2 * u, updates), state

  return optax.GradientTransformation(inner.init, update_fn)


@pytest.mark.parametrize('name', KEPT)
def test_what_keeps_pruned_weights_at_zero(name):
  for params in (PARAMS, jprune.apply(PARAMS, MASKS)):
    check(KEPT[name](), params)


@pytest.mark.parametrize('name', REVIVED)
def test_what_does_not(name):
  make, words = REVIVED[name]
  for params in (PARAMS, jprune.apply(PARAMS, MASKS)):
    with pytest.raises(ValueError, match=f'^check: `tx` must be .*{words}'):
      check(make(), params)


@pytest.mark.parametrize('name', ['gradual', 'straight_through', 'ac_dc', 'static'])
def test_methods_keep_them(name):
  check(methods.METHODS[name].make(optax.sgd(0.01)), methods.params())


def test_containers_dtypes_and_meshes():
  model = nnx.Linear(4, 8, rngs=nnx.Rngs(0))
  state = nnx.state(model, nnx.Param)
  masks = jprune.prune(state, 0.5)
  check(optax.chain(SGD, keep_pruned(masks)), state)
  with pytest.raises(ValueError, match='come back|still are not'):
    check(optax.chain(keep_pruned(masks), SGD), state)
  half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS)
  check(optax.chain(SGD, KEEP), half)
  mesh = Mesh(np.array(jax.devices()[:4]), ('model',))
  spread = jax.device_put(PARAMS, NamedSharding(mesh, PartitionSpec()))
  spread['kernel'] = jax.device_put(
    PARAMS['kernel'], NamedSharding(mesh, PartitionSpec(None, 'model'))
  )
  check(optax.chain(SGD, KEEP), spread)


def test_extra_arguments_and_that_nothing_changes():
  seen = []

  def update_fn(updates, state, params=None, *, value):
    del params
    seen.append(value)
    return updates, state

  wants = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update_fn)
  before = jax.tree.map(np.array, PARAMS)
  check(optax.chain(SGD, wants, KEEP), PARAMS, value=3.0)
  assert seen == [3.0]  # compiled once
  jax.tree.map(np.testing.assert_array_equal, before, PARAMS)


def test_where_nothing_can_be_said():
  with pytest.raises(ValueError, match='check: `tx` must be an optimizer that holds masks'):
    check(SGD, PARAMS)
  with pytest.raises(TypeError, match='check: `tx` must be an optax transformation; got 3'):
    check(3, PARAMS)
  with pytest.raises(ValueError, match='moves weights within calls=4 of its calls'):
    check(optax.chain(optax.sgd(0.0), KEEP), PARAMS, calls=4)
  slow = optax.MultiSteps(optax.chain(SGD, KEEP), 5)
  with pytest.raises(ValueError, match='within calls=4'):
    check(slow, PARAMS, calls=4)
  check(slow, PARAMS, calls=5)
