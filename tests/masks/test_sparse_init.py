"""sparse_init: the variance of each unit's own fan-in."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jprune
from jprune.masks import pack

RNG = np.random.default_rng(0)


def draw(*shape):
  return RNG.normal(size=shape).astype(np.float32)


def corrected(w, mask, inputs):
  """Output by output, in float64: all weights that reach it, and those that are left of them."""
  out = np.zeros(w.shape)
  outputs = [axis for axis in range(w.ndim) if axis not in inputs]
  for place in np.ndindex(*(w.shape[axis] for axis in outputs)):
    at = [slice(None)] * w.ndim
    for axis, i in zip(outputs, place):
      at[axis] = i
    row, kept = w[tuple(at)], mask[tuple(at)]
    out[tuple(at)] = np.where(kept, row, 0) * np.sqrt(row.size / max(kept.sum(), 1))
  return out


# tree, path in it, axes over which the weights of an output lie
NAMED = {
  'dense': ({'d': {'kernel': draw(12, 5), 'bias': draw(5)}}, 'd/kernel', (0,)),
  'a matrix by another name': ({'w1': draw(12, 5)}, 'w1', (0,)),
  'outputs first': ({'d': {'weight': draw(5, 12), 'bias': draw(5)}}, 'd/weight', (1,)),
  'conv': ({'c': {'kernel': draw(3, 2, 4, 6), 'bias': draw(6)}}, 'c/kernel', (0, 1, 2)),
  'conv, outputs first': ({'c': {'weight': draw(6, 4, 3, 2)}}, 'c/weight', (1, 2, 3)),
  'depthwise': ({'c': {'kernel': draw(3, 3, 1, 6), 'bias': draw(6)}}, 'c/kernel', (0, 1, 2)),
  'into heads': ({'query': {'kernel': draw(8, 3, 4), 'bias': draw(3, 4)}}, 'query/kernel', (0,)),
  'out of heads': (
    {'query': {'kernel': draw(8, 3, 4)}, 'out': {'kernel': draw(3, 4, 8), 'bias': draw(8)}},
    'out/kernel',
    (0, 1),
  ),
  'stacked': (
    {'layers': {'d': {'kernel': draw(2, 12, 5), 'bias': draw(2, 5)}}},
    'layers/d/kernel',
    (1,),
  ),
}


def masked(params, seed=1):
  """Masks of all leaves; of each leaf one output keeps nothing, where outputs come last."""
  rng = np.random.default_rng(seed)
  masks = jax.tree.map(lambda w: rng.random(w.shape) < 0.3, params)
  return jax.tree.map(lambda mask: mask & (np.arange(mask.shape[-1]) > 0), masks)


def leaf_of(tree, path):
  return functools.reduce(lambda node, key: node[key], path.split('/'), tree)


@pytest.mark.parametrize('name', NAMED)
def test_each_output_by_its_own_inputs(name):
  params, path, inputs = NAMED[name]
  masks = masked(params)
  out = jprune.sparse_init(params, masks)
  w, mask = leaf_of(params, path), leaf_of(masks, path)
  want = corrected(w, mask, inputs)
  np.testing.assert_allclose(leaf_of(out, path), want, rtol=1e-6)
  assert (np.asarray(leaf_of(out, path))[~mask] == 0).all()
  bias = lambda tree: [x for p, x in zip(*jprune.tree.flatten(tree)[:2]) if p.endswith('bias')]
  for one, kept, got in zip(bias(params), bias(masks), bias(out), strict=True):
    np.testing.assert_array_equal(got, np.where(kept, one, 0))  # no matrix: only masked
  packed = jax.jit(jprune.sparse_init)(params, pack(masks))
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), packed, out)


def test_by_roles_each_layer_of_a_stack_and_what_no_name_tells():
  params = {'a': draw(2, 6, 3, 4), 'b': draw(2, 3, 4, 6), 'scale': draw(2, 6)}

  def fn(params, x):
    def layer(x, p):
      h = jnp.einsum('nd,dhk->nhk', x * p['scale'][None], p['a'])
      return x + jnp.einsum('nhk,hkd->nd', h, p['b']), None

    return jax.lax.scan(layer, x, params)[0]

  roles = jprune.graph.roles(fn, params, jnp.ones((5, 6)))
  masks = masked(params)
  out = jprune.sparse_init(params, masks, roles)
  np.testing.assert_allclose(out['a'], corrected(params['a'], masks['a'], (1,)), rtol=1e-6)
  np.testing.assert_allclose(out['b'], corrected(params['b'], masks['b'], (1, 2)), rtol=1e-6)
  np.testing.assert_array_equal(out['scale'], np.where(masks['scale'], params['scale'], 0))
  with pytest.raises(ValueError, match="sparse_init: `roles` must be given .* at leaf 'odd'"):
    jprune.sparse_init({'odd': draw(2, 3, 4)}, {'odd': np.ones((2, 3, 4), bool)})
  with pytest.raises(ValueError, match='sparse_init: `roles` must be those of every leaf'):
    jprune.sparse_init({'a': params['a']}, {'a': None}, jprune.graph.Roles({}))


def test_variance_of_preactivations_is_that_of_the_dense_network():
  """At 90 %, by He's initialiser, over the layers of a rectifier network; without it, it fades."""
  features = (256, 256, 256, 256)

  class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
      found = []
      for n in features:
        x = nn.Dense(n, kernel_init=nn.initializers.he_normal(), use_bias=False)(nn.relu(x))
        found.append(jnp.mean(x**2))
      return jnp.stack(found)

  x = jax.random.normal(jax.random.key(0), (64, 256))
  params = Network().init(jax.random.key(1), x)
  masks = jprune.prune(params, 0.9, scorer=jprune.scores.random, key=jax.random.key(2))
  power = lambda params: np.asarray(Network().apply(params, x))
  dense = power(params)
  np.testing.assert_allclose(power(jprune.sparse_init(params, masks)), dense, rtol=0.25)
  np.testing.assert_allclose(
    power(jprune.apply(params, masks)), dense * 0.1 ** np.arange(1, 5), rtol=0.25
  )


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16', 'float8_e4m3fn', 'complex64'])
def test_dtypes(dtype):
  params = {'kernel': jnp.asarray(draw(16, 4)).astype(dtype)}
  masks = masked(params)
  out = jprune.sparse_init(params, masks)['kernel']
  assert out.dtype == dtype
  wide = np.complex64 if dtype == 'complex64' else np.float32
  want = corrected(np.asarray(params['kernel'], wide).real, masks['kernel'], (0,))
  error = {'bfloat16': 2**-8, 'float16': 2**-11, 'float8_e4m3fn': 2**-4}.get(dtype, 1e-6)
  near = 2.0**-9 if dtype == 'float8_e4m3fn' else 0  # its smallest number
  np.testing.assert_allclose(np.asarray(out, wide).real, want, rtol=error, atol=near)


def test_nothing_pruned_is_nothing_changed():
  params = {'kernel': draw(7, 3), 'bias': draw(3), 'steps': jnp.array(3)}
  out = jprune.sparse_init(params, {'kernel': np.ones((7, 3), bool), 'bias': None, 'steps': None})
  jax.tree.map(np.testing.assert_array_equal, out, params)


@pytest.mark.parametrize('kind', [AxisType.Auto, AxisType.Explicit])
def test_sharded(kind):
  mesh = jax.make_mesh((2,), ('model',), axis_types=(kind,))
  sharding = NamedSharding(mesh, PartitionSpec(None, 'model'))
  eager, compiled = jprune.sparse_init, jax.jit(jprune.sparse_init)
  for name, call in (('dense', compiled), ('stacked', eager), ('stacked', compiled)):
    params, path, _ = NAMED[name]
    params = jax.tree.map(lambda w: w[..., :4], params)
    masks = masked(params)
    want = jprune.sparse_init(params, masks)
    put = lambda x: jax.device_put(x, sharding) if x.ndim > 1 else x
    with jax.set_mesh(mesh):
      out = leaf_of(call(jax.tree.map(put, params), jax.tree.map(put, masks)), path)
    np.testing.assert_allclose(out, leaf_of(want, path), rtol=1e-6)
    assert out.sharding.is_equivalent_to(sharding, out.ndim)


def test_other_masks():
  with pytest.raises(ValueError, match=r'sparse_init: `masks` must be of shape \(7, 3\)'):
    jprune.sparse_init({'kernel': draw(7, 3)}, {'kernel': np.ones((3, 7), bool)})
  with pytest.raises(TypeError, match='sparse_init: `params` must be arrays; got a shape struct'):
    jprune.sparse_init(
      {'kernel': jax.ShapeDtypeStruct((7, 3), jnp.float32)}, {'kernel': np.ones((7, 3), bool)}
    )
