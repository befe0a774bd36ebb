"""Which units the others can't stand in for, against a greedy choice by least squares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

import jprune
from jprune import scores
from tests import reference_statistics, stats


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def decaying(rows, units, seed=0):
  """Correlated units of quite different sizes: no residuals are close to each other."""
  mixed = normal(rows, units, seed=seed) @ (0.3 * normal(units, units, seed=seed + 1))
  return mixed * np.float32(0.7) ** np.arange(units, dtype=np.float32)


def units_of(x, outputs=2):
  """The score of each unit; all of its weights have it."""
  params = {'w': np.ones((*x.shape[:-2], x.shape[-1], outputs), np.float32)}
  found = scores.independence(params, stats.of_inputs({'w': x}, {'w': outputs}))['w']
  np.testing.assert_array_equal(found, np.broadcast_to(found[..., :1], found.shape))
  return np.asarray(found)[..., 0]


@pytest.mark.parametrize('mean', [0, 2])
@pytest.mark.parametrize('units', [1, 2, 10])
def test_is_the_residual_at_the_time_of_the_greedy_choice(units, mean):
  x = decaying(100, units) + np.float32(mean)
  order, values = reference_statistics.picked_first(x)
  found = units_of(x)
  assert np.argsort(-found).tolist() == order
  np.testing.assert_allclose(found[order], values, rtol=1e-2)
  np.testing.assert_allclose(found[order][:5], values[:5], rtol=1e-3)


def test_copies_and_combinations_come_last():
  x = normal(500, 30)
  mixed = x @ normal(30, 20, seed=1)
  units = np.concatenate([x * 3, x[:, :10] * 2, mixed, np.zeros((500, 3), np.float32)], axis=1)
  found = units_of(units)
  kept = np.argsort(-found)[:30]
  # what is kept spans everything, to which 30 of 63 units suffice
  residual = units - units[:, kept] @ np.linalg.lstsq(units[:, kept], units)[0]
  assert np.abs(residual).max() < 1e-2
  assert np.sort(found)[33 - 1] < 1e-30 < 1e-2 < np.sort(found)[33]
  assert set(np.argsort(found)[:3]) == {60, 61, 62}  # of those without residual the dead ones go


def test_of_two_copies_the_first_stays_and_a_larger_one_stays_first():
  x = normal(50, 3)
  found = units_of(np.concatenate([x, x], axis=1))
  assert found[:3].min() > 1e-3
  assert found[3:].max() < 1e-30
  found = units_of(np.concatenate([x, 2 * x], axis=1))
  assert found[3:].min() > 1e-3
  assert found[:3].max() < 1e-30


def test_a_constant_unit_counts():
  x = normal(200, 2)
  found = units_of(np.concatenate([x, np.ones((200, 1), np.float32), 1 + x[:, :1]], axis=1))
  assert (found > 1e-3).sum() == 3  # of x0, x1, 1 and 1 + x0


SIZES = st.sampled_from([1, 13, 40])  # few, as each is compiled anew


@settings(max_examples=20, deadline=None)
@drawn(st.integers(0, 10**6), SIZES, SIZES, st.floats(-12, 12))
def test_orders_strictly_whatever_the_units_are(seed, rows, units, exponent):
  rng = np.random.default_rng(seed)
  x = rng.integers(-1, 2, size=(rows, units)) * 10.0**exponent  # many ties and copies
  found = units_of(x.astype(np.float32))
  assert np.isfinite(found).all()
  assert len(set(found.tolist())) == units
  assert (found > 0).all()


def test_equal_units_are_drawn_apart_by_little():
  x = np.eye(64, dtype=np.float32)
  found = units_of(x)
  assert np.argsort(-found).tolist() == list(range(64))
  np.testing.assert_allclose(found, 1 / 64, rtol=64e-5)


def test_products_side_by_side():
  x = np.stack([decaying(60, 6, seed) for seed in (1, 2)])
  for i in range(2):
    order, values = reference_statistics.picked_first(x[i])
    # a residual is a difference of numbers of the size of its unit's square
    rounding = 4 * np.finfo(np.float32).eps * np.mean(np.square(x[i]), axis=0)[order]
    assert (np.abs(units_of(x)[i][order] - values) <= 1e-4 * values + rounding).all()


def test_many_units():
  """More of them than rows: no more than the rank is left of them."""
  x = normal(200, 700)
  found = units_of(x)
  assert np.isfinite(found).all()
  assert len(set(found.tolist())) == 700
  assert (found > 1e-30).sum() == 200


def test_channels_keep_the_greedy_set():
  fn = lambda p, x: jnp.tanh(x @ p['in']) @ p['out']
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  params, x = {'in': draw(3, 8), 'out': draw(8, 3)}, draw(100, 3)
  params['in'] = params['in'].at[:, 4:].set(params['in'][:, :4])  # 4 channels twice
  hidden = np.asarray(jnp.tanh(x @ params['in']))
  found = scores.independence(params, stats.of_inputs({'out': hidden}, {'out': 3}))
  graph = jprune.graph.channels(fn, params, x)
  masks = jprune.masks.channels(found, graph, 0.5, where='out')
  assert np.asarray(masks['out'])[:, 0].tolist() == [True] * 4 + [False] * 4


@pytest.mark.parametrize('scorer', ['independence', 'activation'])
def test_in_a_deep_net_a_group_is_pruned_by_the_inputs_of_its_consumer(scorer):
  fn = lambda p, x: jnp.tanh(jnp.tanh(x @ p['a']) @ p['b']) @ p['c']
  shapes = {'a': (4, 8), 'b': (8, 8), 'c': (8, 2)}
  params = {name: jnp.asarray(normal(*shape)) for name, shape in shapes.items()}
  weak = {'a': 2, 'b': 5}
  for name, unit in weak.items():
    if scorer == 'activation':
      params[name] = params[name].at[:, unit].multiply(0.01)
    else:  # a copy that comes later
      params[name] = params[name].at[:, unit].set(params[name][:, 0])
  x = jnp.asarray(normal(60, 4, seed=1))
  graph = jprune.graph.channels(fn, params, x[:1])
  _, given = jprune.graph.capture(fn, params, x, gram=True)
  extra = (graph,) if scorer == 'independence' else ()
  found = getattr(scores, scorer)(params, given, *extra)
  for name, consumer in {'a': 'b', 'b': 'c'}.items():
    masks = jprune.masks.channels(found, graph, {f'{name}[1]': 1 / 8}, where=consumer)
    assert np.flatnonzero(~np.asarray(masks[name][0])).tolist() == [weak[name]]
    assert np.flatnonzero(~np.asarray(masks[consumer][:, 0])).tolist() == [weak[name]]
    assert np.asarray(masks[consumer])[0].all()  # its own outputs stay
    assert consumer == 'c' or masks['c'] is None


def images(params, x):
  """A convolution whose windows, and a dense layer whose feature map, hold a channel many times."""
  dims = ('NHWC', 'HWIO', 'NHWC')
  conv = lambda x, w: jax.lax.conv_general_dilated(x, w, (1, 1), 'VALID', None, None, dims)
  x = jnp.tanh(conv(jnp.tanh(x @ params['point']), params['conv']))
  return x.reshape(len(x), -1) @ params['dense']


def test_a_channel_in_many_places_is_one_unit():
  params = {
    'point': jnp.asarray(normal(4, 6) * np.float32(0.6) ** np.arange(6, dtype=np.float32)),
    'conv': jnp.asarray(
      normal(2, 2, 6, 5, seed=1) * np.float32(0.5) ** np.arange(5, dtype=np.float32)
    ),
    'dense': jnp.asarray(normal(45, 3, seed=2)),
  }
  params['point'] = params['point'].at[:, 5].set(params['point'][:, 0])  # the same channel twice
  x = jnp.asarray(normal(80, 4, 4, 4, seed=3))
  graph = jprune.graph.channels(images, params, x[:1])
  _, given = jprune.graph.capture(images, params, x, gram=True)
  found = scores.independence(params, given, graph)
  points = np.tanh(np.asarray(x) @ np.asarray(params['point']))
  windows = np.stack(
    [points[:, i : i + 2, j : j + 2] for i in range(3) for j in range(3)], axis=1
  ).reshape(-1, 24)
  hidden = jnp.tanh(jnp.asarray(windows) @ params['conv'].reshape(24, 5)).reshape(80, 45)
  for name, rows in {'conv': windows, 'dense': hidden}.items():
    channels = params['conv'].shape[2 if name == 'conv' else 3]
    order, values = reference_statistics.picked_first_of_blocks(
      rows, np.tile(np.arange(channels), rows.shape[1] // channels), 1e-5
    )
    of_unit = np.asarray(found[name]).reshape(-1, channels, params[name].shape[-1])
    np.testing.assert_array_equal(of_unit, np.broadcast_to(of_unit[:1, :, :1], of_unit.shape))
    assert np.argsort(-of_unit[0, :, 0]).tolist() == order
    np.testing.assert_allclose(of_unit[0, order, 0], values, rtol=1e-2, atol=1e-30)
  assert found['conv'][0, 0, 5, 0] < 1e-30  # the copy, in all of its places
  masks = jprune.masks.channels(found, graph, {'point[1]': 1 / 6}, where='conv')
  assert np.asarray(masks['conv'])[0, 0, :, 0].tolist() == [True] * 5 + [False]
  alone = scores.independence(params, given)
  assert len(set(np.asarray(alone['conv'])[..., 0].ravel().tolist())) == 24
  with pytest.raises(TypeError, match=r'independence: `graph` must be a ChannelGraph; got int'):
    scores.independence(params, given, 3)


def test_entries_of_two_channels_are_by_themselves():
  """Heads of attention, and the entries of a head: neither is what the other is."""
  fn = lambda p, x: jnp.einsum('nhk,hkd->nd', jnp.einsum('nd,dhk->nhk', x, p['in']), p['out'])
  params = {'in': jnp.asarray(normal(5, 2, 3)), 'out': jnp.asarray(normal(2, 3, 5, seed=1))}
  x = jnp.asarray(normal(50, 5))
  graph = jprune.graph.channels(fn, params, x)
  assert len(graph.groups) == 2
  _, given = jprune.graph.capture(fn, params, x, gram=True)
  found, alone = scores.independence(params, given, graph), scores.independence(params, given)
  np.testing.assert_array_equal(found['out'], alone['out'])


def test_needs_products():
  given = stats.of_inputs({'w': normal(4, 3)}, {'w': 2}, gram=False)
  with pytest.raises(ValueError, match=r'independence: `stats` must be captured with gram=True'):
    scores.independence({'w': jnp.ones((3, 2))}, given)
