"""Allocations against brute force over all choices, and what they are used for."""

import functools
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jprune
from jprune.sensitivity import Curve, Sensitivity, allocate, curves
from jprune.sensitivity._knapsack import solve

POINTS = (0.0, 0.3, 0.6, 1.0)


def brute_force(counts, losses, need):
  """The least loss of all choices, added up from left to right; ``None`` if none suffices."""
  best = None
  for choice in itertools.product(*(range(len(row)) for row in counts)):
    if sum(row[j] for row, j in zip(counts, choice)) >= need:
      loss = functools.reduce(lambda a, b: a + b, (row[j] for row, j in zip(losses, choice)), 0.0)
      best = loss if best is None or loss < best else best
  return best


@st.composite
def problems(draw):
  groups = draw(st.integers(1, 5))
  options = [draw(st.integers(1, 4)) for _ in range(groups)]
  scale = draw(st.sampled_from([1, 7, 10**6, 10**12]))
  number = draw(
    st.sampled_from(
      [
        st.integers(-2, 3).map(float),
        st.floats(-1, 1, allow_subnormal=False),
        st.integers(0, 10).map(lambda n: n / 10),
      ]
    )
  )
  counts = [[scale * draw(st.integers(0, 12)) for _ in range(n)] for n in options]
  losses = [[draw(number) for _ in range(n)] for n in options]
  most = sum(max(row) for row in counts)
  return counts, losses, draw(st.integers(0, most))


@settings(max_examples=400, deadline=None)
@given(problems())
def test_least_loss_of_all_choices(problem):
  counts, losses, need = problem
  found = solve(counts, losses, need)
  assert found.exact
  assert sum(row[j] for row, j in zip(counts, found.choice)) >= need
  total = functools.reduce(
    lambda a, b: a + b, (row[j] for row, j in zip(losses, found.choice)), 0.0
  )
  assert found.loss == total == found.bound
  assert found.loss == brute_force(counts, losses, need)


@pytest.mark.parametrize('seed', range(40))
def test_losses_that_follow_the_counts(seed):
  """Where nearly all choices are equally good, no shortcut finds the best one."""
  rng = np.random.default_rng(seed)
  counts = [[0, *rng.integers(1, 60, 3).tolist()] for _ in range(6)]
  losses = [[n * float(rng.uniform(1.0, 1.05)) for n in row] for row in counts]
  need = int(rng.uniform(0.3, 0.9) * sum(max(row) for row in counts))
  assert solve(counts, losses, need).loss == brute_force(counts, losses, need)


@settings(max_examples=200, deadline=None)
@given(problems(), st.integers(1, 3))
def test_with_few_states_the_bound_is_one(problem, most):
  counts, losses, need = problem
  found, best = solve(counts, losses, need, most), brute_force(counts, losses, need)
  assert sum(row[j] for row, j in zip(counts, found.choice)) >= need
  assert found.bound <= best + 1e-9
  assert best <= found.loss + 1e-9
  assert not found.exact or found.loss == pytest.approx(best, abs=1e-9)


def test_giving_up_is_said():
  rng = np.random.default_rng(0)
  counts = [[0, int(n)] for n in rng.integers(10**5, 10**6, 16)]
  losses = [[0.0, n + float(rng.uniform())] for _, n in counts]
  need = sum(n for _, n in counts) // 2
  best = solve(counts, losses, need)
  found = solve(counts, losses, need, 2)
  assert best.exact
  assert not found.exact
  assert found.bound <= best.loss <= found.loss


def fake(pruned, metrics, baseline=1.0, points=POINTS, size=None, unit='weights', width=None):
  rows = []
  for name, counts in pruned.items():
    whole = width or counts[-1]
    rows.append(Curve(name, (name,), {name: whole}, {name: tuple(counts)}, tuple(metrics[name])))
  whole = sum(row.size for row in rows)
  return Sensitivity(tuple(rows), points, baseline, size or whole, unit)


TWO = fake(
  {'a': [0, 3, 6, 10], 'b': [0, 6, 12, 20]},
  {'a': [1.0, 0.9, 0.5, 0.0], 'b': [1.0, 0.99, 0.7, 0.1]},
)


def test_by_hand():
  # 30 weights; 15 must go: (a .3, b .6) loses .1 + .3, (a .6, b .6) .5 + .3, (a 1, b .3) 1 + .01,
  # (b 1) .9.
  found = allocate(TWO, sparsity=0.5)
  assert dict(found) == {'a': 0.3, 'b': 0.6}
  assert found.loss == (1.0 - 0.9) + (1.0 - 0.7)
  assert found.metric == 1.0 - found.loss
  assert found.exact
  assert found.bound == found.loss
  assert [(row.name, row.size, row.pruned) for row in found.rows] == [('a', 10, 3), ('b', 20, 12)]
  assert dict(allocate(TWO, sparsity=0.2)) == {'a': 0.0, 'b': 0.3}
  assert dict(allocate(TWO, sparsity=1.0)) == {'a': 1.0, 'b': 1.0}
  assert dict(allocate(TWO, sparsity=0.0)) == {'a': 0.0, 'b': 0.0}


def test_params_counts_all_that_stays():
  bigger = fake(
    {'a': [0, 3, 6, 10], 'b': [0, 6, 12, 20]},
    {'a': [1.0, 0.9, 0.5, 0.0], 'b': [1.0, 0.99, 0.7, 0.1]},
    size=40,
  )
  assert dict(allocate(bigger, params=25)) == {'a': 0.3, 'b': 0.6}
  assert dict(allocate(bigger, params=25 / 40)) == {'a': 0.3, 'b': 0.6}
  assert dict(allocate(bigger, params=34)) == {'a': 0.0, 'b': 0.3}
  assert dict(allocate(bigger, params=33)) == {'a': 0.3, 'b': 0.3}
  assert dict(allocate(bigger, params=100)) == {'a': 0.0, 'b': 0.0}
  with pytest.raises(
    ValueError, match='`params` must be within reach .* at most 30 weights; got 9'
  ):
    allocate(bigger, params=9)


def test_gains_are_taken():
  found = fake({'a': [0, 3, 6, 10]}, {'a': [1.0, 1.2, 0.5, 0.0]})
  assert dict(allocate(found, sparsity=0.0)) == {'a': 0.3}
  assert allocate(found, sparsity=0.0).loss == 1.0 - 1.2


def test_dense_is_a_choice_even_if_not_measured():
  found = fake({'a': [3, 10], 'b': [6, 20]}, {'a': [0.9, 0.0], 'b': [0.8, 0.0]}, points=(0.3, 1.0))
  assert dict(allocate(found, sparsity=0.1)) == {'a': 0.3, 'b': 0.0}


def model():
  fn = lambda params, x: jnp.maximum(x @ params['in'], 0) @ params['out'] + params['bias'][None]
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape).astype(np.float32))
  params = {'in': draw(6, 8), 'out': draw(8, 4), 'bias': draw(4)}
  return fn, params, draw(5, 6)


def test_macs():
  fn, params, x = model()
  count = jprune.graph.macs(fn, params, x)
  target = fn(params, x)
  found = curves(lambda params: -float(jnp.abs(fn(params, x) - target).sum()), params)
  assert (count.dense, count.leaves['in'].dense) == (5 * 48 + 5 * 32, 240)
  for left in (400, 399, 250, 100, 31, 4):
    chosen = allocate(found, macs=left, count=count)
    masks = jprune.prune(params, distribution=chosen)
    assert jprune.graph.macs(fn, params, x, masks=masks).sparse <= left
    best = brute_force(
      [[5 * n for n in next(iter(curve.pruned.values()))] for curve in found.curves],
      [list(row) for row in found.drops],
      400 - left,
    )
    assert chosen.loss == best
  assert dict(allocate(found, macs=0.25, count=count)) == dict(
    allocate(found, macs=100, count=count)
  )
  found = curves(lambda params: 1.0, params, [1.0], where='^in')
  message = 'prune at most 240 multiply-adds; got 100, which takes 300'
  with pytest.raises(ValueError, match=f'`macs` must be within reach .* {message}'):
    allocate(found, macs=100, count=count)


def test_as_distribution_and_as_dict():
  _, params, _ = model()
  found = curves(lambda params: float(jnp.abs(params['in']).sum()), params, np.linspace(0, 1, 7))
  chosen = allocate(found, sparsity=0.6)
  by_dict = jprune.masks.top_k(jprune.scores.magnitude(params), chosen)
  fixed = jprune.prune(params, distribution=jprune.distributions.fixed(chosen))
  for masks in (by_dict, fixed, jprune.prune(params, distribution=chosen)):
    assert masks['bias'] is None
    for path in ('in', 'out'):
      expected = round(chosen[path] * params[path].size)
      assert int((~masks[path]).sum()) == expected
  assert len(chosen) == 2
  assert set(chosen) == {'in', 'out'}
  pruned = sum(int((~by_dict[path]).sum()) for path in chosen)
  assert pruned == sum(row.pruned for row in chosen.rows) >= round(0.6 * 80)


@pytest.mark.parametrize('overall', [0.0, 0.01, 0.33, 0.5, 0.61, 0.99, 1.0])
@pytest.mark.parametrize('planned', [0.0, 0.5, 1.0])
def test_an_overall_sparsity_is_exact(planned, overall):
  _, params, _ = model()
  found = curves(lambda params: float(jnp.abs(params['in']).sum()), params, [0.0, 0.4, 0.7, 1.0])
  chosen = allocate(found, sparsity=planned)
  masks = jprune.prune(params, overall, distribution=chosen)
  assert sum(int((~masks[path]).sum()) for path in ('in', 'out')) == round(overall * 80)
  given = chosen(params, {**params, 'bias': None}, overall)
  assert all(0 <= given[path] <= 1 for path in chosen)
  # the same order as planned
  if chosen['in'] < chosen['out']:
    assert given['in'] <= given['out']


def test_leaves_that_were_not_measured():
  _, params, _ = model()
  found = curves(lambda params: 1.0, params, [0.0, 0.5, 1.0], where='^in')
  chosen = allocate(found, sparsity=0.5)
  masks = jprune.prune(params, distribution=chosen)
  assert masks['out'] is None
  masks = jprune.prune(params, 0.3, distribution=chosen)
  assert int((~masks['in']).sum()) == round(0.3 * 80)
  with pytest.raises(ValueError, match='allocation: `sparsity` must be at most 0.6000'):
    jprune.prune(params, 0.7, distribution=chosen)
  with pytest.raises(ValueError, match='allocation: `sparsities` must be a dict of leaves'):
    jprune.prune(params, distribution=chosen, where='out')
  with pytest.raises(ValueError, match='allocation: `sparsities` must be a dict whose keys'):
    jprune.prune({'other': jnp.ones((2, 2))}, distribution=chosen)


def test_groups_share_a_sparsity():
  params = {'x/a': jnp.ones((2, 5)), 'x/b': jnp.ones((4, 5)), 'y': jnp.ones((2, 5))}
  found = curves(lambda params: float(params['y'].sum()), params, [0.0, 0.5, 1.0], groups='^(x)/')
  chosen = allocate(found, sparsity=0.75)
  assert dict(chosen) == {'x/a': 1.0, 'x/b': 1.0, 'y': 0.0}


def test_the_pattern_it_was_measured_with():
  fn, params, x = model()
  block = jprune.masks.Block((2, 2))
  found = curves(lambda params: float(params['in'].sum()), params, [0.0, 0.5], pattern=block)
  chosen = allocate(found, sparsity=0.5)
  assert (chosen.pattern, chosen.scorer) == (repr(block), 'magnitude')
  assert chosen.to_dict()['pattern'] == repr(block)
  words = r'must be Block\(shape=\(2, 2\).*, with which the sparsities .*; got Unstructured'
  with pytest.raises(ValueError, match=f'prune: `pattern` {words}'):
    jprune.prune(params, distribution=chosen)
  with pytest.raises(ValueError, match=f'run: `pattern` {words}'):
    jprune.sensitivity.run(lambda params: 1.0, params, distribution=chosen)
  with pytest.raises(ValueError, match=f'prune: `pattern` {words}'):
    jprune.reconstruct.prune(fn, params, [x], distribution=chosen)
  masks = jprune.prune(params, distribution=chosen, pattern=block)
  fixed = jprune.prune(params, distribution=jprune.distributions.fixed(chosen), pattern=block)
  np.testing.assert_array_equal(masks['in'], fixed['in'])
  jprune.prune(params, distribution=jprune.distributions.fixed(chosen))


def test_shapes_are_enough_for_training():
  """It has been measured already, so training asks for no scores: `init` runs under `jit`."""
  _, params, _ = model()
  found = curves(lambda params: float(params['in'].sum()), params, [0.0, 0.5], where=['in'])
  chosen = allocate(found, sparsity=0.5)
  tx = jprune.transforms.gradual(optax.sgd(0.1), 0.25, every=2, distribution=chosen, where='in')
  masks = jprune.transforms.masks_of(jax.jit(tx.init)(params))
  assert int(masks['in'].sum()) == params['in'].size
  _, state = tx.update(params, tx.init(params), params)
  kept = jprune.transforms.masks_of(state)['in'].sum()
  assert kept == jprune.prune(params, 0.25, distribution=chosen, where='in')['in'].sum()


def test_channel_groups():
  fn, params, x = model()
  graph = jprune.graph.channels(fn, params, x)
  found = curves(lambda params: float(params['in'].sum()), params, [0.0, 0.25, 0.5], graph=graph)
  chosen = allocate(found, sparsity=0.25)
  assert dict(chosen) in ({'in[1]': 0.25}, {'in[1]': 0.5})
  assert chosen.unit == 'channels'
  masks = jprune.masks.channels(jprune.scores.magnitude(params), graph, chosen)
  assert int((~masks['in']).all(0).sum()) == round(8 * chosen['in[1]'])
  with pytest.raises(TypeError, match='`distribution` must be a distribution over leaves'):
    jprune.prune(params, distribution=chosen)
  with pytest.raises(ValueError, match='allocate: `params` must be None for a sensitivity of chan'):
    allocate(found, params=3)
  for budget in ('params', 'macs'):
    words = rf'fraction of channels; or jprune.masks.channels\(target_{budget}=...\)'
    with pytest.raises(ValueError, match=words):
      allocate(found, **{budget: 0.5})


def test_text():
  found = allocate(TWO, sparsity=0.5)
  assert max(map(len, str(found).splitlines())) <= 100
  assert 'predicted drop 0.4 (the least possible)' in str(found)
  assert '<td' in found._repr_html_()
  assert 'Allocation(2 groups' in repr(found)
  data = json.loads(json.dumps(found.to_dict()))
  assert data['sparsities'] == {'a': 0.3, 'b': 0.6}
  assert data['exact'] is True


COUNT = jprune.graph.macs(lambda p, x: x @ p['a'], {'a': jnp.ones((2, 2))}, jnp.ones((1, 2)))


@pytest.mark.parametrize(
  ('given_', 'error', 'match'),
  [
    ({}, TypeError, 'allocate: `sparsity` must be given alone'),
    ({'sparsity': 0.5, 'params': 3}, TypeError, 'exactly one'),
    ({'sparsity': 1.5}, ValueError, r'allocate: `sparsity` must be in \[0, 1\]'),
    ({'params': -1}, ValueError, 'allocate: `params` must be an int of at least 0'),
    ({'params': 1.5}, ValueError, '`params` must be an int of at least 0, or a fraction'),
    ({'params': True}, ValueError, '`params` must be an int'),
    ({'params': '3'}, TypeError, '`params` must be an int'),
    ({'macs': 3}, TypeError, 'allocate: `count` must be a MacCount'),
    (
      {'macs': 3, 'count': COUNT},
      ValueError,
      "`count` must be a MacCount with the .* 'b'",
    ),
    ({'sparsity': 0.5, 'count': COUNT}, TypeError, '`count` must be left out without macs'),
    ({'sparsity': 0.5, 'most_states': 0}, ValueError, '`most_states` must be an int of at least 1'),
  ],
)
def test_bad_input(given_, error, match):
  with pytest.raises(error, match=match):
    allocate(TWO, **given_)


def test_unreachable_and_foreign():
  low = fake({'a': [0, 3, 6, 7]}, {'a': [1.0, 0.9, 0.5, 0.0]}, width=10)
  with pytest.raises(ValueError, match='at most 7 weights; got 0.8, which takes 8. Measure higher'):
    allocate(low, sparsity=0.8)
  with pytest.raises(TypeError, match='allocate: `sensitivity` must be a Sensitivity'):
    allocate({'a': 1.0}, sparsity=0.5)
  huge = fake({'a': [0, 1, 2, 2**62]}, {'a': [1.0, 0.9, 0.5, 0.0]})
  with pytest.raises(ValueError, match='a count below'):
    allocate(huge, sparsity=0.5)
