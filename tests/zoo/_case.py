"""What a case is, and how its params are made: random, of a sane size, none of them constant."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jprune import tree
from jprune.nnx import functional

Axes = tuple[tuple[str, int], ...]


class Case(NamedTuple):
  """A small network, and what an analysis of its channels has to find.

  Attributes:
    name: unique in the zoo.
    make: ``() -> (fn, params, args)``, where ``fn(params, *args)`` is pure; concrete float32
      params and args. A cast of both to float64 makes ``fn`` compute in float64.
    prunes: ``(regex, axis)``: every leaf whose path the regex finds has that axis, or a part of
      it, in some group of channels.
    frozen: ``(regex, axis)``: no group holds any part of that axis of such a leaf.
  """

  name: str
  make: Callable[[], tuple[Callable[..., Any], Any, tuple[Any, ...]]]
  prunes: Axes
  frozen: Axes = ()


# In most networks the first layer is called stem and the last head. Input features, the windows
# of convolutions and the outputs stay whole.
HEAD = (('head/kernel', 1), ('head/bias', 0))
DENSE = (('stem/kernel', 0), *HEAD)
WINDOWS = (('stem/kernel', 0), ('stem/kernel', 1), ('stem/kernel', 2))
CONV = (*WINDOWS, *HEAD)


def registry() -> tuple[dict[str, Case], Callable[..., Any]]:
  """An empty dict of cases, and the decorator that puts a ``make`` into it."""
  cases = {}

  def case(prunes, frozen=(), name=None, **options):
    def add(make):
      key = name or make.__name__
      assert key not in cases, key
      cases[key] = Case(key, functools.partial(make, **options), tuple(prunes), tuple(frozen))
      return make

    return add

  return cases, case


# ------------------------------------------------------------------------------------ values


def fill(shapes, seed=0):
  """Random float32 leaves in place of arrays, shape structs or plain tuples of sizes."""
  rng = np.random.default_rng(seed)
  sizes = lambda x: type(x) is tuple and all(isinstance(n, int) for n in x)
  paths, leaves, treedef = tree.flatten(shapes, is_leaf=sizes)
  values = [_values(rng, path, getattr(leaf, 'shape', leaf)) for path, leaf in zip(paths, leaves)]
  return treedef.unflatten([jnp.asarray(value, jnp.float32) for value in values])


def _values(rng, path, shape):
  name = path.rsplit('/')[-1]
  if name == 'var':
    return rng.uniform(0.5, 1.5, shape)
  noise = rng.standard_normal(shape)
  if name in ('scale', 'gamma') or (name == 'weight' and len(shape) == 1):
    return 1 + 0.2 * noise
  if len(shape) < 2:
    return 0.3 * noise
  return noise * max(0.2, math.prod(shape[:-1]) ** -0.5)


def normal(*shape, seed=1):
  """An input of standard normal values."""
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def vectors():
  return normal(2, 5)


def images(size=6):
  return normal(2, size, size, 3)


def sequences():
  return normal(2, 4, 5)


def tokens(vocabulary=11):
  return jnp.asarray(np.random.default_rng(2).integers(0, vocabulary, (2, 4)), jnp.int32)


# ------------------------------------------------------------------------------------- flax


class Net(nn.Module):
  """A function that makes its layers as it goes, as a module."""

  body: Callable[..., Any]

  @nn.compact
  def __call__(self, *args):
    return self.body(*args)


class Leaf(nn.Module):
  """A bare parameter; its path ends in ``/<name>/leaf``."""

  shape: tuple[int, ...]

  @nn.compact
  def __call__(self):
    return self.param('leaf', nn.initializers.normal(), self.shape)


def promoting(fn):
  """``fn`` under standard promotion: flax mixes dtypes in its norms and poolings."""

  @functools.wraps(fn)
  def wrapped(*args, **kwargs):
    with jax.numpy_dtype_promotion('standard'):
      return fn(*args, **kwargs)

  return wrapped


def linen(body, *args, **options):
  """``(fn, params, args)`` of a function that calls linen layers.

  Args:
    body: makes layers and calls them.
    *args: what it is called with.
    **options: for ``apply``.
  """
  model = Net(body)
  keys = {'params': jax.random.key(0), 'dropout': jax.random.key(1)}
  shapes = jax.eval_shape(promoting(lambda *args: model.init(keys, *args)), *args)
  return promoting(functools.partial(model.apply, **options)), fill(shapes), args


def nnx(model, *args):
  """``(fn, params, args)`` of an NNX module."""
  fn, params = functional(model)
  return promoting(fn), fill(params), args


def conv(features, size=3, **options):
  return nn.Conv(features, (size, size), **options)


def batch_norm(name, train=False):
  return nn.BatchNorm(use_running_average=not train, momentum=0.9, name=name)


def head(x, features=5):
  """Logits from the mean over everything between batch and channels."""
  return nn.Dense(features, name='head')(x.mean(tuple(range(1, x.ndim - 1))))


# -------------------------------------------------------------------------------------- bare


def dense_shapes(n_in, n_out):
  return {'kernel': (n_in, n_out), 'bias': (n_out,)}


def along_last(vector, x):
  """A vector with as many axes as ``x``, to be broadcast along the last."""
  return jnp.expand_dims(vector, tuple(range(x.ndim - 1)))


def dense(params, x):
  return x @ params['kernel'] + along_last(params['bias'], x)


def bare(fn, shapes, *args):
  """``(fn, params, args)`` of a plain function and the shapes of its params."""
  return fn, fill(shapes), args
