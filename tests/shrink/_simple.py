"""One hidden layer, every other unit of which is pruned."""

import jax.numpy as jnp
import numpy as np

import jprune

X = np.ones((4, 3), np.float32)
KEEP = np.arange(8) % 2 == 0


def net(params, x):
  return jnp.tanh(x @ params['in'] + params['bias'][None]) @ params['out']


def make_params():
  rng = np.random.default_rng(0)
  shapes = {'in': (3, 8), 'bias': (8,), 'out': (8, 2)}
  return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def make_masks(keep=KEEP):
  return {
    'in': np.broadcast_to(keep, (3, 8)).copy(),
    'bias': keep.copy(),
    'out': np.broadcast_to(keep[:, None], (8, 2)).copy(),
  }


def make_small():
  return jprune.shrink(net, make_params(), make_masks(), X)
