"""Equinox modules as a function and its params, and a module of the smaller function."""

import io

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jprune
import jprune.equinox

X = np.linspace(-1.0, 1.0, 32, dtype=np.float32).reshape(8, 4)


class Network(eqx.Module):
  up: eqx.nn.Linear
  norm: eqx.nn.LayerNorm
  dropout: eqx.nn.Dropout
  down: eqx.nn.Linear
  order: jax.Array
  activation: object

  def __init__(self, key):
    up, down = jax.random.split(key)
    self.up, self.down = eqx.nn.Linear(4, 16, key=up), eqx.nn.Linear(16, 3, key=down)
    self.norm = eqx.nn.LayerNorm(16)  # whose pruned entries count
    self.dropout, self.activation = eqx.nn.Dropout(0.5), jax.nn.gelu
    self.order = jnp.array([2, 0, 1])

  def encode(self, x):
    return self.activation(self.norm(self.up(x)))

  def __call__(self, x, *, key=None, inference=None):
    return self.down(self.dropout(self.encode(x), key=key, inference=inference))[self.order]


@pytest.fixture(scope='module')
def made():
  model = eqx.nn.inference_mode(Network(jax.random.key(0)))
  fn, params = jprune.equinox.functional(model)
  graph = jprune.graph.channels(fn, params, X[0])
  masks = jprune.masks.channels(jprune.scores.magnitude(params), graph, 0.5)
  small = jprune.shrink(fn, params, masks, X[0])
  assert small.params.up.weight.shape == (8, 4)
  return model, params, masks, small


def close(a, b):
  np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_functional(made):
  model, params, _, _ = made
  fn, _ = jprune.equinox.functional(model)
  close(jax.jit(fn)(params, X[0]), model(X[0]))
  assert params.order is None
  encode, params = jprune.equinox.functional(model, method='encode')
  close(encode(params, X[0]), model.encode(X[0]))


def test_a_module_of_the_small_function(made):
  model, params, masks, small = made
  module = jprune.equinox.shrunk(model, small)
  masked = eqx.combine(jprune.apply(params, masks), model)
  expected = jax.vmap(masked)(X)
  close(jax.vmap(module)(X), expected)
  close(module(X[0]), small.fn(small.params, X[0]))
  close(eqx.filter_jit(lambda module: jax.vmap(module)(X))(module), expected)
  written = io.BytesIO()
  eqx.tree_serialise_leaves(written, module)
  written.seek(0)
  empty = jax.tree.map(lambda x: x * 0 if eqx.is_array(x) else x, module)
  close(jax.vmap(eqx.tree_deserialise_leaves(written, empty))(X), expected)
  training = eqx.nn.inference_mode(module, value=False)
  keys = jax.random.split(jax.random.key(0), 8)
  dropped = jax.vmap(lambda x, key: training(x, key=key))(X, keys)
  assert not np.allclose(dropped, expected)
  close(training(X[0], inference=True), expected[0])


def test_it_trains(made, compilations):
  model, params, _, small = made
  module = jprune.equinox.shrunk(model, small)
  tx = optax.sgd(0.05, momentum=0.9)
  state = tx.init(eqx.filter(module, eqx.is_inexact_array))

  @eqx.filter_jit
  def step(module, state):
    loss = lambda module: jnp.mean(jax.vmap(module)(X) ** 2)
    value, grads = eqx.filter_value_and_grad(loss)(module)
    updates, state = tx.update(grads, state)
    return eqx.apply_updates(module, updates), state, value

  module, state, first = step(module, state)
  before = len(compilations)
  for _ in range(3):
    module, state, last = step(module, state)
  assert len(compilations) == before
  assert last < first
  sliced = small.slice(tx.init(params))
  assert jax.tree.map(jnp.shape, sliced[0].trace) == jax.tree.map(jnp.shape, state[0].trace.model)


def test_a_small_batch_function_gives_the_same_module(made):
  model, params, masks, _ = made
  fn, _ = jprune.equinox.functional(model)
  batch = jprune.shrink(jax.vmap(fn, (None, 0)), params, masks, X)
  module = jprune.equinox.shrunk(model, batch)
  close(jax.vmap(module)(X), batch.fn(batch.params, X))
  with pytest.raises(ValueError, match=r'^small\.fn: .* may lose channels; .*model output'):
    jprune.equinox.shrunk(model, batch, method='encode')(X[0])


def test_what_does_not_fit(made):
  model, _, _, small = made
  for call in (jprune.equinox.functional, lambda m: jprune.equinox.shrunk(m, small)):
    with pytest.raises(TypeError, match=r'`model` must be an instance of equinox\.Module; got'):
      call({'w': X})
  with pytest.raises(TypeError, match='got the class Network'):
    jprune.equinox.functional(Network)
  with pytest.raises(ValueError, match="^functional: `method` .* got 'decode', which Network does"):
    jprune.equinox.functional(model, method='decode')
  with pytest.raises(ValueError, match='^shrunk: `method` must be the name of a method'):
    jprune.equinox.shrunk(model, small, method='decode')
  with pytest.raises(ValueError, match='^functional: `model` must be a module with array var'):
    jprune.equinox.functional(eqx.nn.Identity())
  with pytest.raises(TypeError, match=r'^shrunk: `small` must be what jprune\.shrink returns'):
    jprune.equinox.shrunk(model, small.params)
  with pytest.raises(ValueError, match=r'^shrunk: `small` must be a plan of all params'):
    jprune.equinox.shrunk(model.up, small)
