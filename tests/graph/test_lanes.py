"""What reads and writes along time leaves channels free, also where ``vmap`` makes it a gather."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jprune
from jprune import graph
from tests.graph.captured import normal

# Of values (5, 8), time and channels, and of a time: (times, 8).
ALONG_TIME = {
  'roll': lambda h, u, n: jnp.roll(h, n, 0),
  'roll and flip': lambda h, u, n: jnp.flip(jnp.roll(h, -n, 0), 0),
  'roll transposed': lambda h, u, n: jnp.roll(h.T, n, 1).T,
  'slice': lambda h, u, n: lax.dynamic_slice_in_dim(h, n, 2, 0),
  'slice of both axes': lambda h, u, n: lax.dynamic_slice(h, (n, 0), (2, 8)),
  'slice transposed': lambda h, u, n: lax.dynamic_slice_in_dim(h.T, n, 2, 1).T,
  'index': lambda h, u, n: h[n][None],
  'index kept': lambda h, u, n: lax.dynamic_index_in_dim(h, n, 0),
  'index clipped': lambda h, u, n: h.at[n].get(mode='clip')[None],
  'index or zeros': lambda h, u, n: h.at[n].get(mode='fill', fill_value=0)[None],
  'indices': lambda h, u, n: h[jnp.stack([n, n + 1])],
  'take': lambda h, u, n: jnp.take(h, jnp.stack([n, n + 1]), axis=0, mode='clip'),
  'take along': lambda h, u, n: jnp.take_along_axis(h, ((jnp.arange(5) + n) % 5)[:, None], axis=0),
  'order': lambda h, u, n: h[jnp.argsort(jnp.arange(5) * n % 5)],
  'update': lambda h, u, n: lax.dynamic_update_slice_in_dim(h, u[:2], n, 0),
  'update one': lambda h, u, n: lax.dynamic_update_index_in_dim(h, u[0], n, 0),
  'update transposed': lambda h, u, n: lax.dynamic_update_slice_in_dim(h.T, u[:2].T, n, 1).T,
  'update zeros': lambda h, u, n: lax.dynamic_update_slice(jnp.zeros((9, 8)), h, (n, 0)),
  'set': lambda h, u, n: h.at[n].set(u[0]),
  'add': lambda h, u, n: h.at[n].add(u[0]),
  'add several': lambda h, u, n: h.at[jnp.stack([n, n + 1])].add(u[:2]),
  'multiply': lambda h, u, n: h.at[n].multiply(u[0]),
  'largest': lambda h, u, n: h.at[n].max(u[0]),
}


def stepped(one):
  """The same in a loop that carries a row."""

  def fn(h, u, n):
    step = lambda row, i: (row + one(h, u, n + i).sum(0, keepdims=True), None)
    return lax.scan(step, h[:1], jnp.arange(2))[0]

  return fn


# Of one, the same over lanes: of (4, 5, 8), or (2, 4, 5, 8), and as many times.
LANES = {
  'one': lambda one: lambda h, u, n: one(h[0], u[0], n[0]),
  'lanes': jax.vmap,
  'lanes of times': lambda one: lambda h, u, n: jax.vmap(one, (None, None, 0))(h[0], u[0], n),
  'lanes of values': lambda one: lambda h, u, n: jax.vmap(one, (0, 0, None))(h, u, n[0]),
  'lanes last': lambda one: (
    lambda h, u, n: jnp.moveaxis(
      jax.vmap(one, (2, 2, 0), 2)(jnp.moveaxis(h, 0, 2), jnp.moveaxis(u, 0, 2), n), 2, 0
    )
  ),
  'lanes of loops': lambda one: jax.vmap(stepped(one)),
  'compiled': lambda one: jax.jit(jax.vmap(jax.jit(one))),
  'lanes of lanes': lambda one: jax.vmap(jax.vmap(one)),
}
PARAMS = {
  name: normal(*shape, seed=i)
  for i, (name, shape) in enumerate({'in': (3, 8), 'up': (3, 8), 'out': (8, 2)}.items())
}


def network(one, lanes):
  def fn(params, x, times):
    h, u = jnp.tanh(x @ params['in']), jnp.tanh(x @ params['up'])
    return lanes(one)(h, u, times) @ params['out']

  return fn


def data(lanes):
  shape = (2, 4) if lanes == 'lanes of lanes' else (4,)
  times = np.random.default_rng(0).integers(0, 4, shape)  # beyond the end with the second index
  return normal(*shape, 5, 3, seed=7), jnp.asarray(times, jnp.int32)


@pytest.mark.parametrize('lanes', LANES)
def test_channels_are_free_along_time(lanes):
  for name, one in ALONG_TIME.items():
    found = graph.channels(network(one, LANES[lanes]), PARAMS, *data(lanes))
    assert ('in', 1) not in found.frozen, name
    assert ('out', 0) not in found.frozen, name


@pytest.mark.parametrize('lanes', ['lanes', 'lanes of loops'])
def test_masked_is_shrunk_along_time(lanes):
  """All at once, against numbers."""
  networks = [network(one, LANES[lanes]) for one in ALONG_TIME.values()]
  fn = lambda params, x, times: [each(params, x, times) for each in networks]
  found = graph.channels(fn, PARAMS, *data(lanes))
  masks = jprune.masks.channels(jprune.scores.magnitude(PARAMS), found, sparsity=0.5)
  assert graph.verify(fn, PARAMS, masks, *data(lanes)).relative < 1e-6
  assert jprune.shrink(fn, PARAMS, masks, *data(lanes)).params['out'].shape == (4, 2)


def test_the_axis_that_is_read_stays():
  """Channels that are read at a computed index themselves."""
  across = lambda h, u, n: jnp.roll(h, n, 1)
  found = graph.channels(network(across, jax.vmap), PARAMS, *data('lanes'))
  assert found.frozen['in', 1].startswith('indexed by what is computed')
