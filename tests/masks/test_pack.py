"""One packed leaf."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jprune import masks


@pytest.mark.parametrize('shape', [(), (1,), (9,), (3, 8), (2, 3, 17), (0, 4), (4, 0)], ids=str)
def test_a_packed_leaf_unpacks_itself(shape):
  mask = jnp.asarray(np.random.default_rng(0).random(shape) < 0.5)
  packed = masks.pack({'w': mask})['w']
  for found in (packed.unpack(), jax.jit(lambda p: p.unpack())(packed)):
    assert found.dtype == bool
    np.testing.assert_array_equal(found, mask)
