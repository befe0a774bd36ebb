"""On correlated inputs each method is as much better than the last as its paper says."""

import jax.numpy as jnp
import numpy as np
import pytest

import jprune
from jprune.masks import NOfM, Unstructured
from jprune.reconstruct import alps, least_squares, per_output, sparsegpt
from tests import reference_repair as reference
from tests.stats import of_inputs


@pytest.mark.parametrize('seed', [0, 1])
@pytest.mark.parametrize(
  ('sparsity', 'pattern'), [(0.5, Unstructured()), (None, NOfM(2, 4))], ids=['half', '2:4']
)
def test_order_of_the_errors(seed, sparsity, pattern):
  rng = np.random.default_rng(seed)
  inputs, outputs = 192, 128
  x = reference.decaying(rng, 1024, inputs, power=0.5, scales=0.5).astype(np.float32)
  params = {'w': jnp.asarray(rng.normal(size=(inputs, outputs)), jnp.float32)}
  stats = of_inputs({'w': x}, {'w': outputs})
  norm = jnp.asarray(np.linalg.norm(x, axis=0))
  scores = {'w': jnp.abs(params['w']) * norm[:, None]}
  magnitude = jprune.masks.top_k(jprune.scores.magnitude(params), sparsity, pattern=pattern)
  wanda = per_output(scores, stats, sparsity, pattern=pattern)
  results = {
    'magnitude': jprune.apply(params, magnitude),
    'wanda': jprune.apply(params, wanda),
    'sparsegpt': sparsegpt(params, stats, sparsity, pattern=pattern)[0],
    'wanda, refitted': least_squares(params, stats, wanda)[0],
    'alps': alps(params, stats, sparsity, pattern=pattern)[0],
  }
  zeros = {name: int((new['w'] == 0).sum()) for name, new in results.items()}
  assert set(zeros.values()) == {inputs * outputs // 2}
  errors = [reference.relative_error(x, params['w'], new['w']) for new in results.values()]
  assert errors == sorted(errors, reverse=True)
  assert errors[2] < 0.5 * errors[0]


@pytest.mark.parametrize('pattern', [Unstructured(), NOfM(2, 4)], ids=['half', '2:4'])
def test_alps_ends_near_the_best_weights_of_its_support(pattern):
  rng = np.random.default_rng(2)
  w = rng.normal(size=(96, 40)).astype(np.float32)
  x = reference.decaying(rng, 500, 96).astype(np.float32)
  stats = of_inputs({'w': x}, {'w': 40})
  sparsity = 0.5 if pattern == Unstructured() else None
  new, masks, _ = alps({'w': w}, stats, sparsity, pattern=pattern)
  best = reference.least_squares(w, x, np.asarray(masks['w']))
  error = reference.relative_error(x, w, new['w'])
  assert error <= 1.02 * reference.relative_error(x, w, best)


@pytest.mark.parametrize('pattern', [Unstructured(), NOfM(2, 4)], ids=['half', '2:4'])
@pytest.mark.parametrize(('rotated', 'length'), [(False, 8), (True, 12)])
def test_alps_is_no_worse_than_a_refit_where_damping_hides_small_inputs(pattern, rotated, length):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(1024, 128)) * np.exp(-np.arange(128) / length)
  x = (x @ np.linalg.qr(rng.normal(size=(128, 128)))[0] if rotated else x).astype(np.float32)
  w = rng.normal(size=(128, 32)).astype(np.float32)
  stats = of_inputs({'w': x}, {'w': 32})
  sparsity = 0.5 if pattern == Unstructured() else None
  scores = {'w': jnp.abs(w) * jnp.asarray(np.linalg.norm(x, axis=0))[:, None]}
  wanda = per_output(scores, stats, sparsity, pattern=pattern)['w']
  refit = reference.least_squares(w, x, np.asarray(wanda))
  new, masks, report = alps({'w': w}, stats, sparsity, pattern=pattern)
  assert report['w'].pruned == w.size // 2
  np.testing.assert_array_equal(np.asarray(new['w'])[~np.asarray(masks['w'])], 0)
  error = reference.relative_error(x, w, new['w'])
  assert error <= 1.05 * reference.relative_error(x, w, refit)
