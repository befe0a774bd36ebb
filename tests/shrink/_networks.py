"""Small networks, half of whose channels are pruned, and what was made of them."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jprune
from tests.shrink import _masks


class Made(NamedTuple):
  """A function, its masked params, masks, an input and the shrunk function."""

  fn: Any
  params: Any
  masks: Any
  x: Any
  small: Any

  @property
  def masked(self):
    return jprune.apply(self.params, self.masks)


def mlp(params, x, activation=jax.nn.relu):
  x = activation(x @ params['stem']['kernel'] + params['stem']['bias'][None])
  x = x + jnp.tanh(x @ params['mid']['kernel'] + params['mid']['bias'][None])
  return x @ params['head']['kernel'] + params['head']['bias'][None]


def mlp_params(inputs=3, width=8, outputs=5, dtype=jnp.float64, seed=0):
  rng = np.random.default_rng(seed)
  layer = lambda a, b: {
    'kernel': jnp.asarray(rng.standard_normal((a, b)) * 0.5, dtype),
    'bias': jnp.asarray(rng.standard_normal(b), dtype),
  }
  return {'stem': layer(inputs, width), 'mid': layer(width, width), 'head': layer(width, outputs)}


def shrunk(fn, params, x, seed=0):
  """Half of every group goes."""
  graph = jprune.graph.channels(fn, params, x)
  masks = _masks.masks_of(graph, _masks.half_kept(graph, np.random.default_rng(seed)))
  return Made(fn, params, masks, x, jprune.shrink(fn, params, masks, x))


@functools.cache
def made_mlp(activation=jax.nn.relu):
  x = jnp.asarray(np.random.default_rng(1).standard_normal((4, 3)))
  assert x.dtype == jnp.float64
  return shrunk(functools.partial(mlp, activation=activation), mlp_params(), x)
