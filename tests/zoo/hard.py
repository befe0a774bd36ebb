"""What a careless analysis gets wrong: pruned entries that are not zero, and channels as places."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from tests.zoo._case import (
  CONV,
  DENSE,
  conv,
  head,
  images,
  linen,
  registry,
  sequences,
  vectors,
)

CASES, case = registry()

STEM = (('stem/kernel', 1), ('stem/bias', 0))
SECOND = (('second/kernel', 1), ('second/bias', 0), ('head/kernel', 0))
BOTH = (*STEM, *SECOND, ('second/kernel', 0))


def between(move, activation=nn.tanh):
  """Two hidden layers, and something that is done to the channels of the first."""

  def net(x):
    x = move(activation(nn.Dense(8, name='stem')(x)))
    return head(nn.relu(nn.Dense(6, name='second')(x)))

  return linen(net, vectors())


# ------------------------------------------------------------------------------- not zero at zero


# 1 / 0 times a masked weight is NaN in the masked network, and nothing in a smaller one.
@case(SECOND, (*DENSE, *STEM, ('second/kernel', 0)))
def reciprocal():
  return between(lambda x: 1 / x)


@case(SECOND, (*DENSE, *STEM, ('second/kernel', 0)))
def logarithm():
  return between(lambda x: jnp.log(jnp.abs(x)))


@case(BOTH, DENSE)
def shifted():
  return between(lambda x: jnp.exp(x) + 1.0)


@case(BOTH, DENSE)
def prelu():
  return between(lambda x: nn.PReLU(name='slope')(x))


POSITIONS = np.sin(np.arange(4)[:, None] / 3.0 ** np.arange(8)[None, :] + 0.5)


def positions(norm):
  def net(x):
    x = nn.Dense(8, name='stem')(x) + jnp.asarray(POSITIONS, x.dtype)[None]
    x = nn.gelu(nn.Dense(6, name='second')(norm(x)))
    return head(x)

  return linen(net, sequences())


# The constant of a pruned channel meets masked weights only ...
@case(BOTH, DENSE)
def constant_positions():
  return positions(lambda x: x)


# ... or else it counts in the mean square, each channel with a value of its own.
@case(SECOND, (*DENSE, *STEM, ('norm/scale', 0), ('second/kernel', 0)))
def constant_positions_norm():
  return positions(lambda x: nn.RMSNorm(name='norm')(x))


@case(BOTH, DENSE)
def mean_of_sigmoids():
  return between(lambda x: x * nn.sigmoid(x).mean(-1, keepdims=True))


# The largest of the kept channels and of zero, if a channel is pruned.
@case(
  (('(stem|after)/kernel', 3), ('after/kernel', 2), ('head/kernel', 0)),
  (*CONV, ('spatial/kernel', 3)),
)
def spatial_attention():
  def net(x):
    x = nn.relu(conv(8, name='stem')(x))
    pooled = [x.mean(-1, keepdims=True), x.max(-1, keepdims=True)]
    gate = nn.sigmoid(conv(1, name='spatial')(jnp.concatenate(pooled, axis=-1)))
    return head(nn.relu(conv(6, name='after')(x * gate)))

  return linen(net, images())


# ----------------------------------------------------------------------------- tied to the input


@case(SECOND, (*DENSE, *STEM, ('second/kernel', 0)))
def input_added():
  def net(x):
    x = x + nn.Dense(x.shape[-1], name='stem')(x)
    return head(nn.relu(nn.Dense(6, name='second')(x)))

  return linen(net, vectors())


# The part of the axis that reads the input stays.
@case(BOTH, DENSE)
def input_concatenated():
  def net(x):
    x = jnp.concatenate([x, nn.relu(nn.Dense(8, name='stem')(x))], axis=-1)
    return head(nn.relu(nn.Dense(6, name='second')(x)))

  return linen(net, vectors())


# ----------------------------------------------------------------------------- channels as places


@case(SECOND, (*DENSE, *STEM))
def channel_argmax():
  return between(lambda x: jax.nn.one_hot(x.argmax(-1), 8, dtype=x.dtype))


@case(SECOND, (*DENSE, *STEM, ('second/kernel', 0)))
def scan_over_channels():
  def move(x):
    step = lambda state, column: (0.5 * state + column, jnp.tanh(state + column) + 0.1)
    return lax.scan(step, jnp.zeros_like(x[:, 0]) + 0.3, x.T)[1].T

  return between(move)


@case(SECOND, (*DENSE, *STEM, ('second/kernel', 0)))
def fourier():
  return between(lambda x: jnp.fft.fft(x, axis=-1).real)


# A window slides along the channels.
@case(
  (('after/kernel', 3), ('head/kernel', 0)),
  (*CONV, ('stem/kernel', 3), ('stem/bias', 0), ('after/kernel', 2), ('window/kernel', 0)),
)
def efficient_channel_attention():
  def net(x):
    x = nn.relu(conv(8, name='stem')(x))
    gate = nn.Conv(1, (3,), use_bias=False, name='window')(x.mean((1, 2))[..., None])
    x = x * nn.sigmoid(gate[:, None, None, :, 0])
    return head(nn.relu(conv(6, name='after')(x)))

  return linen(net, images())


# ----------------------------------------------------------------------------------- along time


@case((*STEM, ('(decay|head)/kernel', 0), ('decay/kernel', 1)), DENSE)
def linear_recurrence():
  def combine(first, second):
    return first[0] * second[0], first[1] * second[0] + second[1]

  def net(x):
    x = nn.Dense(8, name='stem')(x)
    decay = nn.sigmoid(nn.Dense(8, name='decay')(x))
    _, x = lax.associative_scan(combine, (decay, (1 - decay) * x), axis=1)
    return head(nn.silu(x))

  return linen(net, sequences())
