"""Layers in a stack lose what the same layers lose one by one, by names and by roles."""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import jprune
from jprune import distributions, scores
from jprune.masks import Block, Channel, NOfM

LAYERS = 3
RNG = np.random.default_rng(0)


def draw(*shape):
  return jnp.asarray(
    RNG.normal(size=shape) * RNG.lognormal(size=(shape[0], *[1] * (len(shape) - 1)))
  )


STACK = {
  'head': {'kernel': draw(8, 6), 'bias': draw(6)},
  'layers': {
    'norm': {'scale': draw(LAYERS, 8)},
    'up': {'kernel': draw(LAYERS, 8, 12), 'bias': draw(LAYERS, 12)},
    'down': {'kernel': draw(LAYERS, 12, 8), 'bias': draw(LAYERS, 8)},
  },
}
LISTED = {
  'head': STACK['head'],
  'layers': [jax.tree.map(operator.itemgetter(i), STACK['layers']) for i in range(LAYERS)],
}
X = jnp.ones((4, 8))


def layer(x, p):
  y = x * p['norm']['scale'][None]
  y = jax.nn.relu(y @ p['up']['kernel'] + p['up']['bias'][None])
  return x + y @ p['down']['kernel'] + p['down']['bias'][None]


def listed_fn(params, x):
  for each in params['layers']:
    x = layer(x, each)
  return x @ params['head']['kernel'] + params['head']['bias'][None]


def stacked_fn(params, x):
  x, _ = jax.lax.scan(lambda x, p: (layer(x, p), None), x, params['layers'])
  return x @ params['head']['kernel'] + params['head']['bias'][None]


owl = functools.partial(distributions.owl, m=1.5, lam=0.2)
ASKED = {
  'magnitude': {'sparsity': 0.55},
  'lamp over all': {
    'sparsity': 0.6,
    'scorer': scores.lamp,
    'distribution': distributions.global_,
  },
  'erk': {'sparsity': 0.5, 'distribution': distributions.erk},
  'er': {'sparsity': 0.5, 'distribution': distributions.er},
  'owl': {'sparsity': 0.5, 'distribution': owl},
  '2:4': {'pattern': NOfM(2, 4)},
  'outputs': {'sparsity': 0.5, 'pattern': Channel()},
  'tiles': {'sparsity': 0.5, 'pattern': Block((4, 2))},
  'bounded': {
    'sparsity': 0.9,
    'distribution': distributions.global_,
    'min_keep': 2,
    'max_sparsity': 0.95,
  },
  'each output bounded': {'sparsity': 0.8, 'min_keep': 2, 'per_output': True},
}


@pytest.mark.parametrize('name', ASKED)
def test_a_stack_loses_what_its_layers_lose(name):
  asked = ASKED[name]
  want = jprune.prune(LISTED, **asked)
  for roles in (None, jprune.graph.roles(stacked_fn, STACK, X)):
    found = jprune.prune(STACK, roles=roles, **asked)
    assert found['layers']['norm']['scale'] is found['layers']['up']['bias'] is None
    np.testing.assert_array_equal(found['head']['kernel'], want['head']['kernel'])
    for part in ('up', 'down'):
      each = [one[part]['kernel'] for one in want['layers']]
      np.testing.assert_array_equal(found['layers'][part]['kernel'], np.stack(each))


def test_rounds_jit_and_shardings():
  params = {'up': STACK['layers']['up']}  # a stack by its bias
  first = jprune.prune(params, 0.3)
  second = jprune.prune(params, 0.6, masks=first, scorer=scores.random, key=jax.random.key(0))
  kept, before = second['up']['kernel'], first['up']['kernel']
  assert not (kept & ~before).any()
  assert kept.sum((1, 2)).tolist() == [96 - round(0.6 * 96)] * LAYERS
  traced = jax.jit(lambda p, s: jprune.prune(p, s))(params, 0.3)
  np.testing.assert_array_equal(traced['up']['kernel'], before)
  mesh = jax.make_mesh((2,), ('d',), axis_types=(jax.sharding.AxisType.Auto,))
  split = NamedSharding(mesh, PartitionSpec(None, 'd'))
  placed = {'up': {**params['up'], 'kernel': jax.device_put(params['up']['kernel'], split)}}
  found = jprune.prune(placed, 0.3)['up']['kernel']
  assert found.sharding == split
  np.testing.assert_array_equal(found, before)


def test_explicit_meshes():
  mesh = jax.make_mesh((2,), ('d',), axis_types=(jax.sharding.AxisType.Explicit,))
  split = NamedSharding(mesh, PartitionSpec(None, None, 'd'))
  params = {'w': jax.device_put(STACK['layers']['up']['kernel'], split)}
  fn = lambda p, x: jax.lax.scan(lambda _, w: (None, x @ w), None, p['w'])[1]
  roles = jprune.graph.roles(
    fn, jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params), X
  )
  want = jprune.prune({'w': STACK['layers']['up']['kernel']}, 0.5, roles=roles)['w']
  prune = lambda p: jprune.prune(p, 0.5, roles=roles)
  for each in (prune, jax.jit(prune)):
    with jax.set_mesh(mesh):
      found = each(params)['w']
    assert found.sharding.is_equivalent_to(split, 3)
    np.testing.assert_array_equal(found, want)


def test_queries_and_outputs_of_attention_by_name_alone():
  w = draw(16, 16)
  same = {'query': {'kernel': w.reshape(16, 4, 4)}, 'out': {'kernel': w.reshape(4, 4, 16)}}
  same |= {'weight': w.T, 'kernel': w}
  kept = jprune.masks.top_k_rows(same, 0.5)
  np.testing.assert_array_equal(kept['query']['kernel'].reshape(16, 16), kept['kernel'])
  np.testing.assert_array_equal(kept['out']['kernel'].reshape(16, 16), kept['kernel'])
  np.testing.assert_array_equal(kept['weight'].T, kept['kernel'])
  nofm = jprune.masks.n_of_m(same, 2, 4)
  np.testing.assert_array_equal(nofm['query']['kernel'].reshape(16, 16), nofm['kernel'])
  np.testing.assert_array_equal(nofm['weight'].T, nofm['kernel'])
  er = jprune.distributions.er(same, same, 0.5)
  assert len(set(jax.tree.leaves(er))) == 1


def test_roles_select_wherever_leaves_are_selected():
  roles = jprune.graph.roles(stacked_fn, STACK, X)
  _, stats = jprune.graph.capture(stacked_fn, STACK, X, where=roles)
  assert set(stats.paths) == set(roles.kernels)
  drawn = jprune.masks.bernoulli(STACK, 0.5, key=jax.random.key(0), where=roles)
  assert drawn['layers']['norm']['scale'] is None
  metric = lambda params: float(jnp.abs(stacked_fn(params, X)).sum())
  found = jprune.sensitivity.run(metric, STACK, sparsity=0.5, where=roles, progress=False)
  layers = found.masks['layers']['up']['kernel']
  assert len(set(layers.sum((1, 2)).tolist())) == 1
