"""Every public call under every mode of JAX that changes what runs, or what is allowed to.

A new public name joins ``CALLS``; one that doesn't fails. A row calls what it names, or what
instances of that do, with params small enough for ``jax_disable_jit``, and returns what can be
compared. The data of the calls, and the results to compare with, are made in no mode, which here
is strict promotion (``conftest.py``).
"""

import functools
import inspect
import os
import tempfile
import types

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jprune
import jprune.equinox
import jprune.nnx
from jprune import (
  distributions,
  graph,
  io,
  masks,
  reconstruct,
  schedules,
  scores,
  sensitivity,
  transforms,
  tree,
)
from jprune.masks import Block, Channel, NOfM
from tests.test_docs import _public_names

MODES = {
  'debug_nans': lambda: jax.debug_nans(True),
  'disable_jit': lambda: jax.disable_jit(True),
  'transfer_guard': lambda: jax.transfer_guard('disallow'),
  'checking_leaks': lambda: jax.checking_leaks(),
}


def forward(params, x):
  return jnp.tanh(x @ params['in']) @ params['out']


def loss(params, x):
  return jnp.mean(jnp.square(forward(params, x)))


def evaluate(params):
  return float(jnp.count_nonzero(params['in']))


def data(put=lambda tree: tree):
  """Params, a second tree like them, masks, channel masks, a batch, statistics and the like.

  Args:
    put: says where the arrays lie that all else is made from.
  """

  made = types.SimpleNamespace()
  keys = jax.random.split(jax.random.key(0), 3)
  made.key, made.x = put(keys[0]), put(jax.random.normal(keys[0], (4, 4)))
  params = {
    'in': jax.random.normal(keys[1], (4, 4)),
    'out': jax.random.normal(keys[2], (4, 4)),  # of one shape, so that half as much is compiled
  }
  made.params = put(params)
  made.grads = jax.tree.map(jnp.negative, made.params)
  made.masks = jprune.prune(made.params, 0.5)
  made.graph = graph.channels(forward, made.params, made.x)
  made.channel_masks = masks.channels(scores.magnitude(made.params), made.graph, 0.5)
  made.stats = graph.capture(forward, made.params, made.x, gram=True)[1]
  made.model = nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.relu)
  wide = [nnx.Linear(2, 4, rngs=nnx.Rngs(0)), nnx.relu, nnx.Linear(4, 2, rngs=nnx.Rngs(1))]
  made.deep = nnx.Sequential(*wide)
  for module in (made.model, made.deep):
    nnx.update(module, put(nnx.state(module)))
  made.mlp = put(equinox.nn.MLP(2, 2, 4, depth=1, key=keys[0]))
  made.curves = sensitivity.curves(evaluate, made.params, [0.0, 0.5, 1.0], progress=False)
  columns = jax.random.normal(keys[0], (4, 4))[:, :2]
  made.two_columns, made.one_row = put(columns), put(columns[0])
  made.count, made.step = jnp.int32(5), np.int32(3)
  return made


made = functools.cache(data)


def saved_and_loaded(m):
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, 'sparse.safetensors')
    io.save(path, m.params, m.masks)
    small = jprune.shrink(forward, m.params, m.channel_masks, m.x)
    jprune.save_shrunk(os.path.join(folder, 'small'), small)
    again = jprune.load_shrunk(os.path.join(folder, 'small'), forward)
    with io.open(path) as opened:
      lazy = [leaf.read_masked() for leaf in jax.tree.leaves(opened.params)]
    return [io.load(path), again.params, lazy]


def shrunk_module(room, model, x):
  fn, params = room.functional(model)
  groups = graph.channels(fn, params, x)
  kept = masks.channels(scores.magnitude(params), groups, 0.5)
  return room.shrunk(model, jprune.shrink(fn, params, kept, x))


def updated(transform, m):
  tx = transform(m.masks)
  state = tx.init(m.params)
  return tx.update(m.grads, state, m.params)


def trained(m, method, *args, **settings):
  tx = method(optax.sgd(0.1), *args, **settings)
  state = tx.init(m.params)
  return tx.update(m.grads, state, m.params)


def started(tx, params):
  return tx.update(params, tx.init(params), params)


def recorded(m):
  recorder = jprune.report.Recorder()
  recorder.add(trained(m, transforms.gradual, 0.5, every=1, end=2)[1])
  return recorder


def over_time(schedule):
  return lambda m: [schedule(3), schedule(m.step), schedule(m.count)]


def by_loss(scorer, **kwargs):
  return lambda m: scorer(m.params, loss, m.x, progress=False, **kwargs)


def by_stats(scorer):
  return lambda m: scorer(m.params, m.stats)


CALLS = {
  'shrink Plan Shrunk': lambda m: [
    (small := jprune.shrink(forward, m.params, m.channel_masks, m.x)).params,
    jax.jit(small.fn)(small.params, m.x),
    [small.slice(m.grads), small.plan.expand(small.params), str(small.plan), repr(small)],
    jprune.Plan.from_dict(small.plan.to_dict()).size,
  ],
  'distributions.er': lambda m: distributions.er(m.params, m.params, 0.5),
  'distributions.erk': lambda m: distributions.erk(m.params, m.params, 0.5),
  'distributions.fixed': lambda m: distributions.fixed({'in': 0.5})(m.params, m.params),
  'distributions.global_': lambda m: distributions.global_(m.params, m.params, 0.5),
  'distributions.owl': lambda m: distributions.owl(m.params, m.params, 0.5),
  'distributions.uniform': lambda m: distributions.uniform(m.params, m.params, 0.5),
  'graph.channels graph.ChannelGraph graph.Group graph.Member graph.Position': lambda m: [
    (found := graph.channels(forward, m.params, m.x)).to_dict(),
    [str(found), found.params_at(None), repr(found.groups)],
  ],
  'graph.macs graph.MacCount graph.Macs graph.Product': lambda m: [
    (count := graph.macs(forward, m.params, m.x, masks=m.masks, strict=False)).to_dict(),
    [str(count), repr(count.equations), repr(count.others)],
  ],
  'graph.capture graph.Stats graph.Moments graph.Use': lambda m: [
    (taken := graph.capture(forward, m.params, m.x, gram=True)),
    [str(taken[1]), taken[1].merge(m.stats)['in'][0][1]],
    [
      (
        use.placed(m.params['in'], use.matrices(m.params['in'])),
        [each.variance, each.second_moment, each.norm, each.covariance, each.gram],
      )
      for use, each in m.stats['in']
    ],
  ],
  'graph.capture_batches': lambda m: graph.capture_batches(
    forward, m.params, [m.x, m.x], progress=False
  ),
  'graph.verify graph.Verification': lambda m: [
    graph.verify(forward, m.params, m.channel_masks, m.x).largest,
    graph.verify(forward, m.params, m.channel_masks, m.x, key=m.key).largest,
  ],
  'io.load io.save io.open io.Checkpoint io.LazyArray load_shrunk save_shrunk': lambda m: (
    saved_and_loaded(m)
  ),
  'masks.Block': lambda m: [
    jprune.prune(m.params, 0.5, pattern=Block((2, 2)), masks=m.masks),
    jprune.prune(m.params, 0.5, pattern=Block((3, 3), pad=True)),
  ],
  'masks.Channel': lambda m: [
    jprune.prune(m.params, 0.5, pattern=Channel(-1)),
    jprune.prune(m.params, 0.5, pattern=Channel(0), masks=m.channel_masks),
  ],
  'masks.NOfM': lambda m: jprune.prune(m.params, pattern=NOfM(2, 4), masks=m.masks),
  'masks.Unstructured': lambda m: jprune.prune(m.params, 0.5, pattern=masks.Unstructured()),
  'masks.apply': lambda m: masks.apply(m.params, masks.pack(m.masks)),
  'masks.bernoulli': lambda m: masks.bernoulli(m.params, 0.5, key=m.key),
  'masks.channels': lambda m: masks.channels(
    scores.magnitude(m.params), m.graph, 0.5, scope='global'
  ),
  'masks.combine': lambda m: masks.combine(m.masks, m.channel_masks),
  'masks.from_zeros': lambda m: masks.from_zeros(m.params),
  'masks.invert': lambda m: masks.invert(m.masks),
  'masks.n_of_m': lambda m: masks.n_of_m(m.params, 1, 3, pad=True),
  'masks.pack masks.unpack masks.PackedMask': lambda m: [
    (packed := masks.pack(m.masks)),
    [masks.unpack(packed), packed['in'].unpack()],
  ],
  'masks.straight_through': lambda m: masks.straight_through(m.params, m.masks),
  'masks.threshold': lambda m: masks.threshold(m.params, 0.1),
  'masks.top_k': lambda m: masks.top_k(m.params, 0.3),
  'masks.top_k_global': lambda m: masks.top_k_global(m.params, 0.3),
  'masks.top_k_rows': lambda m: masks.top_k_rows({'w': m.x}, 0.5),
  'nnx.shrunk': lambda m: nnx.to_pure_dict(
    nnx.state(shrunk_module(jprune.nnx, m.deep, m.two_columns), nnx.Param)
  ),
  'equinox.functional equinox.shrunk equinox.SmallModule': lambda m: jax.tree.leaves(
    shrunk_module(jprune.equinox, m.mlp, m.one_row)
  ),
  'graph.roles graph.Roles graph.Role graph.Factor': lambda m: [
    (found := graph.roles(forward, m.params, m.x)).to_dict(),
    [str(found), [role.factors for role in found.values()]],
  ],
  'nnx.functional nnx.merge': lambda m: [
    jax.jit((split := jprune.nnx.functional(m.model))[0])(split[1], m.two_columns),
    nnx.to_pure_dict(nnx.state(jprune.nnx.merge(m.model, split[1]))),
  ],
  'prune': lambda m: [
    jprune.prune(m.params, 0.8, masks=m.masks, distribution=distribution)
    for distribution in (distributions.uniform, distributions.global_)
  ],
  'reconstruct.alps': lambda m: reconstruct.alps(m.params, m.stats, 0.5, iterations=1, steps=1)[:2],
  # Damped, as there are fewer samples than inputs: their digits would else count for much.
  'reconstruct.least_squares reconstruct.Repair reconstruct.LeafRepair': lambda m: [
    (repaired := reconstruct.least_squares(m.params, m.stats, m.masks, damping=0.1))[:2],
    [str(repaired[2]), [row.path for row in repaired[2].rows]],
  ],
  'reconstruct.plan reconstruct.Plan reconstruct.StagePlan': lambda m: (
    (told := reconstruct.plan(forward, m.params, m.x)).macs,
    told.stages[0].gram_bytes,
  ),
  'reconstruct.per_output': lambda m: reconstruct.per_output(m.params, m.stats, 0.5),
  'reconstruct.prune reconstruct.sparsegpt': lambda m: [
    reconstruct.prune(forward, m.params, [m.x], sparsity=0.5, sequential=each, progress=False)[:2]
    for each in (False, True)
  ],
  'report.tally report.Tally report.LeafTally': lambda m: [
    (counted := jprune.tally(m.params, m.channel_masks, fn=forward, args=(m.x,))).to_dict(),
    [str(counted), repr(counted.rows), jprune.tally(m.params, masks.pack(m.masks)).nonzero],
  ],
  'schedules.constant': over_time(schedules.constant(0.5)),
  'schedules.cosine': over_time(schedules.cosine(0.0, 0.9, 0, 9)),
  'schedules.cubic': over_time(schedules.cubic(0.0, 0.9, 0, 9)),
  'schedules.exponential': over_time(schedules.exponential(0.0, 0.9, 0, 9)),
  'schedules.linear': over_time(schedules.linear(0.0, 0.9, 0, 9)),
  'schedules.one_shot': over_time(schedules.one_shot(0.9, 4)),
  'scores.activation': by_stats(scores.activation),
  'scores.activation_active': by_stats(scores.activation_active),
  'scores.activation_mean': by_stats(scores.activation_mean),
  'scores.correlation': by_stats(scores.correlation),
  'scores.fisher': by_loss(scores.fisher),
  'scores.geometric_median': lambda m: scores.geometric_median(m.params),
  'scores.grasp': by_loss(scores.grasp),
  'scores.independence': by_stats(scores.independence),
  'scores.lamp': lambda m: scores.lamp(m.params),
  'scores.magnitude': lambda m: [scores.magnitude(m.params), scores.magnitude(m.params, p=3)],
  'scores.obd': lambda m: by_loss(scores.obd, key=m.key, samples=2)(m),
  'scores.obs': by_stats(scores.obs),
  'scores.random': lambda m: scores.random(m.params, key=m.key),
  'scores.ria': by_stats(scores.ria),
  'scores.snip': by_loss(scores.snip),
  'scores.synflow': lambda m: scores.synflow(m.params, forward, m.x),
  'scores.taylor': lambda m: scores.taylor(m.params, m.grads),
  'scores.taylor_batches': by_loss(scores.taylor_batches),
  'scores.taylor_samples': by_loss(scores.taylor_samples),
  'scores.wanda': by_stats(scores.wanda),
  'sensitivity.accuracy_threshold': lambda m: sensitivity.accuracy_threshold(90.0, 91.0),
  'sensitivity.allocate sensitivity.Allocation sensitivity.Share': lambda m: [
    (shares := sensitivity.allocate(m.curves, sparsity=0.5)).to_dict(),
    [repr(shares.rows), jprune.prune(m.params, distribution=shares)],
  ],
  'sensitivity.curves sensitivity.Sensitivity sensitivity.Curve': lambda m: [
    sensitivity.curves(evaluate, m.params, [0.0, 0.5], graph=m.graph, progress=False).to_dict(),
    [str(m.curves), repr(m.curves.at(0.5)), [curve.size for curve in m.curves.curves]],
  ],
  'sensitivity.run sensitivity.Result sensitivity.Step': lambda m: sensitivity.run(
    evaluate,
    m.params,
    sparsity=0.5,
    rounds=2,
    finetune=lambda params, masks, number: params,
    progress=False,
  ).to_dict(),
  'sensitivity.search sensitivity.Search sensitivity.Trial': lambda m: sensitivity.search(
    evaluate,
    lambda s: jprune.apply(m.params, jprune.prune(m.params, s)),
    min_metric=evaluate(m.params) / 2,
    progress=False,
  ).to_dict(),
  'synflow_prune': lambda m: jprune.synflow_prune(
    forward, m.params, m.x, sparsity=0.8, rounds=2, masks=m.masks, progress=False
  ),
  'transforms.batch_norm_scale transforms.PenaltyState': lambda m: started(
    transforms.batch_norm_scale(0.1), {'norm': {'scale': m.one_row, 'bias': m.one_row}}
  ),
  'transforms.group_lasso': lambda m: started(transforms.group_lasso(0.1, m.graph), m.params),
  'transforms.growing transforms.GrowingState': lambda m: started(
    transforms.growing(m.masks), m.params
  ),
  'rewind': lambda m: jprune.rewind(m.params, m.grads, m.masks),
  'sparse_init': lambda m: jprune.sparse_init(m.params, m.masks),
  'masks.ChannelGroups': lambda m: jprune.prune(
    m.params, 0.5, pattern=masks.ChannelGroups(m.graph)
  ),
  'report.metrics': lambda m: [
    jprune.report.metrics(m.params, m.masks),
    jprune.report.metrics(m.params),
  ],
  'report.Recorder': lambda m: recorded(m).to_dict(),
  'schedules.delayed': over_time(schedules.delayed(schedules.cubic(0.0, 0.9, 0, 9), 2)),
  'schedules.every': over_time(schedules.every(schedules.cubic(0.0, 0.9, 0, 9), 2)),
  'schedules.joined': over_time(
    schedules.joined([schedules.cubic(0.0, 0.5, 0, 3), schedules.linear(0.5, 0.9, 0, 3)], [4])
  ),
  'schedules.sigmoid': over_time(schedules.sigmoid(0.0, 0.9, 0, 9)),
  'transforms.ac_dc': lambda m: trained(m, transforms.ac_dc, 0.5, every=1, begin=0, end=2),
  'transforms.admm': lambda m: trained(m, transforms.admm, 0.5, end=2, every=1),
  'transforms.Settings': lambda m: transforms.Settings(packed=True),
  'transforms.SettingsAndDistribution': lambda m: transforms.SettingsAndDistribution(packed=True),
  'transforms.SettingsAndPattern': lambda m: transforms.SettingsAndPattern(packed=True),
  'transforms.gradual transforms.SparseState transforms.masks_of transforms.metrics': lambda m: [
    (state := trained(m, transforms.gradual, schedules.cubic(0.5, 0.9, 0, 4), every=2)[1]),
    [transforms.masks_of(state), transforms.metrics(state)],
  ],
  'transforms.granet': lambda m: trained(m, transforms.granet, 0.5, every=1, key=m.key),
  'transforms.mest': lambda m: trained(m, transforms.mest, 0.5, every=1, key=m.key),
  'transforms.movement': lambda m: trained(m, transforms.movement, 0.5, every=1),
  'transforms.rigl': lambda m: trained(m, transforms.rigl, 0.5, every=1, key=m.key, packed=True),
  'transforms.s_ste': lambda m: trained(m, transforms.s_ste),
  'transforms.soft_movement': lambda m: trained(
    m, transforms.soft_movement, every=1, pull=0.1, optimizer=optax.sgd(1.0)
  ),
  'transforms.sparse_evolution': lambda m: trained(
    m, transforms.sparse_evolution, 0.5, every=1, key=m.key
  ),
  'transforms.sparse_training transforms.Method transforms.Step': lambda m: trained(
    m,
    functools.partial(
      transforms.sparse_training,
      transforms.Method('m', lambda step: (step.best(step.scores()), ())),
    ),
    0.5,
    every=1,
    end=4,
  ),
  'transforms.sr_ste': lambda m: trained(m, transforms.sr_ste),
  'transforms.srigl': lambda m: trained(m, transforms.srigl, 0.5, every=1, key=m.key),
  'transforms.static': lambda m: trained(m, transforms.static, 0.5, key=m.key),
  'transforms.straight_through': lambda m: trained(m, transforms.straight_through, 0.5),
  'transforms.check': lambda m: transforms.check(jprune.keep_pruned(m.masks), m.params),
  'transforms.keep_pruned transforms.KeepPrunedState': lambda m: updated(jprune.keep_pruned, m),
  'transforms.mask_updates transforms.MaskUpdatesState': lambda m: updated(jprune.mask_updates, m),
  'tree.along': lambda m: tree.along(m.params, m.masks),
  'tree.by_leaf': lambda m: tree.by_leaf(m.params, {'in': 0.5}),
  'tree.default_where': lambda m: tree.default_where('in', m.params['in']),
  'tree.flatten': lambda m: tree.flatten(m.params)[:2],
  'tree.is_complex': lambda m: tree.is_complex(m.x),
  'tree.is_inexact': lambda m: tree.is_inexact(m.x),
  'tree.matching': lambda m: tree.matching(m.params, 'in'),
  'tree.shapes': lambda m: tree.shapes(m.params),
  'tree.state_by_name': lambda m: tree.state_by_name(m.params),
  'tree.is_array': lambda m: tree.is_array(m.x),
  'tree.is_floating': lambda m: tree.is_floating(m.x),
  'tree.is_traced': lambda m: tree.is_traced(m.x),
  'tree.skipped': lambda m: tree.skipped(m.params),
  'tree.path_string': lambda m: tree.path_string((jax.tree_util.DictKey('in'),)),
  'tree.selected': lambda m: tree.selected(m.params),
  'tree.size': lambda m: tree.size(m.x),
}


@functools.cache
def expected(name):
  return CALLS[name](made())


def assert_same(one, two):
  assert jax.tree.structure(one) == jax.tree.structure(two)
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two)):
    if not hasattr(a, 'dtype') or jnp.issubdtype(a.dtype, jnp.bool_):
      np.testing.assert_array_equal(a, b)
    else:
      assert a.dtype == b.dtype
      np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_every_public_call_is_in_the_table():
  public = _public_names().public_names()
  calls = {
    name: value
    for name, value in public.items()
    if inspect.isfunction(value) or inspect.isclass(value)
    if value.__module__.startswith('jprune') and not name.startswith('jprune.typing.')
  }
  in_table = [calls[f'jprune.{name}'] for names in CALLS for name in names.split()]
  # some have two names, as jprune.apply has: one row will do
  assert [name for name, value in calls.items() if value not in in_table] == []


@pytest.mark.parametrize('name', CALLS, ids=lambda names: names.split()[0])
@pytest.mark.parametrize('mode', MODES)
def test_call_works_in_mode(name, mode):
  wanted, m = expected(name), made()
  with MODES[mode]():
    found = CALLS[name](m)
  assert_same(found, wanted)


def test_marks_of_pruned_weights_are_no_nan():
  """Neither in a second round, nor for padding, nor where a trace has no compiled function."""
  m = made()
  stacked, held = ({'w': jnp.stack([each['in']] * 2)} for each in (m.params, m.masks))
  again = lambda params, masks: jprune.prune(params, 0.8, masks=masks)
  with jax.debug_nans(True):
    found = jax.vmap(again)(stacked, held)
  wanted = again({'w': m.params['in']}, {'w': m.masks['in']})
  np.testing.assert_array_equal(found['w'], jnp.stack([wanted['w']] * 2))


def test_minus_infinity_ranks_above_what_was_pruned_before():
  scores = {'w': jnp.array([-jnp.inf, -jnp.inf, 3.0, 2.0])}
  before = {'w': jnp.array([True, True, False, True])}
  for fraction, kept in ((0.25, [1, 1, 0, 1]), (0.5, [1, 0, 0, 1]), (0.75, [0, 0, 0, 1])):
    for distribution in (distributions.uniform, distributions.global_):
      found = jprune.prune(
        scores, fraction, scorer=scores, masks=before, distribution=distribution, where=['w']
      )
      assert found['w'].astype(int).tolist() == kept


def test_a_guard_of_explicit_transfers_holds():
  with jax.transfer_guard('disallow_explicit'), pytest.raises(Exception, match='[Dd]isallowed'):
    jprune.prune({'w': np.ones((4, 4), np.float32)}, 0.5)
