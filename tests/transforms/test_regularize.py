"""Regularisers towards structure against slow NumPy, and through to smaller networks."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jprune
from jprune.transforms import batch_norm_scale, group_lasso, growing

X = np.asarray(jax.random.normal(jax.random.key(0), (16, 5)))


def variables():
  keys = iter(jax.random.split(jax.random.key(1), 20))
  draw = lambda *shape: jax.random.normal(next(keys), shape) / 2
  return {
    'params': {
      'first': {'kernel': draw(5, 6), 'bias': draw(6)},
      'norm': {'scale': draw(6), 'bias': draw(6)},
      'second': {'kernel': draw(6, 4), 'bias': draw(4)},
      'head': {'kernel': draw(8, 3), 'bias': draw(3)},
    },
    'batch_stats': {'norm': {'mean': draw(6), 'var': jnp.square(draw(6))}},
  }


def net(variables, x):
  p, stats = variables['params'], variables['batch_stats']['norm']
  h = x @ p['first']['kernel'] + p['first']['bias'][None]
  h = (h - stats['mean'][None]) / jnp.sqrt(stats['var'] + 1e-5)[None]
  h = jax.nn.relu(h * p['norm']['scale'][None] + p['norm']['bias'][None])
  h = jax.nn.relu(h @ p['second']['kernel'] + p['second']['bias'][None])
  h = jnp.stack([h, 2 * h], axis=1).reshape(x.shape[0], 8)  # rows i and i + 4 of the head
  return h @ p['head']['kernel'] + p['head']['bias'][None]


GRAPH = jprune.graph.channels(net, variables(), X)


def units(p):
  """The weights of each unit, as the network has them."""
  first = [
    [
      p['first']['kernel'][:, j],
      p['first']['bias'][j],
      p['norm']['scale'][j],
      p['norm']['bias'][j],
      p['second']['kernel'][j],
    ]
    for j in range(6)
  ]
  second = [
    [
      p['second']['kernel'][:, j],
      p['second']['bias'][j],
      p['head']['kernel'][j],
      p['head']['kernel'][j + 4],
    ]
    for j in range(4)
  ]
  return [np.concatenate([np.ravel(part) for part in unit]) for unit in first + second]


def differences(penalty, params):
  """The gradient of a function of a tree of arrays, one weight at a time in float64."""
  wide = jax.tree.map(lambda x: np.asarray(x, np.float64).copy(), params)
  out = jax.tree.map(np.zeros_like, wide)
  for leaf, slope in zip(jax.tree.leaves(wide), jax.tree.leaves(out)):
    for i in np.ndindex(leaf.shape):
      at, ends = leaf[i], []
      for step in (1e-5, -1e-5):
        leaf[i] = at + step
        ends.append(penalty(wide))
      leaf[i] = at
      slope[i] = (ends[0] - ends[1]) / 2e-5
  return out


def zeros(tree):
  return jax.tree.map(jnp.zeros_like, tree)


def added(tx, params, updates=None):
  return jax.jit(tx.update)(zeros(params) if updates is None else updates, tx.init(params), params)


def same(a, b, **tolerance):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


def test_group_lasso_is_the_gradient_of_norms_of_units():
  whole = variables()
  lasso = lambda p: 0.3 * sum(np.sqrt(len(u)) * np.linalg.norm(u) for u in units(p))
  expected = differences(lasso, whole['params'])
  assert (expected['head']['bias'] == 0).all()  # no unit has a part in it
  found, state = added(group_lasso(0.3, GRAPH), whole['params'])
  same(found, expected, rtol=1e-4, atol=1e-6)
  assert int(state.count) == 1
  # among all variables too, where statistics are left alone
  found, _ = added(group_lasso(lambda count: jnp.where(count == 0, 0.3, 0.0), GRAPH), whole)
  same(found['params'], expected, rtol=1e-4, atol=1e-6)
  same(found['batch_stats'], zeros(whole['batch_stats']))


def test_group_lasso_of_some_leaves_in_their_own_dtypes():
  params = variables()['params']
  only = lambda p: (
    sum(np.sqrt(5) * np.linalg.norm(p['first']['kernel'][:, j]) for j in range(6))
    + sum(np.sqrt(6) * np.linalg.norm(p['second']['kernel'][:, j]) for j in range(4))
  )
  # the rows of the second kernel are the first units' too
  rows = lambda p: (
    only(p)
    + sum(
      np.sqrt(9) * np.linalg.norm([*p['first']['kernel'][:, j], *p['second']['kernel'][j]])
      - np.sqrt(5) * np.linalg.norm(p['first']['kernel'][:, j])
      for j in range(6)
    )
  )
  narrow = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
  updates = jax.tree.map(jnp.ones_like, narrow)
  tx = group_lasso(1.0, GRAPH, where='(first|second)/kernel')
  found, _ = added(tx, narrow, updates)
  expected = differences(rows, narrow)
  assert {x.dtype for x in jax.tree.leaves(found)} == {jnp.dtype(jnp.bfloat16)}
  wide = jax.tree.map(lambda x: x.astype(jnp.float32), found)
  same(wide, jax.tree.map(lambda x: 1 + x, expected), rtol=1e-2, atol=1e-2)


def test_a_unit_of_zeros_is_not_pulled():
  params = variables()['params']
  params['second']['kernel'] = params['second']['kernel'].at[:, 1].set(0)
  params['second']['bias'] = params['second']['bias'].at[1].set(0)
  params['head']['kernel'] = params['head']['kernel'].at[jnp.array([1, 5])].set(0)
  found, _ = added(group_lasso(1.0, GRAPH), params)
  assert (np.asarray(found['head']['kernel'])[[1, 5]] == 0).all()
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(found))


def test_units_go_to_zero_as_wholes_and_are_shrunk_away():
  # six hidden units for what two can do
  teacher = lambda x: jnp.tanh(x[:, :1]) - jnp.tanh(x[:, 1:2])
  fn = lambda p, x: jnp.tanh(x @ p['in'] + p['bias'][None]) @ p['out']
  keys = jax.random.split(jax.random.key(5), 3)
  x = jax.random.normal(keys[0], (64, 5))
  params = {
    'in': jax.random.normal(keys[1], (5, 6)) / 2,
    'bias': jnp.zeros(6),
    'out': jax.random.normal(keys[2], (6, 1)) / 2,
  }
  graph = jprune.graph.channels(fn, params, x)
  tx = optax.chain(group_lasso(2e-3, graph), optax.sgd(0.1, momentum=0.9))
  loss = lambda p: jnp.mean((fn(p, x) - teacher(x)) ** 2)

  @jax.jit
  def trained(params):
    def step(carry, _):
      params, state = carry
      updates, state = tx.update(jax.grad(loss)(params), state, params)
      return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, tx.init(params)), length=2500)[0][0]

  params = trained(params)
  norms = np.sqrt(
    np.sum(np.square(params['in']), 0)
    + np.square(params['bias'])
    + np.sum(np.square(params['out']), 1)
  )
  gone = norms < 0.02
  assert (norms[~gone] > 0.5).all()  # nothing in between
  assert 2 <= (~gone).sum() <= 4
  scores = jprune.scores.magnitude(params)
  masks = jprune.masks.channels(scores, graph, gone.mean())
  np.testing.assert_array_equal(masks['bias'], ~gone)
  small = jprune.shrink(fn, params, masks, x)
  assert small.params['in'].shape == (5, (~gone).sum())
  np.testing.assert_allclose(
    small.fn(small.params, x), fn(jprune.apply(params, masks), x), rtol=1e-5, atol=1e-6
  )
  np.testing.assert_allclose(small.fn(small.params, x), fn(params, x), atol=1e-3)


def test_slimming():
  whole = variables()
  expected = zeros(whole['params'])
  expected['norm']['scale'] = 0.1 * np.sign(whole['params']['norm']['scale'])
  for tx in (
    batch_norm_scale(0.1),
    batch_norm_scale(0.1, GRAPH),
    batch_norm_scale(lambda count: 0.1, where='norm/scale'),
  ):
    found, _ = added(tx, whole['params'])
    same(found, expected, rtol=1e-6)
    found, _ = added(tx, whole)
    same(found, {'params': expected, 'batch_stats': zeros(whole['batch_stats'])}, rtol=1e-6)


def test_channels_go_by_their_scales():
  whole = variables()
  scores = jprune.scores.magnitude(whole)
  masks = jprune.masks.channels(scores, GRAPH, 0.5, where='scale', scope='global', normalize=None)
  sizes = np.abs(whole['params']['norm']['scale'])
  np.testing.assert_array_equal(masks['params']['first']['bias'], sizes >= np.sort(sizes)[3])
  assert masks['params']['second']['bias'] is None or masks['params']['second']['bias'].all()


def test_scales_of_channels_that_stay_are_left_alone():
  alpha = {'alpha': jnp.ones(3)}  # a scale of another kind
  params = {'norm': {'scale': jnp.ones(5)}, 'kernel': jnp.ones((5, 3)), 'prelu': alpha}
  found, _ = added(batch_norm_scale(1.0), params)
  assert [float(jnp.sum(x)) for x in jax.tree.leaves(found)] == [0, 5, 0]
  fn = lambda p, x: jax.nn.relu(x * p['norm']['scale'][None] @ p['kernel']) @ jnp.ones((3, 1))
  graph = jprune.graph.channels(fn, params, X)
  match = r"`params` must be with scales of norms whose channels can go; got none .* 'kernel', "
  with pytest.raises(ValueError, match=match):
    batch_norm_scale(1.0, graph).init(params)


def test_growing():
  whole = variables()
  params = whole['params']
  all_masks = jprune.masks.channels(jprune.scores.magnitude(whole), GRAPH, 0.5)
  masks = all_masks['params']
  tx = growing(jprune.masks.pack(masks), delta=0.1, every=3, ceiling=0.75)
  tx = optax.chain(tx, optax.sgd(0.5, momentum=0.5))
  state, now = tx.init(params), params
  weights, trace = np.asarray(params['second']['kernel']), np.zeros((6, 4), np.float32)
  step = jax.jit(lambda state, now: tx.update(zeros(now), state, now))
  for count in range(40):
    pull = min(0.1 * (count // 3), 0.75)
    trace = 0.5 * trace + np.where(masks['second']['kernel'], 0, pull * weights)
    weights = weights - 0.5 * trace
    updates, state = step(state, now)
    now = optax.apply_updates(now, updates)
    np.testing.assert_allclose(now['second']['kernel'], weights, rtol=1e-4, atol=1e-6)
  same(now, jprune.apply(params, masks), atol=1e-3)  # what was to go has gone, the rest stayed
  small = jprune.shrink(net, {**whole, 'params': now}, all_masks, X)
  assert small.params['params']['second']['kernel'].shape == (3, 2)


def test_in_a_chain_before_the_optimizer():
  params = variables()['params']
  masks = jax.tree.map(lambda x: jnp.zeros(x.shape, bool) if x.ndim == 2 else None, params)
  links = [
    group_lasso(0.01, GRAPH),
    batch_norm_scale(0.01, GRAPH),
    growing(masks, delta=0.02, every=1),
  ]
  tx = optax.chain(*links, optax.trace(0.9))

  @jax.jit
  def traces(params):
    apart = [link.update(zeros(params), link.init(params), params)[0] for link in links]
    state = tx.update(zeros(params), tx.init(params), params, value=1.0)[1]  # extra args pass
    return jax.tree.map(lambda *xs: sum(xs), *apart), state

  summed, state = traces(params)
  same(state[-1].trace, summed, rtol=1e-6)
  assert float(jnp.abs(summed['head']['kernel']).min()) > 0
  assert int(optax.tree.get(state, 'keep')['head']['kernel'].sum()) == 0


def test_leaves_that_are_hidden_or_stay():
  params = variables()['params']
  tx = optax.masked(group_lasso(1.0, GRAPH), jax.tree.map(lambda x: x.ndim == 2, params))
  found, _ = tx.update(zeros(params), tx.init(params), params)
  assert (found['norm']['scale'] == 0).all()
  assert (found['first']['kernel'] != 0).all()
  tx = batch_norm_scale(1.0)
  updates = {**zeros(params), 'norm': {'scale': None, 'bias': jnp.zeros(6)}}
  assert tx.update(updates, tx.init(params), params)[0]['norm']['scale'] is None


PARAMS = variables()['params']


@pytest.mark.parametrize(
  ('make', 'error', 'match'),
  [
    (lambda: group_lasso(-1.0, GRAPH), ValueError, 'group_lasso: `strength` must be at least 0'),
    (lambda: batch_norm_scale('a'), TypeError, 'batch_norm_scale: `strength` must be'),
    (lambda: group_lasso(1.0, PARAMS), TypeError, 'group_lasso: `graph` must be'),
    (lambda: batch_norm_scale(1.0, PARAMS), TypeError, 'batch_norm_scale: `graph` must be'),
    (lambda: growing({}, delta=0.0), ValueError, 'growing: `delta` must be positive'),
    (lambda: growing({}, ceiling=-1.0), ValueError, 'growing: `ceiling` must be positive'),
    (lambda: growing({}, every=0), ValueError, 'growing: `every` must be an int of at least 1'),
    (lambda: growing({'w': True}).init(PARAMS), ValueError, 'growing: `masks` must be a tree'),
    (
      lambda: group_lasso(1.0, GRAPH).init({'w': jnp.ones(3)}),
      ValueError,
      "`params` must be with leaves of channel groups; got none out of 'w'. Trace the graph",
    ),
    (
      lambda: group_lasso(1.0, GRAPH, where='nothing').init(PARAMS),
      ValueError,
      "group_lasso: `where` must be a filter .* got where='nothing'",
    ),
    (
      lambda: batch_norm_scale(1.0).update(PARAMS, batch_norm_scale(1.0).init(PARAMS)),
      ValueError,
      'batch_norm_scale: `params` must be the params that the updates are for; got None',
    ),
    (
      lambda: batch_norm_scale(1.0).update({}, batch_norm_scale(1.0).init(PARAMS), PARAMS),
      ValueError,
      'batch_norm_scale: `updates` must be a tree with the structure of the params',
    ),
  ],
)
def test_what_they_refuse(make, error, match):
  with pytest.raises(error, match=match):
    make()
