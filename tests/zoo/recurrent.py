"""Recurrence: cells of linen, scans over time."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from tests.zoo import _case
from tests.zoo._case import HEAD, linen, registry, sequences

CASES, case = registry()

UNITS = 8
INPUT = (('stem/kernel', 0), *HEAD)


def recurrent(make_cell, parts):
  """An embedding of the inputs, a cell that starts from zeros, the last state."""

  def net(x):
    x = nn.Dense(6, name='stem')(x)
    zeros = jnp.zeros((x.shape[0], UNITS), x.dtype)
    carry = (zeros,) * parts if parts > 1 else zeros
    x = nn.RNN(make_cell(UNITS, name='cell'))(x, initial_carry=carry)
    return nn.Dense(5, name='head')(x[:, -1])

  return linen(net, sequences())


LSTM = (
  ('stem/kernel', 1),
  ('cell/[ih][ifgo]/kernel', 0),
  ('cell/[ih][ifgo]/kernel', 1),
  ('cell/h[ifgo]/bias', 0),
  ('head/kernel', 0),
)


@case(LSTM, INPUT)
def lstm():
  return recurrent(nn.LSTMCell, 2)


@case(LSTM, INPUT)
def lstm_optimized():
  return recurrent(nn.OptimizedLSTMCell, 2)


@case(
  (
    ('stem/kernel', 1),
    ('cell/[ih][rzn]/kernel', 0),
    ('cell/[ih][rzn]/kernel', 1),
    ('cell/(i[rzn]|hn)/bias', 0),
    ('head/kernel', 0),
  ),
  INPUT,
)
def gru():
  return recurrent(nn.GRUCell, 1)


@case(
  (('stem/kernel', 1), ('cell/[ih]/kernel', 0), ('cell/[ih]/kernel', 1), ('head/kernel', 0)),
  INPUT,
)
def simple_cell():
  return recurrent(nn.SimpleCell, 1)


# The state starts from a param, and the output reads every step.
@case(
  (
    ('start', 1),
    ('hidden/kernel', 0),
    ('(inner|hidden)/kernel', 1),
    ('hidden/bias', 0),
    ('head/kernel', 0),
  ),
  (('inner/kernel', 0), *HEAD),
)
def learned_start():
  def fn(params, x):
    def step(state, x):
      state = jnp.tanh(_case.dense(params['inner'], x) + _case.dense(params['hidden'], state))
      return state, _case.dense(params['head'], state)

    start = jnp.broadcast_to(params['start'], (x.shape[0], UNITS))
    return lax.scan(step, start, x.swapaxes(0, 1))[1]

  shapes = {
    'start': (1, UNITS),
    'inner': _case.dense_shapes(5, UNITS),
    'hidden': _case.dense_shapes(UNITS, UNITS),
    'head': _case.dense_shapes(UNITS, 3),
  }
  return _case.bare(fn, shapes, sequences())


@case(
  (
    ('(stem|hidden)/kernel', 3),
    ('hidden/kernel', 2),
    ('(stem|hidden)/bias', 0),
    ('head/kernel', 0),
  ),
  (*_case.WINDOWS, *HEAD),
)
def frames():
  def convolve(params, x):
    dimensions = ('NHWC', 'HWIO', 'NHWC')
    x = lax.conv_general_dilated(x, params['kernel'], (1, 1), 'SAME', dimension_numbers=dimensions)
    return x + _case.along_last(params['bias'], x)

  def fn(params, x):
    def step(features, frame):
      frame = convolve(params['stem'], frame)
      return jax.nn.relu(frame + convolve(params['hidden'], features)), None

    first = jnp.zeros((*x.shape[1:4], UNITS), x.dtype)
    features, _ = lax.scan(step, first, x)
    return _case.dense(params['head'], features.mean((1, 2)))

  shapes = {
    'stem': {'kernel': (3, 3, 3, UNITS), 'bias': (UNITS,)},
    'hidden': {'kernel': (3, 3, UNITS, UNITS), 'bias': (UNITS,)},
    'head': _case.dense_shapes(UNITS, 5),
  }
  return _case.bare(fn, shapes, _case.normal(3, 2, 6, 6, 3))
