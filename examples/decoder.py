"""A small decoder with the parts of large ones, and real text, for examples of scale.

Rotary positions, grouped key and value heads, gated MLPs, norms without biases. Params
are dicts of dicts, one for each layer, under the names that large checkpoints have.
"""

import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

LAYERS, WIDTH, HIDDEN, HEADS, KEY_HEADS = 4, 64, 192, 4, 2
VOCABULARY, LENGTH = 96, 64
HEAD = WIDTH // HEADS

SPECS = {  # how each kernel is split over the mesh axis 'model'
  'q_proj': P(None, 'model'),
  'k_proj': P(None, 'model'),
  'v_proj': P(None, 'model'),
  'o_proj': P('model', None),
  'gate_proj': P(None, 'model'),
  'up_proj': P(None, 'model'),
  'down_proj': P('model', None),
  'lm_head': P(None, 'model'),
}


def shapes(layers=LAYERS):
  """Sizes of all kernels, by name."""
  layer = {
    'input_layernorm': {'scale': (WIDTH,)},
    'q_proj': {'kernel': (WIDTH, HEADS * HEAD)},
    'k_proj': {'kernel': (WIDTH, KEY_HEADS * HEAD)},
    'v_proj': {'kernel': (WIDTH, KEY_HEADS * HEAD)},
    'o_proj': {'kernel': (HEADS * HEAD, WIDTH)},
    'post_attention_layernorm': {'scale': (WIDTH,)},
    'gate_proj': {'kernel': (WIDTH, HIDDEN)},
    'up_proj': {'kernel': (WIDTH, HIDDEN)},
    'down_proj': {'kernel': (HIDDEN, WIDTH)},
  }
  return {
    'embed_tokens': {'embedding': (VOCABULARY, WIDTH)},
    'layers': {str(i): layer for i in range(layers)},
    'norm': {'scale': (WIDTH,)},
    'lm_head': {'kernel': (WIDTH, VOCABULARY)},
  }


def init(key, layers=LAYERS):
  """Params before training."""
  sizes, treedef = jax.tree.flatten(
    shapes(layers), is_leaf=lambda x: isinstance(x, tuple)
  )
  keys = jax.random.split(key, len(sizes))
  leaves = [
    jnp.ones(size) if len(size) == 1 else jax.random.normal(key, size) / size[0] ** 0.5
    for key, size in zip(keys, sizes)
  ]
  return treedef.unflatten(leaves)


def forward(params, tokens):
  """Logits of next tokens: ``(batch, length)`` to ``(batch, length, vocabulary)``."""
  x = params['embed_tokens']['embedding'][tokens]
  for layer in params['layers'].values():
    x = x + attention(layer, norm(layer['input_layernorm'], x))
    x = x + mlp(layer, norm(layer['post_attention_layernorm'], x))
  return norm(params['norm'], x) @ params['lm_head']['kernel']


def norm(params, x):
  return (
    x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6) * params['scale']
  )


def rotated(x):
  """Rotary positions: pairs of features turn with the place of the token."""
  half = x.shape[-1] // 2
  angles = jnp.arange(x.shape[1])[:, None] / 100.0 ** (jnp.arange(half) / half)
  cos, sin = jnp.cos(angles)[:, None, :], jnp.sin(angles)[:, None, :]
  a, b = x[..., :half], x[..., half:]
  return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)


def attention(params, x):
  split = lambda name: (x @ params[name]['kernel']).reshape(*x.shape[:2], -1, HEAD)
  q, k, v = rotated(split('q_proj')), rotated(split('k_proj')), split('v_proj')
  q = q.reshape(*x.shape[:2], KEY_HEADS, HEADS // KEY_HEADS, HEAD)
  scores = jnp.einsum('bqhgd,bkhd->bhgqk', q, k) / HEAD**0.5
  causal = jnp.tril(jnp.ones((x.shape[1], x.shape[1]), bool))
  weights = jax.nn.softmax(jnp.where(causal, scores, -jnp.inf))
  return (
    jnp.einsum('bhgqk,bkhd->bqhgd', weights, v).reshape(x.shape)
    @ params['o_proj']['kernel']
  )


def mlp(params, x):
  hidden = jax.nn.silu(x @ params['gate_proj']['kernel']) * (
    x @ params['up_proj']['kernel']
  )
  return hidden @ params['down_proj']['kernel']


def placed(mesh, layers=LAYERS):
  """Shapes of the params, with their shardings on a mesh with an axis 'model'."""

  def place(path, size):
    names = [entry.key for entry in path]
    spec = next((SPECS[name] for name in names if name in SPECS), P())
    return jax.ShapeDtypeStruct(size, jnp.float32, sharding=NamedSharding(mesh, spec))

  is_size = lambda x: isinstance(x, tuple)
  return jax.tree_util.tree_map_with_path(place, shapes(layers), is_leaf=is_size)


def text(unseen=False):
  """Characters of Python's standard library as codes; every tenth file is for tests."""
  files = sorted(pathlib.Path(os.__file__).parent.glob('*.py'))
  files = files[::10] if unseen else [file for i, file in enumerate(files) if i % 10]
  joined = '\n'.join(file.read_text(errors='ignore') for file in files)
  codes = np.frombuffer(joined.encode('ascii', errors='replace'), np.uint8).astype(
    np.int32
  )
  return np.where((codes >= 32) & (codes < 127), codes - 31, 0)


def windows(codes, seed, count):
  """So many pieces of text, ``(count, LENGTH + 1)``, at random places."""
  start = np.random.default_rng(seed).integers(len(codes) - LENGTH, size=(count, 1))
  return codes[start + np.arange(LENGTH + 1)]


def bits(params, batch):
  """Bits for each character of a batch: the cross entropy to base 2."""
  logits = jax.nn.log_softmax(forward(params, batch[:, :-1]))
  found = jnp.take_along_axis(logits, batch[:, 1:, None], axis=-1)
  return -jnp.mean(found) / jnp.log(2.0)
