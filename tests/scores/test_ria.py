"""RIA against NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from jprune import scores
from tests import reference_statistics, stats


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def find(x, w, **options):
  return scores.ria({'w': w}, stats.of_inputs({'w': x}, {'w': w.shape[-1]}, gram=False), **options)[
    'w'
  ]


@pytest.mark.parametrize('a', [0, 0.5, 1.0, 2])
def test_is_the_formula(a):
  x, w = normal(50, 6) * np.arange(1, 7, dtype=np.float32), normal(6, 4, seed=1)
  np.testing.assert_allclose(find(x, w, a=a), reference_statistics.ria(x, w, a), rtol=1e-5)


def test_half_is_the_default():
  x, w = normal(50, 6), normal(6, 4, seed=1)
  np.testing.assert_array_equal(find(x, w), find(x, w, a=0.5))


def test_matrices_side_by_side_have_their_own_sums():
  x, w = normal(3, 20, 5), normal(3, 5, 2, seed=1)
  for i, found in enumerate(find(x, w)):
    np.testing.assert_allclose(found, reference_statistics.ria(x[i], w[i], 0.5), rtol=1e-5)


def test_rows_and_columns_of_zeros_score_zero():
  w = normal(4, 3)
  w[1], w[:, 2] = 0, 0
  found = find(normal(5, 4), w)
  np.testing.assert_array_equal(found == 0, w == 0)
  assert not np.any(find(normal(5, 4), np.zeros((4, 3), np.float32)))


@pytest.mark.parametrize('scale', [2.0**-100, 2.0**120])
def test_is_relative(scale):
  x, w = normal(5, 4), normal(4, 3, seed=1)
  np.testing.assert_array_equal(find(x, w * np.float32(scale)), find(x, w))


def test_errors():
  params, given = {'w': jnp.ones((3, 2))}, stats.of_inputs({'w': normal(4, 3)}, {'w': 2})
  with pytest.raises(ValueError, match=r'ria: `a` must be at least 0 and finite; got -1.0'):
    scores.ria(params, given, a=-1)
  with pytest.raises(TypeError, match=r"ria: `a` must be a number; got '1'"):
    scores.ria(params, given, a='1')
