"""Params on eight devices, whether or not their types say how they are split."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jprune
from jprune import reconstruct

SPLIT = {'up': PartitionSpec(None, 'd'), 'down': PartitionSpec(None, None, 'd')}


def net(params, x, whole=None):
  """Residual layers in a scan; ``whole`` is the sharding of what stays on all devices."""
  dot = functools.partial(jnp.einsum, 'ni,io->no', **({'out_sharding': whole} if whole else {}))

  def step(x, layer):
    return x + dot(jnp.tanh(dot(x, layer['up'])), layer['down']), None

  return jax.lax.scan(step, x, params)[0]


@pytest.fixture(scope='module')
def given():
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.normal(size=shape).astype(np.float32) / 2
  return {'up': draw(2, 16, 24), 'down': draw(2, 24, 16)}, draw(64, 16)


@pytest.mark.parametrize(
  ('method', 'sequential', 'kind'),
  [
    (reconstruct.sparsegpt, False, AxisType.Explicit),
    (None, True, AxisType.Auto),
  ],
  ids=['sparsegpt, explicit', 'masks, sequential, auto'],
)
def test_all_of_a_model(given, method, sequential, kind):
  params, x = given
  options = {
    'sparsity': 0.45,
    'method': method,
    'sequential': sequential,
    'distribution': jprune.distributions.global_,
    'progress': False,
  }
  expected = reconstruct.prune(net, params, [x], **options)
  mesh = jax.make_mesh((8,), ('d',), axis_types=(kind,))
  place = lambda leaf, spec: jax.device_put(leaf, NamedSharding(mesh, spec))
  split = {name: place(leaf, SPLIT[name]) for name, leaf in params.items()}
  whole = NamedSharding(mesh, PartitionSpec()) if kind == AxisType.Explicit else None
  fn, x = functools.partial(net, whole=whole), place(x, PartitionSpec())
  with jax.set_mesh(mesh) if method is reconstruct.sparsegpt else contextlib.nullcontext():
    new, masks, report = reconstruct.prune(fn, split, [x], **options)
  for name, leaf in split.items():
    assert new[name].sharding == masks[name].sharding == leaf.sharding
    np.testing.assert_array_equal(masks[name], expected[1][name])
    np.testing.assert_allclose(new[name], expected[0][name], rtol=1e-3, atol=1e-4)
    assert report[name].pruned == expected[2][name].pruned
  fn(new, x)  # types fit


@pytest.mark.parametrize('method', ['sparsegpt', 'alps', 'least_squares', 'per_output'])
def test_single_methods_with_splits_in_the_types(given, method):
  params, x = given
  params = {'w': params['up'][0]}
  _, stats = jprune.graph.capture(lambda p, x: x @ p['w'], params, x, gram=True)
  mesh = jax.make_mesh((8,), ('d',), axis_types=(AxisType.Explicit,))
  split = {'w': jax.device_put(params['w'], NamedSharding(mesh, PartitionSpec('d')))}

  def masks(params):
    if method == 'least_squares':
      return reconstruct.least_squares(
        params, stats, jax.tree.map(lambda w: jnp.abs(w) > 0.3, params)
      )[0]
    if method == 'per_output':
      return reconstruct.per_output(jax.tree.map(jnp.abs, params), stats, 0.45)
    return getattr(reconstruct, method)(params, stats, 0.45)[0]

  found = masks(split)['w']
  assert found.sharding.is_equivalent_to(split['w'].sharding, 2)
  np.testing.assert_allclose(found, masks(params)['w'], rtol=1e-3, atol=1e-4)
