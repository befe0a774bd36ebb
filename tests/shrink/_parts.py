"""Networks of many parts, one after the other."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.shrink import _layers, _moves

PARTS = {**_layers.PARTS, **_moves.PARTS}


class Recorder:
  """Stands for the params while their shapes are found out."""

  def __init__(self):
    self.shapes = {}

  def reader(self, prefix):
    def read(name, *shape):
      self.shapes[f'{prefix}_{name}'] = shape
      return jnp.zeros(shape)

    return read


def architecture(layers, seed=0, inputs=3, time=4):
  """``(fn, params, x)`` of parts, one after the other, between a stem and a head.

  Args:
    layers: pairs ``(name of a part, n)``.
    seed: of the values.
    inputs: number of features of the input.
    time: its length.
  """

  def run(reader, x):
    x = _layers.linear(reader('stem'), x, 6)
    for i, (name, n) in enumerate(layers):
      x = PARTS[name](reader(f'{i}_{name}'), x, n)
    return _layers.linear(reader('head'), x.mean(1), 3)

  def fn(params, x):
    return run(lambda prefix: lambda name, *shape: params[f'{prefix}_{name}'], x)

  recorder, rng = Recorder(), np.random.default_rng(seed)
  x = rng.standard_normal((2, time, inputs))
  jax.eval_shape(lambda x: run(recorder.reader, x), x)
  params = {
    name: rng.standard_normal(shape) * max(0.3, np.prod(shape[:-1]) ** -0.5)
    for name, shape in sorted(recorder.shapes.items())
  }
  return fn, params, x
