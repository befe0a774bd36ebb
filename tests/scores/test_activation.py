"""Activation scores against NumPy, and channels chosen by them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jprune
from jprune import scores
from tests import stats


def activations(*shape, seed=0):
  rng = np.random.default_rng(seed)
  x = rng.normal(size=shape) + np.linspace(-1, 1, shape[-1])
  return np.maximum(x, 0).astype(np.float32)


CASES = {
  'activation': lambda x: np.linalg.norm(x, axis=0),
  'activation_mean': lambda x: np.abs(np.mean(x, axis=0)),
  'activation_active': lambda x: 1 - np.mean(x == 0, axis=0),
}
each = pytest.mark.parametrize('name', CASES)


@each
def test_is_the_same_for_all_weights_of_a_unit(name):
  x = activations(40, 6)
  given = stats.of_inputs({'w': x}, {'w': 3}, gram=False)
  found = getattr(scores, name)({'w': np.ones((6, 3), np.float32)}, given)['w']
  expected = np.repeat(CASES[name](x.astype(np.float64))[:, None], 3, axis=1)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


@each
def test_products_side_by_side(name):
  x = activations(2, 40, 6)
  given = stats.of_inputs({'w': x}, {'w': 3}, gram=False)
  found = getattr(scores, name)({'w': np.ones((2, 6, 3), np.float32)}, given)['w']
  for i in range(2):
    np.testing.assert_allclose(found[i, :, 1], CASES[name](x[i].astype(np.float64)), rtol=1e-5)


@each
def test_dead_units_score_zero(name):
  x = activations(40, 6)
  x[:, 2] = 0
  given = stats.of_inputs({'w': x}, {'w': 3}, gram=False)
  found = getattr(scores, name)({'w': np.ones((6, 3), np.float32)}, given)['w']
  assert not np.any(found[2])
  assert np.all(np.delete(found, 2, axis=0) > 0)


@each
def test_a_product_that_saw_no_row_scores_zero(name):
  """An expert that no token was sent to."""
  x = activations(2, 5, 3) + 1
  given = stats.of_inputs({'w': x}, {'w': 2}, gram=False)
  one = lambda x: jnp.asarray(x).at[1].set(0)
  given = jax.tree.map(one, given)
  found = getattr(scores, name)({'w': np.ones((2, 3, 2), np.float32)}, given)['w']
  assert np.all(found[0] > 0)
  assert not np.any(found[1])


def test_the_mean_is_taken_without_its_sign():
  x = np.array([[-3.0, 1.0], [-1.0, -1.0]], np.float32)
  found = scores.activation_mean({'w': jnp.ones((2, 1))}, stats.of_inputs({'w': x}, {'w': 1}))
  assert found['w'].tolist() == [[2.0], [0.0]]


@each
def test_channels_go_by_what_the_next_layer_gets(name):
  fn = lambda p, x: jax.nn.relu(x @ p['in']) @ p['out']
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  params, x = {'in': draw(4, 6), 'out': draw(6, 3)}, draw(30, 4)
  params['in'] = params['in'] * jnp.array([[1.0, 0.1, 2.0, 0.2, 3.0, 0.3]])
  hidden = np.asarray(jax.nn.relu(x @ params['in']))
  given = stats.of_inputs({'out': hidden}, {'out': 3})
  found = getattr(scores, name)(params, given)
  graph = jprune.graph.channels(fn, params, x)
  masks = jprune.masks.channels(found, graph, 0.5, where='out')
  kept = np.asarray(masks['out'])[:, 0]
  value = CASES[name](hidden.astype(np.float64))
  assert kept.sum() == 3
  assert value[kept].min() >= value[~kept].max() - 1e-6
