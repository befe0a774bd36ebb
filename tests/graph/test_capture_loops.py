"""Products in loops and branches, against the same steps written out in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jprune.graph import capture
from tests.graph.captured import captured, check_moments, normal, only, together
from tests.graph.captured import unrolled as steps_of

X = normal(3, 5)
W = 0.5 * normal(4, 5, 5, seed=1)
unrolled = functools.partial(steps_of, x=X)
as64 = lambda x: np.asarray(x, np.float64)


def layer(x, w):
  return jnp.tanh(x @ w), None


# ---------------------------------------------------------------------------------------- branches


@pytest.mark.parametrize('taken', [False, True], ids=str)
def test_only_the_branch_that_is_taken_counts(taken):
  params = {'a': W[0], 'b': W[1], 'c': W[2]}

  def fn(p, x, yes):
    h = lax.cond(yes, lambda x: jnp.tanh(x @ p['a']) @ p['b'], lambda x: 2 * x @ p['c'], x)
    return h @ p['a']

  stats = captured(fn, params, X, jnp.asarray(taken))
  x, (a, b, c) = as64(X), as64(W)[:3]
  inner = np.tanh(x @ a)
  h = inner @ b if taken else 2 * x @ c
  check_moments(only(stats, 'a')[1], np.concatenate([x, h]) if taken else h)
  for path, rows in (('b', inner if taken else None), ('c', None if taken else 2 * x)):
    _, moments = only(stats, path)
    if rows is None:
      assert all((np.asarray(each) == 0).all() for each in jax.tree.leaves(moments))
      assert np.isfinite(moments.gram).all()
    else:
      check_moments(moments, rows)


@pytest.mark.parametrize('index', [0, 1, 2])
def test_a_leaf_in_several_branches_of_a_switch(index):
  branches = [lambda x, w: x @ w, lambda x, w: jnp.sin(x) @ w + x @ w, lambda x, w: x]
  fn = lambda p, x, i: lax.switch(i, branches, x, p['w'])
  _, moments = only(captured(fn, {'w': W[0]}, X, jnp.asarray(index)), 'w')
  rows = [[X], [jnp.sin(X), X], []][index]
  if rows:
    check_moments(moments, np.concatenate(rows))
  else:
    assert moments.count.tolist() == [0]


def test_branches_that_are_taken_anew_at_each_turn():
  def fn(p, x):
    step = lambda x, i: (lax.cond(i % 2 == 0, lambda x: layer(x, p['w'])[0], jnp.sin, x), None)
    return lax.scan(step, x, jnp.arange(5))[0]

  rows, x = [], as64(X)
  for i in range(5):
    rows += [x] * (i % 2 == 0)
    x = np.tanh(x @ as64(W[0])) if i % 2 == 0 else np.sin(x)
  check_moments(only(captured(fn, {'w': W[0]}, X), 'w')[1], np.concatenate(rows))


def test_weights_that_a_branch_hands_on():
  both = lambda p, x: x @ lax.cond(x.sum() > 0, lambda w: w, lambda w: w, p['w'])
  check_moments(only(captured(both, {'w': W[0]}, X), 'w')[1], X)
  either = lambda p, x: x @ lax.cond(x.sum() > 0, lambda: p['a'], lambda: p['b'])
  stats = captured(either, {'a': W[0], 'b': W[1]}, X)
  assert {path for path, _ in stats.skipped} == {'a', 'b'}
  assert all('it is used by cond (test_capture_loops.py:' in why for _, why in stats.skipped)


# ------------------------------------------------------------------------------------------- loops


@pytest.mark.parametrize('options', [{}, {'unroll': 3}], ids=['rolled', 'unroll'])
def test_a_scan_over_weights_has_statistics_of_each_step(options):
  fn = lambda p, x: lax.scan(layer, x, p['w'], **options)[0]
  use, moments = only(captured(fn, {'w': W}, X), 'w')
  assert (use.sizes, use.loop) == ((4, 5, 5), 0)
  check_moments(moments, unrolled(W))
  np.testing.assert_array_equal(use.matrices(W), W)


TURNS = {
  'fori_loop': lambda w, x: lax.fori_loop(0, 4, lambda i, x: layer(x, w[i])[0], x),
  'from another number': lambda w, x: lax.fori_loop(2, 6, lambda i, x: layer(x, w[i - 2])[0], x),
  'over indices': lambda w, x: lax.scan(lambda x, i: layer(x, w[i]), x, jnp.arange(4))[0],
  'in a branch': lambda w, x: lax.fori_loop(
    0, 4, lambda i, x: lax.cond(i < 9, lambda x: layer(x, w[i])[0], lambda x: x, x), x
  ),
  'in a call': lambda w, x: lax.fori_loop(
    0, 4, lambda i, x: layer(x, lax.dynamic_index_in_dim(w, i, 0, False))[0], x
  ),
}


@pytest.mark.parametrize('name', TURNS)
def test_a_loop_that_takes_a_weight_by_the_number_of_its_turn(name):
  stats = captured(lambda p, x: TURNS[name](p['w'], x), {'w': W}, X)
  use, moments = only(stats, 'w')
  assert (use.sizes, use.loop, use.backwards) == ((4, 5, 5), 0, False)
  check_moments(moments, unrolled(W))


def test_loops_in_loops_that_take_weights_by_both_numbers():
  w = W.reshape(2, 2, 5, 5)
  inner = lambda w: lambda x: lax.fori_loop(0, 2, lambda j, x: layer(x, w[j])[0], x)
  fn = lambda p, x: lax.fori_loop(0, 2, lambda i, x: inner(p['w'][i])(x), x)
  check_moments(only(captured(fn, {'w': w}, X), 'w')[1], unrolled(W))


def test_vectors_of_the_steps_of_a_scan_are_one_line():
  step = lambda x, p: (jnp.tanh(x @ p['w'] * p['gain'][None] + p['bias'][None]), None)
  params = {name: jnp.ones((4, 5)) for name in ('bias', 'gain')} | {'w': W, 'table': W[0]}
  scanned = lambda p: {name: p[name] for name in ('bias', 'gain', 'w')}
  stats = captured(lambda p, x: lax.scan(step, x, scanned(p))[0], params, X)
  assert stats.paths == ('w',)
  reasons = dict(stats.skipped)
  for path, by in (('bias', 'add'), ('gain', 'mul')):
    assert reasons[path].startswith(
      f'each step of a scan uses a vector of it; it is used by {by} ('
    )
  printed = str(stats).split('Skipped:')[1].split('\n')[1:]
  vectors = '  bias and 1 more: each step of a scan uses a vector of it'
  assert printed == ['  table: fn does not use it', vectors]


def test_a_scan_that_runs_backwards():
  fn = lambda p, x: lax.scan(layer, x, p['w'], reverse=True)[0]
  use, moments = only(captured(fn, {'w': W}, X), 'w')
  assert use.backwards
  check_moments(moments, unrolled(W[::-1])[::-1])


@pytest.mark.parametrize('way', ['const', 'carry', 'repeated'])
def test_a_scan_with_one_weight_has_the_rows_of_all_steps(way):
  def fn(p, x):
    if way == 'const':
      return lax.scan(lambda x, _: layer(x, p['w']), x, length=4)[0]
    if way == 'carry':
      step = lambda state, _: ((layer(*state)[0], state[1]), None)
      return lax.scan(step, (x, p['w']), length=4)[0][0]
    return lax.scan(layer, x, jnp.broadcast_to(p['w'], (4, 5, 5)))[0]

  use, moments = only(captured(fn, {'w': W[0]}, X), 'w')
  assert (use.sizes, use.loop) == ((1, 5, 5), None)
  check_moments(moments, together(unrolled(W, order=[0] * 4)))


def test_weights_that_a_loop_changes_are_left_out():
  def fn(p, x):
    step = lambda i, state: (0.9 * state[0], jnp.tanh(state[1] @ state[0]))
    return lax.fori_loop(0, 3, step, (p['w'], x))[1]

  stats = captured(fn, {'w': W[0]}, X)
  assert stats.uses == ()
  assert dict(stats.skipped)['w'].startswith('no product multiplies by it; it is used by scan')


def test_a_loop_whose_length_is_data():
  def fn(p, x, turns):
    h = lax.fori_loop(0, turns, lambda i, x: layer(x, p['w'])[0], x)
    return h @ p['v']

  # compiled as a loop too: steps by themselves round in another way, which three of them amplify
  after = jax.jit(lambda turns: lax.fori_loop(0, turns, lambda i, x: layer(x, W[0])[0], X))
  for turns in (0, 3):
    stats = captured(fn, {'w': W[0], 'v': W[1]}, X, jnp.asarray(turns))
    rows = jnp.stack([after(i) for i in range(turns + 1)])
    check_moments(only(stats, 'v')[1], rows[-1])
    _, moments = only(stats, 'w')
    if turns:
      check_moments(moments, together(rows[:-1]))
    else:
      assert moments.count.tolist() == [0]


def test_while_until_the_rows_are_small():
  small = 0.5 * W[0]
  fn = lambda p, x: lax.while_loop(
    lambda x: jnp.abs(x).max() > 0.1, lambda x: layer(x, p['w'])[0], x
  )
  rows, x = [], as64(X)
  while np.abs(x).max() > 0.1:
    rows.append(x)
    x = np.tanh(x @ as64(small))
  assert len(rows) > 2
  check_moments(only(captured(fn, {'w': small}, X), 'w')[1], np.concatenate(rows))


def test_a_product_by_which_a_loop_decides_is_told():
  def fn(p, x):
    return lax.while_loop(lambda x: (x @ p['w']).sum() > 1e3, lambda x: 0.5 * x, x)

  stats = captured(fn, {'w': W[0]}, X)
  assert dict(stats.skipped)['w'].startswith('no product multiplies by it; it is used by while')
  other = captured(lambda p, x: fn(p, x) @ p['w'], {'w': W[0]}, X)
  check_moments(only(other, 'w')[1], X)
  assert dict(other.notes)['w'].startswith('also used by while (test_capture_loops.py:')


def test_a_loop_in_a_loop():
  w = W.reshape(2, 2, 5, 5)
  inner = lambda x, w: (lax.scan(layer, x, w)[0], None)
  use, moments = only(captured(lambda p, x: lax.scan(inner, x, p['w'])[0], {'w': w}, X), 'w')
  assert use.sizes == (4, 5, 5)
  check_moments(moments, unrolled(W))
  again = lambda x, w: (lax.scan(lambda x, _: layer(x, w), x, length=3)[0], None)
  use, moments = only(captured(lambda p, x: lax.scan(again, x, p['w'])[0], {'w': W}, X), 'w')
  assert use.sizes == (4, 5, 5)
  rows = unrolled(W, order=[0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])
  check_moments(moments, rows.reshape(4, 9, 5))


def test_a_loop_in_a_loop_over_the_other_axis_first():
  w = W.reshape(2, 2, 5, 5)
  inner = lambda x, w: (lax.scan(layer, x, w)[0], None)
  fn = lambda p, x: lax.scan(inner, x, p['w'].swapaxes(0, 1))[0]
  use, moments = only(captured(fn, {'w': w}, X), 'w')
  check_moments(moments, unrolled(W, order=[0, 2, 1, 3]))
  np.testing.assert_array_equal(use.matrices(w), W[jnp.array([0, 2, 1, 3])])


def test_one_weight_in_a_loop_within_steps_of_another():
  def fn(p, x):
    def step(x, w):
      x = lax.fori_loop(0, 2, lambda i, x: layer(x, p['shared'])[0], x)
      return layer(x, w)

    return lax.scan(step, x, p['w'])[0]

  stats = captured(fn, {'shared': W[3], 'w': W[:2]}, X)
  rows = unrolled(W, order=[3, 3, 0, 3, 3, 1])
  check_moments(only(stats, 'shared')[1], together(rows[[0, 1, 3, 4]]))
  check_moments(only(stats, 'w')[1], rows[[2, 5]])


def test_experts_in_the_steps_of_a_scan():
  def step(x, w):
    return jnp.tanh(jnp.einsum('erd,edf->erf', x, w)), None

  w, x = W.reshape(2, 2, 5, 5), jnp.stack([X, 2 * X])
  use, moments = only(captured(lambda p, x: lax.scan(step, x, p['w'])[0], {'w': w}, x), 'w')
  assert use.sizes == (4, 5, 5)
  each = [steps_of(w[:, e], x[e]) for e in range(2)]
  check_moments(moments, np.stack(each, 1).reshape(4, 3, 5))


def test_a_scan_of_no_step_has_seen_no_rows():
  fn = lambda p, x: lax.scan(lambda x, _: layer(x, p['w']), x, length=0)[0]
  assert only(captured(fn, {'w': W[0]}, X), 'w')[1].count.tolist() == [0]


def test_inputs_that_a_scan_runs_over():
  """An RNN: inputs and states of all steps."""

  def fn(p, x):
    step = lambda h, x: (jnp.tanh(x @ p['in'] + h @ p['state']), None)
    return lax.scan(step, jnp.zeros((2, 5)), x)[0]

  x = normal(6, 2, 5, seed=3)
  stats = captured(fn, {'in': W[0], 'state': W[1]}, x)
  h, states = np.zeros((2, 5)), []
  for each in as64(x):
    states.append(h)
    h = np.tanh(each @ as64(W[0]) + h @ as64(W[1]))
  check_moments(only(stats, 'in')[1], x.reshape(-1, 5))
  check_moments(only(stats, 'state')[1], np.concatenate(states))


def test_a_while_whose_lanes_end_one_by_one():
  """Under vmap, lanes that have ended wait for the others; they have no more rows."""
  go_on = lambda x: jnp.abs(x).max() > 0.2
  one = lambda p, x: lax.while_loop(go_on, lambda x: layer(x, p['w'])[0], x)
  x = jnp.stack([X, 0.01 * X, 0.3 * X])  # for several turns, none, and some
  small, rows, ends = 0.5 * W[0], [], []
  for each in as64(x):
    while np.abs(each).max() > 0.2:
      rows.append(each)
      each = np.tanh(each @ as64(small))
    ends.append(each)
  assert len(rows) > 3
  fn = jax.vmap(one, (None, 0))
  check_moments(only(captured(fn, {'w': small}, x), 'w')[1], np.concatenate(rows))
  np.testing.assert_allclose(capture(fn, {'w': small}, x)[0], ends, rtol=1e-5)
  twice = lambda p, x: jax.vmap(fn, (None, 0))(p, x[None])
  check_moments(only(captured(twice, {'w': small}, x), 'w')[1], np.concatenate(rows))
  # lanes that a product has no rows for can't be told apart
  each = jax.vmap(one)
  _, stats = capture(each, {'w': jnp.stack([small] * 3)}, x)
  assert dict(stats.skipped)['w'].endswith(': its rows are not those of a vmapped while')
