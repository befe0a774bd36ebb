"""A module that runs a smaller function: for all that takes a module."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jprune
import jprune.nnx

X = np.linspace(-1.0, 1.0, 32, dtype=np.float32).reshape(8, 4)


class Block(nnx.Module):
  def __init__(self, rngs):
    self.up = nnx.Linear(8, 16, rngs=rngs)
    self.norm = nnx.LayerNorm(16, rngs=rngs)  # whose pruned entries count
    self.down = nnx.Linear(16, 8, rngs=rngs)

  def __call__(self, x):
    return x + self.down(nnx.gelu(self.norm(self.up(x))))


class Network(nnx.Module):
  def __init__(self, rngs):
    self.stem = nnx.Linear(4, 8, rngs=rngs)
    self.blocks = nnx.List([Block(rngs), Block(rngs)])
    self.norm = nnx.BatchNorm(8, momentum=0.5, rngs=rngs)
    self.dropout = nnx.Dropout(0.5, rngs=rngs)
    self.head = nnx.Linear(8, 3, rngs=rngs)

  def encode(self, x):
    x = self.stem(x)
    for block in self.blocks:
      x = block(x)
    return nnx.relu(self.norm(x))

  def __call__(self, x, *, scale=1.0, tokens=None):
    assert tokens is None
    return self.head(self.dropout(self.encode(x))) * scale

  def energy(self, x):
    return self(x, scale=2.0).sum(-1)


@pytest.fixture(scope='module')
def made():
  model = Network(nnx.Rngs(0, dropout=1))
  model.eval()
  fn, params = jprune.nnx.functional(model)
  graph = jprune.graph.channels(fn, params, X)
  masks = jprune.masks.channels(jprune.scores.magnitude(params), graph, 0.5)
  small = jprune.shrink(fn, params, masks, X)
  assert small.plan.size[1] < 0.5 * small.plan.size[0]
  return model, params, masks, small


def arrays(tree):
  return dict(zip(*jprune.tree.flatten(tree)[:2]))


def close(a, b):
  np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_it_computes_the_small_function(made):
  model, _, _, small = made
  module = jprune.nnx.shrunk(model, small)
  assert isinstance(module, Network)
  assert (type(module).__name__, type(module).__module__) == ('SmallNetwork', Network.__module__)
  expected = small.fn(small.params, X)
  close(module(X), expected)
  close(module(X, scale=3.0), 3 * expected)
  close(module.energy(X), 2 * expected.sum(-1))
  close(nnx.jit(lambda module, x: module(x))(module, X), expected)
  close(jax.vmap(lambda x: module(x[None])[0])(X), expected)
  state, full = arrays(nnx.state(module)), arrays(nnx.state(model))
  assert state.keys() == full.keys()
  assert {p: state[p].shape for p in small.plan.shapes} == {
    p: small.plan.small_shape(p) for p in small.plan.shapes
  }
  assert module.head.kernel.shape[0] < model.head.kernel.shape[0]  # the module stays as it is
  with pytest.raises(ValueError, match=r'^small\.fn: .* may lose channels; .*model output 0'):
    module.encode(X)


def test_modes_statistics_and_random_streams(made):
  model, params, masks, small = made
  module = jprune.nnx.shrunk(model, small)
  masked = jprune.nnx.merge(model, jprune.apply(params, masks))
  for each in (module, masked):
    each.train()
    each.dropout.deterministic = True
  for _ in range(2):  # statistics move with each call
    close(module(X), masked(X))
  sliced = small.slice(nnx.state(masked, nnx.BatchStat))
  for path, value in arrays(nnx.state(module, nnx.BatchStat)).items():
    close(value, arrays(sliced)[path])
  for each in (module, masked):
    each.eval()
  close(module(X), masked(X))
  module.train()
  assert not np.allclose(module(X), module(X))  # other draws


def test_it_trains_and_is_written_as_any_module(made, compilations):
  model, _, _, small = made
  module, dense = jprune.nnx.shrunk(model, small), nnx.clone(model)
  tx = optax.sgd(0.05, momentum=0.9)
  full = nnx.Optimizer(dense, tx, wrt=nnx.Param)
  optimizer = nnx.Optimizer(module, tx, wrt=nnx.Param)
  nnx.update(optimizer, small.slice(nnx.state(full)))  # what the optimizer gathered

  @nnx.jit
  def step(module, optimizer):
    loss = lambda module: jnp.mean(module(X) ** 2)
    value, grads = nnx.value_and_grad(loss)(module)
    optimizer.update(module, grads)
    return value

  losses = [step(module, optimizer)]
  before = len(compilations)
  losses += [step(module, optimizer) for _ in range(3)]
  assert len(compilations) == before
  assert losses[-1] < losses[0]
  again = nnx.merge(nnx.graphdef(module), nnx.state(module))
  close(again(X), module(X))
  fresh = jprune.nnx.shrunk(model, small)
  nnx.update(fresh, jax.tree.map(jnp.copy, nnx.state(module)))  # as from a checkpoint
  close(fresh(X), module(X))
  close(nnx.clone(module)(X), small.fn(nnx.state(module, nnx.Not(nnx.RngState)), X))
  grads = nnx.grad(lambda module: module(X).sum())(module)
  assert arrays(grads)['head/kernel'].shape == small.plan.small_shape('head/kernel')


def test_a_method_as_function(made):
  model = made[0]
  fn, params = jprune.nnx.functional(model, method='encode')
  close(fn(params, X), model.encode(X))
  with pytest.raises(ValueError, match=r"^functional: `method` .* got 'decode', which Network"):
    jprune.nnx.functional(model, method='decode')


def test_what_does_not_fit(made):
  model, params, _, small = made
  with pytest.raises(ValueError, match=r'^merge: .*\.nnx\.shrunk\(model, small\) .*nnx\.upd'):
    jprune.nnx.merge(model, small.params)
  with pytest.raises(TypeError, match=r'^shrunk: `small` must be what jprune\.shrink returns'):
    jprune.nnx.shrunk(model, small.params)
  with pytest.raises(TypeError, match=r'^shrunk: `model` must be an instance of flax\.nnx\.Module'):
    jprune.nnx.shrunk(params, small)
  with pytest.raises(ValueError, match=r'^shrunk: `small` must be a plan of all params .*unknown'):
    jprune.nnx.shrunk(model.head, small)
  with pytest.raises(ValueError, match=r'^shrunk: `small` must be a plan of .* of other shapes'):
    jprune.nnx.shrunk(jprune.nnx.shrunk(model, small), small)
