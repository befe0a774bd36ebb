"""The small function is a function like any other: every transformation of jax takes it."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax

import jprune
from jprune import tree
from tests.shrink import _masks
from tests.shrink._networks import made_mlp, mlp, mlp_params, shrunk

same = functools.partial(_masks.assert_same, tolerance=1e-9, overall=True)


@pytest.fixture(autouse=True)
def _in_float64():
  with jax.enable_x64(True):
    yield


@pytest.fixture
def net():
  return made_mlp()


def loss(fn, x):
  return lambda params: jnp.sin(fn(params, x)).sum()


def test_jit_with_donated_params(net):
  expected = net.fn(net.masked, net.x)
  copy = jax.tree.map(lambda leaf: leaf.copy(), net.small.params)
  step = jax.jit(lambda p, x: jax.tree.map(lambda a, b: a - b, p, grad(p, x)), donate_argnums=0)
  grad = jax.grad(lambda p, x: loss(net.small.fn, x)(p))
  step(copy, net.x)
  assert copy['stem']['kernel'].is_deleted()
  same(expected, jax.jit(net.small.fn)(net.small.params, net.x))


def test_gradient_with_respect_to_params_and_inputs(net):
  big = jax.grad(lambda p, x: loss(net.fn, x)(p), (0, 1))(net.masked, net.x)
  small = jax.grad(lambda p, x: loss(net.small.fn, x)(p), (0, 1))(net.small.params, net.x)
  same(net.small.plan.slice(big[0]), small[0])
  same(big[1], small[1])


def test_vmap_over_inputs_and_over_params(net):
  one = lambda fn: lambda p, x: fn(p, x[None])[0]
  same(net.fn(net.masked, net.x), jax.vmap(one(net.small.fn), (None, 0))(net.small.params, net.x))
  stack = lambda p: jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), p)
  expected = jax.vmap(net.fn, (0, None))(stack(net.masked), net.x)
  same(expected, jax.vmap(net.small.fn, (0, None))(stack(net.small.params), net.x))


def test_forward_mode(net):
  tangent = jax.tree.map(jnp.cos, net.params)
  inside = jprune.apply(tangent, net.masks)
  expected = jax.jvp(lambda p: net.fn(p, net.x), (net.masked,), (inside,))
  sliced = net.small.plan.slice(tangent)
  same(expected, jax.jvp(lambda p: net.small.fn(p, net.x), (net.small.params,), (sliced,)))


@pytest.mark.parametrize('activation', [jax.nn.relu, jax.nn.softplus], ids=['relu', 'softplus'])
@pytest.mark.parametrize('inner', ['forward', 'reverse'])
def test_hessian_vector_product(activation, inner):
  net = made_mlp(activation)
  vector = jprune.apply(jax.tree.map(jnp.cos, net.params), net.masks)

  def product(fn, params, vector):
    slope = jax.grad(loss(fn, net.x))
    if inner == 'forward':
      return jax.jvp(slope, (params,), (vector,))[1]
    dot = lambda p: sum(jnp.vdot(a, b) for a, b in zip(*map(jax.tree.leaves, (slope(p), vector))))
    return jax.grad(dot)(params)

  slice_ = net.small.plan.slice
  expected = jax.jit(functools.partial(product, net.fn))(net.masked, vector)
  actual = jax.jit(functools.partial(product, net.small.fn))(net.small.params, slice_(vector))
  same(slice_(expected), actual)


def test_checkpoint_and_scan_around_it(net):
  def total(fn, params):
    fn = jax.checkpoint(fn)
    step = lambda total, x: (total + fn(params, x[None]).sum(), None)
    return lax.scan(step, jnp.zeros(()), net.x)[0]

  expected = jax.value_and_grad(functools.partial(total, net.fn))(net.masked)
  actual = jax.value_and_grad(functools.partial(total, net.small.fn))(net.small.params)
  same((expected[0], net.small.plan.slice(expected[1])), actual)


def test_shapes_without_values(net):
  struct = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
  params = jax.tree.map(struct, net.small.params)
  out = jax.eval_shape(net.small.fn, params, jax.ShapeDtypeStruct((9, 3), jnp.float64))
  assert (out.shape, out.dtype) == ((9, 5), jnp.float64)
  assert jax.make_jaxpr(net.small.fn)(params, net.x).out_avals[0].shape == (4, 5)


def test_params_of_shape_structs_give_params_of_shape_structs(net):
  struct = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
  structs = jax.tree.map(struct, net.params)
  small = jprune.shrink(net.fn, structs, net.masks, struct(net.x))
  assert jax.tree.map(struct, net.small.params) == small.params
  same(net.small.fn(net.small.params, net.x), small.fn(net.small.params, net.x))


def test_other_batch_sizes(net):
  for size in (1, 2, 7):
    x = jnp.cos(jnp.arange(3.0 * size)).reshape(size, 3)
    same(net.fn(net.masked, x), net.small.fn(net.small.params, x))


def test_other_sequence_lengths():
  def fn(params, x):
    weights = jax.nn.softmax(x @ params['key'] @ params['query'].T @ x.swapaxes(-1, -2), -1)
    return jnp.tanh(weights @ x @ params['value']) @ params['out']

  rng = np.random.default_rng(0)
  shapes = {'key': (3, 8), 'query': (3, 8), 'value': (3, 6), 'out': (6, 2)}
  params = {name: jnp.asarray(rng.standard_normal(shape)) for name, shape in shapes.items()}
  net = shrunk(fn, params, jnp.ones((2, 4, 3)))
  assert net.small.params['key'].shape == (3, 4)
  assert net.small.params['value'].shape == (3, 3)
  for shape in ((2, 4, 3), (2, 9, 3), (1, 1, 3)):
    x = jnp.asarray(rng.standard_normal(shape))
    same(fn(net.masked, x), net.small.fn(net.small.params, x))


def test_other_precision_of_the_params(net):
  for dtype in (jnp.bfloat16, jnp.float32):
    cast = lambda p, dtype=dtype: jax.tree.map(lambda leaf: leaf.astype(dtype), p)
    x = net.x.astype(dtype)
    out = net.small.fn(cast(net.small.params), x)
    assert out.dtype == dtype
    expected = net.fn(cast(net.masked), x)
    tolerance = 32 * float(jnp.finfo(dtype).eps)
    _masks.assert_same(expected, out, tolerance)


def test_dtypes_of_the_leaves_are_kept():
  params = mlp_params(dtype=jnp.bfloat16)
  net = shrunk(mlp, params, jnp.ones((2, 3), jnp.bfloat16))
  assert {leaf.dtype for leaf in jax.tree.leaves(net.small.params)} == {jnp.dtype(jnp.bfloat16)}
  numpy = jax.tree.map(np.asarray, params)
  small = jprune.shrink(mlp, numpy, net.masks, net.x).params
  assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(small))


def test_precision_mode_of_a_call_counts_not_that_of_the_first(net):
  fn = lambda params, x: mlp(params, x) + jnp.arange(5.0)[None].astype(x.dtype)
  made = shrunk(fn, mlp_params(dtype=jnp.float32), net.x.astype(jnp.float32))
  wide = made.small.fn(made.small.params, made.x)
  with jax.enable_x64(False):
    assert jax.jit(made.small.fn)(made.small.params, made.x).dtype == jnp.float32
    narrow = made.small.fn(made.small.params, made.x)
  same(wide, narrow, tolerance=1e-6)


@pytest.mark.parametrize('batch', [4, 'b'], ids=['fixed', 'symbolic'])
def test_export(net, batch):
  struct = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
  shape = (4, 3) if batch == 4 else export.symbolic_shape('b, 3')
  x = jax.ShapeDtypeStruct(shape, jnp.float64)
  exported = export.export(jax.jit(net.small.fn))(jax.tree.map(struct, net.small.params), x)
  sizes = (4,) if batch == 4 else (1, 4, 6)
  for size in sizes:
    x = jnp.cos(jnp.arange(3.0 * size)).reshape(size, 3)
    same(net.fn(net.masked, x), exported.call(net.small.params, x))


def test_export_of_images_of_any_size():
  def fn(params, x):
    x = x @ params['stem']
    groups = x.reshape(x.shape[0], x.shape[1] * x.shape[2], 2, 4)
    groups = groups - groups.mean((1, 3), keepdims=True)
    return jax.nn.relu(groups.reshape(x.shape)).mean((1, 2)) @ params['head']

  rng = np.random.default_rng(0)
  params = {'stem': rng.standard_normal((3, 8)), 'head': rng.standard_normal((8, 2))}
  x = jnp.asarray(rng.standard_normal((2, 4, 4, 3)))
  net = shrunk(fn, params, x)
  shape = export.symbolic_shape('b, n, n, 3', constraints=('n >= 4',))
  struct = jax.ShapeDtypeStruct(shape, jnp.float64)
  exported = export.export(jax.jit(net.small.fn))(net.small.params, struct)
  same(fn(net.masked, x), exported.call(net.small.params, x))


def test_exported_bytes(net):
  pytest.importorskip('flatbuffers')
  exported = export.export(jax.jit(net.small.fn))(net.small.params, net.x)
  again = export.deserialize(exported.serialize(vjp_order=1))
  same(net.fn(net.masked, net.x), again.call(net.small.params, net.x))
  slope = lambda fn: jax.grad(loss(fn, net.x))(net.small.params)
  same(slope(net.small.fn), slope(again.call))


def test_params_are_taken_by_path(net):
  pytest.importorskip('flatbuffers')
  by_path = dict(reversed(list(zip(*tree.flatten(net.small.params)[:2]))))
  expected = net.fn(net.masked, net.x)
  turned = collections.OrderedDict(by_path)  # a container that keeps its order
  same(expected, net.small.fn(turned, net.x))
  slopes = jax.grad(loss(net.small.fn, net.x))(turned)
  by_name = jax.grad(loss(net.small.fn, net.x))(net.small.params)
  same(dict(zip(*tree.flatten(by_name)[:2])), dict(slopes))
  exported = export.export(jax.jit(net.small.fn))(by_path, net.x)
  again = export.deserialize(exported.serialize())
  same(expected, again.call(by_path, net.x))


def test_the_small_function_can_be_shrunk_again(net):
  again = shrunk(net.small.fn, net.small.params, net.x, seed=1)
  same(net.small.fn(again.masked, net.x), again.small.fn(again.small.params, net.x))
  assert again.small.params['stem']['kernel'].shape == (3, 2)


def test_it_is_traced_once_for_each_form_of_the_arguments():
  count = []

  def fn(params, x):
    count.append(x.shape)
    return mlp(params, x)

  net = shrunk(fn, mlp_params(), jnp.ones((2, 3)))
  count.clear()
  for size in (2, 5, 2, 5):
    net.small.fn(net.small.params, jnp.ones((size, 3)))
  assert sorted(set(count)) == sorted(count)
  assert (5, 3) in count


def test_export_with_open_lengths_of_a_lookup_and_a_scan():
  def fn(params, tokens):
    x = params['table'][tokens] + params['places'][jnp.arange(tokens.shape[1])][None]
    step = lambda h, x: (jnp.tanh(h @ params['state'] + x),) * 2
    start = jnp.zeros((tokens.shape[0], 6))
    return jax.lax.scan(step, start, x.swapaxes(0, 1))[1].swapaxes(0, 1) @ params['out']

  rng = np.random.default_rng(0)
  shapes = {'table': (7, 6), 'places': (9, 6), 'state': (6, 6), 'out': (6, 2)}
  params = {name: jnp.asarray(rng.standard_normal(shape)) for name, shape in shapes.items()}
  tokens = jnp.asarray(rng.integers(0, 7, (3, 5)))
  net = shrunk(fn, params, tokens)
  assert net.small.params['table'].shape[1] < 6
  struct = jax.ShapeDtypeStruct(export.symbolic_shape('b, n'), tokens.dtype)
  exported = export.export(jax.jit(net.small.fn))(net.small.params, struct)
  same(fn(net.masked, tokens), exported.call(net.small.params, tokens))


def test_export_with_an_open_length_up_to_which_tables_are_read():
  def fn(params, tokens):
    length = tokens.shape[1]
    x = params['table'][tokens] + params['places'][:length][None]
    x += jax.lax.dynamic_slice_in_dim(params['more'], 0, length)[None]
    return jnp.tanh(x @ params['hidden']) @ params['out']

  rng = np.random.default_rng(0)
  shapes = {'table': (7, 6), 'places': (9, 6), 'more': (9, 6), 'hidden': (6, 8), 'out': (8, 2)}
  params = {name: jnp.asarray(rng.standard_normal(shape)) for name, shape in shapes.items()}
  tokens = jnp.asarray(rng.integers(0, 7, (2, 5)))
  net = shrunk(fn, params, tokens)
  assert net.small.params['places'].shape[1] < 6
  assert net.small.params['hidden'].shape[1] < 8
  struct = jax.ShapeDtypeStruct(export.symbolic_shape('2, n', constraints=['n <= 9']), tokens.dtype)
  exported = export.export(jax.jit(net.small.fn))(net.small.params, struct)
  for some in (tokens, jnp.tile(tokens, 2)[:, :9]):  # some of the places, and all of them
    same(fn(net.masked, some), exported.call(net.small.params, some))


def test_a_vmapped_while_whose_lanes_end_one_by_one():
  def one(p, x):
    h = x @ p['in']
    step = lambda h: jnp.tanh(h) @ p['loop']
    return lax.while_loop(lambda h: jnp.abs(h).sum() > 0.5, step, h) @ p['out']

  rng = np.random.default_rng(0)
  shapes = {'in': (3, 4), 'loop': (4, 4), 'out': (4, 2)}
  params = {name: jnp.asarray(0.4 * rng.standard_normal(shape)) for name, shape in shapes.items()}
  keep = np.arange(4) != 1
  masks = {'in': keep[None] & np.ones((3, 1), bool), 'loop': keep[None] & keep[:, None]}
  masks['out'] = keep[:, None] & np.ones((1, 2), bool)
  fn, x = jax.vmap(one, (None, 0)), jnp.asarray([[3.0], [0.1], [0.9]]) * jnp.ones((3, 3))
  small = jprune.shrink(fn, params, masks, x)
  assert small.params['loop'].shape == (3, 3)
  same(fn(jprune.apply(params, masks), x), small.fn(small.params, x))
