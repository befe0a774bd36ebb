"""The plan slices all that mirrors the params, and puts it back."""

import copy
import dataclasses
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jprune
from jprune import tree
from jprune._shrink import Plan
from tests.shrink import _masks
from tests.shrink._networks import made_mlp, mlp, mlp_params, shrunk


@pytest.fixture(autouse=True)
def _in_float64():
  with jax.enable_x64(True), jax.numpy_dtype_promotion('standard'):  # optax mixes dtypes
    yield


@pytest.fixture
def net():
  return made_mlp()


def shapes(values):
  return jax.tree.map(jnp.shape, values)


OPTIMIZERS = {
  'adam': optax.adam(1e-3),
  'momentum': optax.sgd(1e-3, momentum=0.9),
  'adafactor': optax.adafactor(1e-3),
  'adafactor_factored': optax.adafactor(1e-3, min_dim_size_to_factor=3, momentum=0.9),
  'clipped_lion': optax.chain(optax.clip_by_global_norm(1.0), optax.lion(1e-3)),
  'lookahead_free_average': optax.chain(optax.adamw(1e-3), optax.ema(0.9)),
  'multi_steps': optax.MultiSteps(optax.adam(1e-3), 2),
  'injected': optax.inject_hyperparams(optax.adam)(learning_rate=1e-3),
  'masked': optax.masked(optax.adam(1e-3), lambda p: jax.tree.map(lambda x: x.ndim > 1, p)),
  'multi_transform': optax.multi_transform(
    {'a': optax.adam(1e-3), 'b': optax.sgd(1e-3, momentum=0.9)},
    lambda p: jax.tree.map(lambda x: 'a' if x.ndim > 1 else 'b', p),
  ),
}


@pytest.mark.parametrize('name', OPTIMIZERS)
def test_states_of_optimizers_become_those_of_the_small_params(name):
  params = mlp_params(inputs=3, width=16, outputs=4)
  net = shrunk(mlp, params, jnp.ones((2, 3)))
  tx = OPTIMIZERS[name]
  state = net.small.plan.slice(tx.init(params))
  expected = tx.init(net.small.params)
  assert jax.tree.structure(state) == jax.tree.structure(expected)
  assert shapes(state) == shapes(expected)
  grads = jax.tree.map(jnp.ones_like, net.small.params)
  tx.update(grads, state, net.small.params)


def test_masks_in_a_state_are_sliced_too(net):
  tx = optax.chain(optax.adamw(1e-3), jprune.keep_pruned(net.masks))
  state = net.small.plan.slice(tx.init(net.params))
  small = jprune.keep_pruned(net.small.plan.slice(net.masks)).init(net.small.params)
  _masks.assert_same(small.masks, optax.tree.get(state, 'masks'))


def test_a_bare_array_is_a_tree_like_any_other():
  w = jnp.asarray(np.random.default_rng(0).standard_normal((3, 8)))
  net = shrunk(lambda w, x: jnp.tanh(x @ w).sum(-1), w, jnp.ones((2, 3)))
  assert net.small.params.shape == (3, 4)
  state = net.small.plan.slice(optax.adam(1e-3).init(w))
  assert shapes(state) == shapes(optax.adam(1e-3).init(net.small.params))


def test_lists_and_tuples_of_params():
  layers = [(jnp.ones((3, 8)), jnp.ones(8)), (jnp.ones((8, 8)), jnp.ones(8)), (jnp.ones((8, 2)),)]

  def fn(layers, x):
    for w, b in layers[:-1]:
      x = jnp.tanh(x @ w + b[None])
    return x @ layers[-1][0]

  net = shrunk(fn, layers, jnp.ones((2, 3)))
  tx = optax.chain(optax.adam(1e-3), optax.trace(0.9))
  assert shapes(net.small.plan.slice(tx.init(layers))) == shapes(tx.init(net.small.params))


def test_expand_is_the_inverse_where_anything_stays(net):
  plan, values = net.small.plan, jax.tree.map(jnp.cos, net.params)
  back = plan.expand(plan.slice(values))
  inside = {'stem': {'kernel': 1, 'bias': 0}, 'mid': {'kernel': 0}, 'head': {'kernel': 0}}
  assert plan.kept.keys() >= {f'{a}/{b}' for a, axes in inside.items() for b in axes}
  for path, whole, again in zip(*tree.flatten(values)[:2], jax.tree.leaves(back)):
    stays = np.zeros(whole.shape, bool)
    kept = [plan.kept.get(path, {}).get(axis, range(n)) for axis, n in enumerate(whole.shape)]
    stays[np.ix_(*kept)] = True
    np.testing.assert_array_equal(again, np.where(stays, whole, 0.0))
  _masks.assert_same(plan.slice(values), plan.slice(back), 0.0)
  bools = plan.expand(plan.slice(net.masks))
  assert all(leaf.dtype == bool for leaf in jax.tree.leaves(bools))


def test_plan_to_json_and_back(net):
  plan = net.small.plan
  again = Plan.from_dict(json.loads(json.dumps(plan.to_dict())))
  assert again == plan
  _masks.assert_same(plan.slice(net.params), again.slice(net.params))


def test_shape_structs_and_packed_masks_are_sliced(net):
  structs = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), net.params)
  sliced = net.small.plan.slice(structs)
  assert shapes(sliced) == shapes(net.small.params)
  packed = net.small.plan.slice(jprune.masks.pack(net.masks))
  _masks.assert_same(net.small.plan.slice(net.masks), jprune.masks.unpack(packed))


def test_one_array_under_two_paths_stays_one():
  w = jnp.asarray(np.random.default_rng(0).standard_normal((3, 8)))
  fn = lambda params, x: jnp.tanh(x @ params['in']) @ params['out'].T
  keep = np.broadcast_to(np.arange(8) % 2 == 0, (3, 8))
  x = jnp.ones((2, 3))
  small = jprune.shrink(fn, {'in': w, 'out': w}, {'in': keep, 'out': keep}, x)
  assert small.params['in'].shape == (3, 4)
  sliced = small.plan.slice({'in': w, 'out': w})
  assert sliced['in'] is sliced['out']
  assert small.params['in'] is small.params['out']


def test_shardings_are_kept_where_they_divide():
  mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ('a', 'b'))
  params = mlp_params(inputs=8, width=16, outputs=4)
  params['odd'] = jnp.ones((16, 3))
  params = jax.tree.map(lambda x: jax.device_put(x, NamedSharding(mesh, P())), params)
  put = lambda x, *spec: jax.device_put(x, NamedSharding(mesh, P(*spec)))
  params['stem']['kernel'] = put(params['stem']['kernel'], 'b', 'a')
  params['mid']['kernel'] = put(params['mid']['kernel'], ('a', 'b'), None)
  params['odd'] = put(params['odd'], 'a', None)

  def fn(params, x):
    return mlp(params, x) + (jnp.tanh(x @ params['stem']['kernel']) @ params['odd']).sum()

  graph = jprune.graph.channels(fn, params, jnp.ones((2, 8)))
  kept = _masks.half_kept(graph, np.random.default_rng(0))
  masks = _masks.masks_of(graph, kept)
  small = jprune.shrink(fn, params, masks, jnp.ones((2, 8)))
  assert small.params['stem']['kernel'].shape == (8, 8)
  assert small.params['stem']['kernel'].sharding.spec == P('b', 'a')
  assert small.params['mid']['kernel'].sharding.spec == P(('a', 'b'), None)
  assert small.params['odd'].sharding.spec == P('a', None)
  x = jnp.cos(jnp.arange(16.0)).reshape(2, 8)
  expected = fn(jprune.apply(params, masks), x)
  _masks.assert_same(expected, jax.jit(small.fn)(small.params, x))
  one_left = [np.arange(len(keep)) == 0 for keep in kept]
  small = jprune.shrink(fn, params, _masks.masks_of(graph, one_left), x)
  assert small.params['stem']['kernel'].sharding.spec == P('b', None)
  assert small.params['mid']['kernel'].sharding.mesh == mesh


def test_what_was_free_to_be_moved_still_is(tmp_path):
  net = made_mlp()
  free = jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf)), net.params)
  with jax.default_device(jax.devices()[3]):
    there = jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf)), net.params)
  fixed = jax.device_put(net.params, jax.devices()[2])
  jprune.save(tmp_path / 'free', free, net.masks)
  plan = jprune.shrink(net.fn, free, net.masks, net.x).plan
  packed = jprune.masks.pack(net.masks)
  keys = {'stem': {'bias': jax.random.split(jax.random.key(0), 8)}, 'count': jnp.zeros(())}
  for made in (
    jprune.shrink(net.fn, free, net.masks, net.x).params,
    plan.slice((optax.adam(1e-3).init(free), packed, keys)),
    plan.expand(plan.slice(free)),
    jprune.load(tmp_path / 'free'),
    jprune.load(tmp_path / 'free', like=free),
  ):
    assert not any(leaf.committed for leaf in jax.tree.leaves(made))
  for one, device in ((there, 3), (fixed, 2)):
    for leaf in jax.tree.leaves((plan.slice(one), plan.expand(plan.slice(one)))):
      assert (leaf.devices(), leaf.committed) == ({jax.devices()[device]}, device == 2)
  mesh = jax.make_mesh((2,), ('data',), axis_types=(AxisType.Auto,))
  batch = jax.device_put(net.x, NamedSharding(mesh, P('data')))
  small = plan.slice(jprune.apply(free, net.masks))
  _masks.assert_same(net.fn(net.masked, net.x), jax.jit(net.small.fn)(small, batch))


def test_axes_sharded_explicitly():
  mesh = jax.make_mesh((4,), ('a',), axis_types=(AxisType.Explicit,))
  put = lambda x, *spec: jax.device_put(x, NamedSharding(mesh, P(*spec)))
  rng = np.random.default_rng(0)
  params = {
    'in': put(jnp.asarray(rng.standard_normal((3, 16))), None, 'a'),
    'out': put(jnp.asarray(rng.standard_normal((16, 2))), None, None),
  }
  spec = NamedSharding(mesh, P())

  def fn(params, x):
    hidden = jax.nn.elu(jnp.einsum('bi,ij->bj', x, params['in']))  # brings a rule of its own
    return jnp.einsum('bi,ij->bj', jnp.tanh(jax.sharding.reshard(hidden, spec)), params['out'])

  with jax.sharding.use_mesh(mesh) if hasattr(jax.sharding, 'use_mesh') else jax.set_mesh(mesh):
    x = put(jnp.ones((2, 3)), None, None)
    net = shrunk(fn, params, x)
    assert net.small.params['in'].shape == (3, 8)
    assert net.small.params['in'].sharding.spec == P(None, 'a')
    _masks.assert_same(fn(net.masked, x), net.small.fn(net.small.params, x))
    slopes = jax.grad(lambda params: net.small.fn(params, x).sum())(net.small.params)
    assert slopes['in'].sharding.spec == P(None, 'a')


@pytest.mark.parametrize('units', [8, 5], ids=['divided', 'not_divided'])
def test_layers_split_over_devices_explicitly(units):
  mesh = jax.make_mesh((2, 4), ('a', 'b'), axis_types=(AxisType.Explicit, AxisType.Explicit))
  put = lambda x, *spec: jax.device_put(x, NamedSharding(mesh, P(*spec)))
  dot = lambda x, w, *spec: jnp.einsum('bi,ij->bj', x, w, out_sharding=P(*spec))
  some = lambda *shape: jnp.asarray(np.random.default_rng(shape).standard_normal(shape))

  def fn(params, x):
    x = dot(jax.nn.elu(dot(x, params['up'], 'a', 'b')), params['down'], 'a', None)
    x = dot(x, params['heads'], 'a', 'b').reshape(4, 4, 4)
    shift = jax.sharding.reshard(jnp.tanh(jnp.arange(64.0).reshape(4, 4, 4)), P('a', 'b', None))
    x = (x + jax.sharding.reshard(shift, P('a', 'b', None))).reshape(
      4, 16, out_sharding=P('a', 'b')
    )
    return dot(x, params['out'], 'a', None)

  with jax.set_mesh(mesh):
    params = {
      'up': put(some(3, 16), None, 'b'),
      'down': put(some(16, 6), 'b', None),
      'heads': put(some(6, 16), None, 'b'),
      'out': put(some(16, 2), 'b', None),
    }
    x = put(some(4, 3), 'a', None)
    graph = jprune.graph.channels(fn, params, x)
    kept = [np.arange(group.size) < (units if group.size == 16 else 2) for group in graph.groups]
    pair = _masks.pair(fn, params, _masks.masks_of(graph, kept), x, graph=graph)
    assert jax.tree.map(jnp.shape, pair.small.params) == {
      'up': (3, units),
      'down': (units, 2),
      'heads': (2, 4),
      'out': (4, 2),
    }
    assert pair.small.params['up'].sharding.spec == P(None, 'b' if units == 8 else None)
    _masks.assert_same(*_masks.outputs(pair, x))


@pytest.mark.parametrize(
  'tx',
  [optax.sgd(0.05, momentum=0.9), optax.adam(0.01), optax.adamw(0.01, weight_decay=0.1)],
  ids=['sgd', 'adam', 'adamw'],
)
def test_training_the_small_params_is_training_the_masked_ones(net, tx):
  def train(fn, tx, params, state, steps):
    loss = lambda params: jnp.square(fn(params, net.x) - 1.0).mean()

    def step(both, _):
      params, state = both
      updates, state = tx.update(jax.grad(loss)(params), state, params)
      return (optax.apply_updates(params, updates), state), None

    return jax.jit(lambda both: jax.lax.scan(step, both, length=steps)[0])((params, state))

  pruned = optax.chain(tx, jprune.keep_pruned(net.masks))
  params, state = train(net.fn, pruned, net.masked, pruned.init(net.masked), 2)
  plan = net.small.plan
  small, inner = plan.slice(params), plan.slice(state[0])
  params, state = train(net.fn, pruned, params, state, 2)
  small, inner = train(net.small.fn, tx, small, inner, 2)
  _masks.assert_same(plan.slice(params), small)
  _masks.assert_same(plan.slice(state[0]), inner)


def test_trees_that_have_nothing_to_do_with_the_params_are_refused():
  fn = lambda p, x: jnp.tanh(x @ p['a']['b']) @ p['c']
  params = {'a': {'b': jnp.ones((3, 8))}, 'c': jnp.ones((8, 2))}
  plan = shrunk(fn, params, jnp.ones((2, 3))).small.plan
  with pytest.raises(ValueError, match=r"^plan\.slice: `other` must be .*; got leaves 'zz'"):
    plan.slice({'zz': jnp.ones((8, 2))})
  with pytest.raises(ValueError, match=r"the param 'a/b'.*Initialise it anew"):
    plan.slice({'mu': {'a': {'b': [jnp.ones(3), jnp.ones(8)]}, 'c': jnp.ones((8, 2))}})
  assert plan.slice({'count': jnp.zeros(())}) == {'count': jnp.zeros(())}


def test_a_plan_is_copied_pickled_and_hashed(net):
  plan = dataclasses.replace(net.small.plan, partly={'some[0]': 1}, zeros=2)
  assert plan != net.small.plan
  for again in (
    copy.copy(plan),
    copy.deepcopy(plan),
    pickle.loads(pickle.dumps(plan)),
    Plan.from_dict(json.loads(json.dumps(plan.to_dict()))),
    Plan(**dataclasses.asdict(plan)),
  ):
    assert again == plan
    assert hash(again) == hash(plan)
    with pytest.raises(TypeError, match='read-only'):
      again.kept['stem/kernel'][1] = ()


def test_a_plan_that_an_earlier_version_wrote():
  data = made_mlp().small.plan.to_dict()
  del data['partly'], data['zeros']
  assert Plan.from_dict(data) == made_mlp().small.plan


def test_a_plan_keeps_what_it_was_made_of_apart():
  shapes, kept = {'a': (4,)}, {'a': {0: (1, 2)}}
  plan = Plan(shapes, kept)
  shapes['b'], kept['a'][0] = (3,), (0,)
  assert plan.size == (4, 2)
  assert plan.slice({'a': np.arange(4)})['a'].tolist() == [1, 2]


def test_the_zeros_that_stay_are_said(net):
  pruned = lambda x: np.arange(x.size).reshape(x.shape) % 3 == 0 if x.ndim > 1 else x != x
  masks = jax.tree.map(lambda x: ~np.asarray(pruned(x)), net.params)
  with pytest.warns(UserWarning, match='nothing gets smaller'):
    plan = jprune.shrink(net.fn, net.params, masks, net.x).plan
  zeros = sum(int((~mask).sum()) for mask in jax.tree.leaves(masks))
  assert plan.zeros == zeros > 0
  size = sum(mask.size for mask in jax.tree.leaves(masks))
  assert str(plan).splitlines()[:2] == [
    f'{size} of {size} weights stay (100.00%).',
    f'{zeros} of them are masked, in channels that stay.',
  ]
  assert f'{zeros} of them' in plan._repr_html_()
  assert net.small.plan.zeros == 0
