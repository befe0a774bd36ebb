"""Networks of Equinox and NNX; those of the other modules are linen or plain functions."""

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx

from tests.zoo import _case
from tests.zoo._case import CONV, images, normal, registry, vectors

CASES, case = registry()


def equinox(model, x):
  """One example in, one out; what is no array stays in ``fn``."""
  params, static = eqx.partition(model, eqx.is_inexact_array)
  fn = lambda params, x: jax.vmap(eqx.combine(params, static))(x)
  return fn, _case.fill(params), (x,)


@case(
  ((r'layers/[01]/weight', 0), (r'layers/[12]/weight', 1), (r'layers/[01]/bias', 0)),
  (('layers/0/weight', 1), ('layers/2/weight', 0), ('layers/2/bias', 0)),
)
def equinox_mlp():
  return equinox(eqx.nn.MLP(5, 4, 8, 2, key=jax.random.key(0)), vectors())


@case(
  (
    (r'layers/[04]/weight', 0),
    ('layers/4/weight', 1),
    (r'layers/[04]/bias', 0),
    ('layers/1/(weight|bias)', 0),
    ('layers/6/weight', 1),
  ),
  (('layers/0/weight', 1), ('layers/0/weight', 2), ('layers/6/weight', 0)),
)
def equinox_conv():
  keys = jax.random.split(jax.random.key(0), 3)
  layers = [
    eqx.nn.Conv2d(3, 8, 3, padding=1, key=keys[0]),
    eqx.nn.GroupNorm(2, 8),
    eqx.nn.Lambda(jax.nn.relu),
    eqx.nn.MaxPool2d(2, 2),
    eqx.nn.Conv2d(8, 6, 1, key=keys[1]),
    eqx.nn.Lambda(jnp.ravel),
    eqx.nn.Linear(6 * 9, 4, key=keys[2]),
  ]
  return equinox(eqx.nn.Sequential(layers), normal(2, 3, 6, 6))


@case(
  (
    ('table/weight', 1),
    ('norm/(weight|bias)', 0),
    ('up/weight', 0),
    ('up/weight', 1),
    ('up/bias', 0),
    ('down/weight', 0),
    ('down/weight', 1),
    ('down/bias', 0),
    ('head/weight', 1),
  ),
  (('table/weight', 0), ('head/weight', 0), ('head/bias', 0)),
)
def equinox_language_model():
  """Its layers take one vector; sequences are turned round up to their lengths."""
  keys = jax.random.split(jax.random.key(0), 4)
  layers = {
    'table': eqx.nn.Embedding(11, 8, key=keys[0]),
    'norm': eqx.nn.LayerNorm(8),
    'up': eqx.nn.Linear(8, 6, key=keys[1]),
    'down': eqx.nn.Linear(6, 8, key=keys[2]),
    'head': eqx.nn.Linear(8, 5, key=keys[3]),
  }
  params, static = eqx.partition(layers, eqx.is_inexact_array)

  def fn(params, ids, lengths):
    layers = eqx.combine(params, static)

    def one(ids, length):
      x = jax.vmap(layers['table'])(ids)
      x = x + jnp.roll(x[::-1], length, axis=0)
      hidden = jax.vmap(layers['up'])(jax.vmap(layers['norm'])(x))
      return jax.vmap(layers['head'])(x + jax.vmap(layers['down'])(jax.nn.gelu(hidden)))

    return jax.vmap(one)(ids, lengths)

  return fn, _case.fill(params), (_case.tokens(), jnp.array([3, 4]))


class NnxCnn(nnx.Module):
  def __init__(self, rngs):
    self.stem = nnx.Conv(3, 8, (3, 3), rngs=rngs)
    self.norm = nnx.BatchNorm(8, use_running_average=True, rngs=rngs)
    self.second = nnx.Conv(8, 8, (3, 3), rngs=rngs)
    self.head = nnx.Linear(8, 5, rngs=rngs)

  def __call__(self, x):
    x = nnx.relu(self.norm(self.stem(x)))
    x = x + self.second(x)
    return self.head(x.mean((1, 2)))


NNX_CNN = (
  ('(stem|second)/kernel', 3),
  ('second/kernel', 2),
  ('norm/(scale|bias|mean|var)', 0),
  ('head/kernel', 0),
)


@case(NNX_CNN, CONV)
def nnx_cnn():
  return _case.nnx(NnxCnn(nnx.Rngs(0)), images())


@case(NNX_CNN, CONV)
def nnx_cnn_training():
  """Its new statistics are results."""
  model = NnxCnn(nnx.Rngs(0))
  model.set_attributes(use_running_average=False)
  graphdef, state = nnx.split(model)

  def fn(state, x):
    model = nnx.merge(graphdef, state)
    return model(x), nnx.state(model)

  return _case.promoting(fn), _case.fill(state), (images(),)
