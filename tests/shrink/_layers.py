"""Parts of networks that have weights: each takes ``[batch, time, channels]`` to such values.

``p(name, *shape)`` is a param; ``n`` a whole number that says how large the part is.
"""

import jax
import jax.numpy as jnp
from jax import lax

PARTS = {}


def part(fn):
  PARTS[fn.__name__] = fn
  return fn


def along(vector, x):
  """A vector over the channels, to be broadcast."""
  return vector.reshape((1,) * (x.ndim - 1) + (-1,))


def linear(p, x, n, name='w'):
  return x @ p(name, x.shape[-1], n) + along(p(f'{name}_bias', n), x)


def scaled(p, x):
  return x * along(p('scale', x.shape[-1]), x) + along(p('shift', x.shape[-1]), x)


# ------------------------------------------------------------------------------------ layers


@part
def dense(p, x, n):
  return jnp.tanh(linear(p, x, 2 * n))


@part
def dense_relu(p, x, n):
  return jax.nn.relu(linear(p, x, n + 2))


@part
def dense_sigmoid(p, x, n):
  return jax.nn.sigmoid(linear(p, x, n + 1))


@part
def unbiased(p, x, n):
  return jnp.einsum('btc,cd->btd', x, p('w', x.shape[-1], 2 * n))


@part
def residual(p, x, n):
  return x + linear(p, jnp.tanh(linear(p, x, n + 1, 'up')), x.shape[-1], 'down')


@part
def concatenated(p, x, n):
  return jnp.concatenate([x, linear(p, x, n)], -1)


@part
def conv(p, x, n):
  kernel = p('kernel', 3, x.shape[-1], n + 2)
  return lax.conv_general_dilated(x, kernel, (1,), 'SAME', dimension_numbers=('NWC', 'WIO', 'NWC'))


@part
def grouped_conv(p, x, n):
  groups = 2 if x.shape[-1] % 2 == 0 else 1
  return lax.conv_general_dilated(
    x,
    p('kernel', 2, x.shape[-1] // groups, 2 * n),
    (1,),
    'SAME',
    dimension_numbers=('NWC', 'WIO', 'NWC'),
    feature_group_count=groups,
  )


@part
def depthwise_conv(p, x, n):
  c, times = x.shape[-1], 1 + n % 2
  kernel = p('kernel', 2, 1, c * times)
  numbers = ('NWC', 'WIO', 'NWC')
  y = lax.conv_general_dilated(
    x, kernel, (1,), 'SAME', dimension_numbers=numbers, feature_group_count=c
  )
  return y + along(p('bias', c * times), x)


# ------------------------------------------------------------------------------------- norms


@part
def layer_norm(p, x, n):
  x = x - x.mean(-1, keepdims=True)
  return scaled(p, x / jnp.sqrt((x * x).mean(-1, keepdims=True) + 0.1))


@part
def layer_norm_plain(p, x, n):
  return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 0.1)


@part
def rms_norm(p, x, n):
  return x * lax.rsqrt((x * x).mean(-1, keepdims=True) + 0.1) * along(p('scale', x.shape[-1]), x)


@part
def group_norm(p, x, n):
  groups = 2 if x.shape[-1] % 2 == 0 else 1
  y = x.reshape(*x.shape[:-1], groups, -1)
  y = (y - y.mean(-1, keepdims=True)) * lax.rsqrt(y.var(-1, keepdims=True) + 0.1)
  return scaled(p, y.reshape(x.shape))


@part
def batch_norm(p, x, n):
  c = x.shape[-1]
  x = (x - along(p('mean', c), x)) * along(lax.rsqrt(jnp.square(p('var', c)) + 0.1), x)
  return scaled(p, x)


@part
def batch_norm_train(p, x, n):
  x = x - x.mean((0, 1), keepdims=True)
  return scaled(p, x * lax.rsqrt(jnp.square(x).mean((0, 1), keepdims=True) + 0.1))


# ---------------------------------------------------------------------------- gates, attention


@part
def glu_split(p, x, n):
  value, gate = jnp.split(linear(p, x, 2 * n + 2), 2, -1)
  return value * jax.nn.sigmoid(gate)


@part
def glu_two(p, x, n):
  return jax.nn.silu(linear(p, x, n + 2, 'gate')) * linear(p, x, n + 2, 'value')


@part
def where(p, x, n):
  y = linear(p, x, x.shape[-1])
  return jnp.where(y > 0, x, 0.1 * y)


@part
def attention(p, x, n):
  heads = lambda name: linear(p, x, 2 * (n + 1), name).reshape(*x.shape[:2], 2, -1)
  logits = jnp.einsum('bqhd,bkhd->bhqk', heads('query'), heads('key'))
  y = jnp.einsum('bhqk,bkhd->bqhd', jax.nn.softmax(logits), heads('value'))
  return x + linear(p, y.reshape(*x.shape[:2], -1), x.shape[-1], 'out')


@part
def fused_attention(p, x, n):
  qkv = linear(p, x, 3 * 2 * (n + 1), 'qkv').reshape(*x.shape[:2], 3, 2, -1)
  query, key, value = (qkv[:, :, i] for i in range(3))
  weights = jax.nn.softmax(jnp.einsum('bqhd,bkhd->bhqk', query, key))
  return jnp.einsum('bhqk,bkhd->bqhd', weights, value).reshape(*x.shape[:2], -1)


@part
def token_mixing(p, x, n):
  y = jnp.tanh(linear(p, x.swapaxes(1, 2), n + 1, 'in'))
  return x + linear(p, y, x.shape[1], 'out').swapaxes(1, 2)


@part
def by_head(p, x, n):
  if x.shape[-1] % 2:
    return x
  y = x.reshape(*x.shape[:-1], 2, -1)
  y = jnp.einsum('bthc,hcd->bthd', y, p('w', 2, y.shape[-1], n + 1))
  return y.reshape(*x.shape[:-1], -1)


# --------------------------------------------------------------------------------------- control


@part
def scanned(p, x, n):
  c = x.shape[-1]
  layers = p('first', 2, c, n + 1), p('second', 2, n + 1, c)
  step = lambda x, w: (x + jnp.tanh(x @ w[0]) @ w[1], None)
  return lax.scan(step, x, layers)[0]


@part
def recurrent(p, x, n):
  inside, across = p('in', x.shape[-1], n + 1), p('across', n + 1, n + 1)

  def step(state, x):
    state = jnp.tanh(state @ across + x @ inside)
    return state, state

  start = jnp.zeros((x.shape[0], n + 1), x.dtype)
  return lax.scan(step, start, x.swapaxes(0, 1))[1].swapaxes(0, 1)


@part
def branched(p, x, n):
  w = p('w', x.shape[-1], x.shape[-1])
  return lax.cond(x.sum() > 0, lambda x: x + x @ w, lambda x: 0.5 * x, x)


@part
def recomputed(p, x, n):
  return jax.checkpoint(lambda x, w: jnp.tanh(x @ w))(x, p('w', x.shape[-1], n + 2))


@part
def running_sum(p, x, n):
  return jnp.cumsum(x, 1)


@part
def pooled(p, x, n):
  return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 1), (1, 1, 1), 'SAME')


@part
def sorted_in_time(p, x, n):
  return jnp.sort(x, 1)


@part
def rounded(p, x, n):
  return _straight_through(x)


@jax.custom_vjp
def _straight_through(x):
  return jnp.round(4 * x) / 4


_straight_through.defvjp(lambda x: (_straight_through(x), None), lambda _, ct: (ct,))


@part
def clipped_slope(p, x, n):
  return _softly(x)


@jax.custom_jvp
def _softly(x):
  return jnp.sin(x)


@_softly.defjvp
def _(primals, tangents):
  return _softly(*primals), 2.0 * jnp.cos(primals[0]) * tangents[0]
