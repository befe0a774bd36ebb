"""The exact refit, against least squares on the raw inputs."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jprune
from jprune.reconstruct import least_squares
from tests import reference_repair as reference
from tests.stats import of_inputs


def problem(seed, rows, inputs, outputs, power=0.3):
  rng = np.random.default_rng(seed)
  x = reference.decaying(rng, rows, inputs, power).astype(np.float32)
  return rng, rng.normal(size=(inputs, outputs)).astype(np.float32), x


def refit(w, x, mask, **options):
  stats = of_inputs({'w': x}, {'w': w.shape[1]})
  return least_squares({'w': w}, stats, {'w': jnp.asarray(mask)}, **options)


@pytest.mark.parametrize('density', [0.1, 0.5, 0.9])
def test_each_output_is_fitted_exactly(density):
  rng, w, x = problem(0, 400, 48, 20)
  mask = rng.random(w.shape) < density
  mask[:, 0], mask[:, 1] = False, True
  new, masks, report = refit(w, x, mask)
  expected = reference.least_squares(w, x, mask)
  np.testing.assert_allclose(new['w'], expected, rtol=0, atol=2e-4)
  np.testing.assert_array_equal(np.asarray(new['w'])[:, 1], w[:, 1])
  np.testing.assert_array_equal(masks['w'], mask)
  row = report['w']
  assert not row.escalated
  assert row.error_after == pytest.approx(reference.relative_error(x, w, expected), rel=1e-3)
  before = reference.relative_error(x, w, np.where(mask, w, 0))
  assert row.error_before == pytest.approx(before, rel=1e-4)


def test_a_shared_support_takes_one_factorisation_and_gives_the_same():
  rng, w, x = problem(1, 400, 40, 12)
  mask = np.repeat(rng.random((40, 1)) < 0.5, 12, axis=1)
  mask[:, 3] = False  # an output that is pruned itself
  new, _, _ = refit(w, x, mask)
  np.testing.assert_allclose(new['w'], reference.least_squares(w, x, mask), rtol=0, atol=2e-4)


def test_copies_of_units_are_folded_into_the_survivors():
  """Units that are copies, or linear combinations, of others go and nothing changes."""
  _, w, x = problem(2, 300, 20, 9)
  x[:, 5] = x[:, 4]
  x[:, 11] = 2 * x[:, 10] - 0.5 * x[:, 12]
  mask = np.ones(w.shape, bool)
  mask[[5, 11]] = False
  new, _, report = refit(w, x, mask)
  np.testing.assert_allclose(new['w'][4], w[4] + w[5], rtol=1e-3, atol=1e-3)
  scale = np.abs(x @ w).max()
  np.testing.assert_allclose(x @ np.asarray(new['w']), x @ w, rtol=0, atol=1e-4 * scale)
  assert report['w'].error_before > 1e-2
  assert report['w'].error_after < 1e-6  # what float32 can tell
  assert reference.relative_error(x, w, new['w']) < 1e-8


def test_channels_are_folded_through_a_network():
  rng, w, x = problem(3, 300, 12, 16)
  w[:, 9] = w[:, 2]
  params = {'in': jnp.asarray(w), 'out': jnp.asarray(rng.normal(size=(16, 3)), jnp.float32)}
  fn = lambda params, x: jnp.maximum(x @ params['in'], 0) @ params['out']
  hidden = np.maximum(x @ w, 0)
  masks = {'in': np.ones((12, 16), bool), 'out': np.ones((16, 3), bool)}
  masks['in'][:, 9] = False
  masks['out'][9] = False
  stats = of_inputs({'in': x, 'out': hidden}, {'in': 16, 'out': 3})
  masks = {name: jnp.asarray(mask) for name, mask in masks.items()}
  folded, _, _ = least_squares(params, stats, masks, where='out')
  np.testing.assert_allclose(fn(folded, x), fn(params, x), rtol=1e-3, atol=1e-3)
  assert not np.asarray(folded['in'])[:, 9].any()


def test_damping_pulls_towards_the_dense_weights():
  rng, w, x = problem(4, 200, 24, 6)
  mask = rng.random(w.shape) < 0.5
  distance = []
  for damping in (0.0, 0.1, 10.0, 1e6):
    new = np.asarray(refit(w, x, mask, damping=damping)[0]['w'])
    h = x.T.astype(np.float64) @ x / len(x)
    damped = h + damping * np.diag(h).mean() * np.eye(24)
    for j in range(6):
      kept, gone = np.flatnonzero(mask[:, j]), np.flatnonzero(~mask[:, j])
      more = np.linalg.solve(damped[np.ix_(kept, kept)], h[np.ix_(kept, gone)] @ w[gone, j])
      np.testing.assert_allclose(new[kept, j], w[kept, j] + more, rtol=1e-3, atol=1e-3)
    distance.append(np.abs(np.where(mask, new - w, 0)).sum())
  assert distance == sorted(distance, reverse=True)
  assert distance[-1] < 1e-3


def test_fewer_rows_than_inputs_reproduce_them_where_they_can():
  rng, w, x = problem(5, 10, 60, 8)
  mask = rng.random(w.shape) < 0.5
  new, _, report = refit(w, x, mask)
  assert report['w'].escalated
  assert report['w'].damping < 1e-2
  assert reference.relative_error(x, w, new['w']) < 1e-5
  assert np.abs(new['w']).max() < 20 * np.abs(w).max()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), density=st.floats(0, 1), rows=st.sampled_from([3, 40]))
def test_never_worse_than_masking(seed, density, rows):
  rng, w, x = problem(seed, rows, 12, 7)
  mask = rng.random(w.shape) < density
  new, _, report = refit(w, x, mask)
  assert not np.asarray(new['w'])[~mask].any()
  assert report['w'].error_after <= report['w'].error_before * (1 + 1e-3) + 1e-6
  if mask.all():
    np.testing.assert_array_equal(new['w'], w)


def test_dead_inputs_keep_their_weights():
  rng, w, x = problem(6, 100, 16, 5)
  x[:, 3] = 0
  mask = rng.random(w.shape) < 0.6
  new, _, _ = refit(w, x, mask)
  np.testing.assert_array_equal(np.asarray(new['w'])[3], np.where(mask[3], w[3], 0))


def test_a_large_mean_does_not_drown_the_errors():
  rng, w, x = problem(7, 500, 16, 5)
  w -= w.mean(axis=0)
  x += 30
  mask = rng.random(w.shape) < 0.7
  _, _, report = refit(w, x, mask)
  before = reference.relative_error(x, w, np.where(mask, w, 0))
  assert report['w'].error_before == pytest.approx(before, rel=1e-3)


def test_leaves_without_masks_stay_and_others_are_masked():
  _, w, x = problem(8, 60, 8, 4)
  params = {'w': jnp.asarray(w, jnp.bfloat16), 'b': jnp.ones(4), 'v': jnp.ones((2, 2)), 'n': 3}
  keep = np.ones((8, 4), bool)
  keep[0] = False
  bias = jnp.array([True, False, True, True])
  masks = {'w': jprune.masks.pack({'w': jnp.asarray(keep)})['w'], 'b': bias, 'v': None, 'n': None}
  stats = of_inputs({'w': x}, {'w': 4})
  new, out, report = least_squares(params, stats, masks)
  assert new['w'].dtype == jnp.bfloat16
  np.testing.assert_array_equal(out['w'], keep)
  np.testing.assert_array_equal(new['b'], [1, 0, 1, 1])
  assert new['v'] is params['v']
  assert (out['v'], out['n'], new['n']) == (None, None, 3)
  assert dict(report.skipped) == {
    'b': 'only masked, fewer than two dimensions',
    'v': 'no mask',
    'n': 'no mask',
  }


def test_a_kernel_of_one_output_is_repaired_by_default():
  fn = lambda params, x: x @ params['head']['kernel'] + params['head']['bias'][None]
  params = {'head': {'kernel': jnp.array([[1.0], [2.0], [4.0]]), 'bias': jnp.ones(1)}}
  x = jnp.array([[1.0, 1.0, 0.0], [2.0, 2.0, 1.0]])  # the first two inputs are equal
  _, stats = jprune.graph.capture(fn, params, x, gram=True)
  masks = {'head': {'kernel': jnp.array([[False], [True], [True]]), 'bias': jnp.ones(1, bool)}}
  new, _, report = least_squares(params, stats, masks)
  np.testing.assert_allclose(new['head']['kernel'][:, 0], [0, 3, 4], atol=0.01)
  assert dict(report.skipped)['head/bias'] == 'only masked, fewer than two dimensions'
