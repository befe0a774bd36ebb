"""Architectures of their own kind, each cut down to the part that makes it one."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.zoo._case import (
  DENSE,
  HEAD,
  along_last,
  bare,
  dense,
  dense_shapes,
  normal,
  registry,
  sequences,
)

CASES, case = registry()


def attend(query, key, value, bias=0.0):
  """``[N, T, H, D]`` three times."""
  logits = jnp.einsum('nqhd,nkhd->nhqk', query, key) / math.sqrt(query.shape[-1])
  return jnp.einsum('nhqk,nkhd->nqhd', jax.nn.softmax(logits + bias), value)


def rms(scale, x):
  return x * lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6) * along_last(scale, x)


def project(kernel, x):
  """To heads: ``kernel`` is ``[in, H, D]``."""
  return jnp.einsum('btc,chd->bthd', x, kernel)


# ----------------------------------------------------------------------------------- transformers

# For each pair of places in a window of 2 x 2, the row of their distance in a table.
PLACES = np.stack(np.divmod(np.arange(4), 2), -1)
DISTANCES = (PLACES[:, None] - PLACES[None] + 1) @ np.array([3, 1])


# Swin: windows that are shifted, with a learnt bias for each distance and head.
@case(
  (
    ('stem/kernel', 1),
    ('qkv/kernel', 0),
    ('qkv/kernel', 1),
    ('distances', 1),
    ('out/kernel', 0),
    ('out/kernel', 1),
    ('head/kernel', 0),
  ),
  (*DENSE, ('distances', 0)),
)
def shifted_windows():
  def fn(params, x):
    x = dense(params['stem'], x)
    b, h, w, c = x.shape
    y = jnp.roll(x, (-1, -1), (1, 2)).reshape(b, h // 2, 2, w // 2, 2, c)
    y = y.transpose(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)
    qkv = dense(params['qkv'], y).reshape(-1, 4, 3, 2, 4)
    bias = params['distances'][DISTANCES.reshape(-1)].reshape(4, 4, 2).transpose(2, 0, 1)
    y = attend(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2], bias[None]).reshape(-1, 4, 8)
    y = dense(params['out'], y).reshape(b, h // 2, w // 2, 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
    return dense(params['head'], (x + jnp.roll(y.reshape(x.shape), (1, 1), (1, 2))).mean((1, 2)))

  shapes = {
    'stem': dense_shapes(3, 6),
    'qkv': dense_shapes(6, 24),
    'distances': (9, 2),
    'out': dense_shapes(8, 6),
    'head': dense_shapes(6, 5),
  }
  return bare(fn, shapes, normal(2, 4, 4, 3))


# Multi-head latent attention: keys and values from a narrow code, one rotary part for all heads.
@case(
  (
    ('stem/kernel', 1),
    ('(query|down|up)', 0),
    ('(query|down|up)', 1),
    ('(query|up)', 2),
    ('scale', 0),
    ('out', 0),
    ('out', 1),
    ('out', 2),
  ),
  DENSE,
)
def latent_attention():
  def rotated(x):
    angle = jnp.arange(x.shape[1], dtype=x.dtype)[None, :, None, None]
    first, second = jnp.split(x, 2, -1)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], -1)

  def fn(params, x):
    x = dense(params['stem'], x)
    query, code = project(params['query'], x), x @ params['down']
    both = project(params['up'], rms(params['scale'], code[..., :5]))
    shared = rotated(code[..., None, 5:]) * jnp.ones((1, 1, 2, 1), x.dtype)
    query = jnp.concatenate([query[..., :4], rotated(query[..., 4:])], -1)
    y = attend(query, jnp.concatenate([both[..., :4], shared], -1), both[..., 4:])
    return dense(params['head'], (x + jnp.einsum('bthd,hdc->btc', y, params['out'])).mean(1))

  shapes = {
    'stem': dense_shapes(5, 6),
    'query': (6, 2, 8),
    'down': (6, 9),
    'scale': (5,),
    'up': (5, 2, 7),
    'out': (2, 3, 6),
    'head': dense_shapes(6, 5),
  }
  return bare(fn, shapes, sequences())


# A decoder reads an encoder, scaled and shifted by a condition (adaptive layer norm).
@case(
  (
    ('(stem|memory)/kernel', 1),
    ('modulate/kernel', 0),
    ('modulate/kernel', 1),
    ('(query|key|value|out)', 0),
    ('(query|key|value|out)', 1),
    ('(query|key|value|out)', 2),
  ),
  (*DENSE, ('(memory|condition)/kernel', 0)),
)
def cross_attention_modulated():
  def fn(params, x, memory, condition):
    x, memory = dense(params['stem'], x), jax.nn.gelu(dense(params['memory'], memory))
    hidden = jax.nn.silu(dense(params['condition'], condition))
    scale, shift, gate = jnp.split(dense(params['modulate'], hidden)[:, None], 3, -1)
    centred = x - x.mean(-1, keepdims=True)
    y = centred * lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-6)
    query = project(params['query'], y * (1 + scale) + shift)
    y = attend(query, project(params['key'], memory), project(params['value'], memory))
    return dense(params['head'], x + gate * jnp.einsum('bthd,hdc->btc', y, params['out']))

  shapes = {
    'stem': dense_shapes(5, 6),
    'memory': dense_shapes(5, 7),
    'condition': dense_shapes(3, 8),
    'modulate': dense_shapes(8, 18),
    **{name: (n, 2, 4) for name, n in (('query', 6), ('key', 7), ('value', 7))},
    'out': (2, 4, 6),
    'head': dense_shapes(6, 5),
  }
  return bare(fn, shapes, sequences(), normal(2, 3, 5, seed=2), normal(2, 3, seed=3))


# -------------------------------------------------------------------------------------- sequences


# Mamba: a causal depthwise convolution, then a state whose decay depends on the input.
@case(
  (
    ('stem/kernel', 1),
    ('wide', 0),
    ('wide', 1),
    ('window', 2),
    ('select', 0),
    ('select', 1),
    ('(step|decay)', 0),
    ('(step|decay)', 1),
    ('out', 0),
    ('out', 1),
  ),
  (*DENSE, ('window', 0)),
)
def selective_state_space():
  def fn(params, x):
    x = dense(params['stem'], x)
    y, gate = jnp.split(x @ params['wide'], 2, -1)
    y = lax.conv_general_dilated(
      y,
      params['window'],
      (1,),
      [(2, 0)],
      dimension_numbers=('NWC', 'WIO', 'NWC'),
      feature_group_count=y.shape[-1],
    )
    y = jax.nn.silu(y)
    step, write, read = jnp.split(y @ params['select'], [3, 7], -1)
    step = jax.nn.softplus(step @ params['step'])
    keep = jnp.exp(-step[..., None] * jnp.exp(params['decay'])[None, None])
    new = (step * y)[..., None] * write[:, :, None]
    combine = lambda a, b: (a[0] * b[0], b[0] * a[1] + b[1])
    state = lax.associative_scan(combine, (keep, new), axis=1)[1]
    y = jnp.einsum('btcn,btn->btc', state, read) * jax.nn.silu(gate)
    return dense(params['head'], (x + y @ params['out']).mean(1))

  shapes = {
    'stem': dense_shapes(5, 6),
    'wide': (6, 16),
    'window': (3, 1, 8),
    'select': (8, 11),
    'step': (3, 8),
    'decay': (8, 4),
    'out': (8, 6),
    'head': dense_shapes(6, 5),
  }
  return bare(fn, shapes, sequences())


# A Fourier neural operator: weights for the lowest frequencies of each pair of channels.
@case(
  (('stem/kernel', 1), ('(real|imaginary)', 0), ('(real|imaginary)', 1), ('head/kernel', 0)),
  (*DENSE, ('(real|imaginary)', 2)),
)
def fourier_operator():
  def fn(params, x):
    x = dense(params['stem'], x)
    waves = jnp.fft.rfft(x, axis=1)
    low = jnp.einsum('bkc,cdk->bkd', waves[:, :2], lax.complex(params['real'], params['imaginary']))
    waves = jnp.zeros((*waves.shape[:2], 7), waves.dtype).at[:, :2].set(low)
    return dense(params['head'], jax.nn.gelu(jnp.fft.irfft(waves, n=x.shape[1], axis=1)))

  weights = (6, 7, 2)
  shapes = {
    'stem': dense_shapes(5, 6),
    'real': weights,
    'imaginary': weights,
    'head': dense_shapes(7, 5),
  }
  return bare(fn, shapes, sequences())


# ---------------------------------------------------------------------------------------- others


# Graph attention: each node weighs its neighbours, of which it has any number.
@case(
  (
    ('stem/kernel', 1),
    ('(nodes|head/kernel)', 0),
    ('nodes', 1),
    ('nodes', 2),
    ('(sends|receives)', 0),
    ('(sends|receives)', 1),
  ),
  DENSE,
)
def graph_attention():
  def fn(params, x, senders, receivers):
    count = x.shape[0]
    nodes = jnp.einsum('nc,chd->nhd', dense(params['stem'], x), params['nodes'])
    score = lambda name: (nodes * params[name][None]).sum(-1)
    logits = jax.nn.leaky_relu(score('sends')[senders] + score('receives')[receivers])
    weights = jnp.exp(logits - jax.ops.segment_max(logits, receivers, count)[receivers])
    total = jax.ops.segment_sum(weights, receivers, count)
    message = (weights / total[receivers])[..., None] * nodes[senders]
    y = jax.ops.segment_sum(message, receivers, count).reshape(count, -1)
    return dense(params['head'], jax.nn.elu(y))

  shapes = {
    'stem': dense_shapes(5, 6),
    'nodes': (6, 2, 4),
    'sends': (2, 4),
    'receives': (2, 4),
    'head': dense_shapes(8, 5),
  }
  edges = jnp.array([[0, 1, 2, 3, 0, 2], [1, 2, 3, 0, 3, 1]], jnp.int32)
  return bare(fn, shapes, normal(4, 5), *edges)


# The nearest of some codes stands for what the encoder gives; gradients pass straight through.
@case(
  (
    ('(stem|second|decoder)/kernel', 1),
    ('(second|decoder|head)/kernel', 0),
    ('codes', 1),
  ),
  (DENSE[0], *HEAD, ('codes', 0)),
)
def vector_quantised():
  def fn(params, x):
    x = dense(params['second'], jax.nn.relu(dense(params['stem'], x)))
    apart = jnp.square(x[:, :, None] - params['codes'][None, None]).sum(-1)
    nearest = params['codes'][apart.argmin(-1)]
    loss = jnp.square(x - lax.stop_gradient(nearest)).mean()
    y = dense(params['decoder'], x + lax.stop_gradient(nearest - x))
    return dense(params['head'], jax.nn.relu(y)), loss

  shapes = {
    'stem': dense_shapes(5, 8),
    'second': dense_shapes(8, 6),
    'codes': (7, 6),
    'decoder': dense_shapes(6, 8),
    'head': dense_shapes(8, 5),
  }
  return bare(fn, shapes, sequences())
