"""Leaves that are moved, cut, cast, masked or computed with before they meet their inputs."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name

import jprune
from jprune.graph import capture
from tests.graph.captured import captured, check_moments, close, energy, normal, only

X = normal(7, 6)
KEEP = np.random.default_rng(2).random((6, 4)) < 0.5
MASK = KEEP.astype(np.float32)
SCALES = np.array([0.5, 2.0, -1.0, 4.0], np.float32)
as64 = lambda x: np.asarray(x, np.float64)

# A function of w, (6, 4) unless the shape is given, and x, that is linear in x.
MOVED = {
  'plain': lambda w, x: x @ w,
  'flipped operands': lambda w, x: (w.T @ x.T).T,
  'einsum': lambda w, x: jnp.einsum('io,ni->on', w, x).T,
  'optimization barrier': lambda w, x: x @ lax.optimization_barrier(w),
  'stop_gradient': lambda w, x: x @ lax.stop_gradient(w),
  'twice transposed': lambda w, x: x @ w.T.T,
  'named': lambda w, x: x @ checkpoint_name(w, 'w'),
  'slices': lambda w, x: jnp.concatenate([x @ w[:, :1], x @ w[:, 1:]], 1),
  'split': lambda w, x: jnp.concatenate([x @ each for each in jnp.split(w, 2, 1)], 1),
  'columns': lambda w, x: jnp.stack([x @ w[:, i] for i in range(4)], 1),
  'side by side': lambda w, x: (x @ jnp.concatenate([w, w[:, :2]], 1))[:, :4],
  'repeated for rows': lambda w, x: jnp.einsum('ni,nio->no', x, jnp.broadcast_to(w, (7, 6, 4))),
}
SCALED = {  # by how much
  'scalar': (0.5, lambda w, x: x @ (0.5 * w)),
  'divided': (1 / 3, lambda w, x: x @ (w / 3)),
  'negative': (-1, lambda w, x: x @ -w),
  'zero': (0, lambda w, x: x @ (w * 0.0)),
  'array': (2, lambda w, x: x @ (w * jnp.full((1, 1), 2.0))),
  'filled': (2, lambda w, x: x @ (jnp.full((6, 4), 2.0) * w)),
  'by its size': (6**-0.5, lambda w, x: x @ (w / jnp.sqrt(w.shape[0]))),
  'einsum': (1 / 8, lambda w, x: jnp.einsum('ni,io,->no', x, w, 0.125)),
  'einsum, scalar first': (2, lambda w, x: jnp.einsum(',ni,io->no', jnp.float32(2.0), x, w)),
  'einsum, in two axes': (
    3,
    lambda w, x: x @ jnp.einsum('io,ab->aibo', w, jnp.full((1, 1), 3.0))[0, :, 0],
  ),
  'several': (-1.5, lambda w, x: x @ (3 * (-w.T / 2)).T),
  'in two slices': (2, lambda w, x: jnp.concatenate([x @ (2 * w[:, :1]), x @ (w[:, 1:] * 2)], 1)),
}
FACTORS = {  # which equation applies them
  'mask': ('mul', lambda w, x: x @ (w * MASK)),
  'where': ('select_n', lambda w, x: x @ jnp.where(KEEP, w, 0)),
  'where zeros': ('select_n', lambda w, x: x @ jnp.where(KEEP, w, jnp.zeros_like(w))),
  'applied masks': (
    'select_n',
    lambda w, x: x @ jprune.apply({'w': w}, {'w': jnp.array(KEEP)})['w'],
  ),
  'triangle': ('select_n', lambda w, x: x @ jnp.triu(w)),
  'outputs': ('mul', lambda w, x: x @ (w * SCALES[None])),
  'inputs': ('div', lambda w, x: x @ (w / jnp.arange(1.0, 7.0)[:, None])),
  'argument': ('mul', lambda w, x: x @ (w * x[:1, :4])),
  'own size': ('div', lambda w, x: x @ (w / jnp.linalg.norm(w))),
  'one of two slices': (
    'mul',
    lambda w, x: jnp.concatenate([x @ w[:, :2], x @ (w[:, 2:] * SCALES[None, 2:])], 1),
  ),
}


@pytest.mark.parametrize('name', MOVED | SCALED)
def test_moved_and_scaled(name):
  scale, moved = SCALED[name] if name in SCALED else (1, MOVED[name])
  params = {'w': normal(6, 4, seed=1)}
  fn = lambda p, x: moved(p['w'], x)
  stats = captured(fn, params, X)
  use, moments = only(stats, 'w')
  assert use.direct
  assert [why for _, why in stats.notes if 'multiplies by' in why] == []
  check_moments(moments, scale * as64(X))
  np.testing.assert_array_equal(use.matrices(params['w'])[0], params['w'])
  y = as64(fn(params, X))
  close(energy(stats, params), (y**2).sum())


@pytest.mark.parametrize('name', FACTORS)
def test_factors_and_masks_are_not_the_entries_themselves(name):
  """Which inputs an output has differs from one to the next: no Gram is right for a repair."""
  by, masked = FACTORS[name]
  params = {'w': normal(6, 4, seed=1)}
  stats = captured(lambda p, x: masked(p['w'], x), params, X)
  use, moments = only(stats, 'w')
  assert not use.direct
  assert (use.box, use.sizes) == (((0, 6), (0, 4)), (1, 6, 4))
  check_moments(moments, X)
  notes = [why for _, why in stats.notes if not why.startswith('also used by')]
  assert len(notes) == 1
  assert notes[0].startswith(f'its product multiplies by something computed from it by {by}')
  with pytest.raises(ValueError, match="^least_squares: .* with what is computed .* at leaf 'w'"):
    jprune.reconstruct.least_squares(params, stats, {'w': jnp.asarray(KEEP)})


def test_params_that_were_masked_before_are_the_entries_themselves():
  params = {'w': normal(6, 4, seed=1)}
  masked = jprune.apply(params, {'w': jnp.asarray(KEEP)})
  fn = lambda p, x: x @ p['w']
  _, stats = capture(fn, masked, X, gram=True)
  assert only(stats, 'w')[0].direct
  close(energy(stats, masked), (as64(fn(masked, X)) ** 2).sum())


AXES = {  # the shape of w, the axes that number inputs, and the function
  'transposed': ((4, 6), (1,), lambda w, x: x @ w.T),
  'merged inputs': ((2, 3, 4), (0, 1), lambda w, x: x @ w.reshape(6, 4)),
  'merged outputs': ((6, 2, 2), (0,), lambda w, x: jnp.einsum('ni,ihd->nhd', x, w)),
  'parted': ((24,), (0,), lambda w, x: x @ w.reshape(6, 4)),
  'heads': ((4, 2, 3), (1, 2), lambda w, x: jnp.einsum('nhd,ohd->no', x.reshape(7, 2, 3), w)),
  'heads in the middle': (
    (2, 4, 3),
    (0, 2),
    lambda w, x: jnp.einsum('nhd,hod->no', x.reshape(7, 2, 3), w),
  ),
}


@pytest.mark.parametrize('name', AXES)
def test_axes_by_their_roles(name):
  shape, axes, fn = AXES[name]
  params = {'w': normal(*shape, seed=1)}
  stats = captured(lambda p, x: fn(p['w'], x), params, X, where='w')
  use, moments = only(stats, 'w')
  assert use.sizes == (1, 6, 4)
  assert {use.axes[place] for place in use.inputs} == set(axes)
  matrix = as64(use.matrices(params['w'])[0])
  # inputs may come in another order, in moments as in matrices
  order = [np.argmax((as64(X) == column[:, None]).all(0)) for column in inputs_of(use, fn, shape).T]
  assert sorted(order) == list(range(6))
  check_moments(moments, X[:, jnp.array(order)])
  close(as64(X)[:, order] @ matrix, fn(params['w'], X).reshape(7, 4))


def inputs_of(use, fn, shape):
  """The inputs in the order of the matrices: outputs of kernels that pick one each."""
  picked = []
  for i in range(6):
    matrices = jnp.zeros((1, 6, 4)).at[0, i, 0].set(1.0)
    picked.append(fn(use.placed(jnp.zeros(shape), matrices), X).reshape(7, 4)[:, 0])
  return as64(jnp.stack(picked, 1))


@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float16], ids=['bfloat16', 'float16'])
@pytest.mark.parametrize('cast', ['up', 'down'])
def test_casts(dtype, cast):
  params = {'w': normal(6, 4, seed=1).astype(dtype if cast == 'up' else jnp.float32)}
  to = jnp.float32 if cast == 'up' else dtype
  stats = captured(lambda p, x: x.astype(to) @ p['w'].astype(to), params, X)
  use, moments = only(stats, 'w')
  assert use.direct
  assert {x.dtype for x in jax.tree.leaves(moments)} == {jnp.dtype(jnp.float32)}
  check_moments(moments, X.astype(to).astype(jnp.float32))


def test_parts_with_inputs_of_their_own():
  params = {'qkv': normal(6, 12, seed=1)}
  context = normal(5, 6, seed=2)

  def fn(p, x, context):
    q, k, v = jnp.split(p['qkv'], 3, axis=1)
    return x @ q, context @ k, context @ v

  (first, of_x), *rest = captured(fn, params, X, context)['qkv']
  assert first.box == ((0, 6), (0, 4))
  check_moments(of_x, X)
  assert [use.box for use, _ in rest] == [((0, 6), (4, 8)), ((0, 6), (8, 12))]
  for _, moments in rest:
    check_moments(moments, context)
  joint = captured(lambda p, x, _: fn(p, x, x), params, X, context)
  assert only(joint, 'qkv')[0].sizes == (1, 6, 12)


@pytest.mark.parametrize('way', ['index', 'iterated', 'unstack', 'slice', 'dynamic'])
def test_layers_of_one_leaf_by_their_place(way):
  params = {'w': 0.5 * normal(3, 6, 6, seed=1)}

  def fn(p, x):
    layers = {
      'index': lambda: [p['w'][i] for i in range(3)],
      'iterated': lambda: list(p['w']),
      'unstack': lambda: jnp.unstack(p['w']),
      'slice': lambda: [lax.slice_in_dim(p['w'], i, i + 1)[0] for i in range(3)],
      'dynamic': lambda: [lax.dynamic_index_in_dim(p['w'], i, 0, False) for i in range(3)],
    }[way]()
    for w in layers:
      x = jnp.tanh(x @ w)
    return x

  x = as64(X)
  uses = captured(fn, params, X)['w']
  for i, (use, moments) in enumerate(uses):
    assert use.box == ((i, i + 1), (0, 6), (0, 6))
    check_moments(moments, x)
    x = np.tanh(x @ as64(params['w'][i]))
  assert len(uses) == 3


# ------------------------------------------------------------------------------------ side by side


@pytest.mark.parametrize('way', ['outputs', 'transposed', 'nested', 'scaled', 'cast'])
def test_concatenated_leaves(way):
  params = {'a': normal(6, 3, seed=1), 'b': normal(6, 2, seed=2)}

  def fn(p, x):
    both = jnp.concatenate([p['a'], p['b']], 1)
    if way == 'transposed':
      return x @ jnp.concatenate([p['a'].T, p['b'].T]).T
    if way == 'nested':
      return x @ jnp.concatenate([both, p['a'][:, :1]], 1)[:, :6]
    if way == 'cast':
      return x.astype(jnp.bfloat16) @ both.astype(jnp.bfloat16)
    return x @ (2 * both if way == 'scaled' else both)

  stats = captured(fn, params, X)
  x = X.astype(jnp.bfloat16).astype(jnp.float32) if way == 'cast' else X
  for path, outputs in (('a', 3), ('b', 2)):
    use, moments = only(stats, path)
    assert use.sizes == (1, 6, outputs)
    assert use.direct
    check_moments(moments, 2 * x if way == 'scaled' else x)
  assert len(stats.inputs) == 1


def test_concatenated_leaves_that_are_masked_together():
  params = {'a': normal(6, 3, seed=1), 'b': normal(6, 1, seed=2)}
  stats = captured(lambda p, x: x @ (jnp.concatenate([p['a'], p['b']], 1) * MASK), params, X)
  for path in params:
    assert not only(stats, path)[0].direct
    assert 'something computed from it by mul (test_capture' in dict(stats.notes)[path]


def test_leaves_concatenated_along_the_contracted_axis():
  params = {'a': normal(2, 4, seed=1), 'b': normal(4, 4, seed=2)}
  stats = captured(lambda p, x: x @ jnp.concatenate([p['a'], p['b']]), params, X)
  assert stats.uses == ()
  for _, why in stats.skipped:
    assert 'concatenated with others along an axis that is contracted' in why


# ------------------------------------------------------------------------------------ several uses


def test_a_leaf_that_is_used_twice_has_the_rows_of_both():
  params = {'w': normal(6, 6, seed=1)}
  fn = lambda p, x: jnp.tanh(x @ p['w']) @ p['w'] + jnp.sin(x) @ p['w']
  use, moments = only(captured(fn, params, X), 'w')
  rows = [X, np.tanh(as64(X) @ as64(params['w'])), np.sin(as64(X))]
  check_moments(moments, np.concatenate(rows))
  assert use.sizes == (1, 6, 6)


@pytest.mark.parametrize('loop', [False, True], ids=['apart', 'in a loop'])
def test_a_leaf_that_is_used_at_two_scales_has_the_rows_of_both_as_it_sees_them(loop):
  params = {'w': normal(6, 6, seed=1)}
  half = lambda: 1 / jnp.sqrt(4.0)

  def fn(p, x):
    if not loop:
      return 3 * (x @ p['w']), jnp.sin(x) @ (p['w'] * half()), jnp.cos(x) @ -p['w'], x @ p['w']
    by = half()
    rows = jnp.stack([x, jnp.sin(x)])
    return x @ (-2 * p['w']), lax.scan(lambda _, x: (None, x @ (by * p['w'])), None, rows)[1]

  stats = captured(fn, params, X)
  use, moments = only(stats, 'w')
  x = as64(X)
  rows = [-2 * x, x / 2, np.sin(x) / 2] if loop else [x, np.sin(x) / 2, -np.cos(x)]
  assert use.direct
  check_moments(moments, np.concatenate(rows))


def test_the_same_product_twice_counts_once():
  """XLA computes it once, too; a repair that minimises its error weighs nothing else."""
  params = {'w': normal(6, 6, seed=1)}
  _, moments = only(captured(lambda p, x: jnp.tanh(x @ p['w']) + x @ p['w'], params, X), 'w')
  assert moments.count.tolist() == [7]


def test_a_tied_embedding_is_captured_where_it_attends():
  params = {'table': normal(9, 6, seed=1)}
  tokens = jnp.array([[0, 3, 8], [1, 1, 2]])
  fn = lambda p, t: jnp.tanh(p['table'][t]) @ p['table'].T
  stats = captured(fn, params, tokens)
  use, moments = only(stats, 'table')
  assert use.sizes == (1, 6, 9)
  check_moments(moments, np.tanh(as64(params['table'])[tokens]).reshape(-1, 6))
  np.testing.assert_array_equal(use.matrices(params['table'])[0], params['table'].T)
  ((path, why),) = stats.notes
  assert path == 'table'
  assert why.startswith('also used by gather (test_capture_views.py:')
  assert f'Also:\n  table: {why}' in str(stats)


def test_a_lookup_alone_is_left_out():
  stats = captured(lambda p, t: p['table'][t], {'table': normal(9, 6)}, jnp.array([0, 3]))
  ((path, why),) = stats.skipped
  assert path == 'table'
  assert why.startswith('no product multiplies by it; it is used by gather (test_capture_views.py:')


def test_a_lookup_by_one_hot_is_a_product_of_tokens():
  """What follows from it depends on the data, though only through comparisons."""
  params = {'table': normal(5, 6, seed=1), 'w': normal(6, 4, seed=2)}
  tokens = jnp.array([0, 3, 3, 1])
  fn = lambda p, t: jax.nn.relu(jax.nn.one_hot(t, 5) @ p['table']) @ p['w']
  stats = captured(fn, params, tokens)
  check_moments(only(stats, 'table')[1], np.eye(5)[tokens])
  check_moments(only(stats, 'w')[1], np.maximum(as64(params['table'])[tokens], 0))


def test_both_sides_of_a_matrix_are_two_forms():
  params = {'w': normal(6, 6, seed=1)}
  stats = captured(lambda p, x: jnp.sin(x @ p['w']) @ p['w'].T, params, X)
  use, moments = only(stats, 'w')
  check_moments(moments, X)
  assert (use.inputs, use.outputs) == ((0,), (1,))
  ((_, why),) = stats.notes
  assert why.startswith('also used by a product in another form (test_capture_views.py:')


# ------------------------------------------------------------------------------- computed weights


def standardised(w):
  return (w - w.mean(0, keepdims=True)) / w.std(0, keepdims=True)


COMPUTED = {
  'standardised': (standardised, 'sub'),
  'squared': (lambda w: w * w, 'mul'),
  'normed': (lambda w: w / jnp.linalg.norm(w, axis=0, keepdims=True), 'div'),
  'abs': (jnp.abs, 'abs'),
  'shifted': (lambda w: w + 1.0, 'add'),
  'relu': (lambda w: jnp.where(w > 0, w, 1.0), 'select_n'),
}


@pytest.mark.parametrize('name', COMPUTED)
def test_weights_that_are_computed_with(name):
  compute, by = COMPUTED[name]
  stats = captured(lambda p, x: x @ compute(p['w']), {'w': normal(6, 4, seed=1)}, X)
  use, moments = only(stats, 'w')
  assert not use.direct
  check_moments(moments, X)
  notes = [why for _, why in stats.notes if not why.startswith('also used by')]
  assert len(notes) == 1
  assert notes[0].startswith(f'its product multiplies by something computed from it by {by} (')


def test_weights_that_another_leaf_changes():
  def fn(p, x):
    return x @ (p['w'] + p['a'] @ p['b']), x @ (p['v'] * p['gain'][None])

  params = {'w': normal(6, 4), 'a': normal(6, 2), 'b': normal(2, 4), 'v': normal(6, 4)}
  stats = captured(fn, params | {'gain': normal(4)}, X)
  assert stats.paths == ('v',)
  assert dict(stats.notes)['v'].startswith('its product multiplies by something computed from it')
  reasons = dict(stats.skipped)
  assert reasons['w'].startswith('no product multiplies by it; it is used by add')
  for path in ('a', 'b'):
    assert reasons[path].endswith(': its partner depends on params only')


BY_CONSTANTS = {
  'outputs': lambda w, x: x @ (w @ jnp.arange(16.0).reshape(4, 4)),
  'inputs': lambda w, x: x @ (jnp.diag(jnp.arange(6.0)) @ w),
  'einsum': lambda w, x: jnp.einsum(
    'ni,io,op->np', x, w, jnp.ones((4, 2)), optimize=[(1, 2), (0, 1)]
  ),
}


@pytest.mark.parametrize('name', BY_CONSTANTS)
def test_products_with_constants_make_other_weights(name):
  """What a constant is multiplied by says nothing about data."""
  params = {'w': normal(6, 4, seed=1)}
  stats = captured(lambda p, x: BY_CONSTANTS[name](p['w'], x), params, X)
  assert stats.inputs == ()
  ((path, why),) = stats.skipped
  assert path == 'w'
  assert re.fullmatch(r'dot_general .*py:\d+\): its partner depends on no argument of fn', why)


def test_a_product_with_a_constant_beside_one_with_data():
  params = {'w': normal(6, 4, seed=1)}
  stats = captured(lambda p, x: (x @ p['w'], SCALES @ p['w'].T), params, X)
  use, moments = only(stats, 'w')
  assert use.sizes == (1, 6, 4)
  check_moments(moments, X)
  ((_, why),) = stats.notes
  assert why.endswith(': its partner depends on no argument of fn')


# ------------------------------------------------------------------------------ shared statistics


def test_leaves_with_the_same_inputs_share_their_moments():
  params = {name: normal(6, 4, seed=i) for i, name in enumerate('qkvo')}

  def fn(p, x):
    q, k, v = (x.astype(jnp.bfloat16) @ p[name].astype(jnp.bfloat16) for name in 'qkv')
    return q, k, v, jnp.tanh(x) @ p['o']

  stats = captured(fn, params, X)
  assert {only(stats, name)[0].source for name in 'qkv'} == {0}
  assert len(stats.inputs) == 2
  # also after the same calls, made again for each
  again = captured(lambda p, x: [jax.nn.gelu(x) @ p[name] for name in 'qkvo'], params, X)
  assert len(again.inputs) == 1


def test_leaves_with_other_inputs_do_not_share():
  key, params = jax.random.key(0), {name: normal(6, 4, seed=i) for i, name in enumerate('abc')}
  bits = lambda x, i: jax.random.bernoulli(jax.random.fold_in(key, i), 0.5, x.shape)
  drop = lambda x, i: jnp.where(bits(x, i), x, 0)

  def check(inputs, sources):
    stats = captured(lambda p, x: [y @ p[name] for name, y in zip('abc', inputs(x))], params, X)
    assert [only(stats, name)[0].source for name in 'abc'] == sources
    for name, y in zip('abc', inputs(X)):
      check_moments(only(stats, name)[1], y)

  check(lambda x: (x * 2.0, x * 2.0000002, x * 2), [0, 1, 0])
  check(lambda x: (drop(x, 1), drop(x, 2), drop(x, 2)), [0, 1, 1])
  check(lambda x: (x[:3], x[:4], x[1:4]), [0, 1, 2])
  check(lambda x: (x + SCALES[0], x + SCALES[1], x + SCALES[0]), [0, 1, 0])
  first = np.arange(6, dtype=np.float32)[None]
  second = first**2
  check(lambda x: (x * first, x * second, x * second), [0, 1, 1])


def test_what_is_drawn_anew_is_not_shared():
  draw = lambda: lax.rng_uniform(0.0, 1.0, X.shape)
  fn = lambda p, x: (x @ p['c'], (x * draw()) @ p['a'], (x * draw()) @ p['b'])
  params = {name: normal(6, 4) for name in 'abc'}
  stats = jax.eval_shape(lambda p, x: capture(fn, p, x)[1], params, X)
  assert len({stats[name][0][0].source for name in 'abc'}) == 3


def test_one_input_in_two_layouts_is_recorded_for_each():
  params = {'a': normal(6, 4), 'b': normal(7, 4)}
  stats = captured(lambda p, x: (x @ p['a'], x.T @ p['b']), params, X)
  check_moments(only(stats, 'a')[1], X)
  check_moments(only(stats, 'b')[1], X.T)


def test_an_ensemble_that_shares_its_first_inputs():
  params = {'w': normal(3, 6, 4), 'v': normal(6, 2)}
  one = lambda w, x: jnp.einsum('ni,io->no', x, w)
  stats = captured(lambda p, x: (jax.vmap(one, (0, None))(p['w'], x), x @ p['v']), params, X)
  use, moments = only(stats, 'w')
  assert use.sizes == (1, 6, 12)
  check_moments(moments, X)


# ------------------------------------------------------------------------------------- stacked


@pytest.mark.parametrize('way', ['scanned', 'side by side', 'outputs', 'picked', 'tied'])
def test_stacked_leaves(way):
  params = {name: 0.5 * normal(6, 6, seed=i) for i, name in enumerate('abc')}
  names = 'aab' if way == 'tied' else 'abc'

  def fn(p, x):
    stack = 2 * jnp.stack([p[name] for name in names], 1 if way == 'outputs' else 0)
    if way == 'side by side':
      return jnp.einsum('en,eno->eo', x[:3], stack)
    if way == 'outputs':
      return jnp.einsum('bn,nko->bko', x, stack.astype(jnp.float32))
    if way == 'picked':
      return jnp.tanh(x @ stack[2]) @ stack[1]
    return lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, stack)[0]

  rows, x = {name: [] for name in 'abc'}, as64(X)
  for i, name in enumerate(reversed(names[1:]) if way == 'picked' else names):
    rows[name].append(2 * x[i : i + 1] if way == 'side by side' else 2 * x)
    if way in ('scanned', 'tied', 'picked'):
      x = np.tanh(2 * x @ as64(params[name]))
  stats = captured(fn, params, X)
  assert set(stats.paths) == {name for name in 'abc' if rows[name]}
  for path in stats.paths:
    use, moments = only(stats, path)
    assert (use.direct, use.sizes, use.loop) == (True, (1, 6, 6), None)
    check_moments(moments, np.concatenate(rows[path]))
  assert len(stats.inputs) == (1 if way == 'outputs' else len(stats.paths))


def test_stacked_leaves_that_are_summed_over():
  params = {'a': normal(2, 4, seed=1), 'b': normal(2, 4, seed=2)}
  fn = lambda p, x: jnp.einsum(
    'nki,kio->no', x[:, :4].reshape(7, 2, 2), jnp.stack([p['a'], p['b']])
  )
  stats = captured(fn, params, X)
  for _, why in stats.skipped:
    assert 'stacked with others along an axis that is contracted' in why
  mean = captured(lambda p, x: x[:, :2] @ jnp.stack([p['a'], p['b']]).mean(0), params, X)
  assert all('used by reduce_sum' in why for _, why in (*mean.skipped,))
  assert len(mean.skipped) == len(stats.skipped) == 2
