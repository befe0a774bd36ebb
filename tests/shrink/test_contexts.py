"""The small function runs its equations in the contexts in which they were traced."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.xla_metadata import set_xla_metadata
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jprune
from tests.shrink import _masks
from tests.shrink._networks import shrunk


def params():
  rng = np.random.default_rng(0)
  shapes = {'table': (7, 4), 'in': (4, 8), 'out': (8, 4)}
  normal = lambda shape: jnp.asarray(rng.standard_normal(shape), jnp.float32)
  return {key: normal(shape) for key, shape in shapes.items()}


def attending(params, ids):
  """Comparisons with numbers that stand there, a lookup, a softmax that is masked, a loop."""
  ids = jnp.where(ids < 0, ids + 7, ids)
  x = params['table'].at[ids].get(out_sharding=PartitionSpec(None, None))
  hidden = jax.nn.relu(x @ params['in'])
  scores = jnp.where(ids[:, None] > ids[None], -jnp.inf, hidden @ hidden.T)
  hidden = jax.nn.softmax(scores, -1) @ hidden

  def step(carry, _):
    return jnp.clip(carry, -1.0, 1.0) + jnp.where(carry > 0, carry, 0.1 * carry), None

  return jax.lax.scan(step, hidden, length=2)[0] @ params['out']


@pytest.mark.parametrize('axes', [(1, 1), (2, 2)])
def test_under_a_mesh_of_explicit_axes(axes):
  types = (AxisType.Explicit,) * 2
  ids = jnp.array([0, 1, -2, 3])
  mesh = jax.make_mesh(axes, ('batch', 'model'), axis_types=types)
  with jax.set_mesh(mesh):
    place = lambda x: jax.device_put(x, NamedSharding(mesh, PartitionSpec()))
    placed, ids = jax.tree.map(place, params()), place(ids)
    net = shrunk(attending, placed, ids)
    assert net.small.params['in'].shape == (2, 4)
    expected = jax.jit(attending)(net.masked, ids)
    _masks.assert_same(expected, net.small.fn(net.small.params, ids), tolerance=1e-5)
    _masks.assert_same(expected, jax.jit(net.small.fn)(net.small.params, ids), tolerance=1e-5)
    loss = lambda fn: jax.jit(jax.grad(lambda p: jnp.square(fn(p, ids)).sum()))
    slices = net.small.plan.slice(loss(attending)(net.masked))
    found = loss(net.small.fn)(net.small.params)
    _masks.assert_same(slices, found, tolerance=1e-4, overall=True)
    out, stats = jprune.graph.capture(attending, placed, ids)
    _masks.assert_same(jax.jit(attending)(placed, ids), out, tolerance=1e-5)
    assert set(stats.paths) == {'in', 'out'}
    count = jprune.graph.macs(attending, placed, ids, masks=net.masks)
    assert count.dense > count.shrunk > 0


def drawn(params, x):
  with jax.threefry_partitionable(False):
    noise = jax.random.normal(jax.random.key(0), (4, 8), x.dtype)
  with set_xla_metadata(mark='here'):
    hidden = jnp.sin(x @ params['in'])
  return (hidden + noise) @ params['out']


def test_in_a_context_of_the_function():
  net = shrunk(drawn, {key: x for key, x in params().items() if key != 'table'}, jnp.ones((4, 4)))
  expected = drawn(net.masked, net.x)
  with jax.threefry_partitionable(True):
    _masks.assert_same(expected, net.small.fn(net.small.params, net.x), tolerance=1e-5)
  lowered = jax.jit(net.small.fn).lower(net.small.params, net.x).as_text()
  assert 'mark = "here"' in lowered


def test_in_a_context_of_the_caller():
  fn = lambda params, x: jnp.sin(x @ params['in']) @ params['out']
  net = shrunk(fn, {key: x for key, x in params().items() if key != 'table'}, jnp.ones((4, 4)))
  trace = lambda: str(jax.make_jaxpr(net.small.fn)(net.small.params, net.x))
  assert 'HIGHEST' not in trace()
  with jax.default_matmul_precision('highest'):
    assert trace().count('HIGHEST') >= 2


def test_masks_on_other_devices_than_the_params():
  mesh = jax.make_mesh((4,), ('d',), axis_types=(AxisType.Auto,))
  kept = np.arange(8) < 4
  params = {'in': np.arange(16, dtype=np.float32).reshape(2, 8), 'out': np.ones((8, 4), np.float32)}
  params = jax.device_put(params, NamedSharding(mesh, PartitionSpec(None, 'd')))
  params['again'] = params['in']  # one array under two paths
  masks = {
    'in': np.stack([kept] * 2),
    'out': np.stack([kept] * 4, 1),
    'again': np.stack([kept] * 2),
  }
  masks = {n: jax.device_put(m, jax.devices()[i + 1]) for i, (n, m) in enumerate(masks.items())}

  def fn(params, x):
    return jax.nn.relu(x @ params['in'] + x @ params['again']) @ params['out']

  small = jprune.shrink(fn, params, masks, jnp.ones((1, 2)))
  assert small.params['in'].shape == (2, 4)
  assert small.params['in'] is small.params['again']
  assert jprune.graph.verify(fn, params, masks, jnp.ones((1, 2))).largest == 0
