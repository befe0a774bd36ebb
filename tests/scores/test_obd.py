"""The diagonal of the Hessian against closed forms."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jprune import scores
from tests import reference_gradients as oracle
from tests.scores.test_grasp import assert_close, quadratic, quadratics
from tests.scores.test_snip import PARAMS, B, W, X, batches, loss_fn

KEY = jax.random.key(3)


def test_one_probe_is_exact_on_a_diagonal():
  curvature = np.array([[3.0, -2.0, 0.5], [0.0, 1.0, 4.0]])
  w = np.array([[1.0, 2.0, -3.0], [1.0, 0.0, -0.5]])
  data = [np.float32(curvature), np.float32(3 * curvature)]
  loss = lambda p, c: jnp.sum(c * p['w'] ** 2) / 2
  found = scores.obd({'w': jnp.asarray(w, jnp.float32)}, loss, *data, key=KEY, samples=1)['w']
  np.testing.assert_allclose(found, 0.5 * w**2 * 2 * curvature, rtol=1e-6)
  assert found[0, 1] < 0  # the sign of the curvature is kept


def test_unbiased_with_the_variance_that_it_should_have():
  hessians, targets, w = quadratics(n=5, number=2)
  data = [(h.astype(np.float32), t.astype(np.float32)) for h, t in zip(hessians, targets)]
  params = {'w': jnp.asarray(w, jnp.float32)}
  run = jax.jit(lambda key: scores.obd(params, quadratic, *data, key=key, samples=3)['w'])
  found = np.stack([run(key) for key in jax.random.split(KEY, 400)]).astype(np.float64)
  expected = oracle.obd(w, hessians.mean(0))
  # by hand: the variance of z_i (Hz)_i is the sum of squares of the rest of row i
  rest = np.square(hessians).sum(2) - np.square(np.diagonal(hessians, axis1=1, axis2=2))
  variance = (0.5 * w**2) ** 2 * rest.sum(0) / 4 / 3  # mean of two batches, of three probes each
  assert np.all(np.abs(found.mean(0) - expected) < 5 * np.sqrt(variance / 400))
  np.testing.assert_allclose(found.var(0), variance, rtol=0.5)


def test_every_probe_together_is_exact():
  """All signs in turn, by the definition of what the scorer averages."""
  hessians = quadratics(n=4, number=1)[0]
  signs = np.array(list(itertools.product([-1, 1], repeat=4)))
  mean = np.mean([z * (hessians[0] @ z) for z in signs], axis=0)
  assert_close(mean, np.diag(hessians[0]))


def test_linear_regression_in_the_limit():
  found = scores.obd(PARAMS, loss_fn, *batches(), key=KEY, samples=3000)
  hessian = np.mean([oracle.linear_hessian(x, 3) for x in X], axis=0)
  expected = oracle.obd(np.concatenate([W.reshape(-1), B]), hessian)
  flat = np.concatenate([found['w'].reshape(-1), found['b']])
  np.testing.assert_allclose(flat, expected, rtol=0.15, atol=0.01 * expected.max())


def test_the_oracles_hessian_is_that_of_the_loss():
  x, y = X[0], np.zeros((7, 3))
  loss = lambda v: np.mean(np.sum((x @ v[:15].reshape(5, 3) + v[15:] - y) ** 2, axis=1)) / 2
  flat = np.concatenate([W.reshape(-1), B])
  np.testing.assert_allclose(oracle.hessian(loss, flat), oracle.linear_hessian(x, 3), atol=1e-5)


def test_probes_differ_between_batches_samples_and_leaves():
  """With one probe for all, scores of two equal batches would be those of one."""
  hessians, targets, w = quadratics(n=5, number=1)
  batch = (hessians[0].astype(np.float32), targets[0].astype(np.float32))
  params = {'w': jnp.asarray(w, jnp.float32)}
  call = lambda *data, samples: np.asarray(
    scores.obd(params, quadratic, *data, key=KEY, samples=samples)['w']
  )
  one = call(batch, samples=1)
  assert not np.allclose(call(batch, batch, samples=1), one)
  assert not np.allclose(call(batch, samples=2), one)
  twins = {'a': jnp.ones(64), 'b': jnp.ones(64)}
  loss = lambda p, x: jnp.sum(x) * (jnp.sum(p['a']) ** 2 + jnp.sum(p['b']) ** 2)
  found = scores.obd(twins, loss, jnp.ones(1), key=KEY, samples=1)
  assert np.any(found['a'] != found['b'])


def test_errors():
  with pytest.raises(TypeError, match='obd: `key` must be a typed random key; got None'):
    scores.obd(PARAMS, loss_fn, *batches(), key=None)
  with pytest.raises(TypeError, match='obd: `key` must be one typed random key'):
    scores.obd(PARAMS, loss_fn, *batches(), key=jnp.zeros(2, jnp.uint32))
  for samples in (0, 1.5):
    with pytest.raises(ValueError, match='obd: `samples` must be an int of at least 1'):
      scores.obd(PARAMS, loss_fn, *batches(), key=KEY, samples=samples)
