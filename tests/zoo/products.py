"""Weights made of weights, constants and products of features with themselves."""

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from tests.zoo._case import (
  CONV,
  DENSE,
  Leaf,
  conv,
  images,
  linen,
  normal,
  registry,
  sequences,
  vectors,
)

CASES, case = registry()


# Each axis of the constant follows the layer that it touches.
@case((('stem/kernel', 1), ('head/kernel', 0)), DENSE)
def fixed_projection():
  projection = np.random.default_rng(4).standard_normal((8, 6))

  def net(x):
    x = nn.relu(nn.Dense(8, name='stem')(x))
    return nn.Dense(5, name='head')(nn.relu(x @ jnp.asarray(projection, x.dtype)))

  return linen(net, vectors())


@case(
  (
    ('stem/kernel', 1),
    ('(full|left)/leaf', 0),
    ('(left|right)/leaf', 1),
    ('right/leaf', 0),
    ('head/kernel', 0),
  ),
  DENSE,
)
def lora():
  def net(x):
    x = nn.relu(nn.Dense(6, name='stem')(x))
    left, right = Leaf((6, 3), name='left')(), Leaf((3, 8), name='right')()
    x = nn.relu(x @ (Leaf((6, 8), name='full')() + left @ right))
    return nn.Dense(5, name='head')(x)

  return linen(net, vectors())


@case(
  (('stem/kernel', 1), ('(code|maker)/kernel', 1), ('maker/kernel', 0), ('head/kernel', 0)),
  (*DENSE, ('code/kernel', 0)),
)
def hypernetwork():
  def net(x, task):
    x = nn.relu(nn.Dense(6, name='stem')(x))
    code = nn.tanh(nn.Dense(4, name='code')(task))
    kernel = nn.Dense(6 * 8, name='maker')(code).reshape(6, 8)
    return nn.Dense(5, name='head')(nn.relu(x @ kernel))

  return linen(net, vectors(), normal(1, 3))


# The same channels twice in one axis: an entry belongs to two units.
@case((('stem/kernel', 3), ('second/kernel', 2)), CONV)
def gram_flat():
  def net(x):
    x = nn.relu(conv(8, name='stem')(x))
    x = conv(6, name='second')(x)
    x = x.reshape(x.shape[0], -1, 6)
    gram = jnp.einsum('bnc,bnd->bcd', x, x) / x.shape[1]
    return nn.Dense(5, name='head')(gram.reshape(x.shape[0], -1))

  return linen(net, images())


@case((('(stem|second)/kernel', 3), ('second/kernel', 2), ('head/kernel', 0)), CONV[:4])
def gram_rows():
  def net(x):
    x = nn.relu(conv(8, name='stem')(x))
    x = conv(6, name='second')(x)
    x = x.reshape(x.shape[0], -1, 6)
    gram = jnp.einsum('bnc,bnd->bcd', x, x) / x.shape[1]
    return nn.Dense(5, use_bias=False, name='head')(gram).sum(1)

  return linen(net, images())


@case(
  (
    ('a/leaf', 1),
    ('b/leaf', 0),
    ('b/leaf', 1),
    ('c/leaf', 0),
    ('c/leaf', 1),
    ('c/leaf', 2),
    ('d/leaf', 1),
  ),
  (('a/leaf', 0), ('d/leaf', 0)),
)
def einsums():
  def net(x):
    x = jnp.einsum('bti,ic->bct', x, Leaf((5, 6), name='a')())
    x = nn.relu(jnp.einsum('oc,bct->tbo', Leaf((8, 6), name='b')(), x))
    x = jnp.tanh(jnp.einsum('ohd,tbo->bhtd', Leaf((8, 2, 4), name='c')(), x))
    return jnp.einsum('bhtd,kd->bk', x, Leaf((3, 4), name='d')())

  return linen(net, sequences())
