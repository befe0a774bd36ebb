"""Kernels of many shapes, each with the products that they are used in and the same as matrices."""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jprune.graph._statistics.moments import moments_of
from jprune.graph._statistics.stats import Stats, Use
from tests.reference_repair import decaying


class Kernel(NamedTuple):
  """A leaf's shape and uses: factors, the axis of each, and which are batch, inputs, outputs."""

  shape: tuple
  factors: tuple
  axes: tuple
  batch: tuple
  inputs: tuple
  outputs: tuple
  axis_of_inputs: int


KERNELS = {
  'plain': Kernel((24, 10), (24, 10), (0, 1), (), (0,), (1,), -2),
  'transposed': Kernel((10, 24), (10, 24), (0, 1), (), (1,), (0,), -1),
  'heads out': Kernel((24, 2, 5), (24, 2, 5), (0, 1, 2), (), (0,), (1, 2), 0),
  'heads in': Kernel((3, 8, 10), (3, 8, 10), (0, 1, 2), (), (0, 1), (2,), 1),
  'heads in, crossed': Kernel((8, 3, 10), (8, 3, 10), (0, 1, 2), (), (1, 0), (2,), 0),
  'experts': Kernel((3, 24, 10), (3, 24, 10), (0, 1, 2), (0,), (1,), (2,), -2),
  'conv': Kernel((3, 1, 8, 10), (3, 1, 8, 10), (0, 1, 2, 3), (), (2, 0, 1), (3,), 2),
  'grouped conv': Kernel((3, 8, 20), (3, 8, 2, 10), (0, 1, 2, 2), (2,), (1, 0), (3,), 1),
}


def use_of(kernel, box=None):
  box = box or tuple((0, n) for n in kernel.shape)
  return Use(box, kernel.factors, kernel.axes, kernel.batch, kernel.inputs, kernel.outputs, 0)


def inputs_of(kernel, rng, rows=256):
  batch, inputs, _ = use_of(kernel).sizes
  return np.stack([decaying(rng, rows, inputs) for _ in range(batch)]).astype(np.float32)


def stats_of(kernel, x, path='w'):
  """Stats of one leaf; ``x`` is ``(batch, rows, inputs)``, in the order of its factors."""
  return Stats((moments_of(jnp.asarray(x)),), ((path, (use_of(kernel),)),))


def leaf_of(kernel, rng, dtype=jnp.float32):
  return jnp.asarray(rng.normal(size=kernel.shape), dtype)


def matrices_of(kernel, leaf):
  """By NumPy and by hand, apart from ``Use.matrices``."""
  order = (*kernel.batch, *kernel.inputs, *kernel.outputs)
  size = lambda places: math.prod(kernel.factors[i] for i in places)
  sizes = tuple(map(size, (kernel.batch, kernel.inputs, kernel.outputs)))
  return np.asarray(leaf, np.float32).reshape(kernel.factors).transpose(order).reshape(sizes)
