"""Networks whose inputs to every product are computed a second time, by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import jprune.nnx
from tests.graph.captured import captured, check_moments, check_same, close, normal, only

X = normal(2, 6, 16)
as64 = lambda x: np.asarray(x, np.float64)


def attend(q, k, v):
  scores = np.einsum('bqhd,bkhd->bhqk', q, k) / np.sqrt(q.shape[-1])
  weights = np.exp(scores - scores.max(-1, keepdims=True))
  return np.einsum('bhqk,bkhd->bqhd', weights / weights.sum(-1, keepdims=True), v)


def test_attention_of_linen():
  model = nn.MultiHeadDotProductAttention(num_heads=4, qkv_features=24)
  params = model.init(jax.random.key(0), X)
  stats = captured(lambda params, x: model.apply(params, x), params, X)
  p = jax.tree.map(as64, params['params'])
  q, k, v = (
    np.einsum('btc,chd->bthd', as64(X), p[name]['kernel']) + p[name]['bias']
    for name in ('query', 'key', 'value')
  )
  sources = {only(stats, f'params/{name}/kernel')[0].source for name in ('query', 'key', 'value')}
  assert len(sources) == 1
  check_moments(only(stats, 'params/query/kernel')[1], X.reshape(-1, 16))
  check_moments(only(stats, 'params/out/kernel')[1], attend(q, k, v).reshape(-1, 24))
  assert len(stats.inputs) == 2


class Block(nn.Module):
  @nn.compact
  def __call__(self, x, _):
    h = nn.LayerNorm()(x)
    x = x + nn.MultiHeadDotProductAttention(num_heads=4)(h, h)
    h = nn.LayerNorm()(x)
    return x + nn.Dense(16)(nn.gelu(nn.Dense(32)(h))), None


class Decoder(nn.Module):
  scanned: bool

  @nn.compact
  def __call__(self, tokens):
    table = nn.Embed(11, 16)
    x = table(tokens)
    if self.scanned:
      layers = nn.scan(
        nn.remat(Block), variable_axes={'params': 0}, split_rngs={'params': True}, length=2
      )
      x, _ = layers(name='layers')(x, None)
    else:
      for i in range(2):
        x, _ = Block(name=f'layer{i}')(x, None)
    return table.attend(x)


def decoders():
  tokens = jnp.asarray(np.random.default_rng(0).integers(0, 11, (2, 6)))
  with jax.numpy_dtype_promotion('standard'):
    params = Decoder(True).init(jax.random.key(0), tokens)
  layers = params['params']['layers']
  apart = {f'layer{i}': jax.tree.map(lambda x, i=i: x[i], layers) for i in range(2)}
  unrolled = {'params': {'Embed_0': params['params']['Embed_0'], **apart}}
  return Decoder(True).apply, params, Decoder(False).apply, unrolled, tokens


@jax.numpy_dtype_promotion('standard')
def test_scanned_and_rematerialised_layers_have_the_statistics_of_unrolled_ones():
  scanned, params, unrolled, apart, tokens = decoders()
  stats, others = captured(scanned, params, tokens), captured(unrolled, apart, tokens)
  paths = [path for path in stats.paths if '/layers/' in path]
  assert len(paths) == 6
  for path in paths:
    use, moments = only(stats, path)
    assert use.loop == 0
    assert use.sizes[0] == 2
    for i in range(2):
      _, expected = only(others, path.replace('/layers/', f'/layer{i}/'))
      for name in ('count', 'mean', 'squares', 'zeros', 'products'):
        close(getattr(moments, name)[i], getattr(expected, name)[0], 2e-6)
  notes = dict(stats.notes)['params/Embed_0/embedding']
  assert notes.startswith('also used by gather (test_capture_reference.py:')
  use, moments = only(stats, 'params/Embed_0/embedding')
  assert use.sizes == (1, 16, 11)
  hidden = unrolled(apart, tokens, capture_intermediates=True)[1]['intermediates']['layer1']
  check_moments(moments, hidden['__call__'][0][0].reshape(-1, 16))


class Perceptron(nnx.Module):
  def __init__(self, rngs):
    self.up, self.down = nnx.Linear(16, 8, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)

  def __call__(self, x):
    return self.down(nnx.relu(self.up(x)))


def test_nnx():
  fn, params = jprune.nnx.functional(Perceptron(nnx.Rngs(0)))
  stats = captured(fn, params, X)
  up = as64(X) @ as64(params['up']['kernel']) + as64(params['up']['bias'])
  check_moments(only(stats, 'up/kernel')[1], X.reshape(-1, 16))
  check_moments(only(stats, 'down/kernel')[1], np.maximum(up, 0).reshape(-1, 8))


def test_equinox():
  model = eqx.nn.MLP(16, 3, 8, 1, key=jax.random.key(0))
  params, rest = eqx.partition(model, eqx.is_inexact_array)
  fn = lambda params, x: jax.vmap(eqx.combine(params, rest))(x)
  stats = captured(fn, params, X[0])
  use, moments = only(stats, 'layers/1/weight')
  up = as64(X[0]) @ as64(model.layers[0].weight).T + as64(model.layers[0].bias)
  check_moments(moments, np.maximum(up, 0))
  np.testing.assert_array_equal(use.matrices(model.layers[1].weight)[0], model.layers[1].weight.T)


def experts(summed):
  """Dense experts; their products side by side, or summed over experts as one."""
  params = {'gate': normal(16, 3), 'up': normal(3, 16, 8), 'down': normal(3, 8, 16)}

  def fn(p, x):
    gates = jax.nn.softmax(x @ p['gate'])
    routed = jnp.einsum('btd,bte->ebtd', x, gates)
    h = jax.nn.relu(jnp.einsum('ebtd,edf->ebtf', routed, p['up']))
    if summed:
      return jnp.einsum('ebtf,efd->btd', h, p['down'])
    return jnp.einsum('ebtf,efd->ebtd', h, p['down']).sum(0)

  p, x = jax.tree.map(as64, params), as64(X)
  gates = np.exp(x @ p['gate'])
  gates /= gates.sum(-1, keepdims=True)
  routed = np.einsum('btd,bte->ebtd', x, gates).reshape(3, -1, 16)
  return captured(fn, params, X), params, routed, np.maximum(routed @ p['up'], 0)


def test_experts_by_einsum_have_statistics_each():
  stats, params, routed, h = experts(summed=False)
  check_moments(only(stats, 'gate')[1], X.reshape(-1, 16))
  check_moments(only(stats, 'up')[1], routed)
  use, moments = only(stats, 'down')
  check_moments(moments, h)
  np.testing.assert_array_equal(use.matrices(params['down']), params['down'])


def test_experts_whose_products_are_summed_are_one_matrix():
  stats, params, _, h = experts(summed=True)
  use, moments = only(stats, 'down')
  assert use.sizes == (1, 24, 16)
  check_moments(moments, h.transpose(1, 0, 2).reshape(-1, 24))
  np.testing.assert_array_equal(use.matrices(params['down'])[0], params['down'].reshape(24, 16))


# ------------------------------------------------------------------------------------ convolutions


def windows(x, kernel, strides, padding, dilation, groups=1, spread=1):
  """Rows of a convolution of ``(n, height, width, channels)``, by loops: ``(groups, rows, in)``."""
  n, height, width, channels = x.shape
  wide = np.zeros((n, (height - 1) * spread + 1, (width - 1) * spread + 1, channels))
  wide[:, ::spread, ::spread] = x
  wide = np.pad(wide, ((0, 0), *padding, (0, 0)))
  span = [(k - 1) * dilation + 1 for k in kernel]
  rows = []
  for b in range(n):
    for i in range(0, wide.shape[1] - span[0] + 1, strides):
      for j in range(0, wide.shape[2] - span[1] + 1, strides):
        window = wide[b, i : i + span[0] : dilation, j : j + span[1] : dilation]
        rows.append(window.transpose(2, 0, 1).reshape(groups, -1))  # by channel, then by place
  return np.stack(rows, axis=1)


CONVOLUTIONS = {
  'plain': {},
  'strided': {'strides': 2, 'padding': ((1, 2), (0, 1))},
  'dilated': {'dilation': 2, 'padding': ((2, 2), (1, 0))},
  'depthwise': {'groups': 4},
  'grouped': {'groups': 2, 'strides': 2, 'padding': ((1, 1), (1, 1))},
  'transposed': {'spread': 2, 'padding': ((2, 1), (1, 1))},
}


@pytest.mark.parametrize('name', CONVOLUTIONS)
def test_convolution(name):
  how = {'strides': 1, 'padding': ((0, 0), (0, 0)), 'dilation': 1, 'groups': 1, 'spread': 1}
  how |= CONVOLUTIONS[name]
  x, groups = normal(2, 4, 5, 4), how['groups']
  params = {'kernel': normal(3, 2, 4 // groups, 8)}

  def fn(p, x):
    return jax.lax.conv_general_dilated(
      x,
      p['kernel'],
      (how['strides'],) * 2,
      how['padding'],
      lhs_dilation=(how['spread'],) * 2,
      rhs_dilation=(how['dilation'],) * 2,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
      feature_group_count=groups,
    )

  use, moments = only(captured(fn, params, x), 'kernel')
  rows = windows(as64(x), (3, 2), **how)
  check_moments(moments, rows, tolerance=1e-6 if how['spread'] == 1 else 2e-6)  # many equal terms
  y = rows @ as64(use.matrices(params['kernel']))
  close(np.moveaxis(y, 0, 1).reshape(-1, 8), np.asarray(fn(params, x)).reshape(-1, 8), 1e-5)


def test_convolution_of_flax():
  model = nn.Conv(6, (3, 3), strides=2, padding='SAME')
  x = normal(2, 7, 7, 3)
  params = model.init(jax.random.key(0), x)
  _, moments = only(captured(model.apply, params, x), 'params/kernel')
  check_moments(moments, windows(as64(x), (3, 3), 2, ((1, 1), (1, 1)), 1))


# ------------------------------------------------------------------------------- ensembles and data


def test_an_ensemble_by_vmap_has_statistics_each():
  params = {'a': normal(3, 16, 8), 'b': normal(3, 8, 2)}
  one = lambda p, x: jax.nn.relu(x @ p['a']) @ p['b']
  stats = captured(jax.vmap(one, (0, None)), params, X[0])
  each = [captured(one, jax.tree.map(lambda w, i=i: w[i], params), X[0]) for i in range(3)]
  use, moments = only(stats, 'b')
  assert use.sizes == (3, 8, 2)
  for i in range(3):
    close(moments.products[i], only(each[i], 'b')[1].products[0])
  use, moments = only(stats, 'a')  # of one input for all, so that all are outputs of one product
  assert use.sizes == (1, 16, 24)
  check_moments(moments, X[0])


def test_vmap_over_data_changes_nothing():
  params = {'a': normal(16, 8)}
  one = lambda p, x: jnp.tanh(x @ p['a'])
  check_same(captured(jax.vmap(one, (None, 0)), params, X), captured(one, params, X))
