"""Fisher scores against closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest

from jprune import scores
from tests import reference_gradients as oracle
from tests.scores.test_snip import PARAMS, B, W, X, Y, batches, loss_fn


@pytest.mark.parametrize('chunk', [1, 3, 16])
def test_linear_regression(chunk):
  found = scores.fisher(PARAMS, loss_fn, *batches(), chunk=chunk)
  grads = oracle.linear_grads(W, B, X.reshape(-1, 5), Y.reshape(-1, 3))
  for name, w, grad in zip('wb', (W, B), grads):
    np.testing.assert_allclose(found[name], oracle.fisher(w, grad), rtol=1e-5)


def test_is_the_curvature_where_the_model_describes_the_data():
  """Logistic regression with labels from the model: half w^2 H_ii, within five standard errors."""
  rng = np.random.default_rng(0)
  x, w = rng.normal(size=(4000, 3)), np.array([1.0, -0.5, 2.0])
  y = (rng.uniform(size=4000) < 1 / (1 + np.exp(-x @ w))).astype(np.float64)
  _, grads, hessian = oracle.logistic(w, x, y)

  def loss(params, batch):
    z = jnp.matmul(batch[0], params['w'], precision='highest')
    return jnp.mean(jnp.logaddexp(0.0, z) - batch[1] * z)

  batch = (x.astype(np.float32), y.astype(np.float32))
  found = scores.fisher({'w': jnp.asarray(w, jnp.float32)}, loss, batch, chunk=500)['w']
  np.testing.assert_allclose(found, oracle.fisher(w, grads), rtol=1e-5)
  error = 0.5 * w**2 * np.std(grads**2, axis=0) / np.sqrt(4000)
  assert np.all(np.abs(found - oracle.obd(w, hessian)) < 5 * error)
