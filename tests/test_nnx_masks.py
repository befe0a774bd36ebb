"""Masks on NNX states: pruned, counted, saved, trained."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jprune
import jprune.nnx

X = np.linspace(-1, 1, 32, dtype=np.float32).reshape(8, 4)


class Network(nnx.Module):
  def __init__(self, rngs, rate=0.0):
    self.hidden = nnx.Linear(4, 16, rngs=rngs)
    self.norm = nnx.BatchNorm(16, momentum=0.5, rngs=rngs)
    self.dropout = nnx.Dropout(rate, rngs=rngs)
    self.out = nnx.Linear(16, 2, rngs=rngs)

  def __call__(self, x):
    return self.out(self.dropout(nnx.relu(self.norm(self.hidden(x)))))


def network(rate=0.0):
  return Network(nnx.Rngs(0, dropout=1), rate)


def paths(tree):
  return jprune.tree.flatten(tree)[0]


def arrays(tree):
  return {path: np.asarray(leaf) for path, leaf in zip(*jprune.tree.flatten(tree)[:2])}


def assert_equal(one, two):
  one, two = arrays(one), arrays(two)
  assert one.keys() == two.keys()
  for path in one:
    np.testing.assert_array_equal(one[path], two[path], err_msg=path)


def assert_zero_where_pruned(params, masks):
  weights, masks = arrays(params), arrays(masks)
  assert masks
  for path, mask in masks.items():
    assert not mask.all(), path
    assert np.all(weights[path][~mask] == 0.0), path


def test_masks_have_the_structure_of_the_state():
  _, params = jprune.nnx.functional(network())
  masks = jprune.prune(params, 0.75)
  assert isinstance(masks, nnx.State)
  assert paths(masks) == ['hidden/kernel', 'out/kernel']
  assert int((~masks['hidden']['kernel'][...]).sum()) == 48
  pruned = jprune.apply(params, masks)
  assert isinstance(pruned, nnx.State)
  assert_zero_where_pruned(pruned, masks)


@pytest.mark.parametrize('distribution', ['uniform', 'erk', 'global_'])
def test_a_state_of_one_layer(distribution):
  # Its keys are leaf paths, so it looks like a dict from path to number.
  params = nnx.state(nnx.Linear(4, 2, rngs=nnx.Rngs(0)))
  masks = jprune.prune(params, 0.5, distribution=getattr(jprune.distributions, distribution))
  assert paths(masks) == ['kernel']
  assert int(masks['kernel'][...].sum()) == 4


def test_masks_of_everything_hold_those_of_params():
  state = nnx.state(network())
  masks = nnx.filter_state(jprune.prune(state, 0.75), nnx.Param)
  params = nnx.state(network(), nnx.Param)
  assert_equal(masks, jprune.prune(params, 0.75))
  assert_zero_where_pruned(jprune.apply(params, masks), masks)
  jprune.keep_pruned(masks).init(params)


def test_where_names_leaves_as_linen_does():
  masks = jprune.prune(nnx.state(network()), 0.5, where='^hidden/kernel$')
  assert paths(masks) == ['hidden/kernel']


def test_tally():
  model = network()
  _, params = jprune.nnx.functional(model)
  masks = jprune.prune(params, 0.75)
  report = jprune.tally(params, masks)
  assert [row.path for row in report.rows] == paths(params)
  assert report.nonzero == report.size - 48 - 24
  text = str(report)
  assert 'norm/mean' in text
  assert '/value' not in text


@pytest.mark.parametrize('packed', [False, True])
def test_save_and_load(tmp_path, packed):
  model = network()
  fn, params = jprune.nnx.functional(model)
  masks = jprune.prune(params, 0.75)
  pruned = jprune.apply(params, masks)
  file = tmp_path / 'model.safetensors'
  jprune.save(file, pruned, jprune.masks.pack(masks) if packed else masks)
  loaded, found = jprune.load(file, like=params)
  assert isinstance(loaded, nnx.State)
  assert_equal(loaded, pruned)
  assert_equal(jprune.masks.unpack(found) if packed else found, masks)
  np.testing.assert_array_equal(fn(loaded, X), fn(pruned, X))


def test_plain_dicts_from_a_file_fit_too(tmp_path):
  fn, params = jprune.nnx.functional(network())
  jprune.save(tmp_path / 'model.safetensors', params)
  loaded, _ = jprune.load(tmp_path / 'model.safetensors')
  assert type(loaded) is dict
  np.testing.assert_array_equal(fn(loaded, X), fn(params, X))
  assert_equal(nnx.state(jprune.nnx.merge(network(), loaded), nnx.Not(nnx.RngState)), params)


@pytest.mark.parametrize('packed', [False, True])
def test_optimizer_keeps_exact_zeros(packed):
  model = network(rate=0.25)
  params = nnx.state(model, nnx.Param)
  masks = jprune.prune(params, 0.75)
  nnx.update(model, jprune.apply(params, masks))
  held = jprune.masks.pack(masks) if packed else masks
  tx = optax.chain(optax.sgd(0.1, momentum=0.9), jprune.keep_pruned(held))
  optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

  @nnx.jit
  def step(model, optimizer, x):
    grads = nnx.grad(lambda model: jnp.mean((model(x) - 1.0) ** 2))(model)
    optimizer.update(model, grads)

  for _ in range(5):
    before = arrays(nnx.state(model, nnx.Param))
    step(model, optimizer, X)
    after = nnx.state(model, nnx.Param)
    assert_zero_where_pruned(after, masks)
    kept = arrays(masks)['out/kernel']
    assert np.any(arrays(after)['out/kernel'][kept] != before['out/kernel'][kept])


def test_functional_params_train_with_plain_optax():
  fn, params = jprune.nnx.functional(network(), wrt=nnx.Param)
  masks = jprune.prune(params, 0.75)
  params = jprune.apply(params, masks)
  tx = optax.chain(optax.sgd(0.1), jprune.keep_pruned(masks))

  @jax.jit
  def step(params, opt_state):
    grads = jax.grad(lambda params: jnp.mean(fn(params, X) ** 2))(params)
    updates, opt_state = tx.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state

  opt_state = tx.init(params)
  for _ in range(5):
    params, opt_state = step(params, opt_state)
    assert_zero_where_pruned(params, masks)
