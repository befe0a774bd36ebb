"""Channels that move: shuffles, flips, gathers, splits, repetitions, running sums."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from tests.zoo._case import (
  CONV,
  DENSE,
  batch_norm,
  conv,
  head,
  images,
  linen,
  registry,
  vectors,
)

CASES, case = registry()

BETWEEN = (('stem/kernel', 1), ('stem/bias', 0), ('head/kernel', 0))


def between(move):
  """A hidden layer, a movement of its channels, an output layer."""

  def net(x):
    x = nn.relu(nn.Dense(8, name='stem')(x))
    return nn.Dense(5, name='head')(move(x))

  return linen(net, vectors())


# ------------------------------------------------------------------- between space and channels


# The factor that goes into space stays whole; the channels within it don't.
@case((('(stem|deep|after)/kernel', 3), ('(deep|after)/kernel', 2), ('deep/bias', 0)), CONV)
def pixel_shuffle():
  def net(x):
    x = nn.relu(conv(8, name='stem')(x))
    x = conv(24, name='deep')(x)
    b, h, w, _ = x.shape
    x = x.reshape(b, h, w, 2, 2, 6).transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, 6)
    return head(nn.relu(conv(7, name='after')(x)))

  return linen(net, images())


@case((('(stem|deep|after)/kernel', 3), ('(deep|after)/kernel', 2), ('deep/bias', 0)), CONV)
def pixel_shuffle_channels_first():
  def net(x):
    x = nn.relu(conv(8, name='stem')(x))
    x = conv(24, name='deep')(x)
    b, h, w, _ = x.shape
    x = x.reshape(b, h, w, 6, 2, 2).transpose(0, 1, 4, 2, 5, 3).reshape(b, 2 * h, 2 * w, 6)
    return head(nn.relu(conv(7, name='after')(x)))

  return linen(net, images())


# Two by two pixels become one of four times the channels.
@case((('(stem|after)/kernel', 3), ('after/kernel', 2)), CONV)
def space_to_depth():
  def net(x):
    x = nn.relu(conv(6, name='stem')(x))
    b, h, w, c = x.shape
    x = x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(b, h // 2, w // 2, 4 * c)
    return head(nn.relu(conv(7, name='after')(x)))

  return linen(net, images())


# -------------------------------------------------------------------------------- permutations


def shuffle(x, groups=2):
  b, h, w, c = x.shape
  return x.reshape(b, h, w, groups, c // groups).swapaxes(3, 4).reshape(b, h, w, c)


@case(
  (
    (r'(stem|\w+_[01])/kernel', 3),
    (r'(enter|leave)_[01]/kernel', 2),
    (r'norm_[01]/(scale|bias|mean|var)', 0),
    ('head/kernel', 0),
  ),
  (*CONV, (r'depthwise_[01]/kernel', 2)),
)
def channel_shuffle():
  def unit(x, i):
    kept, x = jnp.split(x, 2, axis=-1)
    x = nn.relu(conv(6, 1, name=f'enter_{i}')(x))
    x = batch_norm(f'norm_{i}')(conv(6, feature_group_count=6, name=f'depthwise_{i}')(x))
    x = nn.relu(conv(kept.shape[-1], 1, name=f'leave_{i}')(x))
    return shuffle(jnp.concatenate([kept, x], axis=-1))

  def net(x):
    x = nn.relu(conv(8, name='stem')(x))
    return head(unit(unit(x, 0), 1))

  return linen(net, images())


@case((('(stem|first|second)/kernel', 3), ('(first|second)/kernel', 2), ('head/kernel', 0)), CONV)
def grouped_shuffle():
  def net(x):
    x = nn.relu(conv(8, name='stem')(x))
    x = shuffle(nn.relu(conv(12, 1, feature_group_count=2, name='first')(x)))
    return head(nn.relu(conv(8, feature_group_count=2, name='second')(x)))

  return linen(net, images())


@case(BETWEEN, DENSE)
def channel_flip():
  return between(lambda x: x[..., ::-1])


@case(BETWEEN, DENSE)
def channel_flip_added():
  return between(lambda x: x + x[..., ::-1])


@case(BETWEEN, DENSE)
def channel_permutation():
  return between(lambda x: x[..., np.array([3, 1, 7, 0, 2, 6, 5, 4])])


# Cycles of length 3, 2, 2 and 1: what the sum ties.
@case(BETWEEN, DENSE)
def channel_permutation_added():
  return between(lambda x: x + x[..., np.array([3, 1, 0, 2, 5, 4, 7, 6])])


# Channels that nothing reads can go like the others.
@case(BETWEEN, DENSE)
def channel_subset():
  return between(lambda x: x[..., np.array([6, 0, 3])])


@case(BETWEEN, DENSE)
def channel_repeated():
  return between(lambda x: x[..., np.array([0, 0, 5, 3, 5, 1])])


@case(BETWEEN, DENSE)
def channel_take():
  return between(lambda x: jnp.take(x, np.array([3, 1, 7, 0, 2, 6, 5, 4]), axis=-1))


@case(BETWEEN, DENSE)
def roll():
  return between(lambda x: jnp.roll(x, 3, axis=-1))


@case(BETWEEN, DENSE)
def roll_added():
  return between(lambda x: x + jnp.roll(x, 4, axis=-1))


@case(BETWEEN, DENSE)
def strided_channels():
  return between(lambda x: x[..., ::2] * x[..., 1::2])


@case(BETWEEN, DENSE)
def repeat():
  return between(lambda x: jnp.repeat(x, 2, axis=-1))


@case(BETWEEN, DENSE)
def tile():
  return between(lambda x: jnp.tile(x, (1, 2)))


@case(BETWEEN, DENSE)
def sliced_and_padded():
  return between(lambda x: jnp.pad(x[:, 2:7], ((0, 0), (1, 3))))


@case(BETWEEN, DENSE)
def updated_slice():
  return between(lambda x: x.at[:, 2:5].multiply(2.0))


# Both halves of a pair of pieces: the larger survives.
@case(BETWEEN, DENSE)
def maxout():
  def net(x):
    x = nn.Dense(12, name='stem')(x)
    return nn.Dense(5, name='head')(x.reshape(x.shape[0], 6, 2).max(-1))

  return linen(net, vectors())


# -------------------------------------------------------------------------------- order matters


# By policy: zeros leave a running sum as it is, so a group would be sound here as well.
@case((('second/kernel', 1),), (*DENSE, ('stem/kernel', 1), ('stem/bias', 0), ('second/kernel', 0)))
def cumulative_sum():
  return ordered(lambda x: jnp.cumsum(x, axis=-1))


@case((('second/kernel', 1),), (*DENSE, ('stem/kernel', 1), ('stem/bias', 0), ('second/kernel', 0)))
def cumulative_product():
  return ordered(lambda x: jnp.cumprod(x, axis=-1))


@case((('second/kernel', 1),), (*DENSE, ('stem/kernel', 1), ('stem/bias', 0), ('second/kernel', 0)))
def sort():
  return ordered(lambda x: jnp.sort(x, axis=-1))


@case((('second/kernel', 1),), (*DENSE, ('stem/kernel', 1), ('stem/bias', 0)))
def top_k():
  return ordered(lambda x: jax.lax.top_k(x, 3)[0])


def ordered(move):
  """Where the channels' places count: only what comes after can be pruned."""

  def net(x):
    x = nn.tanh(nn.Dense(6, name='stem')(x))
    x = nn.relu(nn.Dense(8, name='second')(move(x)))
    return nn.Dense(5, name='head')(x)

  return linen(net, vectors())


# ----------------------------------------------------------------------------------------- gates


@case((('stem/kernel', 1), ('wide/kernel', 0), ('wide/kernel', 1), ('head/kernel', 0)), DENSE)
def glu_split():
  def net(x):
    x = nn.relu(nn.Dense(6, name='stem')(x))
    value, gate = jnp.split(nn.Dense(16, name='wide')(x), 2, axis=-1)
    return nn.Dense(5, name='head')(value * nn.sigmoid(gate))

  return linen(net, vectors())


@case(
  (('stem/kernel', 1), ('(value|gate)/kernel', 0), ('(value|gate)/kernel', 1), ('head/kernel', 0)),
  DENSE,
)
def glu_two():
  def net(x):
    x = nn.relu(nn.Dense(6, name='stem')(x))
    x = nn.Dense(8, name='value')(x) * nn.silu(nn.Dense(8, name='gate')(x))
    return nn.Dense(5, name='head')(x)

  return linen(net, vectors())
