"""Statistics of many batches, of weighted tokens, of sharded data, and under transformations."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jprune.graph import capture, capture_batches
from tests.graph.captured import captured, check_moments, check_same, close, normal, only

PARAMS = {'in': normal(6, 8), 'out': normal(8, 4, seed=1), 'layers': 0.3 * normal(3, 8, 8, seed=2)}
X = normal(16, 5, 6, seed=3)
PADDED = np.arange(5) < np.random.default_rng(5).integers(1, 6, 16)[:, None]
each_mesh = pytest.mark.parametrize('kind', [AxisType.Auto, AxisType.Explicit], ids=str)


def fn(p, x):
  h = jax.nn.relu(x @ p['in'])
  h = lax.scan(lambda h, w: (h + jnp.tanh(h @ w), None), h, p['layers'])[0]
  return h @ p['out']


def whole(x, **options):
  return capture(fn, PARAMS, x, gram=True, **options)[1]


# What most tests compare with: of all rows, and of those that are no padding.
of_all = functools.cache(lambda: whole(X))
of_tokens = functools.cache(lambda: whole(X[PADDED]))


# ----------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize('sizes', [(1, 1, 14), (4, 4, 4, 4)], ids=str)
def test_batches_add_up_to_one_large_batch(sizes):
  batches = jnp.split(X, np.cumsum(sizes)[:-1])
  stats = capture_batches(fn, PARAMS, batches, gram=True)
  check_same(stats, of_all())
  assert only(stats, 'in')[1].count.tolist() == [80]


def test_batches_of_several_arguments_from_a_generator():
  two = lambda p, x, scale: fn(p, x * scale)
  stats = capture_batches(two, PARAMS, ((x, 2.0) for x in X), gram=True, progress=False)
  check_same(stats, whole(2 * X))


def test_without_grams_nothing_else_changes():
  stats = capture_batches(fn, PARAMS, [X[:4], X[4:]])
  assert all(moments.products is None for moments in stats.inputs)
  check_same(stats, capture(fn, PARAMS, X)[1])
  _, moments = only(stats, 'layers')
  expected = only(of_all(), 'layers')[1]
  close(moments.norm, expected.norm)
  close(moments.second_moment, np.diagonal(expected.gram, axis1=1, axis2=2))


def test_where_selects_and_nothing_else_is_known():
  stats = capture_batches(fn, PARAMS, [X], where='layers', gram=True)
  assert stats.paths == ('layers',)
  assert stats.skipped == ()
  assert len(stats.inputs) == 1
  check_moments(only(stats, 'layers')[1], _rows_of_layers())


def _rows_of_layers():
  as64 = lambda x: np.asarray(x, np.float64)
  h, rows = np.maximum(as64(X).reshape(-1, 6) @ as64(PARAMS['in']), 0), []
  for w in as64(PARAMS['layers']):
    rows.append(h)
    h = h + np.tanh(h @ w)
  return np.stack(rows)


def test_merging():
  a, b = whole(X[:3]), whole(X[3:])
  check_same(a.merge(b), of_all())
  check_same(jax.jit(lambda a, b: b.merge(a))(a, b), of_all())
  assert only(a, 'in')[1].count.tolist() == [15]  # left as it was


def test_merging_with_what_saw_no_rows():
  def fn(p, x, yes):
    return lax.cond(yes, lambda x: x @ p['w'], lambda x: x @ p['v'], x)

  params = {'w': normal(6, 4), 'v': normal(6, 4)}
  x = X.reshape(-1, 6)
  some = [(x[:30], jnp.asarray(False)), (x[30:50], jnp.asarray(True)), (x[50:], jnp.asarray(True))]
  stats = capture_batches(fn, params, some, gram=True)
  check_moments(only(stats, 'w')[1], x[30:])
  check_moments(only(stats, 'v')[1], x[:30])


def test_small_deviations_from_a_large_mean_survive():
  x = 1000 + normal(4000, 3)
  stats = capture_batches(lambda p, x: x @ p['w'], {'w': normal(3, 2)}, jnp.split(x, 4), gram=True)
  _, moments = only(stats, 'w')
  rows = np.asarray(x, np.float64)
  close(moments.covariance[0], np.cov(rows.T, bias=True), 1e-4)
  close(moments.mean[0], rows.mean(0), 1e-6)


def test_compiled_once_for_each_shape():
  traces = []

  def counted(p, x):
    traces.append(x.shape)
    return fn(p, x)

  capture_batches(counted, PARAMS, [X[:4], X[4:8], X[8:12]])
  assert traces == [(4, 5, 6)]
  capture_batches(counted, PARAMS, [X[:2], X[2:5], X[5:7], X[7:10]])
  assert traces[1:] == [(2, 5, 6), (3, 5, 6)]


def test_the_params_and_batches_are_left_as_they_are():
  params, x = jax.tree.map(jnp.array, PARAMS), jnp.array(X)
  capture_batches(fn, params, [x, x], gram=True)
  capture(fn, params, x)
  assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((params, x)))


@pytest.mark.parametrize('progress', [False, True], ids=['hidden', 'shown'])
def test_progress(progress, monkeypatch):
  tqdm = pytest.importorskip('tqdm')
  bars = []
  monkeypatch.setattr(sys.stderr, 'isatty', lambda: True, raising=False)
  monkeypatch.setattr(tqdm, 'tqdm', lambda items, **options: bars.append(options) or items)
  stats = capture_batches(fn, PARAMS, [X[:8], X[8:]], gram=True, progress=progress)
  assert [bar['desc'] for bar in bars] == ['capture_batches'] * progress
  check_same(stats, of_all())


# ---------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize('filling', [np.nan, np.inf], ids=str)
def test_weights_of_zero_leave_the_padding_out(filling):
  x = jnp.where(PADDED[:, :, None], X, filling)
  stats = whole(x, sample_weights=PADDED)
  check_same(stats, of_tokens())
  some = ((x[:8], PADDED[:8]), (x[8:], PADDED[8:]))
  fed = capture_batches(
    lambda p, x, mask: fn(p, x), PARAMS, some, gram=True, sample_weights=lambda batch: batch[1]
  )
  check_same(fed, of_tokens())


def test_weights_between_zero_and_one():
  weights = np.random.default_rng(0).random((16, 5)).astype(np.float32)
  stats = whole(X, sample_weights=weights)
  check_moments(only(stats, 'in')[1], X.reshape(-1, 6), weights)
  check_moments(only(stats, 'layers')[1], _rows_of_layers(), weights)
  _, moments = only(whole(X, sample_weights=2 * np.ones(16, int)), 'in')
  check_moments(moments, X.reshape(-1, 6), np.full(80, 2))


def test_weights_of_sequences():
  check_same(whole(X, sample_weights=np.arange(16) >= 3), whole(X[3:]))


def test_weights_follow_tokens_that_are_moved():
  def moved(p, x):
    x = x.swapaxes(0, 1)
    y = x.reshape(-1, 6) @ p['in']
    y = y.reshape(5, 16, 2, 4).transpose(2, 1, 0, 3) @ p['out'][:4]
    return y, jax.vmap(lambda x: x @ p['side'])(x)

  params = {'in': PARAMS['in'], 'out': PARAMS['out'], 'side': normal(6, 3)}
  stats = captured(moved, params, X, sample_weights=PADDED)
  check_moments(only(stats, 'in')[1], X[PADDED])
  check_moments(only(stats, 'side')[1], X[PADDED])
  assert dict(stats.skipped)['out'] == 'products use only parts of it, or parts that overlap'


def test_weights_of_tokens_in_attention():
  """Keys are mixed into queries, so only what is at the place of padding is left out."""
  params = {name: normal(6, 6, seed=i) for i, name in enumerate('qkvo')}

  def attention(p, x, mask):
    scores = jnp.einsum('bqd,bkd->bqk', x @ p['q'], x @ p['k'])
    weights = jax.nn.softmax(jnp.where(mask[:, None, :], scores, -1e30))
    return jnp.einsum('bqk,bkd->bqd', weights, x @ p['v']) @ p['o']

  stats = captured(attention, params, X, PADDED, sample_weights=PADDED)
  check_moments(only(stats, 'q')[1], X[PADDED])
  mixed = lambda p, x, mask: attention(p | {'o': jnp.eye(6)}, x, mask)
  check_moments(only(stats, 'o')[1], mixed(params, X, PADDED)[PADDED], tolerance=2e-6)


def test_weights_in_windows_of_a_convolution():
  kernel = {'kernel': normal(3, 6, 4)}
  conv = lambda p, x: lax.conv_general_dilated(
    x, p['kernel'], (1,), 'SAME', dimension_numbers=('NWC', 'WIO', 'NWC')
  )
  keep = np.arange(16) % 3 > 0
  stats = captured(conv, kernel, X, sample_weights=keep)
  check_same(stats, captured(conv, kernel, X[keep]))


ORDER = np.random.default_rng(7).permutation(5)
shifted = lambda x: jnp.concatenate([jnp.zeros_like(x[:, :1]), x[:, :-1]], 1)
PERMUTED = {  # in what is the same axis to what goes on with either
  'branch': lambda x: lax.cond(x.sum() > 0, lambda x: x[:, ORDER], lambda x: x, x),
  'carry': lambda x: lax.fori_loop(0, 3, lambda i, x: jnp.tanh(x[:, ::-1]), x),
  'while': lambda x: lax.while_loop(lambda x: x.sum() > 1, lambda x: jnp.roll(x, 1, 1) / 2, x),
  'choice': lambda x: jnp.where(x.sum() > 0, jnp.sort(x, 1), x),
  'half of a sum': lambda x: (x + x[:, ORDER], x[:, ORDER])[1],
  'half of a sum of sequences': lambda x: (x + x[::-1], x[::-1])[1],
  'by data': lambda x: jnp.where(x[:1, :1, :1] > 0, x[:, jnp.argsort(x[0, :, 0])], x),
  'scattered': lambda x: jnp.where(x[:1, :1, :1] > 0, jnp.zeros_like(x).at[:, ORDER].set(x), x),
}
IN_PLACE = {
  'shifted beside': lambda x: x / 2 + shifted(x),
  'permuted before': lambda x: lax.fori_loop(0, 2, lambda i, x: x + jnp.roll(x, 1, 1), x),
  'position': lambda x: x + jnp.cos(normal(9, 6))[jnp.arange(5)][None],
  'in both branches': lambda x: lax.cond(x.sum() > 0, jnp.sin, lambda x: 2 * x + x[:, ::-1], x),
  'some features': lambda x: x.at[..., 2:].set(1.0)[..., ::-1][..., np.arange(6)[::-1]],
}


@pytest.mark.parametrize('name', PERMUTED | IN_PLACE)
def test_weights_of_tokens_that_were_permuted_are_of_no_row(name):
  params = {'w': normal(6, 4)}
  change = (PERMUTED | IN_PLACE)[name]
  fn = lambda p, x: (change(x) @ p['w'], x + change(x))
  if name in IN_PLACE:
    stats = captured(fn, params, X, sample_weights=PADDED)
    check_moments(only(stats, 'w')[1], change(X)[PADDED])
  else:
    stats = jax.eval_shape(lambda p, x: capture(fn, p, x, sample_weights=PADDED)[1], params, X)
    assert dict(stats.skipped)['w'].endswith('not the tokens that weights are given for')


def test_rows_that_are_not_tokens_are_left_out():
  def routed(p, x):
    chosen = jnp.argsort(x.sum(-1), axis=1)[:, :2]
    picked = jnp.take_along_axis(x, chosen[..., None], axis=1)
    return x @ p['all'], picked @ p['chosen'], x.mean(1) @ p['pooled'], x.sum((0, 1)) @ p['one']

  params = {name: normal(6, 4) for name in ('all', 'chosen', 'pooled', 'one')}
  stats = captured(routed, params, X, sample_weights=PADDED)
  assert stats.paths == ('all',)
  for _, why in stats.skipped:
    assert why.endswith(': its rows are not the tokens that weights are given for')
  assert captured(routed, params, X).skipped == ()


# --------------------------------------------------------------------------------------- sharding


@each_mesh
@pytest.mark.parametrize('weighted', [False, True], ids=['plain', 'weighted'])
def test_sharded_data(kind, weighted):
  mesh = jax.make_mesh((8,), ('d',), axis_types=(kind,))
  rows, everywhere = (NamedSharding(mesh, PartitionSpec(*spec)) for spec in (('d',), ()))
  params, x = jax.device_put(PARAMS, everywhere), jax.device_put(X, rows)
  options = {'sample_weights': jax.device_put(jnp.asarray(PADDED), rows)} if weighted else {}
  y, stats = capture(fn, params, x, gram=True, **options)
  check_same(stats, of_tokens() if weighted else of_all())
  assert y.sharding.is_equivalent_to(rows, y.ndim)
  assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(stats))
  some = [x, jax.device_put(2 * X, rows)]
  many = capture_batches(fn, params, some, gram=True)
  check_same(many, capture_batches(fn, PARAMS, [X, 2 * X], gram=True))


@each_mesh
def test_sharded_params_and_data(kind):
  mesh = jax.make_mesh((4, 2), ('d', 'm'), axis_types=(kind, kind))
  place = lambda x, *spec: jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec)))
  params = {
    'in': place(PARAMS['in'], None, 'm'),
    'layers': place(PARAMS['layers'], None, None, None),
    'out': place(PARAMS['out'], None, None),
  }

  def gathered(p, x):
    h = jax.nn.relu(x @ p['in'])
    if kind is AxisType.Explicit:
      h = jax.sharding.reshard(h, NamedSharding(mesh, PartitionSpec('d')))
    h = lax.scan(lambda h, w: (h + jnp.tanh(h @ w), None), h, p['layers'])[0]
    return h @ p['out']

  check_same(capture(gathered, params, place(X, 'd'), gram=True)[1], of_all())


@each_mesh
def test_sharded_loops_and_branches(kind):
  mesh = jax.make_mesh((8,), ('d',), axis_types=(kind,))
  rows, everywhere = (NamedSharding(mesh, PartitionSpec(*spec)) for spec in (('d',), ()))

  def looped(p, x):
    step = lambda i, x: jnp.tanh(x @ p['w'])
    x = lax.fori_loop(0, 3, step, x)
    x = lax.while_loop(lambda s: s[0] < 2, lambda s: (s[0] + 1, step(0, s[1])), (0, x))[1]
    return lax.cond(x[0, 0, 0] > 0, lambda x: x @ p['a'], lambda x: x @ p['b'], x)

  params = {name: 0.3 * normal(6, 6, seed=i) for i, name in enumerate('abw')}
  expected = capture(looped, params, X, gram=True)[1]
  assert only(expected, 'w')[1].count.tolist() == [400]
  if kind is AxisType.Explicit:  # a single entry of sharded data can't be taken
    placed = lambda p, x: looped(p, jax.sharding.reshard(x, everywhere))
  else:
    placed = looped
  x = jax.device_put(X, rows)
  check_same(capture(placed, jax.device_put(params, everywhere), x, gram=True)[1], expected)


# ------------------------------------------------------------------------- precisions, transforms


def test_double_precision():
  with jax.enable_x64(True):
    params, x = jax.tree.map(lambda x: np.asarray(x, np.float64), (PARAMS, X))
    stats = captured(fn, params, x)
    assert {leaf.dtype for leaf in jax.tree.leaves(stats)} == {jnp.dtype(jnp.float32)}
    rows = np.asarray(_rows_of_layers())
    check_moments(only(stats, 'layers')[1], rows)
    check_same(capture_batches(fn, params, [x[:8], x[8:]], gram=True), stats)


@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float16], ids=['bfloat16', 'float16'])
def test_half_precision_is_summed_in_single(dtype):
  params, x = jax.tree.map(lambda x: x.astype(dtype), (PARAMS, jnp.tile(X, (40, 1, 1))))
  stats = capture(fn, params, x, gram=True)[1]
  assert {leaf.dtype for leaf in jax.tree.leaves(stats)} == {jnp.dtype(jnp.float32)}
  check_moments(only(stats, 'in')[1], x.astype(jnp.float32).reshape(-1, 6))
  assert only(stats, 'out')[1].count.tolist() == [3200]


def test_under_jit_of_the_caller():
  y, stats = jax.jit(lambda p, x: capture(fn, p, x, gram=True))(PARAMS, X)
  check_same(stats, of_all())
  np.testing.assert_allclose(y, fn(PARAMS, X), rtol=1e-5, atol=1e-5)
  weighted = jax.jit(lambda p, x, w: capture(fn, p, x, gram=True, sample_weights=w)[1])
  check_same(weighted(PARAMS, X, PADDED), of_tokens())


def test_under_vmap_of_the_caller():
  many = jax.jit(jax.vmap(whole))(jnp.stack([2 * X, X]))
  check_same(jax.tree.map(lambda leaf: leaf[1], many), of_all())


def test_shapes_alone_are_enough_for_what_is_known():
  struct = jax.eval_shape(lambda p, x: capture(fn, p, x, gram=True)[1], PARAMS, X)
  assert (struct.uses, struct.skipped) == (of_all().uses, of_all().skipped)
  assert [m.products.shape for m in struct.inputs] == [m.products.shape for m in of_all().inputs]
  assert '?' in str(struct)


def test_statistics_pass_through_jit_and_keep_what_they_know():
  stats = jax.jit(lambda stats: stats)(of_all())
  check_same(stats, of_all())
  assert str(stats) == str(of_all())
