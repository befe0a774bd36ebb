"""Repair is one problem whatever the sizes of inputs and weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jprune
from jprune import reconstruct, scores
from jprune.masks import NOfM
from tests import reference_repair as reference
from tests.reconstruct.kernels import KERNELS, inputs_of, leaf_of, stats_of
from tests.stats import of_inputs

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 4, 4, 4)).astype(np.float32)
PARAMS = {
  'w': RNG.normal(size=(16, 6)).astype(np.float32),
  'conv': RNG.normal(size=(2, 2, 4, 6)).astype(np.float32),
}
# sizes of inputs and of weights
SIZES = [
  (2.0**-66, 1),
  (1, 2.0**-66),
  (2.0**-66, 2.0**-66),
  (2.0**62, 2.0**62),
]


def fn(params, x):
  conv = jax.lax.conv_general_dilated(
    x, params['conv'], (1, 1), 'VALID', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )
  return x.reshape(48, 16) @ params['w'], conv


def pruned(inputs, weights, **how):
  params = jax.tree.map(lambda w: w * np.float32(weights), PARAMS)
  batch = X * np.float32(inputs)
  return reconstruct.prune(fn, params, [batch, 2 * batch], progress=False, **how)


METHODS = {
  'sparsegpt': {'sparsity': 0.5},
  'sparsegpt, 2:4': {'pattern': NOfM(2, 4)},
  'alps': {'sparsity': 0.5, 'method': reconstruct.alps},
  'least_squares': {'sparsity': 0.5, 'method': reconstruct.least_squares},
  'sequential': {'sparsity': 0.5, 'sequential': True, 'where': 'w'},
  'owl': {'sparsity': 0.5, 'distribution': jprune.distributions.owl, 'method': None},
} | {
  scorer.__name__: {'sparsity': 0.5, 'method': None, 'scorer': scorer, 'where': 'w'}
  for scorer in (scores.ria, scores.obs, scores.correlation, scores.activation, scores.independence)
}


@pytest.mark.parametrize('name', METHODS)
def test_powers_of_two_change_nothing(name):
  """Bit for bit the same masks, weights up to the power, and errors."""
  expected, masks, report = pruned(1, 1, **METHODS[name])
  for inputs, weights in SIZES:
    new, found, other = pruned(inputs, weights, **METHODS[name])
    jax.tree.map(np.testing.assert_array_equal, found, masks)
    back = jax.tree.map(lambda w, size=weights: np.asarray(w) / np.float32(size), new)
    jax.tree.map(np.testing.assert_array_equal, back, expected)
    assert other.rows == report.rows
  assert all(0 < row.error_after < 0.9 for row in report.rows)


@pytest.mark.parametrize(
  ('inputs', 'weights'),
  [(1e-20, 1), (1e20, 1), (1, 1e-20), (1, 1e20), (1e-30, 1e30), (1e-35, 1), (1e35, 1e-35)],
)
def test_errors_are_true(inputs, weights):
  w = PARAMS['w'] * np.float32(weights)
  rows = np.concatenate([X.reshape(48, 16), 2 * X.reshape(48, 16)]) * np.float32(inputs)
  for method in (reconstruct.sparsegpt, reconstruct.alps, reconstruct.least_squares, None):
    how = {'method': method, 'where': 'w', 'sparsity': 0.5}
    new, masks, report = pruned(inputs, weights, **how)
    masked = np.where(masks['w'], w, 0)
    row = report['w']
    assert row.error_before == pytest.approx(reference.relative_error(rows, w, masked), rel=1e-4)
    assert row.error_after == pytest.approx(reference.relative_error(rows, w, new['w']), rel=1e-4)
    if method is reconstruct.least_squares:
      expected = reference.least_squares(w, rows / np.float64(inputs), masks['w'])
      np.testing.assert_allclose(new['w'], expected, rtol=0, atol=1e-4 * np.abs(w).max())


def test_errors_are_true_where_sizes_differ():
  """Small inputs by large weights; what is dead, or of no weight, counts for naught."""
  sizes = 10.0 ** np.linspace(-30, 30, 16)
  x = (X.reshape(48, 16) * sizes).astype(np.float32)
  x[:, 3] = 0
  w = (PARAMS['w'] / sizes[:, None]).astype(np.float32)
  w[3], w[15] = 1e30, 0
  masks = {'w': RNG.random(w.shape) < 0.5}
  stats = of_inputs({'w': x}, {'w': 6})
  _, _, report = reconstruct.least_squares({'w': jnp.asarray(w)}, stats, masks)
  before = reference.relative_error(x, w, np.where(masks['w'], w, 0))
  assert report['w'].error_before == pytest.approx(before, rel=1e-4)


@pytest.mark.parametrize('method', [reconstruct.sparsegpt, reconstruct.alps])
def test_products_side_by_side_have_sizes_of_their_own(method):
  kernel, rng = KERNELS['experts'], np.random.default_rng(1)
  leaf, x = leaf_of(kernel, rng), inputs_of(kernel, rng)
  by = lambda *powers: np.exp2(np.array(powers)).astype(np.float32)[:, None, None]
  weights = by(-70, 60, 3)
  expected, masks, _ = method({'w': leaf}, stats_of(kernel, x), 0.5)
  new, found, _ = method({'w': leaf * weights}, stats_of(kernel, x * by(60, -50, -90)), 0.5)
  np.testing.assert_array_equal(found['w'], masks['w'])
  np.testing.assert_array_equal(new['w'] / weights, expected['w'])


def test_alps_fits_small_outputs_too():
  x, w = RNG.normal(size=(80, 16)).astype(np.float32), PARAMS['w'].copy()
  w[:, 2] *= 1e-25
  new, masks, _ = reconstruct.alps(
    {'w': jnp.asarray(w)}, of_inputs({'w': x}, {'w': 6}), 0.5, per_output=True
  )
  fitted = reference.least_squares(w, x, masks['w'])
  np.testing.assert_allclose(new['w'][:, 2], fitted[:, 2], rtol=0, atol=1e-3 * w[:, 2].max())


SCORERS = {
  'wanda': scores.wanda,
  'ria': scores.ria,
  'ria, squared': functools.partial(scores.ria, a=2),
  'obs': scores.obs,
  'correlation': scores.correlation,
  'activation': scores.activation,
  'activation_mean': scores.activation_mean,
  'activation_active': scores.activation_active,
  'independence': scores.independence,
}


@pytest.mark.parametrize('name', SCORERS)
def test_scores_of_all_leaves_are_over_one_power_of_two(name):
  """None where scores of all leaves fit; else whichever, the same under jit and outside."""
  shapes = {'w': 6, 'v': 3}
  rows = X.reshape(48, 16)
  params = {'w': PARAMS['w'], 'v': PARAMS['w'][:, :3]}
  of = lambda x, power: of_inputs({'w': x, 'v': x * np.float32(2.0**power)}, shapes)
  scorer = SCORERS[name]
  expected, compiled = scorer(params, of(rows, 5)), jax.jit(scorer)
  for inputs, weights in SIZES:
    given = jax.tree.map(lambda w, size=weights: w * np.float32(size), params)
    given = given, of(rows * np.float32(inputs), 5)
    for found in (scorer(*given), compiled(*given)):
      ratio = np.concatenate([np.ravel(found[path] / expected[path]) for path in params])
      assert np.frexp(ratio[0])[0] == 0.5
      np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)
  if name in ('wanda', 'activation'):
    found = scorer(params, of(rows * np.float32(2.0**-60), 5))['w']
    np.testing.assert_array_equal(found, expected['w'] * np.float32(2.0**-60))


def test_scores_that_do_not_fit_side_by_side():
  stats = of_inputs({'w': X.reshape(48, 16) * 1e30, 'v': X.reshape(48, 16)}, {'w': 6, 'v': 6})
  params = {'w': PARAMS['w'], 'v': PARAMS['w'] * np.float32(1e-10)}
  match = r"obs: `params` must be such that .* leaf 'w' .* at leaf 'v'. Score the leaves"
  with pytest.raises(ValueError, match=match):
    scores.obs(params, stats)
  assert scores.wanda(params, stats)['v'].min() > 0


def refit(params, stats, sparsity, damping):
  return reconstruct.least_squares(
    params, stats, {'w': jnp.array([[True], [False]])}, damping=damping
  )


METHODS_BY_NAME = {
  'sparsegpt': reconstruct.sparsegpt,
  'alps': reconstruct.alps,
  'least_squares': refit,
}


@pytest.mark.parametrize('name', METHODS_BY_NAME)
def test_repaired_weights_that_do_not_fit_the_dtype(name):
  params = {'w': jnp.full((2, 1), 60000, jnp.float16)}
  stats = of_inputs({'w': np.ones((8, 2), np.float32)}, {'w': 1})
  match = f"{name}: `params` must be of a dtype that .*; got float16 at leaf 'w'. Cast the leaf"
  with pytest.raises(ValueError, match=match):
    METHODS_BY_NAME[name](params, stats, 0.5, damping=1e-4)
