"""Masks, from scores to packed bits."""

import jax
import numpy as np

import jprune


def _params():
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.standard_normal(shape, np.float32)
  return {
    'a': {'kernel': draw(8, 16), 'bias': draw(16)},
    'b': {'kernel': draw(16, 8)},
  }


def check_prune(world):
  params = _params()
  spread = world.put(params)
  found = jprune.prune(spread, 0.5)
  world.same(found, lambda: jprune.prune(params, 0.5))
  world.lies_like(found['a']['kernel'], spread['a']['kernel'])
  assert not found['a']['kernel'].is_fully_addressable
  world.same(jax.jit(lambda p: jprune.prune(p, 0.5))(spread), lambda: jprune.prune(params, 0.5))
