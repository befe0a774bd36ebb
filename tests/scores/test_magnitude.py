"""Magnitude against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jprune import scores


@pytest.mark.parametrize('p', [1, 2, 0.5, 3, np.float32(2)])
def test_is_the_power_of_the_absolute_value(p):
  w = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
  found = scores.magnitude({'w': w}, p=p)['w']
  np.testing.assert_allclose(found, np.abs(w.astype(np.float64)) ** float(p), rtol=1e-6)


def test_l1_is_exact_down_to_denormals_and_up_to_infinity():
  w = jnp.array([-0.0, 1e-45, -3e-39, 3.4e38, -jnp.inf], jnp.float32)
  found = np.asarray(scores.magnitude({'w': w})['w'])
  np.testing.assert_array_equal(found.view(np.uint32), np.abs(np.asarray(w)).view(np.uint32))


@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float16, jnp.float8_e4m3fn])
def test_the_power_is_taken_in_float32(dtype):
  w = jnp.asarray([0.001, 3.0, -200.0], dtype)
  exact = np.asarray(w).astype(np.float64) ** 2
  np.testing.assert_allclose(scores.magnitude({'w': w}, p=2)['w'], exact, rtol=1e-6)


@pytest.mark.parametrize('p', [0, -1, float('inf'), float('nan')])
def test_refuses_powers_that_do_not_order_by_magnitude(p):
  with pytest.raises(ValueError, match=r'magnitude: `p` must be positive and finite; got'):
    scores.magnitude({'w': jnp.ones(2)}, p=p)


def test_refuses_powers_that_are_no_numbers():
  with pytest.raises(TypeError, match=r"magnitude: `p` must be a number; got '1'"):
    scores.magnitude({'w': jnp.ones(2)}, p='1')
  with pytest.raises(TypeError, match=r'magnitude: `p` must be a number at hand; got a traced one'):
    jax.jit(lambda p: scores.magnitude({'w': jnp.ones(2)}, p=p))(1.0)
