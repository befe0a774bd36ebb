"""Channels that go while a network trains, and networks that get smaller in the middle of it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import jprune
from jprune import masks, schedules
from jprune.transforms import gradual, masks_of

X = jax.random.normal(jax.random.key(0), (8, 6, 6, 2))
Y = jnp.arange(8) % 3


class Network(nn.Module):
  """Two convolutions with BatchNorm and a residual sum."""

  @nn.compact
  def __call__(self, x, train: bool = False):
    norm = lambda: nn.BatchNorm(use_running_average=not train, momentum=0.8)
    x = nn.relu(norm()(nn.Conv(8, (3, 3), use_bias=False)(x)))
    x = x + nn.relu(norm()(nn.Conv(8, (3, 3), use_bias=False)(x)))
    x = nn.relu(nn.Dense(12)(x.mean((1, 2))))
    return nn.Dense(3)(x)


MODEL = Network()
SCHEDULE = schedules.linear(0.0, 0.5, 2, 14)


def evaluate(variables, x):
  return MODEL.apply(variables, x)


def optimizer(graph):
  return gradual(optax.adam(1e-2), SCHEDULE, every=4, pattern=masks.ChannelGroups(graph))


def trained(tx, apply, variables, state, steps):
  @jax.jit
  def step(variables, state):
    def loss(params):
      out, new = apply({**variables, 'params': params}, X)
      return optax.softmax_cross_entropy_with_integer_labels(out, Y).mean(), new

    grads, new = jax.grad(loss, has_aux=True)(variables['params'])
    updates, state = tx.update(grads, state, variables['params'])
    return {'params': optax.apply_updates(variables['params'], updates), **new}, state

  for _ in range(steps):
    variables, state = step(variables, state)
  return variables, state


def large(variables, x):
  return MODEL.apply(variables, x, train=True, mutable=['batch_stats'])


@pytest.fixture(autouse=True)
def _optax_promotes():
  with jax.numpy_dtype_promotion('standard'):
    yield


def test_a_network_with_statistics_is_shrunk_in_mid_training():
  """And goes on with the whole state, as the large one does."""
  variables = MODEL.init(jax.random.key(1), X)
  graph = jprune.graph.channels(evaluate, variables, X)
  groups = masks.ChannelGroups(graph)
  tx = optimizer(graph)
  variables, state = trained(tx, large, variables, tx.init(variables['params']), 9)
  found = groups.complete(masks_of(state))
  gone = ~np.asarray(found['batch_stats']['BatchNorm_0']['mean'])
  assert 0 < gone.sum() < 4
  np.testing.assert_array_equal(gone, ~np.asarray(found['params']['BatchNorm_0']['scale']))
  small = jprune.shrink(evaluate, variables, found, X)
  before = evaluate(variables, X)
  np.testing.assert_allclose(small.fn(small.params, X), before, rtol=1e-5, atol=1e-6)

  narrow = jprune.shrink(large, variables, found, X).fn
  less = optimizer(jprune.graph.channels(small.fn, small.params, X))
  state_of_less = small.slice(state)
  assert int(state_of_less.count) == 9
  thin, state_of_less = trained(less, narrow, small.params, state_of_less, 8)
  variables, state = trained(tx, large, variables, state, 8)
  kept = lambda state: [int(mask.sum()) for mask in jax.tree.leaves(masks_of(state))]
  assert kept(state_of_less) == kept(state)
  np.testing.assert_allclose(small.fn(thin, X), evaluate(variables, X), rtol=1e-4, atol=1e-5)
  final = groups.complete(masks_of(state))
  assert (~np.asarray(final['batch_stats']['BatchNorm_0']['mean'])).sum() == 4


def test_masks_of_other_leaves():
  fn = lambda p, x: jax.nn.relu(x @ p['a']) @ p['b']
  params = {'a': jnp.ones((2, 4)), 'b': jnp.ones((4, 2))}
  groups = masks.ChannelGroups(jprune.graph.channels(fn, params, jnp.ones((1, 2))))
  with pytest.raises(ValueError, match="^complete: `masks` must be of leaves of the .*; got 'c'"):
    groups.complete({'c': jnp.ones(4, bool)})
  with pytest.raises(ValueError, match='^prune: `where` must be left out for ChannelGroups'):
    jprune.prune(params, 0.5, pattern=groups, where='a')
  with pytest.raises(ValueError, match="^prune: `params` must be of leaves of the graph; got 'c'"):
    jprune.prune({'c': jnp.ones((4, 4))}, 0.5, pattern=groups)
