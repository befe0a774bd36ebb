"""Inputs of any size, whose squares float32 could not hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jprune.graph import capture, capture_batches
from tests.graph.captured import check_moments, normal, only

SIZES = np.float32([1e-30, 1e-12, 1e25])
X = normal(3, 8, 5)
LARGE = X * SIZES[:, None, None]
PARAMS = {'w': normal(5, 4, seed=1), 'layers': normal(3, 5, 4, seed=2), 'conv': normal(2, 5, 3)}
as64 = lambda x: np.asarray(x, np.float64)


def each(params, x):
  """Steps of a scan see inputs of one size each; one leaf is used in all, one in its own."""

  def step(_, given):
    x, w = given
    return None, (x @ params['w'], x @ w)

  return lax.scan(step, None, (x, params['layers']))[1]


def looped(params, x):
  def body(state):
    i, total = state
    return i + 1, total + x[i] @ params['w']

  return lax.while_loop(lambda state: state[0] < 3, body, (0, jnp.zeros((8, 4))))


def convolved(params, x):
  return lax.conv_general_dilated(
    x, params['conv'], (1,), 'VALID', dimension_numbers=('NWC', 'WIO', 'NWC')
  )


FUNCTIONS = {
  'together': (lambda p, x: x @ p['w'], {'w': LARGE.reshape(24, 5)}),
  'scan': (each, {'w': LARGE.reshape(24, 5), 'layers': LARGE}),
  'while': (looped, {'w': LARGE.reshape(24, 5)}),
  'vmap': (lambda p, x: jax.vmap(lambda x: x @ p['w'])(x), {'w': LARGE.reshape(24, 5)}),
  'vmap of both': (
    lambda p, x: jax.vmap(lambda w, x: x @ w)(p['layers'], x),
    {'layers': LARGE},
  ),
  'cond': (
    lambda p, x: lax.cond(x[0, 0, 0] > 0, lambda: x[0] @ p['w'], lambda: x[0] @ -p['w']),
    {'w': LARGE[0]},
  ),
  'conv': (
    convolved,
    {'conv': np.stack([LARGE[:, :-1], LARGE[:, 1:]], -1).reshape(21, 10)},
  ),
  'number in the code': (lambda p, x: x[0] @ (1e-25 * p['w']), {'w': as64(LARGE[0]) * 1e-25}),
}


@pytest.mark.parametrize('name', FUNCTIONS)
def test_moments_of_inputs_of_any_size(name):
  fn, rows = FUNCTIONS[name]
  _, stats = capture(fn, PARAMS, LARGE, gram=True)
  for path, expected in rows.items():
    check_each(only(stats, path)[1], expected)


def check_each(moments, rows):
  """The moments of each product by itself."""
  for i, part in enumerate(rows if rows.ndim == 3 else rows[None]):
    check_moments(jax.tree.map(lambda x, i=i: x[i : i + 1], moments), part)


def test_numbers_known_later():
  fn = lambda p, x, s, t: x @ ((p['w'] * s) / t)
  s, t = jnp.float32(3e-30), jnp.float32(7e15)
  _, stats = capture(fn, PARAMS, LARGE[0], s, t, gram=True)
  check_moments(only(stats, 'w')[1], as64(LARGE[0]) * float(s) / float(t))


def test_ordinary_inputs_are_taken_as_they_are():
  _, stats = capture(lambda p, x: x @ p['w'], PARAMS, X * 1000)
  moments = only(stats, 'w')[1]
  assert not moments.exponent.any()
  np.testing.assert_allclose(moments.mean[0], as64(X * 1000).mean((0, 1)), rtol=1e-5)


def test_each_input_has_a_size_of_its_own():
  x = np.asarray(X).reshape(24, 5) * np.float32(10) ** np.linspace(-30, 30, 5, dtype=np.float32)
  stats = capture_batches(lambda p, x: x @ p['w'], PARAMS, [x[:10], x[10:]], gram=True)
  moments = only(stats, 'w')[1]
  size = np.exp2(as64(moments.exponent[0]))
  apart = as64(x) - as64(x).mean(0)
  found = as64(moments.products[0]) * size[:, None] * size[None, :]
  scale = np.linalg.norm(apart, axis=0)
  np.testing.assert_allclose(found / scale / scale[:, None], np.corrcoef(apart.T), atol=1e-6)
  np.testing.assert_allclose(moments.norm[0], np.linalg.norm(as64(x), axis=0), rtol=1e-6)
  np.testing.assert_allclose(as64(moments.mean[0]) * size, as64(x).mean(0), rtol=1e-5)


def test_batches_and_weights_and_devices():
  """Sizes that differ from batch to batch; zeros have none."""
  batches = [LARGE[0], jnp.zeros((8, 5)), LARGE[1], LARGE[2], LARGE[1], jnp.zeros((8, 5))]
  fn, rows = lambda p, x: x @ p['w'], np.concatenate(batches)
  mesh = Mesh(np.array(jax.devices()), ('x',))
  spread = [jax.device_put(x, NamedSharding(mesh, PartitionSpec('x'))) for x in batches]
  for given in (batches, spread, batches[::-1]):
    stats = capture_batches(fn, PARAMS, given, gram=True)
    check_moments(only(stats, 'w')[1], rows)
  for size in SIZES[:2]:  # the first ones are all there is
    few = [LARGE[0] * 0, LARGE[0] / SIZES[0] * size]
    stats = capture_batches(fn, PARAMS, few, gram=True, sample_weights=lambda x: jnp.arange(8.0))
    check_moments(only(stats, 'w')[1], np.concatenate(few), np.tile(np.arange(8.0), 2))


def test_squares_of_powers_of_two_are_exact():
  fn = lambda p, x: x @ p['w']
  fields = ('count', 'mean', 'squares', 'zeros', 'products')
  _, expected = capture(fn, PARAMS, X, gram=True)
  for power in (-110, -66, -30, 40, 66, 120):
    _, stats = capture(fn, PARAMS, X * np.float32(2.0**power), gram=True)
    one, other = only(stats, 'w')[1], only(expected, 'w')[1]
    for name in fields:
      bits = lambda moments, name=name: np.frexp(np.asarray(getattr(moments, name)))[0]
      np.testing.assert_array_equal(bits(one), bits(other))


def test_merging_under_a_map():
  fn = lambda x: capture(lambda p, x: x @ p['w'], PARAMS, x, gram=True)[1]
  stats = jax.vmap(fn)(LARGE)
  first, *others = (jax.tree.map(lambda leaf, i=i: leaf[i], stats) for i in range(3))
  total = jax.jit(lambda first, others: first.merge(others[0]).merge(others[1]))(first, others)
  check_moments(only(total, 'w')[1], LARGE.reshape(24, 5))
  check_moments(only(first, 'w')[1], LARGE[0])
