"""Every number of a result equals the one computed by hand."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jprune
from jprune import distributions
from jprune.sensitivity import allocate, curves, run
from tests.sensitivity.networks import accuracy, digits, forward, train, trained

KERNELS = ('one', 'two', 'out')


def keeps(leaf, sparsity):
  """Which weights stay when the lowest ``round(sparsity * size)`` magnitudes go, by sorting."""
  flat = np.abs(np.asarray(leaf)).ravel()
  keep = np.ones(flat.size, bool)
  keep[sorted(range(flat.size), key=lambda i: (flat[i], -i))[: round(sparsity * flat.size)]] = False
  return keep.reshape(leaf.shape)


def pruned_by_hand(params, sparsity):
  return {
    name: {
      'kernel': np.where(keeps(layer['kernel'], sparsity), layer['kernel'], 0),
      'bias': layer['bias'],
    }
    for name, layer in params.items()
  }


def accuracy_by_hand(params, split):
  x, y = (np.asarray(each) for each in digits()[split])
  for name in KERNELS:
    x = x @ np.asarray(params[name]['kernel']) + np.asarray(params[name]['bias'])
    x = np.maximum(x, 0) if name != 'out' else x
  return int((x.argmax(-1) == y).sum()) / len(y)


def test_every_number_by_hand():
  params = trained()
  result = run(
    accuracy(1),
    params,
    sparsity=0.8,
    test=accuracy(2),
    fn=forward,
    args=(digits()[1][0][:1],),
  )
  by_hand = pruned_by_hand(params, 0.8)
  jax.tree.map(np.testing.assert_array_equal, result.params, by_hand)
  assert result.before == accuracy_by_hand(params, 1)
  assert result.after == accuracy_by_hand(by_hand, 1)
  assert result.test_before == accuracy_by_hand(params, 2)
  assert result.test_after == accuracy_by_hand(by_hand, 2)
  sizes = [64 * 48, 48 * 24, 24 * 10]
  gone = sum(round(0.8 * n) for n in sizes)
  dense, pruned = result.steps
  assert (dense.name, dense.size, dense.pruned) == ('dense', sum(sizes), 0)
  assert (pruned.name, pruned.size, pruned.pruned) == ('pruned', sum(sizes), gone)
  assert result.sparsity == gone / sum(sizes)
  for name in KERNELS:
    kernel = np.abs(np.asarray(params[name]['kernel']))
    keep = keeps(params[name]['kernel'], 0.8)
    np.testing.assert_array_equal(result.masks[name]['kernel'], keep)
    assert result.masks[name]['bias'] is None
    assert result.thresholds[f'{name}/kernel'] == kernel[keep].min()
  assert set(result.thresholds) == {f'{name}/kernel' for name in KERNELS}
  assert result.tally.size == sum(sizes) + 48 + 24 + 10
  assert result.tally.nonzero == result.tally.size - gone
  assert result.tally.macs.dense == sum(sizes)
  assert result.tally.macs.sparse == sum(sizes) - gone
  assert (result.min_metric, result.holds, result.search) == (None, None, None)
  again = jprune.masks.threshold(
    jprune.scores.magnitude({name: {'kernel': params[name]['kernel']} for name in KERNELS}),
    result.thresholds,
  )
  for name in KERNELS:
    np.testing.assert_array_equal(again[name]['kernel'], result.masks[name]['kernel'])


@pytest.mark.parametrize('distribution', [distributions.uniform, distributions.global_])
def test_the_floor_is_kept(distribution):
  params, floor = trained(), accuracy(1)(trained()) - 0.01
  result = run(accuracy(1), params, min_metric=floor, distribution=distribution, test=accuracy(2))
  assert result.holds
  assert result.after >= floor
  assert result.after == result.search.metric == accuracy_by_hand(result.params, 1)
  assert result.test_after == accuracy_by_hand(result.params, 2)
  assert result.sparsity > 0.1
  masks = jprune.prune(params, result.search.sparsity, distribution=distribution)
  jax.tree.map(np.testing.assert_array_equal, result.masks, masks)
  for trial in result.search.trials:
    masks = jprune.prune(params, trial.sparsity, distribution=distribution)
    assert trial.metric == accuracy(1)(jprune.apply(params, masks))


def test_an_allocation_as_distribution():
  params, evaluate = trained(), accuracy(1)
  chosen = allocate(curves(evaluate, params, [0.0, 0.5, 0.8, 0.9, 0.95]), sparsity=0.85)
  own = run(evaluate, params, distribution=chosen)
  assert own.steps[1].pruned == sum(row.pruned for row in chosen.rows)
  exact = run(evaluate, params, distribution=chosen, sparsity=0.85)
  assert exact.steps[1].pruned == round(0.85 * exact.steps[1].size)
  floor = run(evaluate, params, distribution=chosen, min_metric=own.before - 0.01)
  assert floor.holds


def test_one_compilation():
  params, traces = trained(), []
  x, y = digits()[1]

  @jax.jit
  def correct(params):
    traces.append(1)
    return jnp.mean((forward(params, x).argmax(-1) == y).astype(jnp.float32))

  run(correct, params, min_metric=0.8, rounds=3, finetune=lambda params, masks, i: params)
  assert len(traces) == 1


TOY = {
  'w': jnp.arange(1.0, 21.0).reshape(4, 5),
  'v': jnp.arange(1.0, 11.0).reshape(2, 5),
  'b': jnp.ones(3),
}


TWINS = {'a/b': jnp.ones((2, 3)), 'a': {'b': jnp.ones((3, 3))}}


def total(params):
  return float(sum(np.asarray(leaf, np.float64).sum() for leaf in jax.tree.leaves(params)))


@pytest.mark.parametrize('schedule', [jprune.schedules.exponential, jprune.schedules.cubic])
def test_rounds_and_fine_tuning_by_hand(schedule):
  seen = []

  def finetune(params, masks, index):
    seen.append((index, jax.tree.map(lambda mask: int((~mask).sum()), masks)))
    # turns the order of the survivors around
    turn = lambda leaf, mask: leaf if mask is None else jnp.where(mask, 100.0 - leaf, 0.0)
    return {name: turn(leaf, masks[name]) for name, leaf in params.items()}

  result = run(total, TOY, sparsity=0.8, rounds=3, schedule=schedule, finetune=finetune)
  at = [schedule(0.0, 0.8, 0, 3)(r) for r in (1, 2)] + [0.8]
  expected, steps = {name: np.asarray(leaf, float) for name, leaf in TOY.items()}, [total(TOY)]
  keep = {name: np.ones(leaf.shape, bool) for name, leaf in TOY.items()}
  for index, s in enumerate(at):
    counts = {}
    for name in ('w', 'v'):
      size, flat = expected[name].size, np.abs(expected[name]).ravel()
      flat = np.where(keep[name].ravel(), flat, -np.inf)  # what is gone goes first
      lowest = sorted(range(size), key=lambda i: (flat[i], -i))[: round(s * size)]
      keep[name].ravel()[lowest] = False
      expected[name] = np.where(keep[name], expected[name], 0)
      counts[name] = int((~keep[name]).sum())
    cuts = {name: np.abs(expected[name][keep[name]]).min() for name in ('w', 'v')}
    steps.append(total(expected))
    for name in ('w', 'v'):
      expected[name] = np.where(keep[name], 100 - expected[name], 0)
    steps.append(total(expected))
    assert seen[index] == (index, {'b': None, **counts})
  assert [step.metric for step in result.steps] == steps
  names = ['dense'] + ['pruned', 'fine-tuned'] * 3
  assert [step.name for step in result.steps] == names
  assert [step.round for step in result.steps] == [0, 1, 1, 2, 2, 3, 3]
  assert result.steps[-1].pruned == round(0.8 * 20) + round(0.8 * 10)
  assert result.thresholds == cuts
  for name in TOY:
    np.testing.assert_array_equal(result.params[name], expected[name])
  assert sum(step.reset for step in result.steps) == 0


def test_what_fine_tuning_brings_back_is_set_to_zero():
  regrow = lambda params, masks, index: jax.tree.map(lambda leaf: leaf + 1, params)
  result = run(total, TOY, sparsity=0.5, finetune=regrow)
  assert [step.reset for step in result.steps] == [0, 0, 15]
  for name in ('w', 'v'):
    assert np.all(np.asarray(result.params[name])[~np.asarray(result.masks[name])] == 0)
  assert 'Fine-tuning returned 15 pruned weights that were not 0; set to 0' in str(result)
  assert '15 pruned weights' in result._repr_html_()
  assert result.after == total(result.params)


def test_fine_tuning_may_donate():
  params = {**jax.tree.map(jnp.copy, TOY), 'key': jax.random.key(0), 'n': np.arange(3)}
  given = []

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def step(params, masks):
    return {**params, 'b': params['b'] + 1}, jax.tree.map(jnp.logical_not, masks)

  def finetune(params, masks, index):
    arrays = {name: leaf for name, leaf in params.items() if name != 'n'}
    given.extend(jax.tree.leaves((arrays, masks)))
    params['n'] += 1
    return {**step(arrays, masks)[0], 'n': params['n']}

  metric = lambda params: total({name: params[name] for name in TOY})
  result = run(metric, params, sparsity=0.5, rounds=2, finetune=finetune)
  assert all(leaf.is_deleted() for leaf in given if leaf.dtype != params['key'].dtype)
  jax.tree.map(np.testing.assert_array_equal, {name: params[name] for name in TOY}, TOY)
  assert jax.random.key_data(params['key']) is not None
  np.testing.assert_array_equal(params['n'], np.arange(3))
  np.testing.assert_array_equal(result.params['n'], np.arange(3) + 2)
  np.testing.assert_array_equal(result.params['b'], TOY['b'] + 2)
  assert int(result.masks['w'].sum()) == 10


def test_fine_tuning_with_optax():
  params, evaluate = trained(), accuracy(1)
  tuned = run(
    evaluate,
    params,
    sparsity=0.9,
    rounds=2,
    finetune=lambda params, masks, index: train(params, 60, masks),
    test=accuracy(2),
  )
  assert [step.reset for step in tuned.steps] == [0] * 5
  assert tuned.after >= run(evaluate, params, sparsity=0.9).after


@pytest.mark.parametrize(
  ('pattern', 'cuts'),
  [
    (jprune.masks.NOfM(2, 4, axis=-1, pad=True), {'w': None, 'v': None}),
    (jprune.masks.Channel(-1), {'w': 11.0, 'v': 6.5}),  # mean of 3, 8, 13, 18 is 10.5
  ],
)
def test_patterns(pattern, cuts):
  sparsity = None if isinstance(pattern, jprune.masks.NOfM) else 0.6
  result = run(total, TOY, sparsity=sparsity, pattern=pattern)
  masks = jprune.prune(TOY, sparsity, pattern=pattern)
  jax.tree.map(np.testing.assert_array_equal, result.masks, masks)
  if cuts['w'] is not None:
    w = np.asarray(TOY['w']).mean(0)
    cuts = {'w': w[3], 'v': 6.5}  # three of five columns go
  assert result.thresholds == cuts


def test_a_leaf_that_is_pruned_to_nothing():
  params = {'a': jnp.arange(1.0, 17.0).reshape(4, 4), 'b': jnp.full((4, 4), 1e-3), 'c': jnp.ones(2)}
  result = run(total, params, sparsity=0.5, distribution=distributions.global_)
  assert result.thresholds == {'a': 1.0, 'b': math.inf}
  again = jprune.masks.threshold(jprune.scores.magnitude(params), result.thresholds)
  jax.tree.map(np.testing.assert_array_equal, again, result.masks)
  assert not np.asarray(again['b']).any()


def test_all_pruned_and_none():
  result = run(total, TOY, sparsity=1.0)
  assert result.thresholds == {'w': math.inf, 'v': math.inf}
  assert result.after == 3.0
  result = run(total, TOY, sparsity=0.0)
  assert result.thresholds == {'w': 1.0, 'v': 1.0}
  assert result.after == result.before


# -------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
  ('given', 'error', 'match'),
  [
    ({}, TypeError, "run: `sparsity` must be given alone: exactly one of 'sparsity' and"),
    (
      {'sparsity': 0.5, 'min_metric': 1.0},
      TypeError,
      "'min_metric'. Leave one out",
    ),
    ({'sparsity': 1.5}, ValueError, r'run: `sparsity` must be in \[0, 1\]'),
    ({'min_metric': math.nan}, ValueError, 'run: `min_metric` must be finite'),
    ({'min_metric': 1e9}, ValueError, r'`min_metric` must be at most the metric of the dense'),
    ({'sparsity': 0.5, 'rounds': 0}, ValueError, 'run: `rounds` must be an int of at least 1'),
    ({'min_metric': 'a'}, TypeError, 'run: `min_metric` must be a number at hand'),
    ({'min_metric': 1.0, 'noise': -1}, ValueError, 'run: `noise` must be at least 0'),
    ({'min_metric': 1.0, 'tolerance': 0}, ValueError, 'run: `tolerance` must be positive'),
    ({'min_metric': 1.0, 'repeats': 0}, ValueError, 'run: `repeats` must be an int'),
    ({'min_metric': 1.0, 'low': 0.5, 'high': 0.4}, ValueError, 'run: `high` must be greater than'),
    (
      {'min_metric': 1.0, 'distribution': distributions.fixed({'w': 0.5})},
      ValueError,
      'run: `min_metric` must be left out: this distribution knows its own',
    ),
    (
      {'sparsity': 0.5, 'rounds': 2, 'schedule': 3},
      TypeError,
      r'run: `schedule` must be a function; got int. Pass a function schedule\(0.0, sparsity',
    ),
    (
      {'min_metric': 1.0, 'rounds': 2, 'schedule': lambda *_: lambda count: 7.0},
      ValueError,
      r'run: `schedule` must be in \[0, 1\]; got 7.0',
    ),
    (
      {'sparsity': 0.5, 'rounds': 2, 'schedule': jprune.schedules.linear(0.0, 0.5, 0, 2)},
      TypeError,
      r'run: `schedule` must be a function of 4 arguments; got linear\(0.0, 0.5, .*too many '
      r'positional arguments\). Pass what makes one, schedule=jprune.schedules.cubic: '
      r'schedule\(0.0, sparsity, 0',
    ),
    (
      {'sparsity': 0.5, 'rounds': 2, 'schedule': lambda *_: 0.5},
      TypeError,
      r'run: `schedule\(0.0, sparsity, 0, rounds\)` must be a function; got float. Pass a',
    ),
    (
      {'sparsity': 0.5, 'finetune': lambda params, masks: params},
      TypeError,
      r'run: `finetune` must be a function of 3 arguments; got .*too many positional arguments\). '
      r'Pass a function finetune\(params, masks, round\) -> params',
    ),
    (
      {'min_metric': 1.0, 'finetune': lambda params, masks, round, batch: params},
      TypeError,
      r"run: `finetune` must be .* others \(missing a required argument: 'batch'",
    ),
    (
      {'sparsity': 0.5, 'scorer': jprune.scores.wanda},
      TypeError,
      r"also takes 'stats'. Bind it: func",
    ),
    (
      {'sparsity': 0.5, 'finetune': lambda p, m, i: None},
      TypeError,
      'params; got None. Is a return',
    ),
    ({'sparsity': 0.5, 'params': TWINS}, ValueError, "run: .* several leaves 'a/b'"),
    ({'sparsity': 0.5, 'fn': 3}, TypeError, 'run: `fn` must be a function'),
    ({'sparsity': 0.5, 'fn': lambda p, x: x}, TypeError, 'run: `fn` must be a function that takes'),
    (
      {'sparsity': 0.5, 'fn': lambda p: p['w'], 'params': {**TOY, 'act': jax.nn.relu}},
      TypeError,
      "run: `params` must be arrays; got .* at leaf 'act'. Close over",
    ),
    ({'sparsity': 0.5, 'args': 3}, TypeError, 'run: `args` must be a tuple'),
    ({'sparsity': 0.5, 'evaluate': None}, TypeError, 'run: `evaluate` must be a function'),
    ({'sparsity': 0.5, 'test': 3}, TypeError, 'run: `test` must be a function'),
    (
      {'sparsity': 0.5, 'finetune': 3},
      TypeError,
      r'run: `finetune` must be a function; got int. Pass .* finetune\(params, masks, round',
    ),
    (
      {'sparsity': 0.5, 'evaluate': lambda p: math.inf},
      ValueError,
      '`evaluate` must be .* inf',
    ),
    ({'sparsity': 0.5, 'test': lambda p: 'x'}, TypeError, 'run: `test` must be .* got str'),
    ({'sparsity': 0.5, 'distribution': 3}, TypeError, 'run: `distribution` must be a function'),
    ({'sparsity': 0.5, 'where': 'zzz'}, ValueError, 'run: `where` must be'),
    (
      {'sparsity': 0.5, 'pattern': jprune.masks.NOfM(2, 4, pad=True)},
      ValueError,
      'run: `sparsity` must be left out: NOfM',
    ),
    (
      {'pattern': jprune.masks.NOfM(2, 4, pad=True), 'distribution': distributions.erk},
      ValueError,
      'run: `distribution` must be left out for NOfM',
    ),
    (
      {'pattern': jprune.masks.NOfM(2, 4, pad=True), 'rounds': 2},
      ValueError,
      'run: `rounds` must be left out',
    ),
    ({'sparsity': 0.5, 'scorer': jprune.scores.random}, TypeError, 'Bind it: functools.partial'),
    (
      {'sparsity': 0.5, 'finetune': lambda p, m, i: {'w': p['w']}},
      ValueError,
      'run: `finetune` must be a tree with the structure',
    ),
    (
      {'sparsity': 0.5, 'finetune': lambda p, m, i: {**p, 'w': p['w'].astype(jnp.bfloat16)}},
      ValueError,
      "run: `finetune` must be a function that returns params .* at leaf 'w'",
    ),
    ({'sparsity': 0.5, 'args': (1,)}, TypeError, 'run: `args` must be empty without fn'),
    ({'pattern': jprune.masks.NOfM(2, 3, axis=-1)}, ValueError, "run: axis -1 of leaf 'v' must be"),
    (
      {'sparsity': 0.5, 'pattern': jprune.masks.Block((4, 4))},
      ValueError,
      "run: axis -2 of leaf 'v' must be divisible by the block=4",
    ),
    ({'sparsity': 0.5, 'pattern': jprune.masks.Channel(3)}, ValueError, 'run: .*got 3'),
    ({'sparsity': 0.5, 'pattern': 'block'}, TypeError, 'run: `pattern` must be'),
    (
      {'min_metric': 1.0, 'params': {**TOY, 'v': TOY['v'].at[0, 3].set(jnp.nan)}},
      ValueError,
      "run: .*NaN.* at leaf 'v'",
    ),
    (
      {'sparsity': 0.5, 'distribution': lambda params, scores, s: {'zzz': 0.5}},
      ValueError,
      "run: `sparsities` must be .*'zzz'",
    ),
    (
      {'min_metric': 1.0, 'distribution': lambda params, scores, s: {'v': 1.5}},
      ValueError,
      r"run: `sparsities` must be in \[0, 1\]; got 1.5 at leaf 'v'",
    ),
  ],
)
def test_bad_input(given, error, match):
  calls = []
  evaluate = lambda params: calls.append(1) or total(params)
  with pytest.raises(error, match=match):
    run(**{'params': TOY, 'evaluate': evaluate, **given})
  # only a call can tell what is wrong with these; all else is told before the first evaluation
  by_call = any(callable(given.get(name)) for name in ('test', 'finetune'))
  by_call = by_call and 'argument' not in match
  assert not calls or by_call or given.get('min_metric') == 1e9


def test_under_jit():
  with pytest.raises(
    TypeError, match="run: `params` must be arrays .* at leaf 'b'. Call it outside"
  ):
    jax.jit(lambda params: run(total, params, sparsity=0.5).params)(TOY)


def test_a_bound_key_is_used():
  draw = functools.partial(jprune.scores.random, key=jax.random.key(1))
  result = run(total, TOY, sparsity=0.5, scorer=draw)
  masks = jprune.prune(TOY, 0.5, scorer=jprune.scores.random, key=jax.random.key(1))
  jax.tree.map(np.testing.assert_array_equal, result.masks, masks)
