"""What all methods have in common: when masks change, how weights are chosen, what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jprune
from jprune import distributions, masks, schedules, scores, transforms
from jprune.transforms import gradual, masks_of, rigl, sparse_training, srigl, static
from jprune.transforms._when import MOST, when

KEYS = jax.random.split(jax.random.key(0), 4)
PARAMS = {
  'a': {'kernel': jax.random.normal(KEYS[0], (8, 16)), 'bias': jnp.ones(16)},
  'b': {'kernel': 2 * jax.random.normal(KEYS[1], (16, 4)), 'bias': jnp.ones(4)},
  'layers': {'kernel': jax.random.normal(KEYS[2], (3, 4, 4)), 'bias': jnp.zeros((3, 4))},
}
GRADS = jax.tree.map(lambda x: jnp.sin(7 * x), PARAMS)
KEY = jax.random.key(5)


def fn(p, x):
  x = jax.nn.relu(x @ p['a']['kernel'] + p['a']['bias'][None]) @ p['b']['kernel']
  x = x + p['b']['bias'][None]
  step = lambda x, layer: (jax.nn.relu(x @ layer['kernel'] + layer['bias'][None]), None)
  return jax.lax.scan(step, x, p['layers'])[0]


GRAPH = jprune.graph.channels(fn, PARAMS, jnp.ones((2, 8)))
ROLES = jprune.graph.roles(fn, PARAMS, jnp.ones((2, 8)))

# what prune is asked for, with the sparsity at hand
SETTINGS = {
  'magnitude': {},
  'global': {'distribution': distributions.global_},
  'er': {'distribution': distributions.er},
  'erk': {'distribution': distributions.erk},
  'erk by roles': {'distribution': distributions.erk, 'roles': ROLES},
  'owl': {'distribution': functools.partial(distributions.owl, m=1.2, lam=0.2)},
  'lamp': {'scorer': scores.lamp, 'distribution': distributions.global_},
  'taylor': {'scorer': scores.taylor},
  'random': {'scorer': scores.random, 'key': KEY},
  'one leaf': {'where': 'a/'},
  'roles': {'roles': ROLES},
  'block': {'pattern': masks.Block((2, 2))},
  'channel': {'pattern': masks.Channel(-1), 'where': '^(a|b)'},
  'groups': {'pattern': masks.ChannelGroups(GRAPH, scope='global')},
  'min_keep': {'distribution': distributions.global_, 'min_keep': 10},
  'max_sparsity': {'distribution': distributions.global_, 'max_sparsity': 0.7},
  'per_output': {'min_keep': 2, 'per_output': True, 'roles': ROLES},
}


def started(tx, params=PARAMS):
  """The state after one call, from fresh weights."""
  with jax.numpy_dtype_promotion('standard'):
    return tx.update(GRADS, tx.init(params), params)[1]


@pytest.mark.parametrize('name', SETTINGS)
def test_weights_are_chosen_as_by_prune(name):
  settings = dict(SETTINGS[name])
  state = started(gradual(optax.sgd(0.1), 0.625, every=10, **settings))
  if name == 'taylor':
    settings['grads'] = GRADS
  if name == 'random':
    settings['key'] = jax.random.fold_in(KEY, 0)
  want = jprune.prune(PARAMS, 0.625, **settings)
  jax.tree.map(np.testing.assert_array_equal, masks_of(state), want)


def test_each_four_lose_one_weight_and_then_another():
  schedule = schedules.linear(0.0, 0.5, 0, 4)
  pattern = masks.NOfM(2, 4, axis=-2)
  tx = gradual(optax.sgd(0.0), schedule, every=2, pattern=pattern, where='^(a|b)')
  state, params, kept = tx.init(PARAMS), PARAMS, []
  for _ in range(5):
    updates, state = tx.update(GRADS, state, params)
    params = optax.apply_updates(params, updates)
    mask = masks_of(state)['a']['kernel']
    fours = mask.reshape(2, 4, 16).sum(1)
    kept.append(int(fours.min()))
    assert int(fours.max()) == kept[-1]
  assert kept == [4, 4, 3, 3, 2]
  want = jprune.prune(PARAMS, pattern=pattern, where='^(a|b)')
  jax.tree.map(np.testing.assert_array_equal, masks_of(state), want)


def test_sparsities_of_its_own_are_reached_with_the_schedule():
  fixed = distributions.fixed({'a/kernel': 0.5, 'b/kernel': 0.75})
  tx = gradual(
    optax.sgd(0.0), schedules.linear(0.0, 0.9, 0, 10), every=5, distribution=fixed, masks=None
  )
  state, zeros = tx.init(PARAMS), []
  for _ in range(11):
    _, state = tx.update(GRADS, state, PARAMS)
    found = masks_of(state)
    zeros.append([int((~found[name]['kernel']).sum()) for name in 'ab'])
  assert found['layers']['kernel'] is None
  assert [zeros[0], zeros[5], zeros[10]] == [[0, 0], [32, 24], [64, 48]]


@pytest.mark.parametrize('distribution', [distributions.erk, distributions.global_])
def test_as_many_as_the_schedule_says_on_every_call(distribution):
  schedule = schedules.cubic(0.1, 0.9, 3, 17)
  tx = gradual(optax.sgd(0.05), schedule, every=4, distribution=distribution, packed=True)
  step = jax.jit(tx.update)
  state, params, size = tx.init(PARAMS), PARAMS, 128 + 64 + 48
  for count in range(20):
    updates, state = step(GRADS, state, params)
    params = optax.apply_updates(params, updates)
    last = 17 if count >= 17 else count - count % 4
    zeros = sum(int((params[name]['kernel'] == 0).sum()) for name in params)
    if distribution is distributions.global_:
      assert zeros == round(schedule(last) * size)
    else:
      scored = {name: {'kernel': leaf['kernel'], 'bias': None} for name, leaf in PARAMS.items()}
      shares = distributions.erk(PARAMS, scored, schedule(last), roles=ROLES)
      for name in params:
        layers = params[name]['kernel'].reshape(-1, *params[name]['kernel'].shape[-2:])
        size = layers[0].size
        for layer in layers:
          assert int((layer == 0).sum()) == round(shares[name]['kernel'] * size)


def test_of_very_many_changes_some_share_a_row():
  found = when('example', schedules.linear(0.0, 0.9, 0, 10**6), 1, None, False)
  assert MOST < len(found.rows) <= MOST + 2
  assert found.rows[0] == 0
  assert found.rows[-1] == 10**6
  table = found.table(lambda sparsity: np.array([round(1000 * (1 - sparsity))]))
  row = lambda count: int(found.row(jnp.asarray(table), jnp.int32(count))[0, 1])
  assert row(10**6) == row(10**6 + 5) == 100
  assert row(10**6 - 2000) > 100
  assert abs(row(500_000) - 550) <= 1


def test_masks_to_start_from():
  start = jprune.prune(PARAMS, 0.5)
  uniform = {'distribution': distributions.uniform}
  tx = static(optax.sgd(0.1), 0.5, key=KEY, masks=start, **uniform)
  jax.tree.map(np.testing.assert_array_equal, masks_of(tx.init(PARAMS)), start)
  jax.tree.map(np.testing.assert_array_equal, masks_of(started(tx)), start)
  some = {**start, 'a': {'kernel': None, 'bias': None}}
  state = started(gradual(optax.sgd(0.1), 0.75, every=10, masks=some, packed=True))
  want = jprune.prune(PARAMS, 0.75, masks=some)
  jax.tree.map(np.testing.assert_array_equal, masks.unpack(masks_of(state)), want)


@pytest.mark.parametrize('make', [rigl, static, srigl])
def test_a_start_denser_than_the_target(make):
  more = {} if make is static else {'every': 10}
  more['distribution'] = distributions.uniform
  tx = make(optax.sgd(0.1), 0.5, key=KEY, masks=jprune.prune(PARAMS, 0.25), **more)
  message = r"`masks` must be masks that keep at most \d+ weights.*; got 96 at leaf 'a/kernel'"
  with pytest.raises(ValueError, match=f'^{make.__name__}: {message}'):
    tx.init(PARAMS)


def adam(learning_rate=0.1):
  return optax.adam(learning_rate)


REFUSED = {
  'not called': (
    lambda: gradual(adam(), schedules.cubic, every=10, end=50),
    'gradual: `sparsity` must be a number or a schedule; got the function cubic. Call it: help',
  ),
  'every, a float': (lambda: gradual(adam(), 0.5, every=25.0), 'gradual: .* got 25.0. Write 25.$'),
  'every': (lambda: gradual(adam(), 0.5, every=0), 'gradual: `every` must be an int of at least 1'),
  'end': (
    lambda: gradual(adam(), schedules.cubic(0, 0.5, 0, 100), every=10, end=50),
    'gradual: `end` must be at least 100, the end of the schedule; got 50',
  ),
  'falls': (
    lambda: gradual(adam(), schedules.linear(0.5, 0.2, 0, 100), every=10),
    'gradual: `sparsity` must be a schedule that never falls; got 0.47 after 0.5 at step 10',
  ),
  'no end': (
    lambda: gradual(adam(), lambda count: 0.5, every=10),
    'gradual: `sparsity` must be a schedule of jprune.schedules',
  ),
  'too high': (
    lambda: gradual(adam(), lambda count: 1.5, every=10, end=10),
    'gradual: `sparsity` must be a schedule with values in .0, 1.; got 1.5 at step 0',
  ),
  'sparsity': (lambda: gradual(adam(), 1.5, every=10), 'gradual: `sparsity` must be .*1.5'),
  'drop': (lambda: rigl(adam(), 0.5, every=9, key=KEY, drop=1.5), 'rigl: `drop` must be .*1.5'),
  'no key': (lambda: rigl(adam(), 0.5, every=9, key=None), 'rigl: `key` must be a typed'),
  'inner': (lambda: gradual(0.1, 0.5, every=9), 'gradual: `inner` must be an optax transf.*0.1'),
  'gamma': (lambda: srigl(adam(), 0.5, every=9, key=KEY, gamma=2), 'srigl: `gamma` must be'),
  'distribution': (
    lambda: gradual(adam(), 0.5, every=9, pattern=masks.NOfM(2, 4), distribution=distributions.erk),
    'gradual: `distribution` must be left out for NOfM',
  ),
  'bounds': (
    lambda: gradual(adam(), 0.5, every=9, pattern=masks.NOfM(2, 4), min_keep=1),
    'gradual: `min_keep` must be left out for NOfM',
  ),
  'bounds of groups': (
    lambda: gradual(adam(), 0.5, every=9, pattern=masks.ChannelGroups(GRAPH), min_keep=1),
    'gradual: `min_keep` must be left out for ChannelGroups',
  ),
  'divides': (
    lambda: gradual(adam(), 0.5, every=9, pattern=masks.NOfM(2, 3)),
    'gradual: .*must be divisible by m=3',
  ),
  'blocks': (
    lambda: gradual(adam(), 0.5, every=9, pattern=masks.Block((3, 3))),
    'gradual: .*must be divisible',
  ),
  'bounds contradict': (
    lambda: gradual(adam(), 0.9, every=9, distribution=distributions.global_, min_keep=10),
    'gradual: `sparsity` must be at most 0.79.*, since 50 of 240 have to be kept; got 0.9',
  ),
  'no such setting': (
    lambda: gradual(adam(), 0.5, every=9, ditribution=1),
    'gradual: `ditribution` must be an argument of gradual; .*Did you mean distribution=',
  ),
  'scorer wants more': (
    lambda: gradual(adam(), 0.5, every=9, scorer=lambda p, loss_fn: p),
    'gradual: `scorer` must be given all that it takes',
  ),
  'scorer draws': (
    lambda: gradual(adam(), 0.5, every=9, scorer=scores.random),
    'gradual: `key` must be a typed random key',
  ),
  'no scorer': (
    lambda: rigl(adam(), 0.5, every=9, key=KEY, scorer=scores.magnitude),
    'rigl: `scorer` must be left out',
  ),
  'drop schedule': (
    lambda: rigl(adam(), 0.5, every=9, key=KEY, drop=lambda count: 1.5),
    'rigl: `drop` must be a fraction in .0, 1., or a schedule of it; got 1.5 at step 0',
  ),
  'far': (lambda: gradual(adam(), 0.5, every=2**33), 'gradual: `every` must be an int in'),
  'masks at once': (
    lambda: transforms.straight_through(adam(), 0.5, masks=jprune.prune(PARAMS, 0.1)),
    'straight_through: `masks` must be left out',
  ),
  'nothing': (lambda: gradual(adam(), 0.5, every=9, where='zz'), 'gradual: `where` must'),
  'masks': (
    lambda: gradual(adam(), 0.5, every=9, where='^a', masks=jprune.prune(PARAMS, 0.1)),
    "gradual: `masks` must be None for leaves that are not pruned; got a mask at leaf 'b/kernel'",
  ),
  'other masks': (
    lambda: gradual(adam(), 0.5, every=9, masks={'a': jnp.ones(3, bool)}),
    'gradual: `masks` must be a tree with the structure of',
  ),
  'values': (
    lambda: gradual(adam(), 0.5, every=9, distribution=distributions.owl, scorer=scores.taylor),
    'gradual: `scorer` must be one without gradients',
  ),
}


@pytest.mark.parametrize('name', REFUSED)
def test_refused_before_training(name):
  make, message = REFUSED[name]
  with pytest.raises((ValueError, TypeError), match=f'^{message}'):
    make().init(PARAMS)


def test_refused_in_training():
  tx = gradual(optax.sgd(0.1), 0.5, every=10)
  state = tx.init(PARAMS)
  with pytest.raises(ValueError, match='^gradual: `params` must be the params'):
    tx.update(GRADS, state)
  other = {'a': PARAMS['a']}
  with pytest.raises(ValueError, match='^gradual: `params` must be a tree with the structure'):
    tx.update(other, state, other)
  late = gradual(optax.sgd(0.1), 0.5, every=9, distribution=distributions.owl)
  with pytest.raises(TypeError, match='^gradual: `distribution` must be one that goes by shapes'):
    jax.jit(late.init)(PARAMS)


def test_a_method_of_ones_own_sees_float32():
  """Its memory is a tree like the masks, whatever the dtypes of the params."""
  seen = []

  def change(step):
    seen.append({x.dtype.name for x in step.grads.values()})
    assert set(step.memory) == {'a/kernel', 'b/kernel', 'layers/kernel'}
    return step.best(step.memory), step.memory

  grows = lambda step: {path: x + jnp.abs(step.grads[path]) for path, x in step.memory.items()}
  method = jprune.transforms.Method(
    'example',
    change,
    remember=lambda weights: {path: jnp.zeros(w.shape) for path, w in weights.items()},
    observe=grows,
    regrows=True,
  )
  narrow = jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS)
  tx = sparse_training(method, optax.sgd(0.1), 0.5, every=3)
  state = tx.init(narrow)
  total = jax.tree.map(jnp.zeros_like, PARAMS)
  for count in range(4):
    grads = jax.tree.map(lambda g, count=count: (g * jnp.cos(count * g)).astype('bfloat16'), GRADS)
    total = jax.tree.map(lambda t, g: t + jnp.abs(g.astype(jnp.float32)), total, grads)
    updates, state = tx.update(grads, state, narrow)
  assert seen == [{'float32'}, {'float32'}]
  assert {x.dtype.name for x in jax.tree.leaves(updates)} == {'bfloat16'}
  want = jprune.prune(PARAMS, 0.5, scorer=total)
  jax.tree.map(np.testing.assert_array_equal, masks_of(state), want)


def test_whatever_lies_along_weights_that_change_sides_starts_anew():
  """Of an optimizer that nobody knows."""

  def init(params):
    return {'history': params, 'step': jnp.zeros(()), 'rows': jax.tree.map(jnp.ravel, params)}

  def update(grads, state, params=None):
    more = jax.tree.map(lambda h, g: h + 1 + 0 * g, state['history'], grads)
    return grads, {**state, 'history': more, 'step': state['step'] + 1}

  params = {'kernel': jnp.array([[4.0, 3.0], [2.0, 1.0]])}
  tx = gradual(optax.GradientTransformation(init, update), 0.5, every=5)
  state = tx.init(params)
  _, state = tx.update(params, state, params)
  np.testing.assert_array_equal(state.inner['history']['kernel'], [[5.0, 4.0], [1.0, 1.0]])
  assert float(state.inner['step']) == 1.0
