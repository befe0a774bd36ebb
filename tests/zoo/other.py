"""Plain networks: activations, dropout, trees of inputs and outputs, leaves without use."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from tests.zoo._case import (
  DENSE,
  HEAD,
  bare,
  conv,
  dense,
  dense_shapes,
  images,
  linen,
  registry,
  vectors,
)

CASES, case = registry()

MLP = (('(stem|second)/kernel', 1), ('(second|head)/kernel', 0))
BIASES = (('(stem|second)/bias', 0),)


def three_layers(activation=nn.relu, **options):
  def net(x):
    x = activation(nn.Dense(8, name='stem', **options)(x))
    x = activation(nn.Dense(6, name='second', **options)(x))
    return nn.Dense(5, name='head', **options)(x)

  return net


@case((*MLP, *BIASES), DENSE)
def mlp():
  return linen(three_layers(), vectors())


@case(MLP, DENSE[:2])
def mlp_no_bias():
  return linen(three_layers(use_bias=False), vectors())


# Not zero at zero: what a pruned unit sends on meets pruned weights.
@case((*MLP, *BIASES), DENSE)
def mlp_sigmoid():
  return linen(three_layers(nn.sigmoid), vectors())


@case((*MLP, *BIASES), DENSE)
def bfloat16_compute():
  return linen(three_layers(dtype=jnp.bfloat16), vectors())


@case((*MLP, *BIASES), DENSE)
def dropout():
  dropped = lambda x: nn.Dropout(0.4, deterministic=False)(nn.relu(x))
  apply, params, _ = linen(three_layers(dropped), vectors())
  fn = lambda params, x, key: apply(params, x, rngs={'dropout': key})
  return fn, params, (vectors(), jax.random.key(3))


@jax.custom_jvp
def jvp_relu(x):
  return jnp.maximum(x, 0)


@jvp_relu.defjvp
def _(primals, tangents):
  (x,), (dx,) = primals, tangents
  return jvp_relu(x), jnp.where(x > 0, dx, jnp.zeros_like(dx))


@jax.custom_vjp
def vjp_relu(x):
  return jnp.maximum(x, 0)


vjp_relu.defvjp(
  lambda x: (vjp_relu(x), x > 0),
  lambda positive, g: (jnp.where(positive, jnp.clip(g, -1, 1), jnp.zeros_like(g)),),
)


@case((*MLP, *BIASES), DENSE)
def custom_jvp():
  return linen(three_layers(jvp_relu), vectors())


@case((*MLP, *BIASES), DENSE)
def custom_vjp():
  return linen(three_layers(vjp_relu), vectors())


# -------------------------------------------------------------------------- inputs and outputs


@case(
  (('image/kernel', 3), ('(vector|joint)/kernel', 1), ('(joint|head|side)/kernel', 0)),
  (('image/kernel', 2), ('vector/kernel', 0), *HEAD, ('side/kernel', 1)),
)
def dict_to_tuple():
  def net(inputs):
    image = nn.relu(conv(6, name='image')(inputs['image'])).mean((1, 2))
    vector = nn.relu(nn.Dense(4, name='vector')(inputs['vector']))
    joint = nn.relu(nn.Dense(8, name='joint')(jnp.concatenate([image, vector], axis=-1)))
    return nn.Dense(5, name='head')(joint), {'side': nn.Dense(2, name='side')(vector)}

  return linen(net, {'image': images(), 'vector': vectors()})


@case((*MLP, *BIASES), DENSE)
def argmax_output():
  def net(x):
    logits = three_layers()(x)
    return logits, logits.argmax(-1)

  return linen(net, vectors())


# What is given out stays whole, whatever else reads it.
@case(
  (('second/kernel', 1), ('head/kernel', 0)), (*DENSE, ('stem/kernel', 1), ('second/kernel', 0))
)
def features_output():
  def net(x):
    features = nn.relu(nn.Dense(8, name='stem')(x))
    x = nn.relu(nn.Dense(6, name='second')(features))
    return nn.Dense(5, name='head')(x), features

  return linen(net, vectors())


@case((('stem/kernel', 1), ('head/kernel', 0)), DENSE)
def unused_leaf():
  def fn(params, x):
    return dense(params['head'], jax.nn.relu(dense(params['stem'], x)))

  shapes = {'stem': dense_shapes(5, 8), 'head': dense_shapes(8, 4), 'unused': (7, 3)}
  return bare(fn, shapes, vectors())
