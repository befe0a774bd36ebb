"""Whole networks against themselves, run step by step in Python with every product written down."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.graph.captured import captured, check_moments, normal, only

D, HEADS, SHARED, HEAD, LAYERS, EXPERTS = 8, 4, 2, 4, 2, 3
X = normal(3, 5, D, seed=9)


class Products:
  """Matrix products that note the rows of the left side, in the order in which they come."""

  def __init__(self):
    self.rows = collections.defaultdict(list)
    self.windows = []

  def __call__(self, name, x, w, scale=1.0):
    self.rows[name].append(np.asarray(scale * x, np.float64).reshape(-1, x.shape[-1]))
    return scale * (x @ w.reshape(w.shape[0], -1)).reshape(*x.shape[:-1], *w.shape[1:])


def noted(network, params, x):
  """The products of a network in float64."""
  products = Products()
  with jax.enable_x64(True):
    wide = lambda x: np.asarray(x, np.float64) if x.dtype == np.float32 else x
    network(products, *jax.tree.map(lambda x: jnp.asarray(wide(np.asarray(x))), (params, x)))
  return products


def check(stats, rows, path):
  """Statistics of a leaf against rows: an array of them for each of its matrices, or all of one."""
  use, moments = only(stats, path)
  assert use.direct
  stacked = np.stack if use.sizes[0] > 1 else np.concatenate
  check_moments(moments, stacked(rows[path]), tolerance=3e-6)


def plain(name, x, w, scale=1.0):
  return jnp.tensordot(x, w * scale, 1)


def norm(x):
  return x * lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)


# --------------------------------------------------------------------- grouped queries and experts


def attend(mm, p, x):
  """Rotary attention; keys and values are in one leaf, and shared by pairs of queries."""
  q = mm('layers/q', x, p['q'])
  k, v = jnp.split(mm('layers/kv', x, p['kv']), 2, axis=-1)
  angles = jnp.arange(x.shape[1]).astype(x.dtype)[:, None] * jnp.array([1.0, 0.1])[None]
  turn = lambda y: jnp.concatenate(
    [
      y[..., :2] * jnp.cos(angles)[None, :, None] - y[..., 2:] * jnp.sin(angles)[None, :, None],
      y[..., :2] * jnp.sin(angles)[None, :, None] + y[..., 2:] * jnp.cos(angles)[None, :, None],
    ],
    -1,
  )
  q, k = turn(q).reshape(*x.shape[:2], SHARED, HEADS // SHARED, HEAD), turn(k)
  scores = jnp.einsum('bqsgd,bksd->bsgqk', q, k) / 2
  mixed = jnp.einsum('bsgqk,bksd->bqsgd', jax.nn.softmax(scores), v)
  return mm('layers/out', mixed.reshape(*x.shape[:2], HEADS * HEAD), p['out'])


def experts(mm, p, x):
  """Each token goes to its best expert, by products with one-hot rows; others see zeros."""
  scores = jax.nn.softmax(mm('layers/gate', x, p['gate']))
  chosen = jax.nn.one_hot(jnp.argmax(scores, -1), EXPERTS, dtype=x.dtype)
  routed = x[None] * jnp.moveaxis(chosen, -1, 0)[..., None]
  if mm is plain:
    up = jax.nn.silu(jnp.einsum('ebtd,edf->ebtf', routed, p['up']))
    return jnp.einsum('ebtf,efd->ebtd', up, p['down']).sum(0)
  up = [jax.nn.silu(mm('layers/up', r, w)) for r, w in zip(routed, p['up'])]
  return sum(mm('layers/down', r, w) for r, w in zip(up, p['down']))


def block(mm, x, p):
  x = x + attend(mm, p, norm(x))
  return x + experts(mm, p, norm(x))


def transformer(mm, params, tokens):
  x = params['table'][tokens]
  if mm is plain:
    body = jax.checkpoint(lambda x, p: (block(mm, x, p), None))
    x, _ = lax.scan(body, x, params['layers'])
  else:
    for i in range(LAYERS):
      x = block(mm, x, jax.tree.map(lambda w, i=i: w[i], params['layers']))
  return mm('table', norm(x), params['table'].T, D**-0.5)


def test_grouped_queries_experts_and_a_scaled_tied_table():
  layers = {
    'q': normal(LAYERS, D, HEADS, HEAD, seed=1),
    'kv': normal(LAYERS, D, SHARED, 2 * HEAD, seed=2),
    'out': normal(LAYERS, HEADS * HEAD, D, seed=3) / 4,
    'gate': normal(LAYERS, D, EXPERTS, seed=4),
    'up': normal(LAYERS, EXPERTS, D, 6, seed=5),
    'down': normal(LAYERS, EXPERTS, 6, D, seed=6) / 2,
  }
  params = {'layers': layers, 'table': normal(11, D, seed=7)}
  tokens = jnp.asarray(np.random.default_rng(0).integers(0, 11, (3, 5)))
  stats = captured(functools.partial(transformer, plain), params, tokens)
  products = noted(transformer, params, tokens)
  assert set(stats.paths) == set(products.rows)
  for path in stats.paths:
    check(stats, products.rows, path)
  sources = {path: only(stats, path)[0].source for path in stats.paths}
  assert sources['layers/q'] == sources['layers/kv']


# ------------------------------------------------------------------------- convolved and recurrent


def recurrent(mm, params, x):
  """Layers of a short causal convolution by channels, and a gated recurrence over time."""

  def layer(x, p):
    wide = jnp.pad(x, ((0, 0), (2, 0), (0, 0)))
    if mm is plain:
      numbers = ('NWC', 'WIO', 'NWC')
      mixed = lax.conv_general_dilated(
        wide, p['conv'], (1,), 'VALID', dimension_numbers=numbers, feature_group_count=D
      )
    else:
      windows = jnp.stack([wide[:, i : i + 5] for i in range(3)], -1)  # (batch, time, D, 3)
      mm.windows.append(np.asarray(windows, np.float64).reshape(-1, D, 3).transpose(1, 0, 2))
      mixed = jnp.einsum('btdk,kd->btd', windows, p['conv'][:, 0])
    inputs = mm('layers/in', jax.nn.silu(mixed), p['in'])

    def step(h, x):
      gate, new = jnp.split(x + mm('layers/state', h, p['state']), 2, axis=-1)
      h = h + jax.nn.sigmoid(gate) * (jnp.tanh(new) - h)
      return h, h

    start, turned = jnp.zeros_like(x[:, 0]), jnp.swapaxes(inputs, 0, 1)
    if mm is plain:
      states = lax.scan(step, start, turned)[1]
    else:
      states = [start]
      for each in turned:
        states.append(step(states[-1], each)[0])
      states = jnp.stack(states[1:])
    return x + mm('layers/out', jnp.swapaxes(states, 0, 1), p['out']), None

  if mm is plain:
    return lax.scan(layer, x, params['layers'], reverse=True)[0]
  for i in reversed(range(LAYERS)):
    x, _ = layer(x, jax.tree.map(lambda w, i=i: w[i], params['layers']))
  return x


def test_a_recurrence_over_time_within_layers():
  layers = {
    'conv': normal(LAYERS, 3, 1, D, seed=1),
    'in': normal(LAYERS, D, 2 * D, seed=2),
    'state': normal(LAYERS, D, 2 * D, seed=3) / 3,
    'out': normal(LAYERS, D, D, seed=4),
  }
  stats = captured(functools.partial(recurrent, plain), {'layers': layers}, X)
  products = noted(recurrent, {'layers': layers}, X)
  rows = {path: found[::-1] for path, found in products.rows.items()}  # the last layer runs first
  time = rows['layers/state']
  rows['layers/state'] = [np.concatenate(time[i * 5 : i * 5 + 5]) for i in range(LAYERS)]
  for path in rows:
    check(stats, rows, path)
  use, moments = only(stats, 'layers/conv')
  assert use.sizes == (LAYERS * D, 3, 1)
  check_moments(moments, np.concatenate(products.windows[::-1]), tolerance=3e-6)
