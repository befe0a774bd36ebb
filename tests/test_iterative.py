"""Pruning by synaptic flow in rounds: exact, nested, and no layer is emptied."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jprune
from tests import reference, reference_gradients
from tests.scores.test_synflow import kernels_of, layers, mlp

WIDTHS = [16, 40, 40, 4, 40, 40, 6]  # deep, with a neck
X = jnp.zeros((1, 16))


def network(widths=WIDTHS):
  rng = np.random.default_rng(0)
  return {
    f'l{i}': {'kernel': jnp.asarray(rng.normal(size=(a, b)) * np.sqrt(2 / a), jnp.float32)}
    for i, (a, b) in enumerate(itertools.pairwise(widths))
  }


def left(masks):
  return [int(mask.sum()) for mask in kernels_of(masks)]


def by_hand(kernels, sparsity, rounds):
  """Tanaka et al. 2020, algorithm 1, in float64."""
  total = sum(k.size for k in kernels)
  alive = [np.ones(k.shape, bool) for k in kernels]
  for r in range(1, rounds + 1):
    found = reference_gradients.synflow_mlp(
      [reference_gradients.f64(k) * m for k, m in zip(kernels, alive)]
    )[0]
    ranked = [np.where(m, s, -1.0) for s, m in zip(found, alive)]
    goal = 1 - (1 - sparsity) ** (r / rounds)
    alive = reference.top_k_together(ranked, total - round(goal * total))
  return alive


@pytest.mark.parametrize('wrap', [lambda f: f, jax.jit], ids=['eager', 'jit'])
def test_is_the_algorithm(wrap):
  params = network()
  prune = lambda p: jprune.synflow_prune(mlp, p, X, sparsity=0.93, rounds=7)
  found = wrap(prune)(params)
  for one, two in zip(kernels_of(found), by_hand(kernels_of(params), 0.93, 7)):
    np.testing.assert_array_equal(one, two)


def test_every_layer_stays_alive_up_to_the_last_weight():
  """As few weights as there are layers: one path through all of them."""
  params = network()
  size = sum(leaf.size for leaf in jax.tree.leaves(params))
  for kept in (60, len(params)):
    sparsity = 1 - kept / size
    iterated = left(jprune.synflow_prune(mlp, params, X, sparsity=sparsity))
    at_once = left(jprune.synflow_prune(mlp, params, X, sparsity=sparsity, rounds=1))
    by_size = jprune.prune(params, sparsity, distribution=jprune.distributions.global_)
    assert sum(iterated) == sum(at_once) == kept
    assert min(iterated) > 0
    assert min(at_once) == min(left(by_size)) == 0
  assert iterated == [1] * len(params)
  masks = jprune.synflow_prune(mlp, params, X, sparsity=sparsity)
  positive = jax.tree.map(jnp.abs, jprune.apply(params, masks))
  assert np.sum(mlp(positive, jnp.ones_like(X))) > 0


def test_one_round_is_global_pruning_by_the_scores():
  params = network()
  found = jprune.synflow_prune(mlp, params, X, sparsity=0.7, rounds=1)
  expected = jprune.masks.top_k_global(jprune.scores.synflow(params, mlp, X), 0.7)
  jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize('sparsity', [0.0, 0.123, 0.5, 0.9, 0.999])
def test_exact_in_number_and_nested(sparsity):
  params = network([7, 11, 13, 3])
  size = sum(leaf.size for leaf in jax.tree.leaves(params))
  found = jprune.synflow_prune(mlp, params, jnp.zeros((1, 7)), sparsity=sparsity, rounds=5)
  assert sum(left(found)) == size - round(sparsity * size)
  more = jprune.synflow_prune(
    mlp, params, jnp.zeros((1, 7)), sparsity=max(sparsity, 0.95), rounds=5, masks=found
  )
  assert sum(left(more)) == size - round(max(sparsity, 0.95) * size)
  jax.tree.map(lambda one, two: np.testing.assert_array_equal(two & ~one, False), found, more)


def test_one_compilation_for_all_rounds():
  traces = []

  def counted(params, x):
    traces.append(1)
    return mlp(params, x)

  jprune.synflow_prune(counted, network(), X, sparsity=0.5, rounds=1)
  alone = len(traces)
  jprune.synflow_prune(counted, network(), X, sparsity=0.5, rounds=9)
  assert len(traces) == 2 * alone


def test_traced_sparsity_and_vmap():
  params = network([7, 11, 3])
  prune = lambda p, s: jprune.synflow_prune(mlp, p, jnp.zeros((1, 7)), sparsity=s, rounds=4)
  expected = [prune(params, s) for s in (0.5, 0.75)]
  for s, masks in zip((0.5, 0.75), expected):
    jax.tree.map(np.testing.assert_array_equal, jax.jit(prune)(params, s), masks)
  both = jax.vmap(prune, (None, 0))(params, jnp.array([0.5, 0.75]))
  for i, masks in enumerate(expected):
    jax.tree.map(lambda a, b, i=i: np.testing.assert_array_equal(a[i], b), both, masks)


def test_where_pattern_and_leaves_that_stay():
  params = {**layers([8, 8, 8, 4], biases=True), 'z': {'steps': jnp.array(3), 'act': jnp.tanh}}
  fn = lambda p, x: mlp({name: p[name] for name in sorted(p) if name != 'z'}, x)
  call = lambda **kw: jprune.synflow_prune(fn, params, jnp.zeros((1, 8)), rounds=3, **kw)
  found = call(sparsity=0.5, pattern=jprune.masks.Block((2, 2)), where='l00[01]/kernel')
  assert found['z'] == {'steps': None, 'act': None}
  assert found['l002'] == {'kernel': None, 'bias': None}
  blocks = np.concatenate(
    [np.asarray(found[n]['kernel']).reshape(4, 2, 4, 2).mean((1, 3)) for n in ('l000', 'l001')]
  )
  assert set(np.unique(blocks)) == {0.0, 1.0}
  assert blocks.sum() == 16
  more = call(sparsity=0.5, where='l002/kernel', masks=found)
  assert int(more['l002']['kernel'].sum()) == 16
  np.testing.assert_array_equal(more['l000']['kernel'], found['l000']['kernel'])


@pytest.mark.parametrize('kind', list(jax.sharding.AxisType)[:2], ids=str)
@pytest.mark.parametrize('wrap', [lambda f: f, jax.jit], ids=['eager', 'jit'])
def test_sharding_is_kept(kind, wrap):
  mesh = jax.make_mesh((4,), ('x',), axis_types=(kind,))
  place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, 'x'))
  # a sum of parts: what products of sharded factors need is the model's affair
  fn = lambda p, x: jnp.sum(p['a'] ** 2) * x + jnp.sum(p['b']) * x
  rng = np.random.default_rng(0)
  params = {n: jnp.asarray(rng.normal(size=(6, 8)), jnp.float32) for n in 'ab'}
  prune = wrap(lambda p: jprune.synflow_prune(fn, p, jnp.zeros(1), sparsity=0.8, rounds=3))
  found = prune(jax.device_put(params, place))
  for name, mask in prune(params).items():
    np.testing.assert_array_equal(found[name], mask)
    assert found[name].sharding.is_equivalent_to(place, 2)


def test_params_are_not_touched():
  params = network([7, 11, 3])
  before = jax.tree.map(np.array, params)
  masks = jprune.synflow_prune(mlp, params, jnp.zeros((1, 7)), sparsity=0.5, rounds=2)
  jprune.synflow_prune(mlp, params, jnp.zeros((1, 7)), sparsity=0.7, rounds=2, masks=masks)
  jax.tree.map(np.testing.assert_array_equal, params, before)
  assert sum(left(masks)) == 55


def test_errors():
  params = network([4, 3])
  call = lambda **kw: jprune.synflow_prune(mlp, params, jnp.zeros((1, 4)), **kw)
  with pytest.raises(TypeError, match='synflow_prune: `sparsity` must be a number in'):
    call(sparsity=None)
  with pytest.raises(ValueError, match=r'synflow_prune: `sparsity` must be in \[0, 1\]; got 90'):
    call(sparsity=90)
  with pytest.raises(ValueError, match='synflow_prune: `sparsity` must be below 1'):
    call(sparsity=1.0)
  with pytest.raises(ValueError, match='synflow_prune: `rounds` must be an int of at least 1'):
    call(sparsity=0.5, rounds=0)
  with pytest.raises(ValueError, match='synflow_prune: `pattern` must be one with units'):
    call(sparsity=0.5, pattern=jprune.masks.NOfM(2, 4))
  with pytest.raises(TypeError, match='synflow_prune: `pattern` must be a pattern'):
    call(sparsity=0.5, pattern=jprune.masks.Unstructured)
  with pytest.raises(ValueError, match='synflow_prune: `where` '):
    call(sparsity=0.5, where='nothing')
  with pytest.raises(ValueError, match='synflow_prune: `masks` must be'):
    call(sparsity=0.5, masks={'other': None})
  with pytest.raises(TypeError, match='synflow_prune: `fn` must be a function'):
    jprune.synflow_prune(None, params, sparsity=0.5)
  deep = layers([64] * 26, biases=True)
  with pytest.raises(ValueError, match='synflow_prune: `params` must be such that fn does not ov'):
    jprune.synflow_prune(mlp, deep, jnp.zeros((1, 64)), sparsity=0.5)
