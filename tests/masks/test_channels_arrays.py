"""Channel selection: what scores are made of, and where masks lie."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jprune import masks
from jprune.masks._channels import units as _units
from tests.masks.channel_graphs import graph_of, kept_of, mlp

SCOPES = ('local', 'global', 'isomorphic')
layers = lambda path, leaf: path.startswith('Dense_')


def test_none_and_other_dtypes_add_nothing():
  params, graph = mlp()
  some = {**params, 'Dense_1': {'kernel': None, 'bias': jnp.arange(10)}}
  found = masks.channels(some, graph, 0.5)
  for layer, unit_scores in (
    (0, params['Dense_0']['kernel'].sum(0)),
    (1, params['Dense_2']['kernel'].sum(1)),
  ):
    worst = np.argsort(unit_scores)[: len(unit_scores) // 2]
    keep = ~np.isin(np.arange(len(unit_scores)), worst)
    np.testing.assert_array_equal(found[f'Dense_{layer}']['bias'], keep)
  traced = jax.jit(lambda s: masks.channels(s, graph, 0.5))(some)
  jax.tree.map(np.testing.assert_array_equal, traced, found)
  assert found['Dense_1']['kernel'].shape == (6, 10)


def test_signed_zeros_are_equal():
  params = {'w': jnp.array([0.0, -0.0, 0.0, -0.0])}
  graph = graph_of(params, ('g', 4, [('w', 0, None)]))
  run = lambda s: masks.channels(s, graph, 0.5)['w']
  assert run(params).tolist() == jax.jit(run)(params).tolist() == [True, True, False, False]


def test_dtypes():
  params, graph = mlp()
  whole = jax.tree.map(lambda x: jnp.round(x * 8) if x.ndim else x, params)
  want = masks.channels(whole, graph, 0.5)
  for dtype in (jnp.bfloat16, jnp.float16, jnp.float8_e4m3fn):
    cast = jax.tree.map(lambda x, d=dtype: x.astype(d) if x.ndim == 2 else x, whole)
    jax.tree.map(np.testing.assert_array_equal, masks.channels(cast, graph, 0.5), want)


def test_float64_scores_are_told_apart():
  w = np.array([1.0, 1.0 + 1e-12, 1.0 + 2e-12, 1.0])
  graph = graph_of({'w': w}, ('g', 4, [('w', 0, None)]))
  assert masks.channels({'w': w}, graph, 0.5)['w'].tolist() == [False, True, True, False]


def test_infinite_scores():
  w = jnp.array([jnp.inf, 1.0, -jnp.inf, 2.0])
  graph = graph_of({'w': w}, ('g', 4, [('w', 0, None)]))
  for scope in SCOPES:
    run = lambda s, scope=scope: masks.channels(s, graph, 0.5, scope=scope)['w']
    assert run({'w': w}).tolist() == jax.jit(run)({'w': w}).tolist() == [True, False, False, True]


@pytest.mark.parametrize('kind', [AxisType.Auto, AxisType.Explicit], ids=str)
@pytest.mark.parametrize('jit', [False, True])
def test_masks_lie_where_the_scores_lie(kind, jit, monkeypatch):
  monkeypatch.setattr(_units, 'ON_HOST', 0)  # reduce on the devices
  params, graph = mlp((8, 16))
  mesh = jax.make_mesh((4, 2), ('x', 'y'), axis_types=(kind, kind))
  specs = {'Dense_0': (None, 'x'), 'Dense_1': ('y', 'x'), 'Dense_2': (('x', 'y'), None)}
  put = lambda x, *spec: jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec)))
  spread = {
    name: {'kernel': put(params[name]['kernel'], *spec), 'bias': put(params[name]['bias'], None)}
    for name, spec in specs.items()
  }
  spread['step'] = params['step']
  for scope in SCOPES:
    run = lambda s, scope=scope: masks.channels(s, graph, 0.4, scope=scope)
    found, want = (jax.jit(run) if jit else run)(spread), run(params)
    jax.tree.map(np.testing.assert_array_equal, found, want)
    for mask, path in [(found[name]['kernel'], name) for name in specs]:
      like = spread[path]['kernel']
      assert mask.sharding.is_equivalent_to(like.sharding, 2), path
  some = {**spread, 'Dense_1': {'kernel': None, 'bias': spread['Dense_1']['bias']}}
  found = (jax.jit(run) if jit else run)(some)
  assert found['Dense_1']['kernel'].shape == (8, 16)


def test_a_leaf_on_another_device():
  params, graph = mlp()
  found = masks.channels(jax.device_put(params, jax.devices()[3]), graph, 0.5)
  assert found['Dense_0']['kernel'].devices() == {jax.devices()[3]}


def test_traced_nan_ranks_last():
  params, graph = mlp()
  params['Dense_0']['bias'] = params['Dense_0']['bias'].at[2].set(jnp.nan)
  for scope in SCOPES:
    found = jax.jit(lambda s, c=scope: masks.channels(s, graph, 1 / 16, scope=c, where=layers))(
      params
    )
    assert kept_of(found, graph)[0] + kept_of(found, graph)[1] in (14, 15)
    if scope != 'local':
      assert found['Dense_0']['bias'].tolist() == [True, True, False, True, True, True]


def test_normalised_scores():
  x = np.array([1.0, -3.0, 2.0, np.inf], np.float32)
  find = lambda how, xp: np.asarray(_units._normalized(xp.asarray(x), how, xp))
  for xp in (np, jnp):
    np.testing.assert_allclose(find('mean', xp), [0.5, -1.5, 1, np.inf])
    np.testing.assert_allclose(find('max', xp), [1 / 3, -1, 2 / 3, np.inf])
    want = (x[:3] - x[:3].mean()) / x[:3].std()
    np.testing.assert_allclose(find('gaussian', xp), [*want, np.inf], rtol=1e-6)
    assert np.array_equal(find(None, xp), x)
    for how in ('mean', 'max', 'gaussian'):
      assert np.asarray(_units._normalized(xp.zeros(3, np.float32), how, xp)).tolist() == [0] * 3


@pytest.mark.parametrize('normalize', ['mean', 'max', 'gaussian'])
def test_normalised_groups_compete_on_equal_terms(normalize):
  params = {'a': jnp.array([1.0, 2.0, 3.0, 4.0]), 'b': jnp.array([100.0, 200.0, 300.0, 400.0])}
  graph = graph_of(params, ('a', 4, [('a', 0, None)]), ('b', 4, [('b', 0, None)]))
  run = lambda how: masks.channels(params, graph, 3 / 8, scope='global', normalize=how)
  found = run(normalize)
  assert found['a'].tolist() == [False, True, True, True]
  assert found['b'].tolist() == [False, False, True, True]
  found = run(None)
  assert found['a'].tolist() == [False, False, False, True]
  assert found['b'].tolist() == [True] * 4


def test_a_function_reduces_members():
  params, graph = mlp()
  seen = []

  def first(means):
    seen.append(means.shape)
    return means[0]

  found = masks.channels(params, graph, 0.5, reduce=first, where=layers)
  assert seen == [(3, 6), (3, 10)]
  for layer in ('Dense_0', 'Dense_1'):
    want = masks.channels(
      params, graph, {graph.groups[int(layer[-1])].name: 0.5}, where=f'{layer}/kernel'
    )
    np.testing.assert_array_equal(found[layer]['bias'], want[layer]['bias'])
  traced = jax.jit(lambda s: masks.channels(s, graph, 0.5, reduce=first, where=layers))(params)
  jax.tree.map(np.testing.assert_array_equal, traced, found)


def test_a_member_without_weights_of_a_unit_is_nan_for_the_function():
  params = {'a': jnp.array([4.0, 2.0, 3.0]), 'b': jnp.array([5.0, 7.0])}
  graph = graph_of(params, ('g', 3, [('a', 0, None), ('b', 0, [2, -1])]))
  found = masks.channels(params, graph, 1 / 3, reduce=lambda x: jnp.nanmax(x, axis=0))
  assert found['a'].tolist() == [True, False, True]
  assert found['b'].tolist() == [True, True]
  with pytest.raises(ValueError, match=r"channels: `reduce` must be .*got NaN.*group 'g'"):
    masks.channels(params, graph, 1 / 3, reduce=lambda x: jnp.sum(x, axis=0))
