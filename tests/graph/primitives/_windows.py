"""Primitives that slide windows over axes."""

import jax
import numpy as np
from jax import lax

from tests.graph.primitives._instances import Instance, Operand, form, sizes


def _window(rng, rank, odd=True):
  """Window, strides, padding, dilations of what is read and of the window."""
  pick = lambda *choices: tuple(int(n) for n in rng.choice(choices, rank))
  window = pick(1, 1, 2, 3)
  if not odd:
    return window, pick(1, 1, 2), 'SAME'
  padding = tuple((int(a), int(b)) for a, b in rng.choice([0, 0, 0, 1, 2], (rank, 2)))
  return window, pick(1, 1, 1, 2), padding, pick(1, 1, 1, 2), pick(1, 1, 1, 2)


_KINDS = {
  'reduce_window_sum': (0.0, lax.add),
  'reduce_window_max': (-np.inf, lax.max),
  'reduce_window_min': (np.inf, lax.min),
}


@form('reduce_window_sum reduce_window_max reduce_window_min')
def _reduce_window(rng):
  shape = sizes(rng, rng.integers(1, 4), low=1)
  window = _window(rng, len(shape))
  fn = lambda x: [lax.reduce_window(x, init, op, *window) for init, op in _KINDS.values()]
  return Instance(fn, (Operand(shape),))


@form('reduce_window_sum reduce_window_max reduce_window_min')
def _reduce_window_same(rng):
  """One axis is as it was."""
  shape, axis, n = sizes(rng, 2, low=1), int(rng.integers(2)), int(rng.choice([1, 2, 3]))
  window = tuple(n if i == axis else 1 for i in range(2))
  fn = lambda x: [
    lax.reduce_window(x, init, op, window, (1, 1), 'SAME') for init, op in _KINDS.values()
  ]
  return Instance(fn, (Operand(shape),))


@form('reduce_window')
def _reduce_window_by_function(rng):
  shape = sizes(rng, 2, low=1)
  window, init = _window(rng, 2), float(rng.choice([0, 1]))
  fn = lambda x: lax.reduce_window(x, init, lambda a, b: a * 2 + b, *window)
  return Instance(fn, (Operand(shape),), batched=True)


@form('select_and_scatter_add')
def _pooling_backwards(rng):
  shape, op = sizes(rng, 3, low=2), [lax.max, lax.min][rng.integers(2)]
  init = -np.inf if op is lax.max else np.inf
  window, strides, padding = _window(rng, 3, odd=False)
  pool = lambda x: lax.reduce_window(x, init, op, window, strides, padding)
  made = jax.eval_shape(pool, jax.ShapeDtypeStruct(shape, 'float64')).shape
  fn = lambda x, y: jax.vjp(pool, x)[1](y)[0]
  return Instance(fn, (Operand(shape), Operand(made)))


@form('select_and_gather_add')
def _pooling_forwards(rng):
  shape, op = sizes(rng, 2, low=1), [lax.max, lax.min][rng.integers(2)]
  init = -np.inf if op is lax.max else np.inf
  window, strides, padding, _, _ = _window(rng, 2)
  pool = lambda x: lax.reduce_window(x, init, op, window, strides, padding)
  fn = lambda x, y: jax.jvp(pool, (x,), (y,))[1]
  return Instance(fn, (Operand(shape), Operand(shape)))
