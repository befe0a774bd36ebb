"""Small networks whose numbers can be worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import jprune

X = np.array([[1.0, 2.0], [-1.0, 0.5], [0.0, -3.0]], np.float32)


class TwoFiveOne(nn.Module):
  """Two inputs, five hidden units, one output."""

  @nn.compact
  def __call__(self, x):
    x = nn.relu(nn.Dense(5)(x))
    return nn.Dense(1)(x)


class Normalised(nn.Module):
  """The same with BatchNorm behind the hidden layer, whose bias would be superfluous."""

  @nn.compact
  def __call__(self, x, train: bool):
    x = nn.Dense(5, use_bias=False)(x)
    x = nn.BatchNorm(use_running_average=not train, momentum=0.5, name='norm')(x)
    self.sow('intermediates', 'normalised', x)
    return nn.Dense(1)(nn.relu(x))


def by_hand():
  """Params and masks in small whole numbers."""
  params = {
    'Dense_0': {
      'kernel': jnp.array([[1.0, -2.0, 3.0, -4.0, 5.0], [-1.0, 2.0, -3.0, 4.0, -5.0]]),
      'bias': jnp.array([0.5, -0.5, 0.0, 1.0, -1.0]),
    },
    'Dense_1': {
      'kernel': jnp.array([[1.0], [2.0], [-1.0], [-2.0], [3.0]]),
      'bias': jnp.array([0.25]),
    },
  }
  masks = {
    'Dense_0': {
      'kernel': jnp.array([[1, 0, 0, 1, 1], [0, 1, 0, 1, 0]], bool),
      'bias': None,
    },
    'Dense_1': {'kernel': jnp.array([[1], [1], [0], [0], [1]], bool), 'bias': None},
  }
  return params, masks


def test_masked_forward_by_hand():
  params, masks = by_hand()
  out = TwoFiveOne().apply({'params': jprune.apply(params, masks)}, X[:1])
  # hidden, of x = (1, 2): 1 + .5, 4 - .5, 0, -4 + 8 + 1, 5 - 1; of which the third and the
  # fourth have no way to the output.
  assert out.tolist() == [[1 * 1.5 + 2 * 3.5 + 3 * 4 + 0.25]]


def test_masked_forward_equals_numpy():
  model = TwoFiveOne()
  params = model.init(jax.random.key(0), X)['params']
  masks = jprune.masks.bernoulli(params, 0.5, key=jax.random.key(1))
  one, two = params['Dense_0'], params['Dense_1']
  hidden = X @ np.where(masks['Dense_0']['kernel'], one['kernel'], 0) + np.asarray(one['bias'])
  expected = np.maximum(hidden, 0) @ np.where(masks['Dense_1']['kernel'], two['kernel'], 0)
  out = model.apply({'params': jprune.apply(params, masks)}, X)
  np.testing.assert_allclose(out, expected + np.asarray(two['bias']), rtol=1e-6)


@pytest.mark.parametrize('seed', range(3))
def test_random_pruning_counts(seed):
  params = TwoFiveOne().init(jax.random.key(seed), X)['params']
  masks = jprune.masks.bernoulli(params, 0.5, key=jax.random.key(seed + 10))
  pruned = jprune.apply(params, masks)
  report = jprune.tally(params, masks)
  for name, size in [('Dense_0', 10), ('Dense_1', 5)]:
    kernel, mask = pruned[name]['kernel'], masks[name]['kernel']
    assert mask.size == size
    assert masks[name]['bias'] is None
    # No weight is 0.0 by itself, so zeros are what was pruned.
    assert int((kernel == 0).sum()) == int((~mask).sum())
    np.testing.assert_array_equal(kernel[mask], params[name]['kernel'][mask])
    np.testing.assert_array_equal(pruned[name]['bias'], params[name]['bias'])
  kept = sum(int(masks[name]['kernel'].sum()) for name in ('Dense_0', 'Dense_1'))
  assert (report.size, report.nonzero) == (21, kept + 6)


def dead_unit():
  """A network with BatchNorm, of which the second hidden unit has lost all it listens to."""
  variables = {
    'params': {
      'Dense_0': {'kernel': by_hand()[0]['Dense_0']['kernel']},
      'Dense_1': by_hand()[0]['Dense_1'],
      'norm': {
        'scale': jnp.array([1.0, 2.0, 1.0, 1.0, 1.0]),
        'bias': jnp.array([0.0, 0.75, 0.0, 0.0, 0.0]),
      },
    },
    'batch_stats': {
      'norm': {'mean': jnp.array([0.0, 3.0, 0.0, 0.0, 0.0]), 'var': jnp.full(5, 4.0)}
    },
  }
  masks = jax.tree.map(lambda _: None, variables)
  kernel = jnp.ones((2, 5), bool).at[:, 1].set(False)
  masks['params']['Dense_0']['kernel'] = kernel
  return variables, masks


def normalised(variables, x, train=False):
  mutable = ['intermediates', 'batch_stats'] if train else ['intermediates']
  _, changed = Normalised().apply(variables, x, train=train, mutable=mutable)
  return changed['intermediates']['normalised'][0], changed.get('batch_stats')


def test_a_dead_unit_is_a_constant_behind_batch_norm():
  variables, masks = dead_unit()
  out, _ = normalised(jprune.apply(variables, masks), X)
  # beta - gamma * mean / sqrt(var + eps), whatever the input
  constant = 0.75 - 2.0 * 3.0 / np.sqrt(4.0 + 1e-5)
  np.testing.assert_allclose(out[:, 1], np.full(3, constant), rtol=1e-6)
  assert abs(constant) > 2  # far from 0


def test_fresh_statistics_leave_beta_of_a_dead_unit():
  variables, masks = dead_unit()
  pruned = jprune.apply(variables, masks)
  for _ in range(60):  # momentum .5: what was there before has faded to 2**-60
    pruned['batch_stats'] = normalised(pruned, X, train=True)[1]
  out, _ = normalised(pruned, X)
  np.testing.assert_allclose(out[:, 1], np.full(3, 0.75), rtol=1e-6)


def test_batch_norm_is_left_dense_by_default():
  variables, _ = dead_unit()
  masks = jprune.prune(variables, 0.5)
  paths, leaves, _ = jprune.tree.flatten(masks)  # None holds no leaf
  assert paths == ['params/Dense_0/kernel', 'params/Dense_1/kernel']
  assert sum(int((~leaf).sum()) for leaf in leaves) == round(0.5 * 10) + round(0.5 * 5)


def test_masks_of_params_do_not_fit_all_variables():
  variables, _ = dead_unit()
  masks = jprune.prune(variables['params'], 0.5)
  jprune.apply(variables['params'], masks)
  with pytest.raises(ValueError, match='apply: `masks` must be a tree with the structure'):
    jprune.apply(variables, masks)


def test_masked_sgd():
  """One step of SGD on ten weights under a mask."""
  params = {'w': jnp.arange(10.0)}
  masks = {'w': jnp.array([1, 0] * 5, bool)}
  x, label = jnp.ones(10), 40.0
  predict = lambda params: params['w'] @ x
  tx = optax.chain(optax.sgd(0.01), jprune.keep_pruned(masks))

  params = jprune.apply(params, masks)
  assert float(predict(params)) == 20.0
  grads = jax.grad(lambda params: (predict(params) - label) ** 2)(params)
  updates, _ = tx.update(grads, tx.init(params), params)
  params = optax.apply_updates(params, updates)
  assert float(predict(params)) == pytest.approx(22.0)
  expected = [0.4, 0.0, 2.4, 0.0, 4.4, 0.0, 6.4, 0.0, 8.4, 0.0]
  np.testing.assert_allclose(params['w'], expected, rtol=1e-6)
  assert np.all(np.asarray(params['w'])[1::2] == 0.0)
