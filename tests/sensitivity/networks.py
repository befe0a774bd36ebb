"""A small classifier of scikit-learn's digits, its three splits, and how to train it."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import jprune


@functools.cache
def digits():
  """Training, validation and test data: 897, 450 and 450 images."""
  x, y = load_digits(return_X_y=True)
  order = np.random.default_rng(0).permutation(len(x))
  x, y = x[order].astype(np.float32) / 16, y[order]
  ends = [(0, 897), (897, 1347), (1347, 1797)]
  with jax.ensure_compile_time_eval():  # the first call may come from within a trace
    return [(jnp.asarray(x[a:b]), jnp.asarray(y[a:b])) for a, b in ends]


def forward(params, x):
  h = jax.nn.relu(jnp.dot(x, params['one']['kernel']) + params['one']['bias'][None])
  h = jax.nn.relu(jnp.dot(h, params['two']['kernel']) + params['two']['bias'][None])
  return jnp.dot(h, params['out']['kernel']) + params['out']['bias'][None]


def init(seed, widths=(64, 48, 24, 10)):
  keys = jax.random.split(jax.random.key(seed), 3)
  layer = lambda key, n, m: {
    'kernel': jax.random.normal(key, (n, m)) * np.float32((2 / n) ** 0.5),
    'bias': jnp.zeros(m),
  }
  sizes = itertools.pairwise(widths)
  return {name: layer(k, n, m) for name, k, (n, m) in zip(('one', 'two', 'out'), keys, sizes)}


def loss(params, data):
  x, y = data
  return optax.softmax_cross_entropy_with_integer_labels(forward(params, x), y).mean()


def train(params, steps=150, masks=None):
  tx, learn = optax.adam(1e-2), digits()[0]
  tx = tx if masks is None else optax.chain(tx, jprune.keep_pruned(masks))

  @jax.jit
  def fit(params):
    def one(_, carry):
      params, state = carry
      updates, state = tx.update(jax.grad(loss)(params, learn), state, params)
      return optax.apply_updates(params, updates), state

    return jax.lax.fori_loop(0, steps, one, (params, tx.init(params)))[0]

  with jax.numpy_dtype_promotion('standard'):  # optax
    return fit(params)


@functools.cache
def trained(seed=0):
  return train(init(seed))


@functools.cache
def accuracy(split):
  """``params -> accuracy`` on validation (1) or test data (2), compiled once."""
  x, y = digits()[split]

  @jax.jit
  def correct(params):
    return jnp.sum(forward(params, x).argmax(-1) == y)

  return lambda params: int(correct(params)) / len(y)
