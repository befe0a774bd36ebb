"""``mask_updates`` beyond what tests/contract says of every transformation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jprune.masks import pack
from jprune.transforms import mask_updates

MASK = jnp.array([True, False, True])


@pytest.mark.parametrize('form', [lambda mask: mask, pack], ids=['bool', 'packed'])
@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16, jnp.float16])
def test_zeroes_and_keeps_the_dtype(form, dtype):
  tx = mask_updates({'w': form(MASK), 'b': None})
  params = {'w': jnp.ones(3), 'b': jnp.ones(2)}
  updates = {'w': jnp.array([-0.0, jnp.nan, jnp.inf], dtype), 'b': jnp.array([jnp.nan, 1.0])}
  masked, _ = tx.update(updates, tx.init(params))  # without params
  assert masked['w'].dtype == dtype
  np.testing.assert_array_equal(masked['w'], np.array([0.0, 0.0, jnp.inf]))
  np.testing.assert_array_equal(np.signbit(masked['w'].astype(jnp.float32)), [True, False, False])
  np.testing.assert_array_equal(masked['b'], updates['b'])


def test_clipping_sees_the_kept_weights_only():
  tx = optax.chain(mask_updates({'w': MASK}), optax.clip_by_global_norm(1.0))
  params = {'w': jnp.array([1.0, 0.0, 1.0])}
  masked, _ = tx.update({'w': jnp.array([0.6, 1e30, 0.8])}, tx.init(params), params)
  np.testing.assert_allclose(masked['w'], [0.6, 0.0, 0.8], rtol=1e-6)


def test_infinite_params_are_none_of_its_business():
  params = {'w': jnp.full(3, jnp.nan)}
  tx = mask_updates({'w': MASK})
  assert tx.update({'w': jnp.ones(3)}, tx.init(params))[0]['w'].tolist() == [1, 0, 1]


def test_an_update_of_none_stays_none():
  tx = mask_updates({'w': MASK})
  assert tx.update({'w': None}, tx.init({'w': jnp.ones(3)}))[0] == {'w': None}


def test_differentiable():
  tx = mask_updates({'w': MASK})
  state = tx.init({'w': jnp.ones(3)})
  total = lambda updates: jnp.sum(tx.update(updates, state)[0]['w'])
  assert jax.grad(total)({'w': jnp.ones(3)})['w'].tolist() == [1, 0, 1]
