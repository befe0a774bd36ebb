"""Odd masks and odd params: no errors, but what an analysis may trip over."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jprune
from tests.shrink import _masks
from tests.shrink._simple import X, make_masks, make_params, make_small, net


def test_masks_under_jit_that_are_closed_over():
  masks = make_masks()
  run = jax.jit(lambda params: jprune.shrink(net, params, masks, X).params)
  params = make_params()
  _masks.assert_same(jprune.shrink(net, params, masks, X).params, run(params), 0.0)


@pytest.mark.parametrize('none', [True, False], ids=['none', 'all_kept'])
def test_nothing_pruned(none):
  params, masks = make_params(), make_masks(np.ones(8, bool))
  masks = dict.fromkeys(masks) if none else masks
  small = jprune.shrink(net, params, masks, X)
  assert small.plan.kept == {}
  _masks.assert_same(params, small.params, 0.0)
  _masks.assert_same(net(params, X), small.fn(small.params, X), 1e-6)


def test_packed_masks():
  packed = jprune.masks.pack(make_masks())
  small = jprune.shrink(net, make_params(), packed, X)
  _masks.assert_same(make_small().params, small.params, 0.0)


def test_one_unit_of_a_group_that_is_pruned_altogether_stays():
  params, masks = make_params(), make_masks(np.zeros(8, bool))
  small = jprune.shrink(net, params, masks, X)
  assert jax.tree.map(np.shape, small.params) == {'in': (3, 1), 'bias': (1,), 'out': (1, 2)}
  np.testing.assert_array_equal(small.fn(small.params, X), np.zeros((4, 2)))
  # with one leaf whole, the others say which units go
  masks = {**make_masks(), 'bias': np.zeros(8, bool)}
  pair = _masks.pair(net, params, masks, X)
  assert pair.small.params['in'].shape == (3, 4)
  _masks.assert_same(*_masks.outputs(pair, X), tolerance=1e-6)


def test_all_units_that_a_leaf_has_are_pruned():
  order = np.array([5, 0, 3, 7, 1, 4, 2, 6])
  fn = lambda p, x: jnp.concatenate([x @ p['a'], x @ p['b']], -1)[:, order] @ p['out']
  rng = np.random.default_rng(0)
  shapes = {'a': (3, 3), 'b': (3, 5), 'out': (8, 2)}
  params = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
  with jax.enable_x64(True):
    graph = jprune.graph.channels(fn, params, X.astype(np.float64))
    kept = [np.ones(group.size, bool) for group in graph.groups]
    for keep, group in zip(kept, graph.groups):
      for member in group.members:
        if member.path == 'a':
          keep[member.position.units] = False
    masks = _masks.masks_of(graph, kept)
    assert not masks['a'].any()
    assert masks['b'].all()
    pair = _masks.pair(fn, params, masks, X.astype(np.float64))
    _masks.compare(pair, X.astype(np.float64))
    assert pair.small.params['b'].shape == (3, 5)


def test_scalars_whole_numbers_empty_leaves_and_keys_stay_as_they_are():
  def fn(params, x):
    y = net(params, x) * params['scalar'] + params['number'].astype(x.dtype)
    y = y + x[:, :0] @ params['empty'] + params['python']
    noise = jax.random.normal(params['key'], y.shape, y.dtype)
    return y + noise, params['table'][jnp.array([0, 1])]

  params = {
    **make_params(),
    'scalar': np.float32(2.0),
    'number': np.int32(3),
    'python': 0.5,
    'empty': np.ones((0, 2), np.float32),
    'key': jax.random.key(0),
    'table': np.arange(6, dtype=np.int32).reshape(3, 2),
  }
  masks = {**dict.fromkeys(params), **make_masks()}
  pair = _masks.pair(fn, params, masks, X)
  small = pair.small.params
  assert small['in'].shape == (3, 4)
  assert small['empty'].shape == (0, 2)
  assert small['python'] == 0.5
  assert small['table'].dtype == np.int32
  _masks.assert_same(fn(pair.masked, X), pair.small.fn(small, X), 1e-5)
  state = pair.small.plan.slice(params)
  assert state['in'].shape == (3, 4)


def test_whole_numbers_have_channels_too():
  fn = lambda p, x: jnp.tanh((x @ p['in'].astype(x.dtype)) * 0.1) @ p['out']
  params, masks = make_params(), make_masks()
  del params['bias'], masks['bias']
  params['in'] = np.arange(24, dtype=np.int8).reshape(3, 8)
  pair = _masks.pair(fn, params, masks, X)
  assert pair.small.params['in'].dtype == np.int8
  assert pair.small.params['in'].shape == (3, 4)
  _masks.assert_same(*_masks.outputs(pair, X), tolerance=1e-6)


def test_leaves_that_the_function_does_not_use_stay():
  params, masks = make_params(), make_masks()
  params['unused'], masks['unused'] = np.ones((8, 8), np.float32), None
  graph = jprune.graph.channels(net, params, X)
  assert 'does not use it' in graph.frozen['unused', 0]
  assert jprune.shrink(net, params, masks, X).params['unused'].shape == (8, 8)


def test_complex_params_under_all_that_complex_numbers_have():
  """Zero stays zero where it does, and elsewhere all that is pruned is alike."""
  middles = {
    'conj': jnp.conj,
    'parts': lambda h: lax.complex(jax.nn.relu(h.real), jnp.tanh(h.imag)),
    'abs': lambda h: h * jnp.abs(h) / (1 + jnp.abs(h)),
    'cosh': lambda h: h - jnp.cosh(h).mean(-1, keepdims=True),
    'log_cosh': lambda h: jnp.log(jnp.cosh(h)),
    'exp': lambda h: h * jnp.exp(h).sum(-1, keepdims=True),
    'softmax': lambda h: h * jax.nn.softmax(jnp.abs(h), -1),
    'norm': lambda h: h / (1 + jnp.sqrt((h * jnp.conj(h)).real.mean(-1, keepdims=True))),
    'fft': lambda h: jnp.fft.fft(h, axis=0),
    'angle': lambda h: jnp.where(jnp.abs(h) > 0.1, h * jnp.angle(h), 0.0),
  }

  def fn(params, x):
    leaf = lambda name, key: params[name][key]
    hidden = {name: x @ leaf(name, 'in') + leaf(name, 'bias')[None] for name in middles}
    with jax.numpy_dtype_promotion('standard'):
      return [jnp.abs(middles[name](h) @ leaf(name, 'out')) for name, h in hidden.items()]

  rng = np.random.default_rng(0)
  normal = lambda *shape: rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
  one = lambda: {'in': normal(3, 4), 'bias': normal(4), 'out': normal(4, 2)}
  params, x = {name: one() for name in middles}, normal(5, 3)
  with jax.enable_x64(True):
    graph = jprune.graph.channels(fn, params, x)
    assert len(graph.groups) == len(middles)
    masks = _masks.masks_of(graph, _masks.half_kept(graph, rng))
    small = jprune.shrink(fn, params, masks, x)
    masked = jax.tree.map(lambda w, keep: np.where(keep, w, 0), params, masks)
    both = lambda fn: jax.jit(
      lambda p: (fn(p, x), jax.grad(lambda p: jnp.stack(fn(p, x)).sum())(p))
    )
    values, slopes = both(fn)(masked)
    found = both(small.fn)(small.params)
    _masks.assert_same((values, small.plan.slice(slopes)), found, overall=True)
