"""Wanda against NumPy; and what all scorers from statistics share: boxes, factors, errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jprune
from jprune import scores
from jprune.graph._statistics.moments import moments_of
from jprune.graph._statistics.stats import Stats, Use
from tests import reference_statistics, stats


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_is_the_formula():
  x, w = normal(50, 6) * np.arange(6, dtype=np.float32), normal(6, 4, seed=1)
  found = scores.wanda({'w': w}, stats.of_inputs({'w': x}, {'w': 4}, gram=False))['w']
  np.testing.assert_allclose(found, reference_statistics.wanda(x, w), rtol=1e-5)


@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float16])
def test_is_taken_in_float32(dtype):
  x, w = normal(50, 6), jnp.asarray(normal(6, 4, seed=1), dtype)
  found = scores.wanda({'w': w}, stats.of_inputs({'w': x}, {'w': 4}))['w']
  assert found.dtype == jnp.float32
  np.testing.assert_allclose(found, reference_statistics.wanda(x, w), rtol=1e-5)


def test_products_side_by_side_have_their_own_inputs():
  x, w = normal(3, 20, 5), normal(3, 5, 2, seed=1)
  found = scores.wanda({'w': w}, stats.of_inputs({'w': x}, {'w': 2}))['w']
  for i in range(3):
    np.testing.assert_allclose(found[i], reference_statistics.wanda(x[i], w[i]), rtol=1e-5)


def test_weighted_rows_count_as_often_as_their_weight():
  x, w = normal(4, 5), normal(5, 2, seed=1)
  weights = np.array([2.0, 0.0, 1.0, 3.0], np.float32)
  found = scores.wanda({'w': w}, stats.of_inputs({'w': x}, {'w': 2}, weights))['w']
  rows = np.repeat(x, weights.astype(int), axis=0)
  np.testing.assert_allclose(found, reference_statistics.wanda(rows, w), rtol=1e-5)


def test_boxes_and_factors_of_a_leaf():
  """A fused projection (out, in): 4 heads' worth of outputs of one input, then 2 of another."""
  w = normal(6, 3, seed=2)
  x, y = normal(10, 3), normal(7, 3, seed=1) * 5
  # (2 heads, 2, in) with heads as products side by side, and (2, in) at the end
  heads = Use(((0, 4), (0, 3)), (2, 2, 3), (0, 0, 1), (0,), (2,), (1,), 0)
  rest = Use(((4, 6), (0, 3)), (2, 3), (0, 1), (), (1,), (0,), 1)
  of_heads = np.stack([x, 2 * x])
  both = Stats((moments_of(of_heads), moments_of(y[None])), (('w', (heads, rest)),))
  found = scores.wanda({'w': w}, both)['w']
  expected = [
    reference_statistics.wanda(rows, w[bounds].T).T
    for rows, bounds in [(x, slice(0, 2)), (2 * x, slice(2, 4)), (y, slice(4, 6))]
  ]
  np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-5)


def test_leaves_without_statistics_have_no_scores():
  params = {'w': jnp.ones((3, 2)), 'embedding': jnp.ones((5, 3)), 'bias': jnp.ones(2)}
  found = scores.wanda(params, stats.of_inputs({'w': normal(4, 3)}, {'w': 2}))
  assert {name for name, score in found.items() if score is not None} == {'w'}


def test_statistics_may_be_arguments_of_a_compiled_function():
  params = {'w': normal(3, 2)}
  given = stats.of_inputs({'w': normal(4, 3)}, {'w': 2})
  found = jax.jit(scores.wanda)(params, given)['w']
  np.testing.assert_allclose(found, scores.wanda(params, given)['w'], rtol=1e-6)


def test_prune_may_be_compiled_with_statistics_as_arguments():
  params, given = {'w': normal(8, 6)}, stats.of_inputs({'w': normal(20, 8)}, {'w': 6})
  prune = lambda params, given: jprune.prune(params, 0.5, scorer=scores.wanda, stats=given)
  masks = jax.jit(prune)(params, given)
  np.testing.assert_array_equal(masks['w'], prune(params, given)['w'])
  assert int(masks['w'].sum()) == 24


@pytest.mark.parametrize('name', ['wanda', 'ria', 'obs', 'correlation', 'independence'])
def test_nan_is_passed_on_for_selection_to_refuse(name):
  given = stats.of_inputs({'w': normal(20, 4)}, {'w': 3})
  scorer = getattr(scores, name)
  with pytest.raises(ValueError, match=r"must be free of NaN; .*'w'"):
    jprune.prune({'w': normal(4, 3) * np.nan}, 0.5, scorer=scorer, stats=given)
  broken = jax.tree.map(lambda x: x * np.float32(np.nan), given)
  with pytest.raises(ValueError, match=r"must be free of NaN; .*'w'"):
    jprune.prune({'w': normal(4, 3)}, 0.5, scorer=scorer, stats=broken)


def test_convolutions_score_as_the_product_with_unfolded_windows():
  x, w = normal(2, 5, 5, 3), normal(2, 2, 3, 4, seed=1)
  dims = ('NHWC', 'HWIO', 'NHWC')
  conv = lambda p, x: jax.lax.conv_general_dilated(x, p['w'], (1, 1), 'VALID', None, None, dims)
  _, given = jprune.graph.capture(conv, {'w': w}, x, gram=True)
  windows = [
    x[n, i : i + 2, j : j + 2].reshape(-1) for n in range(2) for i in range(4) for j in range(4)
  ]
  found = scores.wanda({'w': w}, given)['w']
  expected = reference_statistics.wanda(np.stack(windows), w.reshape(12, 4))
  np.testing.assert_allclose(found, expected.reshape(w.shape), rtol=1e-5)
  found = scores.correlation({'w': w}, given)['w']
  expected = reference_statistics.correlation(np.stack(windows), w.reshape(12, 4))
  np.testing.assert_allclose(found, expected.reshape(w.shape), atol=2e-5)


def test_compiles_once_for_leaves_of_one_shape(compilations):
  params = {name: normal(7, 29) for name in 'abc'}  # a shape that no other test has
  given = stats.of_inputs({name: normal(4, 7) for name in params}, dict.fromkeys(params, 29))
  scores.wanda({'a': params['a']}, given)
  assert compilations
  compilations.clear()
  scores.wanda(params, given)
  assert compilations == []


def test_prune_by_wanda():
  params = {'w': jnp.array([[1.0, -2.0], [3.0, 0.5]])}
  given = stats.of_inputs({'w': np.array([[10.0, 1.0]], np.float32)}, {'w': 2})
  masks = jprune.prune(params, 0.5, scorer=scores.wanda, stats=given)
  assert masks['w'].tolist() == [[True, True], [False, False]]


def test_prune_says_which_leaf_has_no_statistics_and_why():
  params = {'w': jnp.ones((3, 2)), 'e': jnp.ones((5, 3)), 'v': jnp.ones((2, 2))}
  given = stats.of_inputs({'w': normal(4, 3)}, {'w': 2})
  given = Stats(given.inputs, given.uses, (('e', 'it is indexed only'),))
  message = (
    r'prune: `stats` must be statistics of every leaf that is to be scored; got none '
    r"\(it is indexed only\) at leaf 'e'. Exclude the leaf with where=, or capture it."
  )
  with pytest.raises(ValueError, match=message):
    jprune.prune(params, 0.5, scorer=scores.wanda, stats=given)
  with pytest.raises(ValueError, match=message):
    jprune.prune(params, 0.5, scorer=functools.partial(scores.wanda, stats=given))
  with pytest.raises(ValueError, match="every leaf that is to be scored; got none at leaf 'v'"):
    jprune.prune(params, 0.5, scorer=scores.wanda, stats=given, where='[vw]')
  masks = jprune.prune(params, 0.5, scorer=scores.wanda, stats=given, where='w')
  assert masks['e'] is None


def test_errors():
  params = {'w': jnp.ones((3, 2))}
  given = stats.of_inputs({'w': normal(4, 3)}, {'w': 2})
  with pytest.raises(TypeError, match=r'wanda: `stats` must be statistics of inputs; got tuple'):
    scores.wanda(params, (jnp.ones(2), given))
  with pytest.raises(TypeError, match=r'wanda: `stats` must be statistics of inputs; got NoneType'):
    jprune.prune(params, 0.5, scorer=scores.wanda, stats=None)
  with pytest.raises(
    ValueError,
    match=r"`stats` must be .* leaves of the params; got those of 'w', while the params have 'v'",
  ):
    scores.wanda({'v': jnp.ones((3, 2))}, given)
  with pytest.raises(ValueError, match='got those of no leaf at all. Capture them with'):
    scores.wanda(params, Stats((), ()))
  for shape in [(3, 4), (4, 2), (3, 2, 1), (2,)]:
    with pytest.raises(
      ValueError, match=r"shape of that of the params, \(.*\); got .* \(3, 2\) at leaf 'w'"
    ):
      scores.wanda({'w': jnp.ones(shape)}, given)
  stacked = jax.tree.map(lambda x: jnp.stack([x, x]), given)  # of several models
  with pytest.raises(ValueError, match=r"`stats` must be of shape \(1, 3\); .*\(2, 1, 3\).*'w'"):
    scores.wanda(params, stacked)
  none = stats.of_inputs({'w': normal(0, 3)}, {'w': 2})
  with pytest.raises(ValueError, match="wanda: `stats` must be of at least one row; .*leaf 'w'"):
    scores.wanda(params, none)
  structs = jax.eval_shape(lambda: given)
  with pytest.raises(TypeError, match="`stats` must be arrays; got a shape struct.* leaf 'w'"):
    scores.wanda(params, structs)
