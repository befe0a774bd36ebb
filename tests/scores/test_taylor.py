"""Taylor scores against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jprune import scores
from tests import reference


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize('grad_dtype', [jnp.float32, jnp.bfloat16])
def test_is_the_product_in_float32(dtype, grad_dtype):
  rng = np.random.default_rng(0)
  w, g = (
    jnp.asarray(rng.normal(size=(5, 7)), dtype),
    jnp.asarray(rng.normal(size=(5, 7)), grad_dtype),
  )
  found = scores.taylor({'w': w}, {'w': g})['w']
  np.testing.assert_allclose(found, reference.taylor(w, g), rtol=1e-6)


def test_is_what_the_loss_changes_by_to_first_order():
  params = {'w': jnp.array([1.0, -2.0, 3.0]), 'b': jnp.array(0.5)}
  loss = lambda p: jnp.sum(jnp.array([2.0, 5.0, 0.0]) * p['w']) + 3 * p['b']  # linear: exact
  found = scores.taylor(params, jax.grad(loss)(params))
  for i in range(3):
    without = {**params, 'w': params['w'].at[i].set(0.0)}
    np.testing.assert_allclose(found['w'][i], abs(loss(params) - loss(without)), rtol=1e-6)
  assert found['b'] == 1.5


def test_where_there_is_no_gradient_there_is_no_score():
  params = {'w': jnp.ones(2), 'frozen': jnp.ones(3), 'step': jnp.array(1)}
  found = scores.taylor(params, {'w': jnp.ones(2), 'frozen': None, 'step': None})
  assert found['frozen'] is None
  assert found['step'] is None
  grads = jax.grad(lambda p: jnp.sum(p['w']), allow_int=True)(params)
  assert scores.taylor(params, grads)['step'] is None  # its gradient is of dtype float0
  assert scores.taylor({'w': jnp.ones(2)}, {'w': None}) == {'w': None}


def test_errors():
  params = {'w': jnp.ones(2)}
  with pytest.raises(ValueError, match='taylor: `grads` must be a tree with the structure of'):
    scores.taylor(params, {'v': jnp.ones(2)})
  with pytest.raises(ValueError, match=r"taylor: `grads` must be of shape \(2,\); .*'w'"):
    scores.taylor(params, {'w': jnp.ones(3)})
  with pytest.raises(TypeError, match="taylor: `grads` must be a floating array; got int32.*'w'"):
    scores.taylor(params, {'w': jnp.arange(2)})
  with pytest.raises(TypeError, match="taylor: `grads` must be arrays; got a shape struct.*'w'"):
    scores.taylor(params, jax.eval_shape(lambda: params))
