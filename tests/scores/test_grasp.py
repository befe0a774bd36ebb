"""GraSP against closed forms in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jprune import scores
from tests import reference_gradients as oracle

RNG = np.random.default_rng(1)


def quadratic(params, batch):
  hessian, target = batch
  w = params['w']
  product = jnp.matmul(hessian, w, precision='highest')
  return jnp.dot(w, product, precision='highest') / 2 - jnp.dot(target, w, precision='highest')


def quadratics(n=6, number=3):
  rng = np.random.default_rng(0)
  halves = rng.normal(size=(number, n, n))
  return halves + halves.swapaxes(1, 2), 3 * rng.normal(size=(number, n)), rng.normal(size=n)


def assert_close(found, expected):
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_quadratic():
  hessians, targets, w = quadratics()
  data = [(h.astype(np.float32), t.astype(np.float32)) for h, t in zip(hessians, targets)]
  grad = hessians.sum(0) @ w - targets.sum(0)
  found = scores.grasp({'w': jnp.asarray(w, jnp.float32)}, quadratic, *data)['w']
  assert (found < 0).any()
  assert_close(found, oracle.grasp(w, hessians.sum(0), grad))


@pytest.mark.parametrize('size', [1e-12, 1e12])
def test_gradients_of_any_size(size):
  hessians, targets, w = quadratics()
  data = [
    ((size * h).astype(np.float32), (size * t).astype(np.float32))
    for h, t in zip(hessians, targets)
  ]
  grad = hessians.sum(0) @ w - targets.sum(0)
  found = scores.grasp({'w': jnp.asarray(w, jnp.float32)}, quadratic, *data)['w']
  assert_close(found / size / size, oracle.grasp(w, hessians.sum(0), grad))


def test_float16_does_not_overflow_on_the_way():
  loss = lambda p, x: jnp.sum(p['w'].astype(jnp.float32) ** 2) * 4 + 0 * jnp.sum(x)
  found = scores.grasp({'w': jnp.full(2, 3e3, jnp.float16)}, loss, *[jnp.ones(1)] * 4)['w']
  np.testing.assert_allclose(found, 3e3 * 32 * 32 * 3e3, rtol=1e-3)  # g = 96000 > 65504


def test_logistic_regression_and_the_change_of_the_gradient():
  x, w = RNG.normal(size=(20, 4)), RNG.normal(size=4)
  y = (RNG.uniform(size=20) < 0.5).astype(np.float64)
  _, grads, hessian = oracle.logistic(w, x, y)
  np.testing.assert_allclose(
    oracle.gradient(lambda w: oracle.logistic(w, x, y)[0], w), grads.mean(0), atol=1e-8
  )

  def loss_fn(params, batch):
    z = jnp.matmul(batch[0], params['w'], precision='highest')
    return jnp.mean(jnp.logaddexp(0.0, z) - batch[1] * z)

  batch = (x.astype(np.float32), y.astype(np.float32))
  found = scores.grasp({'w': jnp.asarray(w, jnp.float32)}, loss_fn, batch)['w']
  assert_close(found, oracle.grasp(w, hessian, grads.mean(0)))
  # the definition: |g|^2 moves by -2 s_i as weight i is removed, to first order
  norm = lambda w: np.sum(oracle.logistic(w, x, y)[1].mean(0) ** 2)
  assert_close(-2 * found, -w * oracle.gradient(norm, w))


class Loader:
  """Read anew each time; ``short`` loses a batch each time."""

  def __init__(self, batches, short=False):
    self.batches, self.short, self.reads = batches, short, 0

  def __iter__(self):
    self.reads += 1
    yield from self.batches[self.reads - 1 :] if self.short else self.batches


def some():
  hessians, targets, w = quadratics(number=2)
  data = [(h.astype(np.float32), t.astype(np.float32)) for h, t in zip(hessians, targets)]
  return {'w': jnp.asarray(w, jnp.float32)}, data


def test_a_loader_is_read_twice_and_an_iterator_once():
  params, data = some()
  loader = Loader(data)
  expected = scores.grasp(params, quadratic, *data)['w']
  np.testing.assert_array_equal(scores.grasp(params, quadratic, loader)['w'], expected)
  assert loader.reads == 2
  np.testing.assert_array_equal(scores.grasp(params, quadratic, iter(data))['w'], expected)


@pytest.mark.parametrize('number', [1, 2])
def test_a_loader_that_runs_dry_is_refused(number):
  params, data = some()
  loader = Loader(data[:number], short=True)
  got = f'got {number} the first time and {number - 1} the second'
  with pytest.raises(ValueError, match=f'grasp: `batches` must be the same when read twice; {got}'):
    scores.grasp(params, quadratic, loader)


def test_the_temperature_is_the_losss():
  """Logits over 200, as in the paper: nearly linear, and the curvature falls by 200 squared."""
  params = {'w': jnp.array([[1.0, -1.0], [0.5, 2.0]])}

  def loss_fn(temperature):
    def loss(p, x):
      logits = jnp.matmul(x, p['w']) / temperature
      return -jnp.mean(jax.nn.log_softmax(logits)[:, 0])

    return loss

  found = scores.grasp(params, loss_fn(200.0), jnp.array([[1.0, 2.0]]))['w']
  assert 0 < np.abs(found).max() < 1e-4
