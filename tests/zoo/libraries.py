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
