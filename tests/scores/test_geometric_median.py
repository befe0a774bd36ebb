"""FPGM against the formula of the paper in float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from jprune import scores
from jprune.scores import _geometric_median
from tests import reference


def find(w, **kwargs):
  return np.asarray(scores.geometric_median({'w': jnp.asarray(w)}, **kwargs)['w'])


def normal(*shape):
  return np.random.default_rng(0).normal(size=shape).astype(np.float32)


# filters of few weights and of many, on either side of 32
@pytest.mark.parametrize('shape', [(1,), (7,), (5, 9), (100, 8), (3, 3, 8, 16), (40, 1), (33, 4)])
@pytest.mark.parametrize('block', [2**22, 64])
def test_is_the_formula(shape, block, monkeypatch):
  monkeypatch.setattr(_geometric_median, '_BLOCK', block)
  _geometric_median._score_array.clear_cache()
  w = normal(*shape)
  np.testing.assert_allclose(find(w), reference.geometric_median(w), rtol=1e-5)


@pytest.mark.parametrize('axis', [0, 1, -2, -1])
def test_axis(axis):
  w = normal(6, 40, 3)
  np.testing.assert_allclose(find(w, axis=axis), reference.geometric_median(w, axis), rtol=1e-5)


def test_a_filter_is_at_no_distance_from_itself():
  assert find(np.float32(3)).tolist() == 0
  assert find(np.full((100, 1), 0.1, np.float32)).tolist() == [[0]] * 100
  assert find(np.full((2, 3), 0.1, np.float32)).tolist() == [[0] * 3] * 2


def test_where_filters_lie_together_does_not_matter():
  w = normal(64, 10)
  np.testing.assert_allclose(find(w + np.float32(100)), reference.geometric_median(w), rtol=1e-4)


@pytest.mark.parametrize('scale', [2.0**-100, 2.0**100, 2.0**110])
@pytest.mark.parametrize('rows', [4, 64])
def test_does_not_depend_on_the_scale(scale, rows):
  w = normal(rows, 8)
  np.testing.assert_array_equal(find(w * np.float32(scale)), find(w) * np.float32(scale))


def test_infinities_count_as_the_largest_number_and_nan_is_passed_on():
  found = find([[np.inf, 1.0, 2.0]])
  assert not np.isnan(found).any()
  assert found[0, 0] > found[0, 1]
  assert np.isnan(find([[np.nan, 1.0, 2.0]])[0, 0])


def test_errors():
  with pytest.raises(TypeError, match=r'geometric_median: `axis` must be an int; got 1.0'):
    find(normal(2, 2), axis=1.0)
  with pytest.raises(
    ValueError, match=r"`axis` must be an axis of a leaf with 2 dim.*; got 2 .*'w'"
  ):
    find(normal(2, 2), axis=2)
  assert find(normal(4), axis=2).shape == (4,)  # each weight is a filter
