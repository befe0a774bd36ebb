"""Convolutional networks: shortcuts, concatenation, pyramids, groups, pooling."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from tests.zoo import _case
from tests.zoo._case import CONV, batch_norm, conv, head, images, linen, registry

CASES, case = registry()

NORMS = ((r'norm_\d/(scale|bias|mean|var)$', 0),)
RESIDUAL = (
  (r'(stem|conv_\d)/kernel', 3),
  (r'conv_\d/kernel', 2),
  *NORMS,
  ('head/kernel', 0),
)
MAP_HEAD = (('head/kernel', 0), ('head/kernel', 1), ('head/kernel', 3), ('head/bias', 0))
MAP = (*_case.WINDOWS, *MAP_HEAD)


def up(x):
  """Twice as high and wide, by repetition."""
  return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def residual(shortcut, features, stride, train=False):
  def block(x, skip, mid, features, stride, first):
    y = conv(mid, strides=stride, use_bias=False, name=f'conv_{first}')(x)
    y = nn.relu(batch_norm(f'norm_{first}', train)(y))
    y = conv(features, use_bias=False, name=f'conv_{first + 1}')(y)
    return nn.relu(skip(x) + batch_norm(f'norm_{first + 1}', train)(y))

  def net(x):
    x = conv(8, use_bias=False, name='stem')(x)
    x = nn.relu(batch_norm('norm_0', train)(x))
    x = block(x, shortcut, 6, features, stride, 1)
    x = block(x, lambda x: x, 4, features, 1, 3)
    return head(x)

  return net


def project(x):
  return batch_norm('norm_9')(conv(12, 1, strides=2, use_bias=False, name='conv_9')(x))


def pad(x):
  return jnp.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (2, 2)))


@case(RESIDUAL, CONV)
def residual_identity():
  return linen(residual(lambda x: x, 8, 1), images())


@case(RESIDUAL, CONV)
def residual_projection():
  return linen(residual(project, 12, 2), images())


@case(RESIDUAL, CONV)
def residual_padded():
  return linen(residual(pad, 12, 2), images())


# The second output is the new running statistics: their channels are those of the first output's
# convolutions, so they shrink along.
@case(RESIDUAL, CONV)
def residual_train():
  net = residual(lambda x: x, 8, 1, train=True)
  return linen(net, images(), mutable=['batch_stats'])


@case(
  (
    (r'(stem|grow_\d|transition)/kernel', 3),
    (r'(grow_\d|transition)/kernel', 2),
    *NORMS,
    ('head/kernel', 0),
  ),
  CONV,
)
def densenet():
  def net(x):
    x = conv(6, name='stem')(x)
    for i in range(2):
      y = conv(4, name=f'grow_{i}')(nn.relu(batch_norm(f'norm_{i}')(x)))
      x = jnp.concatenate([x, y], axis=-1)
    return head(conv(7, 1, name='transition')(nn.relu(batch_norm('norm_2')(x))))

  return linen(net, images())


UNET = (
  ('(stem|down|middle|up|join)/kernel', 3),
  ('(down|middle|up|join|head)/kernel', 2),
  ('(stem|down|middle|up|join)/bias', 0),
)


@case(UNET, MAP)
def unet_pool_resize():
  def net(x):
    skip = nn.relu(conv(4, name='stem')(x))
    x = nn.relu(conv(8, name='down')(nn.max_pool(skip, (2, 2), (2, 2))))
    x = nn.relu(conv(10, name='middle')(x))
    x = jax.image.resize(x, (*skip.shape[:3], x.shape[-1]), 'nearest')
    x = nn.relu(conv(6, name='up')(x))
    x = nn.relu(conv(7, name='join')(jnp.concatenate([skip, x], axis=-1)))
    return conv(2, 1, name='head')(x)

  return linen(net, images(8))


@case(UNET, MAP)
def unet_stride_transpose():
  def net(x):
    skip = nn.relu(conv(4, name='stem')(x))
    x = nn.relu(conv(8, strides=2, name='down')(skip))
    x = nn.relu(conv(10, name='middle')(x))
    x = nn.relu(nn.ConvTranspose(6, (2, 2), (2, 2), name='up')(x))
    x = nn.relu(conv(7, name='join')(jnp.concatenate([x, skip], axis=-1)))
    return conv(2, 1, name='head')(x)

  return linen(net, images())


@case(
  (
    ('(stem|depthwise|pointwise|multiplied)/kernel', 3),
    ('pointwise/kernel', 2),
    *NORMS,
    ('head/kernel', 0),
  ),
  (*CONV, ('(depthwise|multiplied)/kernel', 2)),
)
def depthwise_separable():
  def net(x):
    x = nn.relu(batch_norm('norm_0')(conv(8, name='stem')(x)))
    x = nn.relu(batch_norm('norm_1')(conv(8, feature_group_count=8, name='depthwise')(x)))
    x = nn.relu(batch_norm('norm_2')(conv(6, 1, name='pointwise')(x)))
    return head(nn.relu(conv(12, feature_group_count=6, name='multiplied')(x)))

  return linen(net, images())


GROUPED = (('(stem|grouped|mix)/kernel', 3), ('(grouped|mix)/kernel', 2), ('head/kernel', 0))


@case(GROUPED, CONV, name='grouped_conv_2', groups=2)
@case(GROUPED, CONV, name='grouped_conv_4', groups=4)
def grouped_conv(groups):
  def net(x):
    x = nn.relu(conv(8, name='stem')(x))
    x = nn.relu(conv(12, feature_group_count=groups, name='grouped')(x))
    return head(nn.relu(conv(7, 1, name='mix')(x)))

  return linen(net, images())


@case(
  (
    ('(stem|after)/kernel', 3),
    ('after/kernel', 2),
    ('(squeeze|excite)/kernel', 0),
    ('(squeeze|excite)/kernel', 1),
    ('excite/bias', 0),
    ('head/kernel', 0),
  ),
  CONV,
)
def squeeze_excite():
  def net(x):
    x = nn.relu(conv(8, name='stem')(x))
    gate = nn.relu(nn.Dense(4, name='squeeze')(x.mean((1, 2))))
    gate = nn.sigmoid(nn.Dense(8, name='excite')(gate))
    return head(nn.relu(conv(6, name='after')(x * gate[:, None, None, :])))

  return linen(net, images())


@case((('(stem|second)/kernel', 3), ('second/kernel', 2), ('head/kernel', 0)), CONV)
def flatten():
  def net(x):
    x = nn.relu(conv(8, name='stem')(x))
    x = nn.relu(conv(6, strides=2, name='second')(x))
    return nn.Dense(5, name='head')(x.reshape(x.shape[0], -1))

  return linen(net, images())


TRANSPOSED = (('stem/kernel', 3), ('up/kernel', 2), ('up/kernel', 3), ('up/bias', 0))


@case(TRANSPOSED, CONV, name='conv_transpose', transpose_kernel=False)
@case(TRANSPOSED, CONV, name='conv_transpose_kernel', transpose_kernel=True)
def conv_transpose(transpose_kernel):
  def net(x):
    x = nn.relu(conv(6, name='stem')(x))
    layer = nn.ConvTranspose(10, (3, 3), (2, 2), transpose_kernel=transpose_kernel, name='up')
    return head(nn.relu(layer(x)))

  return linen(net, images())


@case((('(stem|dilated)/kernel', 3), ('dilated/kernel', 2), ('head/kernel', 0)), CONV)
def dilated_conv():
  def net(x):
    x = nn.relu(conv(8, name='stem')(x))
    return head(nn.relu(conv(6, kernel_dilation=2, name='dilated')(x)))

  return linen(net, images())


@case((('(stem|second|third)/kernel', 3), ('(second|third)/kernel', 2), ('head/kernel', 0)), CONV)
def pooling():
  def net(x):
    x = nn.max_pool(nn.relu(conv(8, name='stem')(x)), (3, 3), (2, 2), 'SAME')
    x = nn.avg_pool(nn.gelu(conv(6, name='second')(x)), (2, 2), padding='SAME')
    x = nn.avg_pool(conv(7, name='third')(x), (2, 2), padding='SAME', count_include_pad=False)
    return nn.Dense(5, name='head')(x.max((1, 2)))

  return linen(net, images())


@case(
  (
    (r'(stem|trunk_\d|lateral_\d|smooth)/kernel', 3),
    (r'(trunk_\d|lateral_\d|smooth|head)/kernel', 2),
    ('lateral_0/bias', 0),
  ),
  MAP,
)
def feature_pyramid():
  def net(x):
    first = nn.relu(conv(4, name='stem')(x))
    second = nn.relu(conv(6, strides=2, name='trunk_0')(first))
    third = nn.relu(conv(10, strides=2, name='trunk_1')(second))
    laterals = [conv(8, 1, name=f'lateral_{i}')(x) for i, x in enumerate((first, second, third))]
    second = laterals[1] + up(laterals[2])
    first = laterals[0] + up(second)
    smooth, head = conv(7, name='smooth'), conv(2, 1, name='head')
    return head(nn.relu(smooth(first))), head(nn.relu(smooth(second)))

  return linen(net, images(8))


@case(
  (
    ('(stem|second)/kernel', 0),
    ('second/kernel', 1),
    ('(stem|second)/bias', 0),
    ('head/kernel', 0),
  ),
  (('stem/kernel', 1), ('stem/kernel', 2), ('stem/kernel', 3), *_case.HEAD),
)
def bare_nchw():
  def layer(params, x):
    x = lax.conv_general_dilated(x, params['kernel'], (1, 1), 'SAME')
    return jax.nn.relu(x + params['bias'].reshape(1, -1, 1, 1))

  def fn(params, x):
    x = layer(params['stem'], x)
    x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), 'VALID')
    x = layer(params['second'], x)
    return _case.dense(params['head'], x.reshape(x.shape[0], -1))

  shapes = {
    'stem': {'kernel': (8, 3, 3, 3), 'bias': (8,)},
    'second': {'kernel': (6, 8, 3, 3), 'bias': (6,)},
    'head': _case.dense_shapes(6 * 9, 5),
  }
  return _case.bare(fn, shapes, _case.normal(2, 3, 6, 6))
