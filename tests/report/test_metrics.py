"""The numbers for a logger: those of the tally, in Python and under ``jit``."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import jprune
from jprune.masks import pack
from jprune.report import Recorder, metrics, tally

CLOSE = 2**-22  # two roundings and a division in float32


def agree(found, wanted):
  assert sorted(found) == sorted(wanted)
  for name, value in found.items():
    assert (value.dtype, value.shape) == (jnp.float32, ())
    np.testing.assert_allclose(float(value), wanted[name], rtol=CLOSE, err_msg=name)


def both(params, masks=None):
  """Metrics that agree with the tally's, eagerly and under ``jit``."""
  wanted = tally(params, masks).metrics()
  agree(metrics(params, masks), wanted)
  return wanted


def test_every_number_by_hand():
  params = {'bias': jnp.ones(16), 'w': jnp.ones((10, 100))}
  masks = {'bias': None, 'w': np.arange(1000).reshape(10, 100) < 3}
  found = both(params, masks)
  assert found == {
    'sparsity': 997 / 1016,
    'size': 1016,
    'nonzero': 19,
    'bytes_dense': 4064,
    'bytes_stored': 64 + 12 + 12 + 16,
    'compression': 4064 / 104,
    'sparsity/w': 0.997,
  }
  assert [type(value) for value in found.values()] == [float, int, int, int, int, float, float]
  agree(jax.jit(metrics)(params, masks), found)
  agree(jax.jit(metrics)(params, pack(masks)), found)
  agree(jax.jit(lambda masks: metrics(params, masks))(masks), found)


def test_multiply_adds_are_there_where_a_function_is():
  params = {'in': jnp.ones((3, 8)), 'out': jnp.ones((8, 2))}
  fn = lambda params, x: jax.nn.relu(x @ params['in']) @ params['out']
  keep = np.arange(8) < 6
  masks = {'in': np.stack([keep] * 3), 'out': np.stack([keep] * 2, axis=1)}
  found = tally(params, masks, fn=fn, args=(jnp.ones((1, 3)),)).metrics()
  assert [found[f'macs_{name}'] for name in ('dense', 'sparse', 'shrunk')] == [40, 30, 30]
  assert (found['size_shrunk'], found['bytes_shrunk']) == (30, 120)
  dense = tally(params, fn=fn, args=(jnp.ones((1, 3)),)).metrics()
  assert dense['macs_dense'] == 40
  assert not {'macs_sparse', 'macs_shrunk', 'size_shrunk'} & set(dense)


values = st.sampled_from([0.0, -0.0, 1.5, -2.0, 1e-45, float('inf'), float('nan')])
SHAPES = ((3, 13), (2, 2, 8), (), (5,))  # always these, so that little is compiled


@settings(max_examples=25, deadline=None)
@given(st.tuples(*(hnp.arrays(np.float32, shape, elements=values) for shape in SHAPES)))
def test_equal_to_the_tally(leaves):
  params = list(map(jnp.asarray, leaves))
  masks = [jnp.asarray(np.isfinite(x) & (x > -1)) for x in leaves]
  both(params)
  both(params, [*pack(masks[:2]), masks[2], None])


def test_leaves_of_all_kinds():
  params = {
    'bf16': jnp.zeros((3, 3), jnp.bfloat16).at[0].set(1),
    'complex': jnp.array([0, 1j]),
    'double': np.array([0.0, 1e-300]),  # which a cast would lose
    'empty': jnp.ones((0, 4)),
    'f8': jnp.array([0.0, 1.0], jnp.float8_e4m3fn),
    'function': jax.nn.relu,
    'int': np.arange(5),
    'key': jax.random.key(0),
    'number': 0.0,
    'struct': jax.ShapeDtypeStruct((2, 2), jnp.float32),
  }
  found = both(params)
  assert found['sparsity/double'] == 0.5
  assert not {'sparsity/function', 'sparsity/key', 'sparsity/struct'} & set(found)
  both({'zero': jnp.zeros(())})  # compresses without end
  both({'empty': jnp.zeros((0, 3))})
  both(params, {**dict.fromkeys(params), 'int': np.arange(5) > 2})


def test_counts_past_what_float32_holds_are_rounded_once():
  """A float32 that counts one by one stays at 2**24."""
  mask = np.ones(2**24 + 3, np.bool_)
  mask[5] = False
  params = {'w': jax.ShapeDtypeStruct(mask.shape, jnp.float32)}
  for found in (metrics(params, {'w': mask}), metrics({'w': mask})):
    assert float(found['nonzero']) == 2**24 + 2
    assert float(found['sparsity']) == pytest.approx(1 / (2**24 + 3), rel=CLOSE)


def test_totals_past_int32():
  shape = (2**11, 2**11)
  params = {i: jax.ShapeDtypeStruct(shape, jnp.float32) for i in range(520)}
  mask = np.ones(shape, bool)
  mask[7, :3] = False
  masks = {i: mask if i < 2 else None for i in params}
  assert both(params, masks)['size'] == 520 * 2**22 > 2**31


@pytest.mark.parametrize(
  'kind', [jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit], ids=str
)
def test_sharded_arrays(kind):
  mesh = jax.make_mesh((8,), ('x',), axis_types=(kind,))
  rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('x'))
  weights = np.arange(16 * 6).reshape(16, 6).astype(np.float32) % 4
  params, masks = jax.device_put(({'w': weights}, {'w': weights > 1}), rows)
  both(params)
  both(params, masks)
  both(params, pack(masks))


def test_stacks_and_seeds():
  stacked = {'w': jnp.arange(24.0).reshape(2, 3, 4) % 5}
  both(stacked)
  found = jax.vmap(metrics)(stacked)
  for i in range(2):
    wanted = tally({'w': stacked['w'][i]}).metrics()
    agree({name: value[i] for name, value in found.items()}, wanted)


def test_masks_in_a_state_are_found_and_a_recorder_takes_what_comes_out():
  params = {'kernel': jnp.array([[1.0, -3.0], [2.0, 0.5]]), 'bias': jnp.ones(2)}
  tx = jprune.transforms.gradual(optax.sgd(0.1), 0.5, every=1)
  recorder, state = Recorder(), tx.init(params)

  @jax.jit
  def step(params, state):
    updates, state = tx.update(params, state, params)
    params = optax.apply_updates(params, updates)
    return params, state, metrics(params, state)

  params, state, seen = step(params, state)
  recorder.add(seen)
  agree(seen, tally(params, state).metrics())
  assert recorder.to_dict()['metrics']['sparsity/kernel'].tolist() == [0.5]


def test_what_is_refused():
  struct = jax.ShapeDtypeStruct((2, 2), jnp.bool_)
  with pytest.raises(TypeError, match=r"metrics: `masks` must be arrays with values .* leaf 'w'"):
    metrics({'w': jnp.ones((2, 2))}, {'w': struct})
  with pytest.raises(ValueError, match='metrics: `params` must be'):
    metrics({})
  with pytest.raises(ValueError, match=r'metrics: `masks` must be .*shape'):
    metrics({'w': jnp.ones((2, 2))}, {'w': jnp.ones(2, bool)})
