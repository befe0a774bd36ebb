"""Synaptic flow: the formula, its conservation law, and networks too deep for float32."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jprune import masks, scores
from tests import reference_gradients as oracle

RNG = np.random.default_rng(0)


def mlp(params, x):
  for i, name in enumerate(sorted(params)):
    layer = params[name]
    x = jax.nn.relu(x) if i else x
    x = jnp.matmul(x, layer['kernel'], precision='highest')
    x = x + layer['bias'][None] if 'bias' in layer else x
  return x


def layers(widths, scale=1.0, biases=False):
  out = {}
  for i, (a, b) in enumerate(itertools.pairwise(widths)):
    out[f'l{i:03}'] = {'kernel': jnp.asarray(scale * RNG.normal(size=(a, b)), jnp.float32)}
    if biases:
      out[f'l{i:03}']['bias'] = jnp.asarray(RNG.normal(size=b), jnp.float32)
  return out


def kernels_of(params, name='kernel'):
  return [params[key][name] for key in sorted(params)]


def test_each_path_adds_the_product_of_its_weights():
  params = layers([2, 3, 4, 2])
  found = scores.synflow(params, mlp, jnp.full((1, 2), -7.0))
  for one, two in zip(kernels_of(found), oracle.synflow_by_paths(kernels_of(params))):
    np.testing.assert_allclose(one, two, rtol=1e-5)


@pytest.mark.parametrize('rows', [1, 3])
def test_formula_with_biases(rows):
  params = layers([5, 8, 6, 3], biases=True)
  found = scores.synflow(params, mlp, jnp.zeros((rows, 5)))
  kernels, biases, _ = oracle.synflow_mlp(kernels_of(params), kernels_of(params, 'bias'))
  for one, two in zip(kernels_of(found), kernels):
    np.testing.assert_allclose(one, rows * two, rtol=1e-5)
  for one, two in zip(kernels_of(found, 'bias'), biases):
    np.testing.assert_allclose(one, rows * two, rtol=1e-5)


def test_conservation_in_an_mlp():
  params = layers([10, 30, 30, 20, 4])
  found = kernels_of(scores.synflow(params, mlp, jnp.zeros((1, 10))))
  total = oracle.synflow_mlp(kernels_of(params))[2]
  for score in found:
    np.testing.assert_allclose(oracle.f64(score).sum(), total, rtol=1e-5)
  for one, two in itertools.pairwise(found):  # what goes into a unit comes out of it
    np.testing.assert_allclose(one.sum(axis=0), two.sum(axis=1), rtol=1e-5)


class Convolutional(nn.Module):
  @nn.compact
  def __call__(self, x):
    for width in (8, 16):
      x = nn.Conv(width, (3, 3), use_bias=False, precision='highest')(x)
      x = nn.BatchNorm(use_running_average=True, use_bias=False)(x)
      x = nn.max_pool(nn.relu(x), (2, 2), (2, 2))
    return nn.Dense(5, precision='highest')(x.reshape(len(x), -1))


def test_conservation_in_a_cnn_with_batch_statistics():
  model, x = Convolutional(), jnp.zeros((1, 8, 8, 3))
  variables = model.init(jax.random.key(0), x)
  found = scores.synflow(variables, model.apply, x)['params']
  positive = jax.tree.map(jnp.abs, variables)
  total = oracle.f64(model.apply(positive, jnp.ones_like(x))).sum()
  for name in ('Conv_0', 'Conv_1', 'Dense_0'):
    np.testing.assert_allclose(oracle.f64(found[name]['kernel']).sum(), total, rtol=1e-5)
  for name in ('BatchNorm_0', 'BatchNorm_1'):
    np.testing.assert_allclose(oracle.f64(found[name]['scale']).sum(), total, rtol=1e-5)


def test_batch_statistics_are_made_positive_too():
  fn = lambda p, x: x / jnp.sqrt(p['var'])[None] * p['scale'][None]
  params = {'var': jnp.array([-4.0]), 'scale': jnp.array([-3.0])}
  found = scores.synflow(params, fn, jnp.zeros((1, 1)))
  assert (found['scale'], found['var']) == (1.5, 0.75)  # d R / d var = -3/2 4^-3/2


def test_arguments():
  params = layers([3, 4, 2])

  def fn(params, x, index, train, rate):
    assert train is False
    assert rate == 0.5
    return {'out': mlp(params, x['x'])[:, index], 'classes': jnp.arange(2)}

  struct = {'x': jax.ShapeDtypeStruct((1, 3), jnp.float32)}
  found = scores.synflow(params, fn, struct, jnp.array([0]), False, 0.5)
  assert np.all(found['l001']['kernel'][:, 1] == 0)
  only = {**params, 'l001': {'kernel': params['l001']['kernel'][:, :1]}}
  expected = scores.synflow(only, mlp, struct['x'])
  np.testing.assert_allclose(found['l000']['kernel'], expected['l000']['kernel'], rtol=1e-6)


@pytest.mark.parametrize('wrap', [lambda f: f, jax.jit], ids=['eager', 'jit'])
@pytest.mark.parametrize(('depth', 'scale'), [(24, 1.0), (40, 0.1), (40, 1e-3)])
def test_out_of_the_range_of_float32_in_the_same_order(depth, scale, wrap):
  """64 wide with weights of size 1: R grows by 50 a layer, to 1e40; 40 layers of .001: 1e-51."""
  params = layers([64] * depth, scale)
  found = wrap(lambda p: scores.synflow(p, mlp, jnp.zeros((1, 64))))(params)
  expected, _, total = oracle.synflow_mlp(kernels_of(params))
  ratio = oracle.f64(found['l000']['kernel']).sum() / total
  for one, two in zip(kernels_of(found), expected):
    np.testing.assert_allclose(one, ratio * two, rtol=1e-4)
  assert abs(np.log2(ratio) - round(np.log2(ratio))) < 1e-4
  assert (ratio == pytest.approx(1, rel=1e-4)) == (2.0**-60 < np.max(expected) < 2.0**127)


def test_biases_of_a_deep_network_are_no_error_unless_it_overflows():
  shallow, deep = layers([64] * 10, biases=True), layers([64] * 26, biases=True)
  assert np.isfinite(scores.synflow(shallow, mlp, jnp.zeros((1, 64)))['l000']['bias']).all()
  with pytest.raises(ValueError, match="synflow: `params` must be such that fn does not over.*'l0"):
    scores.synflow(deep, mlp, jnp.zeros((1, 64)))
  found = jax.jit(lambda p: scores.synflow(p, mlp, jnp.zeros((1, 64))))(deep)
  assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(found))
  with pytest.raises(ValueError, match='NaN'):
    masks.top_k_global(found, 0.5)


def test_a_network_through_which_nothing_flows():
  params = layers([4, 5, 3])
  params['l001']['kernel'] *= 0
  found = scores.synflow(params, mlp, jnp.zeros((1, 4)))
  assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(found))


def test_errors():
  params = layers([2, 3])
  with pytest.raises(TypeError, match='synflow: `fn` must be a function of the params .* got int'):
    scores.synflow(params, 3)
  with pytest.raises(TypeError, match='synflow: `fn` must be a function that returns floating'):
    scores.synflow(params, lambda p, x: jnp.argmax(mlp(p, x)), jnp.zeros((1, 2)))
  params['l000']['kernel'] = params['l000']['kernel'].at[0, 0].set(jnp.nan)
  with pytest.raises(ValueError, match="infinite or NaN scores at leaf 'l000/kernel'"):
    scores.synflow(params, mlp, jnp.zeros((1, 2)))
