"""Correlations of terms with outputs against NumPy's on the data."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from jprune import scores
from tests import reference_statistics, stats


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def correlated(rows, inputs, seed=0):
  return normal(rows, inputs, seed=seed) @ normal(inputs, inputs, seed=seed + 1)


def find(x, w):
  return np.asarray(
    scores.correlation({'w': w}, stats.of_inputs({'w': x}, {'w': w.shape[-1]}))['w']
  )


@pytest.mark.parametrize('mean', [0, 5, -30])
def test_is_that_of_the_data(mean):
  x, w = correlated(80, 9) + np.float32(mean), normal(9, 5, seed=5)
  np.testing.assert_allclose(find(x, w), reference_statistics.correlation(x, w), atol=2e-5)


@settings(max_examples=10, deadline=None)
@drawn(st.integers(0, 10**6), st.integers(2, 20), st.integers(1, 8), st.floats(0, 0.9))
def test_is_that_of_the_data_whatever_these_are(seed, rows, inputs, zeros):
  rng = np.random.default_rng(seed)
  x, w = correlated(rows, inputs, seed), normal(inputs, 3, seed=seed + 2)
  w[rng.random(w.shape) < zeros] = 0
  x[:, rng.random(inputs) < zeros / 2] = 0.7
  found = find(x, w)
  assert np.all((found >= 0) & (found <= 1))
  np.testing.assert_allclose(found, reference_statistics.correlation(x, w), atol=2e-3)


def test_matrices_side_by_side():
  x, w = np.stack([correlated(30, 4, seed) for seed in (1, 2)]), normal(2, 4, 3)
  for i in range(2):
    expected = reference_statistics.correlation(x[i], w[i])
    np.testing.assert_allclose(find(x, w)[i], expected, atol=1e-5)


def test_neither_the_weight_nor_the_scale_of_its_input_counts():
  x, w = correlated(50, 5), normal(5, 3)
  factors = np.array([1e-3, 1, 10, 1e4, 1e6], np.float32)
  np.testing.assert_allclose(find(x * factors, w / factors[:, None]), find(x, w), atol=1e-5)
  np.testing.assert_allclose(find(x, w * np.float32(-1e30)), find(x, w), atol=1e-6)
  np.testing.assert_allclose(find(x, w * np.float32(1e-30)), find(x, w), atol=1e-6)


def test_is_zero_where_the_weight_is_or_nothing_varies():
  x, w = correlated(50, 5), normal(5, 3)
  x[:, 1] = 0.1  # constant, but no float32 mean of it is exact
  w[2, 0] = 0
  found = find(x, w)
  expected = np.ones((5, 3), bool)
  expected[1], expected[2, 0] = False, False
  np.testing.assert_array_equal(found > 0, expected)
  w[:, 1] = 0
  assert not np.any(find(x, w)[:, 1])
  twins = np.repeat(normal(50, 1), 2, axis=1)
  assert not np.any(find(twins, np.array([[0.3], [-0.3]], np.float32)))  # they cancel


def test_a_lone_term_is_the_output_and_orthogonal_ones_share_it():
  assert find(normal(9, 1), normal(1, 4)).tolist() == [[1.0] * 4]
  x = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], np.float32)
  np.testing.assert_allclose(find(x, np.array([[3.0], [4.0]], np.float32)), [[0.6], [0.8]], 1e-6)


def test_what_is_drowned_scores_low():
  x = normal(4000, 3)
  found = find(x, np.array([[0.01], [1.0], [0.001]], np.float32))
  assert found[1, 0] > 0.999
  assert found[0, 0] < 0.1
  assert found[2, 0] < 0.1


def test_needs_products():
  given = stats.of_inputs({'w': normal(4, 3)}, {'w': 2}, gram=False)
  with pytest.raises(ValueError, match=r'correlation: `stats` must be captured with gram=True'):
    scores.correlation({'w': jnp.ones((3, 2))}, given)
