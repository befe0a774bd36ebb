"""A whole model in one call, against the same steps taken by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jprune
from jprune import reconstruct
from jprune.masks import Block, NOfM

WIDTH = 16
QUIET = {'progress': False}


def mlp(params, x):
  for layer in params['layers']:
    x = x + jnp.tanh(x @ layer['up']) @ layer['down']
  return x @ params['head']


def stacked(params, x, backwards=False):
  """The same as a scan."""

  def step(x, layer):
    return x + jnp.tanh(x @ layer['up']) @ layer['down'], None

  x, _ = jax.lax.scan(step, x, params['layers'], reverse=backwards)
  return x @ params['head']


@pytest.fixture
def params():
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape) / 4, jnp.float32)
  layers = [{'up': draw(WIDTH, 32), 'down': draw(32, WIDTH)} for _ in range(3)]
  return {'layers': layers, 'head': draw(WIDTH, 8), 'bias': draw(4)}


@pytest.fixture
def batches():
  rng = np.random.default_rng(1)
  mix = rng.normal(size=(WIDTH, WIDTH)) * 0.7 ** np.arange(WIDTH)
  return [jnp.asarray(rng.normal(size=(64, WIDTH)) @ mix, jnp.float32) for _ in range(3)]


def stack(params):
  layers = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params['layers'])
  return {**params, 'layers': layers}


def same(one, two, rtol=0.0, atol=0.0):
  assert jax.tree.structure(one) == jax.tree.structure(two)
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two)):
    np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def test_is_capture_and_a_method(params, batches):
  stats = jprune.graph.capture_batches(mlp, params, batches, gram=True)
  expected = reconstruct.sparsegpt(params, stats, 0.6)
  new, masks, report = reconstruct.prune(mlp, params, batches, sparsity=0.6, **QUIET)
  same((new, masks), expected[:2])
  assert report.rows == expected[2].rows
  assert report.method == 'sparsegpt'


def test_params_stay_as_they_are(params, batches):
  before = jax.tree.map(np.array, params)
  reconstruct.prune(mlp, params, batches, sparsity=0.5, sequential=True, **QUIET)
  same(params, before)


@pytest.mark.parametrize(
  ('method', 'pattern'),
  [
    (reconstruct.sparsegpt, None),
    (reconstruct.sparsegpt, NOfM(2, 4)),
    (reconstruct.least_squares, None),
    (None, NOfM(2, 4)),
  ],
)
def test_in_chunks_it_is_the_same(params, batches, method, pattern):
  how = {'sparsity': 0.5} if pattern is None else {'pattern': pattern}
  call = functools.partial(
    reconstruct.prune, mlp, params, batches, method=method, **how, progress=False
  )
  one, two = call(), call(chunked=True)
  same(one[:2], two[:2], rtol=1e-5, atol=1e-6)


def test_chunks_hold_the_grams_of_one_group(params, batches, monkeypatch):
  held = []
  from jprune.graph._capture.capturing import Capturing

  original = Capturing.__call__

  def spied(self, *args, **kwargs):
    stats = original(self, *args, **kwargs)
    held.append((stats.paths, len(stats.inputs)))
    return stats

  monkeypatch.setattr(Capturing, '__call__', spied)
  reconstruct.prune(mlp, params, batches, sparsity=0.5, chunked=True, **QUIET)
  assert [paths for paths, _ in held] == [
    (f'layers/{i}/{name}',) for i in range(3) for name in ('up', 'down')
  ] + [('head',)]
  assert {number for _, number in held} == {1}


def by_hand(params, batches, sparsity):
  """Leaf after leaf, each from the inputs that the leaves pruned before it leave it."""
  masks = jax.tree.map(lambda leaf: None, params)
  order = [('layers', i, name) for i in range(3) for name in ('up', 'down')] + [('head',)]
  for keys in order:
    path = '/'.join(map(str, keys))
    where = lambda p, leaf, path=path: p == path
    stats = jprune.graph.capture_batches(mlp, params, batches, gram=True, progress=False)
    params, mask, _ = reconstruct.sparsegpt(params, stats, sparsity, where=where)
    masks = jax.tree.map(
      lambda a, b: a if b is None else b, masks, mask, is_leaf=lambda leaf: leaf is None
    )
  return params, masks


def test_sequential_sees_what_was_pruned_before(params, batches):
  expected = by_hand(params, batches, 0.5)
  found = reconstruct.prune(mlp, params, batches, sparsity=0.5, sequential=True, **QUIET)
  same(found[:2], expected, rtol=1e-5, atol=1e-6)


def test_sequential_in_chunks_is_the_same(params, batches):
  call = functools.partial(reconstruct.prune, mlp, params, batches, sparsity=0.5, sequential=True)
  same(call(**QUIET)[:2], call(chunked=True, **QUIET)[:2], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('pattern', [None, NOfM(2, 4), NOfM(2, 4, axis=1), NOfM(2, 4, axis=None)])
def test_sequential_goes_through_a_scan_layer_by_layer(params, batches, pattern):
  how = {'sparsity': 0.5} if pattern is None else {'pattern': pattern}
  flat = how if pattern is None else {'pattern': NOfM(2, 4)}
  call = functools.partial(reconstruct.prune, sequential=True, progress=False)
  where = ['up', 'down']
  layered = call(mlp, params, batches, where=where, **flat)
  scanned = call(stacked, stack(params), batches, where=where, **how)
  same(stack(layered[0]), scanned[0], rtol=1e-4, atol=1e-5)
  rows = [layered[2][f'layers/{i}/up'] for i in range(3)]
  assert scanned[2]['layers/up'].pruned == sum(row.pruned for row in rows)
  np.testing.assert_allclose(
    scanned[2]['layers/up'].error_after, np.mean([row.error_after for row in rows]), rtol=1e-3
  )


def test_sequential_goes_through_a_scan_in_the_order_in_which_it_runs(params, batches):
  call = functools.partial(reconstruct.prune, sparsity=0.5, where=['up', 'down'], sequential=True)
  forwards = call(stacked, stack(params), batches, **QUIET)[0]
  flipped = lambda params: params | {'layers': {k: w[::-1] for k, w in params['layers'].items()}}
  backwards = functools.partial(stacked, backwards=True)
  same(flipped(forwards), call(backwards, flipped(stack(params)), batches, **QUIET)[0], rtol=1e-5)


@pytest.mark.parametrize(
  'method',
  [
    reconstruct.sparsegpt,
    functools.partial(reconstruct.sparsegpt, per_output=True),
    None,
  ],
)
def test_a_scanned_leaf_loses_exactly_its_share(batches, method):
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  params = {'layers': {'up': draw(3, WIDTH, 7), 'down': draw(3, 7, WIDTH)}, 'head': draw(WIDTH, 5)}
  for sequential in (False, True):
    _, masks, _ = reconstruct.prune(
      stacked, params, batches, sparsity=0.333, method=method, sequential=sequential, **QUIET
    )
    for leaf in jax.tree.leaves(masks):
      assert leaf.size - int(leaf.sum()) == round(0.333 * leaf.size)


def test_repair_makes_the_model_better(params, batches):
  held_out = jnp.concatenate(batches)
  truth = mlp(params, held_out)
  error = {}
  for name, how in {
    'magnitude': {'method': None, 'scorer': jprune.scores.magnitude},
    'wanda': {'method': None},
    'sparsegpt': {},
    'least_squares': {'method': reconstruct.least_squares},
  }.items():
    new, _, _ = reconstruct.prune(mlp, params, batches, sparsity=0.5, **how, **QUIET)
    error[name] = float(jnp.sum(jnp.square(mlp(new, held_out) - truth)))
  assert error['magnitude'] > error['wanda'] > error['sparsegpt'] > error['least_squares']


def test_masks_alone_are_those_of_per_output(params, batches):
  stats = jprune.graph.capture_batches(mlp, params, batches)
  expected = reconstruct.per_output(jprune.scores.wanda(params, stats), stats, 0.5)
  new, masks, report = reconstruct.prune(mlp, params, batches, sparsity=0.5, method=None, **QUIET)
  same(masks, expected)
  same(new, jprune.apply(params, masks))
  assert all(row.error_before == row.error_after > 0 for row in report.rows)


def test_methods_with_options_and_of_ones_own(params, batches):
  loose = functools.partial(reconstruct.sparsegpt, damping=0.5)
  stats = jprune.graph.capture_batches(mlp, params, batches, gram=True)
  expected = reconstruct.sparsegpt(params, stats, 0.5, damping=0.5)
  call = functools.partial(reconstruct.prune, mlp, params, batches, sparsity=0.5, progress=False)
  same(call(method=loose)[:2], expected[:2])

  seen = []

  def own(params, stats, sparsity, *, pattern, where):
    seen.append((list(params), sparsity))
    return reconstruct.sparsegpt(params, stats, sparsity, pattern=pattern, where=where)

  call(method=own, where='head')
  assert seen == [(['head'], {'head': 0.5})]


@pytest.mark.parametrize(
  ('distribution', 'sparsity'),
  [
    (jprune.distributions.erk, 0.5),
    (jprune.distributions.global_, 0.5),
    (functools.partial(jprune.distributions.owl, lam=0.2), 0.5),
    (jprune.distributions.fixed({'head': 0.25, 'layers/1/up': 0.75}), None),
  ],
  ids=['erk', 'global_', 'owl', 'fixed'],
)
def test_distributions(params, batches, distribution, sparsity):
  stats = jprune.graph.capture_batches(mlp, params, batches)
  given = jprune.scores.wanda(params, stats)
  expected = jprune.tree.by_leaf(params, distribution(params, given, sparsity))
  _, _, report = reconstruct.prune(
    mlp, params, batches, sparsity=sparsity, distribution=distribution, **QUIET
  )
  paths, leaves, _ = jprune.tree.flatten(params)
  for path, leaf, share in zip(paths, leaves, expected):
    if leaf.ndim == 2:
      assert report[path].pruned == round((share or 0.0) * leaf.size)


def test_what_cannot_be_pruned_is_in_the_report(batches):
  w = jnp.ones((WIDTH, 4))
  params = {'used': w + jnp.eye(WIDTH, 4), 'ignored': w, 'table': w, 'centred': w, 'bias': w[0]}

  def fn(params, x):
    centred = params['centred'] - params['centred'].mean(axis=0, keepdims=True)
    return x @ params['used'] + x @ centred + params['bias'][None] + params['table'][0][None]

  new, masks, report = reconstruct.prune(fn, params, batches, sparsity=0.5, **QUIET)
  why = dict(report.skipped)
  assert why['ignored'] == 'fn does not use it'
  assert why['table'].startswith('no product multiplies by it')
  assert why['centred'].startswith('its product multiplies by something computed from it by sub (')
  assert why['bias'] == 'fewer than two dimensions'
  assert [row.path for row in report.rows] == ['used']
  assert {name for name, mask in masks.items() if mask is not None} == {'used'}
  for name in ('ignored', 'table', 'centred', 'bias'):
    assert new[name] is params[name]


@pytest.mark.parametrize('scorer', ['obs', 'correlation'])
@pytest.mark.parametrize('how', [{}, {'chunked': True}, {'sequential': True}], ids=str)
def test_distributions_by_scores_from_grams(batches, scorer, how):
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  params, scorer = {'a': draw(WIDTH, 8), 'b': draw(8, 8)}, getattr(jprune.scores, scorer)
  fn = lambda params, x: jnp.tanh(x @ params['a']) @ params['b']
  stats = jprune.graph.capture_batches(fn, params, batches, gram=True)
  expected = jprune.distributions.global_(params, scorer(params, stats), 0.5)
  _, masks, _ = reconstruct.prune(
    fn, params, batches, sparsity=0.5, scorer=scorer, method=None, where=['a', 'b'],
    distribution=jprune.distributions.global_, **how, **QUIET,
  )  # fmt: skip
  for name, mask in masks.items():
    assert int((~mask).sum()) == round(expected[name] * mask.size)
  assert sum(int((~mask).sum()) for mask in masks.values()) == round(0.5 * 24 * 8)


def test_one_pass_serves_the_distribution_and_the_repair(params, batches):
  distribution = functools.partial(jprune.distributions.owl, lam=0.2)
  call = functools.partial(reconstruct.prune, mlp, params, sparsity=0.5, distribution=distribution)
  same(call(iter(batches), **QUIET)[:2], call(batches, **QUIET)[:2])


def test_a_distribution_by_shapes_asks_for_no_scores(params, batches):
  def scorer(params):
    raise AssertionError

  for distribution in (jprune.distributions.erk, functools.partial(jprune.distributions.erk)):
    how = {'where': 'head', 'scorer': scorer, 'distribution': distribution}
    reconstruct.prune(mlp, params, batches, sparsity=0.5, **how, **QUIET)


def test_a_scorer_gets_what_it_takes(params, batches):
  call = functools.partial(
    reconstruct.prune, mlp, params, batches, sparsity=0.5, method=None, where='head', progress=False
  )
  expected = call(scorer=jprune.scores.wanda)[:2]
  same(call(scorer=lambda params, **given: jprune.scores.wanda(params, **given))[:2], expected)
  key = jax.random.key(0)
  call(scorer=functools.partial(jprune.scores.random, key=key))
  with pytest.raises(TypeError, match=r"prune: `scorer` must be .*; got random, which needs 'key'"):
    call(scorer=jprune.scores.random)
  with pytest.raises(TypeError, match=r"got snip, which needs 'loss_fn'\. Bind them"):
    call(scorer=jprune.scores.snip)
  with pytest.raises(TypeError, match=r"`scorer` must be .*; got 'wanda'"):
    call(scorer='wanda')


def test_a_leaf_that_is_used_elsewhere_too(batches):
  rng = np.random.default_rng(0)
  params = {'table': jnp.asarray(rng.normal(size=(9, WIDTH)), jnp.float32)}

  def tied(params, x):
    return (x + params['table'][3][None]) @ params['table'].T

  call = functools.partial(reconstruct.prune, tied, params, batches, sparsity=0.5, progress=False)
  stats = jprune.graph.capture_batches(tied, params, batches, gram=True)
  ((_, what),) = stats.notes
  for method in (reconstruct.sparsegpt, reconstruct.least_squares, None):
    note = call(method=method)[2]['table'].note
    assert note == f'{what}; its errors are those of the captured product alone'
  assert what in str(reconstruct.sparsegpt(params, stats, 0.5)[2])


def test_a_step_that_is_used_elsewhere_too(params, batches):
  def peeking(params, x):
    return stacked(params, x) + params['layers']['up'][0].sum()

  _, _, report = reconstruct.prune(
    peeking, stack(params), batches, sparsity=0.5, where='up', sequential=True, **QUIET
  )
  assert report['layers/up'].note.count('also used by') == 1


@pytest.mark.parametrize('how', [{}, {'sequential': True}, {'chunked': True}], ids=str)
def test_a_branch_that_no_batch_takes_is_left_alone(batches, how):
  rng = np.random.default_rng(0)
  draw = lambda: jnp.asarray(rng.normal(size=(WIDTH, 8)), jnp.float32)
  params = {'taken': draw(), 'never': draw()}

  def fn(params, x):
    branch = lambda name: lambda x: x @ params[name]
    return jax.lax.cond(x[0, 0] > 1e9, branch('never'), branch('taken'), x)

  call = functools.partial(reconstruct.prune, fn, params, batches, sparsity=0.5, progress=False)
  new, masks, report = call(**how)
  assert new['never'] is params['never']
  assert masks['never'] is None
  assert dict(report.skipped) == {'never': 'no batch runs a product with it'}
  assert report['taken'].pruned == 64
  _, masks, _ = call(distribution=jprune.distributions.global_, **how)
  assert int((~masks['taken']).sum()) == 64
  with pytest.raises(
    ValueError,
    match=r"`stats` must be of at least one row; .* leaf 'never'.*sample_weights= that are not all",
  ):
    call(where='never', **how)


@pytest.mark.parametrize('method', [reconstruct.sparsegpt, reconstruct.least_squares])
def test_steps_that_no_batch_runs_go_by_magnitude(batches, method):
  rng = np.random.default_rng(0)
  params = {'w': jnp.asarray(rng.normal(size=(3, WIDTH, WIDTH)), jnp.float32)}

  def fn(params, x):
    def step(x, item):
      w, used = item
      return jax.lax.cond(used, lambda x: jnp.tanh(x @ w), lambda x: x, x), None

    return jax.lax.scan(step, x, (params['w'], jnp.array([True, False, True])))[0]

  for sequential in (False, True):
    _, masks, report = reconstruct.prune(
      fn, params, batches, sparsity=0.5, method=method, sequential=sequential, **QUIET
    )
    assert int((~masks['w']).sum()) == 3 * WIDTH * WIDTH // 2
    size = np.abs(np.asarray(params['w'][1]))
    kept = np.asarray(masks['w'][1])
    assert size[kept].mean() > 2 * size[~kept].mean()
    assert 'no rows for' in report['w'].note


def test_weights_leave_padding_out(params, batches):
  x = jnp.stack(batches)[:, :20]
  far = jnp.full((3, 5, WIDTH), 50.0)
  padded = jnp.concatenate([x, far], axis=1)
  keep = lambda batch: jnp.arange(25)[None, :].repeat(3, axis=0) < 20
  call = functools.partial(reconstruct.prune, mlp, params, sparsity=0.5, progress=False)
  same(call([padded], sample_weights=keep)[:2], call([x])[:2], rtol=1e-4, atol=1e-5)


def test_batches_of_several_arguments(batches):
  fn = lambda params, x, y: x @ params['a'] + y @ params['b']
  rng = np.random.default_rng(0)
  params = {name: jnp.asarray(rng.normal(size=(WIDTH, 4)), jnp.float32) for name in 'ab'}
  pairs = [(batch, -batch) for batch in batches]
  _, masks, _ = reconstruct.prune(fn, params, iter(pairs), sparsity=0.5, **QUIET)
  assert all(int(mask.sum()) == 32 for mask in masks.values())


@pytest.mark.parametrize(
  ('how', 'error', 'message'),
  [
    ({'sparsity': 1.5}, ValueError, r'`sparsity` must be in \[0, 1\]; got 1\.5'),
    ({}, TypeError, r'`sparsity` must be a number in \[0, 1\]; got None'),
    ({'sparsity': 0.5, 'pattern': NOfM(2, 4)}, ValueError, r'`sparsity` must be None for NOfM'),
    ({'pattern': NOfM(2, 5)}, ValueError, r"leaf '.*' must be divisible by m=5"),
    ({'pattern': NOfM(2, 5, pad=True)}, ValueError, r'size\. There is no pad=True for products'),
    ({'pattern': NOfM(2, 4, axis=-1)}, ValueError, r'along an axis that is summed over'),
    ({'pattern': NOfM, 'sparsity': 0.5}, TypeError, r'`pattern` must be'),
    ({'pattern': Block((2, 2)), 'sparsity': 0.5}, TypeError, r'`pattern` must be'),
    ({'sparsity': 0.5, 'method': 'sparsegpt'}, TypeError, r"got 'sparsegpt'"),
    (
      {'sparsity': 0.5, 'method': lambda params, stats, sparsity: None},
      TypeError,
      r'`method` must be a function \(params, stats, .* \(got an unexpected keyword.*partial',
    ),
    (
      {'distribution': functools.partial(jprune.distributions.erk, power=2)},
      TypeError,
      r'got None',
    ),
    ({'sparsity': 0.5, 'distribution': 0.5}, TypeError, r'`distribution` must be'),
    ({'sparsity': 0.5, 'scorer': {'w': 1.0}}, TypeError, r'`scorer` must be a function; got dict'),
    ({'sparsity': 0.5, 'where': 'nothing'}, ValueError, r'`where` must'),
    ({'sparsity': 0.5, 'batches': []}, ValueError, r'`batches` must be at least one'),
    ({'sparsity': 0.5, 'batches': jnp.ones((2, WIDTH))}, TypeError, r'an iterable of batches'),
    (
      {'sparsity': 0.5, 'batches': iter([jnp.ones((2, WIDTH))]), 'chunked': True},
      TypeError,
      r'can be read several times; got an iterator',
    ),
    (
      {'sparsity': 0.5, 'batches': [jnp.ones((2, WIDTH)), jnp.full((2, WIDTH), jnp.inf)]},
      ValueError,
      r"inputs of that leaf in batch 1 at leaf '",
    ),
  ],
  ids=lambda value: str(value)[:40] if isinstance(value, str) else '',
)
def test_bad_input(params, batches, how, error, message):
  how = {'batches': batches, **how, **QUIET}
  with pytest.raises(error, match=r'reconstruct\.prune: .*' + message):
    reconstruct.prune(mlp, params, **how)


def test_a_function_that_multiplies_by_what_it_computes_says_where(batches):
  message = (
    r"none \('w': its product multiplies .* by tanh \(test_prune\.py:\d+\)\)\. Mask and scale"
  )
  with pytest.raises(ValueError, match=message):
    reconstruct.prune(
      lambda p, x: x @ jnp.tanh(p['w']), {'w': jnp.ones((WIDTH, 4))}, batches, sparsity=0.5, **QUIET
    )


def test_a_function_that_multiplies_by_nothing(batches):
  with pytest.raises(ValueError, match=r"products by at least one selected leaf; got none \('w': "):
    reconstruct.prune(lambda p, x: x, {'w': jnp.ones((2, 2))}, batches, sparsity=0.5, **QUIET)
