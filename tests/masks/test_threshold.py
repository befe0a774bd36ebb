"""threshold and bernoulli; and the messages of everything that selects."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jprune
from jprune.masks import bernoulli, from_zeros, n_of_m, threshold, top_k, top_k_global, top_k_rows


def test_threshold_reaches():
  scores = {'a': jnp.array([0.1, 0.5, 0.9]), 'b': jnp.array([[1.0, -1.0]]), 'c': None}
  masks = threshold(scores, 0.5)
  assert masks['a'].tolist() == [False, True, True]
  assert masks['b'].tolist() == [[True, False]]
  assert masks['c'] is None
  assert threshold(scores, {'a': 0.9})['b'] is None
  assert threshold(scores, {'a': 0.9, 'b': -1.0, 'c': None})['b'].tolist() == [[True, True]]
  traced = jax.jit(lambda s, t: threshold(s, t))(scores, 0.5)
  assert traced['a'].tolist() == [False, True, True]


def test_bernoulli_draws_by_rate():
  params = {'a': jnp.ones((200, 100)), 'b': jnp.ones(3), 'c': jnp.ones((200, 100))}
  masks = bernoulli(params, 0.3, key=jax.random.key(0))
  assert masks['b'] is None
  spread = 4 * (0.3 * 0.7 / 20_000) ** 0.5
  assert abs(1 - float(masks['a'].mean()) - 0.3) < spread
  assert not np.array_equal(masks['a'], masks['c'])
  same = bernoulli(params, 0.3, key=jax.random.key(0))
  np.testing.assert_array_equal(masks['a'], same['a'])
  np.testing.assert_array_equal(
    jax.jit(lambda k: bernoulli(params, 0.3, key=k))(jax.random.key(0))['a'], masks['a']
  )
  assert bernoulli(params, {'c': 1.0}, key=jax.random.key(0))['a'] is None
  assert not bernoulli(params, {'c': 1.0}, key=jax.random.key(0))['c'].any()
  assert bernoulli(params, 0, key=jax.random.key(0))['c'].all()
  assert not bernoulli(params, 1, key=jax.random.key(0))['c'].any()
  assert bernoulli(params, 1.0, key=jax.random.key(0), where=['b'])['b'].tolist() == [False] * 3


SELECTORS = {
  'top_k': lambda scores, s=0.5: top_k(scores, s),
  'top_k_rows': lambda scores, s=0.5: top_k_rows(scores, s, axis=-1),
  'top_k_global': lambda scores, s=0.5: top_k_global(scores, s),
  'threshold': lambda scores, s=0.5: threshold(scores, s),
  'n_of_m': lambda scores, s=0.5: n_of_m(scores, 1, 2, -1),
}


@pytest.mark.parametrize('function', SELECTORS)
def test_scores_that_cannot_be_selected_from(function):
  call = SELECTORS[function]
  with pytest.raises(ValueError, match=f'{function}: `scores` must be a tree with at least one'):
    call({})
  with pytest.raises(ValueError, match=f'{function}: `scores` must be scores for at least one'):
    call({'w': None})
  with pytest.raises(TypeError, match=f"{function}: `scores` must be a floating .* int32.* 'a/w'"):
    call({'a': {'w': jnp.arange(4)}})
  with pytest.raises(
    ValueError, match=f"{function}: `scores` must be free of NaN; got NaN at leaf 'w'"
  ):
    call({'w': jnp.array([1.0, jnp.nan, jnp.nan, 0.0])})
  with pytest.raises(ValueError, match=f'{function}: `scores` must be free of NaN'):
    call({'w': np.array([1.0, np.nan, 2.0, 0.0], np.float32)})


@pytest.mark.parametrize('function', ['top_k', 'top_k_rows'])
@pytest.mark.parametrize('value', [-0.1, 1.1, 90, float('nan')])
def test_sparsities_outside_the_unit_interval(function, value):
  with pytest.raises(ValueError, match=rf"{function}: `sparsities` must be in \[0, 1\]; got .*'w'"):
    SELECTORS[function]({'w': jnp.ones(4)}, value)


def test_sparsities_that_fit_no_leaf():
  scores = {'a': jnp.ones(4), 'b': None}
  with pytest.raises(ValueError, match="top_k: `sparsities` must be .* at leaf 'b'"):
    top_k(scores, {'a': 0.5, 'b': 0.5})
  with pytest.raises(ValueError, match='`sparsities` must be a tree with the structure'):
    top_k(scores, {'c': 0.5})
  with pytest.raises(TypeError, match="top_k: `sparsities` must be a number; got '0.5'"):
    top_k(scores, {'a': '0.5'})
  with pytest.raises(TypeError, match=r'top_k: `sparsity` must be a number in \[0, 1\]; got None'):
    top_k(scores)
  with pytest.raises(ValueError, match=r'top_k_global: `sparsity` must be in \[0, 1\]; got 2.0'):
    top_k_global(scores, 2.0)
  with pytest.raises(TypeError, match='top_k_global: `sparsity` must be a number'):
    top_k_global(scores, {'a': 0.5})


def test_thresholds_and_rates():
  with pytest.raises(
    ValueError, match="threshold: `thresholds` must be a number; got nan at leaf 'w'"
  ):
    threshold({'w': jnp.ones(2)}, float('nan'))
  with pytest.raises(TypeError, match='threshold: `thresholds` must be a number'):
    threshold({'w': jnp.ones(2)}, {'w': 'high'})
  params = {'w': jnp.ones((2, 2))}
  with pytest.raises(ValueError, match=r'bernoulli: `rate` must be in \[0, 1\]; got 1.5'):
    bernoulli(params, 1.5, key=jax.random.key(0))
  with pytest.raises(TypeError, match=r'bernoulli: `key` must be one typed random key'):
    bernoulli(params, 0.5, key=jax.random.PRNGKey(0))
  with pytest.raises(TypeError, match=r'bernoulli: `key` must be .* None'):
    bernoulli(params, 0.5, key=None)


def test_masks_of_zeros():
  row = [0.0, -0.0, jnp.nan, 1e-45]
  params = {'w': jnp.array([row, row]), 'b': jnp.zeros(2), 'n': np.zeros((2, 2))}
  masks = from_zeros(params)
  assert masks['w'].tolist() == [[False, False, True, True]] * 2
  assert masks['b'] is None
  assert masks['n'].tolist() == [[False, False]] * 2
  assert from_zeros(params, where=['b'])['b'].tolist() == [False, False]
  assert from_zeros({'w': jnp.ones((2, 2))})['w'].all()
  later = jprune.prune(
    params, 0.75, where='^w', scorer={**params, 'w': jnp.ones((2, 4))}, masks=masks
  )
  assert later['w'].tolist() == [[False, False, True, True], [False] * 4]
  with pytest.raises(TypeError, match='from_zeros: `params` must be arrays; got a shape struct'):
    from_zeros({'w': jax.ShapeDtypeStruct((2, 2), jnp.float32)})
  with pytest.raises(ValueError, match='from_zeros: `where` must be'):
    from_zeros({'b': jnp.zeros(2)}, where='none')


def test_axes_that_a_leaf_has_not():
  with pytest.raises(ValueError, match='top_k_rows: `axis` must be an axis of a leaf with 1 dim'):
    top_k_rows({'b': jnp.ones(3)}, 0.5)
  with pytest.raises(TypeError, match="top_k_rows: `axis` must be an int; got 'in'"):
    top_k_rows({'b': jnp.ones(3)}, 0.5, axis='in')
  with pytest.raises(
    ValueError, match='n_of_m: `axis` must be an axis of a leaf with 1 dimensions'
  ):
    n_of_m({'b': jnp.ones(4)}, 2, 4)
  with pytest.raises(ValueError, match=r"n_of_m: axis -1 of leaf 'b' must be divisible by m=4"):
    n_of_m({'b': jnp.ones(6)}, 2, 4, axis=-1)
  with pytest.raises(ValueError, match='n_of_m: `n` must be at most m=4; got 5'):
    n_of_m({'b': jnp.ones(4)}, 5, 4, axis=-1)


def test_leaves_of_every_container():
  for tree in ([jnp.ones(2)], (jnp.ones(2), None), jnp.ones(2), {'a': [{'b': jnp.ones(2)}]}):
    masks = jprune.masks.top_k(tree, 0.5)
    assert jax.tree.leaves(masks)[0].tolist() == [True, False]
