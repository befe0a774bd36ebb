"""Attention: how heads, query/key dimensions and value dimensions are laid out."""

import math

import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from tests.zoo import _case
from tests.zoo._case import DENSE, head, linen, registry, sequences

CASES, case = registry()

WIDTH, HEADS, DEPTH = 6, 2, 4
# The width of the residual stream.
STREAM = (('stem/kernel', 1), ('norm/(scale|bias)', 0), ('out/bias', 0), ('head/kernel', 0))
FLAT = (
  *STREAM,
  ('(query|key|value)/kernel', 0),
  ('(query|key|value)/kernel', 1),
  ('(query|key|value)/bias', 0),
  ('out/kernel', 0),
  ('out/kernel', 1),
)
FUSED = (*STREAM, ('qkv/kernel', 0), ('qkv/kernel', 1), ('out/kernel', 0), ('out/kernel', 1))
SPLIT = (
  *STREAM,
  *(('(query|key|value|out)/kernel', axis) for axis in range(3)),
  ('(query|key|value)/bias', 0),
)


def residual(attention):
  def net(x):
    x = nn.Dense(WIDTH, name='stem')(x)
    x = x + attention(nn.LayerNorm(name='norm')(x))
    return head(x)

  return linen(net, sequences())


def attend(query, key, value, hide=None):
  """``[B, T, H, D]`` three times; ``hide`` changes the logits ``[B, H, T, T]``."""
  logits = jnp.einsum('bqhd,bkhd->bhqk', query, key) / math.sqrt(query.shape[-1])
  if hide is not None:
    logits = hide(logits)
  return jnp.einsum('bhqk,bkhd->bqhd', nn.softmax(logits), value)


def heads(x, name, heads=HEADS, depth=DEPTH):
  """A Dense layer, its outputs split into heads."""
  return nn.Dense(heads * depth, name=name)(x).reshape(*x.shape[:2], heads, depth)


def merge(x):
  return nn.Dense(WIDTH, name='out')(x.reshape(*x.shape[:2], -1))


# --------------------------------------------------------------------------------- multi-head


@case(SPLIT, DENSE)
def attention_linen():
  layer = lambda x: nn.MultiHeadDotProductAttention(HEADS, qkv_features=8, name='attention')(x)
  return residual(layer)


class Attention(nnx.Module):
  def __init__(self, rngs):
    self.stem = nnx.Linear(5, WIDTH, rngs=rngs)
    self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
    self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, 8, decode=False, rngs=rngs)
    self.head = nnx.Linear(WIDTH, 5, rngs=rngs)

  def __call__(self, x):
    x = self.stem(x)
    x = x + self.attention(self.norm(x))
    return self.head(x.mean(1))


@case(SPLIT, DENSE)
def attention_nnx():
  return _case.nnx(Attention(nnx.Rngs(0)), sequences())


@case(FLAT, DENSE)
def attention_reshape():
  layer = lambda x: merge(attend(heads(x, 'query'), heads(x, 'key'), heads(x, 'value')))
  return residual(layer)


# Values may be of another size than queries and keys.
@case(FLAT, DENSE)
def attention_wide_values():
  layer = lambda x: merge(attend(heads(x, 'query'), heads(x, 'key'), heads(x, 'value', depth=5)))
  return residual(layer)


def causal(logits, lowest):
  length = logits.shape[-1]
  visible = jnp.tril(jnp.ones((length, length), bool))
  return jnp.where(visible[None, None], logits, lowest(logits.dtype))


@case(FLAT, DENSE, name='attention_causal_inf', lowest=lambda dtype: -jnp.inf)
@case(FLAT, DENSE, name='attention_causal_min', lowest=lambda dtype: jnp.finfo(dtype).min)
def attention_causal(lowest):
  def layer(x):
    hide = lambda logits: causal(logits, lowest)
    return merge(attend(heads(x, 'query'), heads(x, 'key'), heads(x, 'value'), hide))

  return residual(layer)


# --------------------------------------------------------------------------------- fused layers


@case(FUSED, DENSE)
def qkv_reshape():
  def layer(x):
    qkv = nn.Dense(3 * HEADS * DEPTH, name='qkv')(x).reshape(*x.shape[:2], 3, HEADS, DEPTH)
    return merge(attend(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]))

  return residual(layer)


@case(FUSED, DENSE)
def qkv_split():
  def layer(x):
    parts = jnp.split(nn.Dense(3 * HEADS * DEPTH, name='qkv')(x), 3, axis=-1)
    return merge(attend(*(part.reshape(*x.shape[:2], HEADS, DEPTH) for part in parts)))

  return residual(layer)


@case(FUSED, DENSE)
def qkv_by_head():
  def layer(x):
    qkv = nn.Dense(3 * HEADS * DEPTH, name='qkv')(x).reshape(*x.shape[:2], HEADS, 3 * DEPTH)
    return merge(attend(*jnp.split(qkv, 3, axis=-1)))

  return residual(layer)


# ----------------------------------------------------------------------- fewer keys than queries


@case(FLAT, DENSE)
def grouped_query():
  def layer(x):
    b, t, _ = x.shape
    query = heads(x, 'query', 4).reshape(b, t, HEADS, 2, DEPTH)
    key, value = heads(x, 'key'), heads(x, 'value')
    logits = jnp.einsum('bqgrd,bkgd->bgrqk', query, key) / math.sqrt(DEPTH)
    return merge(jnp.einsum('bgrqk,bkgd->bqgrd', nn.softmax(logits), value))

  return residual(layer)


@case(FLAT, DENSE)
def grouped_query_repeat():
  def layer(x):
    key, value = (jnp.repeat(heads(x, name), 2, axis=2) for name in ('key', 'value'))
    return merge(attend(heads(x, 'query', 4), key, value))

  return residual(layer)


@case(FLAT, DENSE)
def multi_query():
  def layer(x):
    key, value = (heads(x, name, 1)[:, :, 0] for name in ('key', 'value'))
    logits = jnp.einsum('bqhd,bkd->bhqk', heads(x, 'query'), key) / math.sqrt(DEPTH)
    return merge(jnp.einsum('bhqk,bkd->bqhd', nn.softmax(logits), value))

  return residual(layer)


# ----------------------------------------------------------------------------- rotary positions


def angles(x):
  """Cosines and sines ``[1, T, 1, D / 2]``."""
  t, d = x.shape[1], x.shape[-1]
  frequency = 10.0 ** (-2 * jnp.arange(d // 2, dtype=x.dtype) / d)
  angle = jnp.arange(t, dtype=x.dtype)[None, :, None, None] * frequency[None, None, None, :]
  return jnp.cos(angle), jnp.sin(angle)


def rotate_halves(x):
  cos, sin = angles(x)
  first, second = jnp.split(x, 2, axis=-1)
  return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def rotate_pairs(x):
  cos, sin = angles(x)
  even, odd = x[..., ::2], x[..., 1::2]
  return jnp.stack([even * cos - odd * sin, odd * cos + even * sin], axis=-1).reshape(x.shape)


ROTARY = (*STREAM, *(('(query|key|value|out)/kernel', axis) for axis in range(3)))


@case(ROTARY, DENSE, name='rope_halves', rotate=rotate_halves)
@case(ROTARY, DENSE, name='rope_pairs', rotate=rotate_pairs)
def rope(rotate):
  def layer(x):
    project = lambda name: nn.DenseGeneral((HEADS, 8), name=name)(x)
    y = attend(rotate(project('query')), rotate(project('key')), project('value'))
    return nn.DenseGeneral(WIDTH, axis=(-2, -1), name='out')(y)

  return residual(layer)


# ------------------------------------------------------------------------------- over channels


# The attended channels are those of keys and values; the queries' are those of the output.
@case(FLAT, DENSE)
def cross_covariance():
  def layer(x):
    query, key, value = (nn.Dense(8, name=name)(x) for name in ('query', 'key', 'value'))
    weights = nn.softmax(jnp.einsum('btd,bte->bde', query, key))
    return nn.Dense(WIDTH, name='out')(jnp.einsum('bde,bte->btd', weights, value))

  return residual(layer)
