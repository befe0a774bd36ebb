"""LAMP against the formula of the paper in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jprune import scores
from jprune.scores import _lamp


def oracle(w):
  """Section 3 of Lee et al.; of equal magnitudes the lowest flat index is the largest."""
  flat = np.abs(np.asarray(w, np.float64).ravel())
  ascending = np.argsort(-flat, kind='stable')[::-1]
  square = flat[ascending] ** 2
  tail = np.cumsum(square[::-1])[::-1]
  out = np.zeros(flat.size)
  out[ascending] = np.divide(square, tail, out=np.zeros_like(square), where=tail > 0)
  return out.reshape(np.shape(w))


def lamp(w):
  return np.asarray(scores.lamp({'w': jnp.asarray(w)})['w'])


@pytest.mark.parametrize('shape', [(), (1,), (7,), (30, 40), (3, 3, 8, 16)])
def test_is_the_formula(shape):
  w = np.random.default_rng(0).normal(size=shape).astype(np.float32)
  np.testing.assert_allclose(lamp(w), oracle(w), rtol=1e-6)


def test_by_hand():
  np.testing.assert_allclose(lamp([1.0, -2.0, 2.0, 4.0]), [1 / 25, 4 / 20, 4 / 24, 1], rtol=1e-6)


@settings(deadline=None, max_examples=25)
@given(hnp.arrays(np.float32, (20,), elements=st.sampled_from([0, -0.0, 1, -1, 2, 1e-3, 7e9])))
def test_ties_are_in_the_order_of_selection(w):
  found, expected = lamp(w), oracle(w)
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  np.testing.assert_array_equal(
    np.argsort(-found, kind='stable'), np.argsort(-np.abs(w), kind='stable')
  )


@settings(deadline=None, max_examples=40)
@given(hnp.arrays(np.float32, (64,), elements=st.floats(2**-30, 2**30, width=32)))
def test_the_order_is_that_of_magnitudes(w):
  found = lamp(w)
  order = np.argsort(-w, kind='stable')[::-1]
  rises = np.diff(found[order])
  assert np.all(rises >= 0)
  assert np.all(rises[np.diff(w[order]) > 0] > 0)
  assert found.max() == 1.0


@pytest.mark.parametrize('dtype', [np.float32, jnp.bfloat16])
@pytest.mark.parametrize('start', [1.0, 1e-6, 0.99999])
def test_neighbouring_floats_have_different_scores(dtype, start):
  bits = np.asarray(start, dtype).view(f'u{np.dtype(dtype).itemsize}')
  count = 100_000 if dtype == np.float32 else 3_000
  w = (bits + np.arange(count).astype(bits.dtype)).view(dtype)
  found = lamp(np.random.default_rng(0).permutation(w))
  assert len(np.unique(found)) == count
  np.testing.assert_array_equal(np.diff(lamp(w)) > 0, True)
  np.testing.assert_allclose(lamp(w), oracle(w), rtol=1e-5)


@pytest.mark.parametrize('scale', [2.0**-126, 2.0**-100, 2.0**-20, 2.0**100, 2.0**120])
def test_does_not_depend_on_the_scale_of_the_leaf(scale):
  w = 1 + np.arange(50, dtype=np.float32)
  np.testing.assert_array_equal(lamp(w * np.float32(scale)), lamp(w))


def test_a_million_weights_are_accurate_and_strictly_ordered():
  w = np.random.default_rng(0).normal(size=1_000_000).astype(np.float32)
  found = lamp(w)
  np.testing.assert_allclose(found, oracle(w), rtol=1e-5)
  order = np.argsort(np.abs(w), kind='stable')
  rises = np.diff(found[order])[np.diff(np.abs(w)[order]) > 0]
  assert rises.min() > 0  # rounding alone leaves a few equal


def test_rounding_errors_are_moved_by_as_little_as_will_do():
  one = np.float32(1).view(np.uint32)
  bits = jnp.array([9, 8, 7, 7, 6, 5], jnp.int32)
  rounded = jnp.array(one - np.array([0, 2, 2, 2, 1, 9], np.uint32)).view(jnp.float32)
  found = np.asarray(_lamp._strictly_ordered(bits, rounded)).view(np.uint32)
  assert (one - found).tolist() == [0, 2, 3, 3, 4, 9]


def test_scores_too_small_for_float32_are_zero_and_no_less():
  found = lamp([1e-30, 2e-30, 1.0, 3e38])
  assert found.tolist() == [0, 0, 0, 1]
  found = lamp([1e-20, 2e-20, 1e-3, 1.0])
  np.testing.assert_array_equal(found >= 0, True)
  np.testing.assert_array_equal(np.diff(found) >= 0, True)


def test_zeros_infinities_and_nan():
  np.testing.assert_array_equal(lamp([0.0, -0.0]), [0, 0])
  np.testing.assert_array_equal(lamp([0.0, 1e-44]) <= 1, True)
  np.testing.assert_allclose(lamp([1.0, np.inf, 3.4028235e38, -np.inf])[1], 1)
  assert np.isnan(lamp([1.0, np.nan, 2.0])).tolist() == [False, True, False]


def test_refuses_what_it_cannot_sort():
  leaf = jax.ShapeDtypeStruct((2**16, 2**15), jnp.float32)
  with pytest.raises(ValueError, match=r"lamp: `params` must be of less than 2\*\*31 .*'w'"):
    jax.eval_shape(scores.lamp, {'w': leaf})
