"""Shapes and masks for tests of counts."""

import jax
import jax.numpy as jnp
import numpy as np


def struct(*shape, dtype=jnp.float32):
  return jax.ShapeDtypeStruct(shape, dtype)


def some(*shape, share=0.5, seed=0):
  return np.random.default_rng(seed).random(shape) < share


def of_leaves(count):
  return {path: each for path, each in count.leaves.items() if any(each)}
