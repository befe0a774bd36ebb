"""Normalisation: of activations over channels and groups, of weights, of feature vectors."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from tests.zoo import _case
from tests.zoo._case import CONV, DENSE, Leaf, conv, head, images, linen, registry, vectors

CASES, case = registry()

NORMED = (
  ('(stem|second)/kernel', 3),
  ('second/kernel', 2),
  (r'norm_\d/(scale|bias)', 0),
  ('head/kernel', 0),
)
EPSILON = 1e-5


def normed(make_norm):
  def net(x):
    x = nn.relu(make_norm('norm_0')(conv(8, name='stem')(x)))
    x = nn.relu(make_norm('norm_1')(conv(12, name='second')(x)))
    return head(x)

  return linen(net, images())


# Of a pruned channel, the mean is taken off before the variance is: what stands there is not
# zero, but one value for all pruned channels (unless the variance is E x^2 - (E x)^2).
@case(NORMED, CONV, name='group_norm', use_fast_variance=True)
@case(NORMED, CONV, name='group_norm_two_pass', use_fast_variance=False)
def group_norm(use_fast_variance):
  options = {'num_groups': 2, 'use_fast_variance': use_fast_variance}
  return normed(lambda name: nn.GroupNorm(**options, name=name))


@case(NORMED, CONV, name='layer_norm', use_fast_variance=True)
@case(NORMED, CONV, name='layer_norm_two_pass', use_fast_variance=False)
def layer_norm(use_fast_variance):
  return normed(lambda name: nn.LayerNorm(use_fast_variance=use_fast_variance, name=name))


# Without scale and bias, pruned channels leave the norm as minus the mean over the deviation.
@case(NORMED[:2] + NORMED[3:], CONV)
def layer_norm_plain():
  return normed(lambda name: nn.LayerNorm(use_scale=False, use_bias=False, name=name))


@case(NORMED, CONV)
def rms_norm():
  return normed(lambda name: nn.RMSNorm(name=name))


@case(
  (('stem/kernel', 1), ('second/kernel', 0), ('(scale|shift)$', 0), ('stem/bias', 0)),
  (('stem/kernel', 0), ('second/kernel', 1)),
)
def hand_written_norm():
  def fn(params, x):
    x = _case.dense(params['stem'], x)
    x = x - x.mean(-1, keepdims=True)
    x = x / jnp.sqrt((x * x).mean(-1, keepdims=True) + EPSILON)
    x = x * params['scale'][None] + params['shift'][None]
    return _case.dense(params['second'], jax.nn.relu(x))

  shapes = {
    'stem': _case.dense_shapes(5, 8),
    'scale': (8,),
    'shift': (8,),
    'second': _case.dense_shapes(8, 4),
  }
  return _case.bare(fn, shapes, vectors())


@case(
  (
    ('(stem|depthwise)/kernel', 3),
    (r'norm_\d/(scale|bias)', 0),
    ('(expand|reduce)/kernel', 0),
    ('(expand|reduce)/kernel', 1),
    ('gamma/leaf', 0),
    ('head/kernel', 0),
  ),
  (*CONV, ('depthwise/kernel', 2)),
)
def convnext():
  def net(x):
    x = conv(8, 2, strides=2, padding='VALID', name='stem')(x)
    y = nn.LayerNorm(name='norm_0')(conv(8, 7, feature_group_count=8, name='depthwise')(x))
    y = nn.Dense(8, name='reduce')(nn.gelu(nn.Dense(12, name='expand')(y)))
    x = x + _case.along_last(Leaf((8,), name='gamma')(), y) * y
    return nn.Dense(5, name='head')(nn.LayerNorm(name='norm_1')(x.mean((1, 2))))

  return linen(net, images(8))


# ------------------------------------------------------------------------------ of weights


def standardised(kernel):
  """Zero mean and unit variance over window and input channels."""
  mean = kernel.mean((0, 1, 2), keepdims=True)
  variance = jnp.square(kernel - mean).mean((0, 1, 2), keepdims=True)
  return (kernel - mean) * lax.rsqrt(variance + EPSILON)


def convolve(kernel, bias, x):
  dimensions = ('NHWC', 'HWIO', 'NHWC')
  x = lax.conv_general_dilated(x, kernel, (1, 1), 'SAME', dimension_numbers=dimensions)
  return x + _case.along_last(bias, x)


# Along the input channels a standardised kernel is not zero where it is pruned, but uniform; its
# input is zero there.
@case(
  (
    ('(stem|second)/kernel', 3),
    ('second/kernel', 2),
    ('(stem|second)/bias', 0),
    ('head/kernel', 0),
  ),
  CONV,
)
def weight_standardisation():
  def fn(params, x):
    for name in ('stem', 'second'):
      kernel = standardised(params[name]['kernel'])
      x = jax.nn.relu(convolve(kernel, params[name]['bias'], x))
    return _case.dense(params['head'], x.mean((1, 2)))

  shapes = {
    'stem': {'kernel': (3, 3, 3, 8), 'bias': (8,)},
    'second': {'kernel': (3, 3, 8, 6), 'bias': (6,)},
    'head': _case.dense_shapes(6, 5),
  }
  return _case.bare(fn, shapes, images())


def weight_normed(params, x, epsilon):
  norm = jnp.sqrt(jnp.square(params['kernel']).sum(0) + epsilon)
  return x @ (params['kernel'] * (params['scale'] / norm)[None]) + params['bias'][None]


def weight_norm_net(epsilon):
  def fn(params, x):
    x = jax.nn.relu(_case.dense(params['stem'], x))
    x = jax.nn.relu(weight_normed(params['normed'], x, epsilon))
    return _case.dense(params['head'], x)

  normed = {**_case.dense_shapes(6, 8), 'scale': (8,)}
  shapes = {'stem': _case.dense_shapes(5, 6), 'normed': normed, 'head': _case.dense_shapes(8, 4)}
  return _case.bare(fn, shapes, vectors())


@case(
  (
    ('stem/kernel', 1),
    ('normed/kernel', 0),
    ('normed/kernel', 1),
    ('normed/(scale|bias)', 0),
    ('head/kernel', 0),
  ),
  DENSE,
)
def weight_norm():
  return weight_norm_net(1e-12)


# A pruned column has length zero, and scale * 0 / 0 is NaN in the masked network.
@case(
  (('stem/kernel', 1), ('normed/kernel', 0)),
  (*DENSE, ('normed/kernel', 1), ('normed/(scale|bias)', 0), ('head/kernel', 0)),
)
def weight_norm_no_epsilon():
  return weight_norm_net(0.0)


# ------------------------------------------------------------------------------ of features


@case((('(stem|second)/kernel', 1), ('(second|head)/kernel', 0)), DENSE)
def feature_norm():
  def net(x):
    x = nn.relu(nn.Dense(8, name='stem')(x))
    x = x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-3)
    x = nn.relu(nn.Dense(6, name='second')(x))
    return nn.Dense(5, name='head')(x)

  return linen(net, vectors())


@case((('stem/kernel', 1), ('prototypes/leaf', 1)), (DENSE[0], ('prototypes/leaf', 0)))
def cosine_head():
  def unit(x):
    return x * lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + EPSILON)

  def net(x):
    x = nn.tanh(nn.Dense(8, name='stem')(x))
    return unit(x) @ unit(Leaf((5, 8), name='prototypes')()).T

  return linen(net, vectors())


# The channels that are pruned get exp(0) each: their share of the sum stays.
@case((('(gate|value)/kernel', 1), ('(gate|value)/bias', 0), ('head/kernel', 0)), DENSE[1:])
def softmax_gate():
  def net(x):
    gate = nn.softmax(nn.Dense(8, name='gate')(x))
    return nn.Dense(5, name='head')(gate * nn.Dense(8, name='value')(x))

  return linen(net, vectors())
