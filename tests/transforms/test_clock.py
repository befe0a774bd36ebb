"""Adam with a number of steps for each weight that comes back, against NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jprune.transforms import masks_of, rigl

B1, B2, EPS, RATE = 0.8, 0.95, 1e-8, 0.05
PARAMS = {'kernel': jax.random.normal(jax.random.key(0), (6, 10))}
OPTIMIZERS = {
  'adam': lambda: optax.adam(RATE, b1=B1, b2=B2),
  'a chain': lambda: optax.chain(
    optax.identity(), optax.scale_by_adam(b1=B1, b2=B2), optax.scale(-RATE)
  ),
  'numbers in the state': lambda: optax.inject_hyperparams(optax.adam)(RATE, b1=B1, b2=B2),
}


@pytest.fixture(autouse=True)
def _optax_promotes():
  with jax.numpy_dtype_promotion('standard'):
    yield


def gradient(count, weights):
  return np.cos(np.arange(60).reshape(6, 10) * (count + 1)) + 0.1 * weights


def trained(tx, steps=33):
  """Masks and weights at first, and after each step."""
  step = jax.jit(tx.update)
  state = tx.init(PARAMS)
  params = jax.tree.map(lambda w, mask: jnp.where(mask, w, 0), PARAMS, masks_of(state))
  out = [(np.asarray(masks_of(state)['kernel']), np.asarray(params['kernel']))]
  for count in range(steps):
    grads = {'kernel': jnp.asarray(gradient(count, np.asarray(params['kernel'])), jnp.float32)}
    updates, state = step(grads, state, params)
    params = optax.apply_updates(params, updates)
    out.append((np.asarray(masks_of(state)['kernel']), np.asarray(params['kernel'])))
  return out


def reference(found, own_clock):
  """Weights by Adam, given the masks."""
  before, weights = found[0]
  weights = weights.astype(np.float64)
  yield weights
  mean, square = np.zeros_like(weights), np.zeros_like(weights)
  steps = np.zeros(weights.shape, int)
  for count, (mask, _) in enumerate(found[1:]):
    grads = gradient(count, weights)
    changed = mask != before
    weights[changed], mean[changed], square[changed], steps[changed] = 0, 0, 0, 0
    before = mask
    mean = np.where(mask, B1 * mean + (1 - B1) * grads, 0)
    square = np.where(mask, B2 * square + (1 - B2) * grads**2, 0)
    steps = steps + 1 if own_clock else np.full(weights.shape, count + 1)
    move = mean / (1 - B1**steps) / (np.sqrt(square / (1 - B2**steps)) + EPS)
    weights = np.where(mask, weights - RATE * move, 0)
    yield weights


@pytest.mark.parametrize('name', OPTIMIZERS)
def test_each_weight_has_a_clock(name):
  found = trained(rigl(OPTIMIZERS[name](), 0.5, every=4, key=jax.random.key(1), drop=0.4))
  assert sum((a != b).sum() for (a, _), (b, _) in itertools.pairwise(found)) > 50
  for (_, got), want in zip(found, reference(found, own_clock=True), strict=True):
    np.testing.assert_allclose(got, want, atol=2e-6)


def test_without_it_steps_are_too_long():
  tx = rigl(OPTIMIZERS['adam'](), 0.5, every=4, key=jax.random.key(1), drop=0.4, clock=False)
  found = trained(tx)
  assert tx.init(PARAMS).clock == ()
  for (_, got), want in zip(found, reference(found, own_clock=False), strict=True):
    np.testing.assert_allclose(got, want, atol=2e-6)


def test_only_adam_needs_one():
  tx = rigl(optax.sgd(0.1, momentum=0.9), 0.5, every=4, key=jax.random.key(1))
  assert tx.init(PARAMS).clock == ()


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_first_steps_are_not_longer_than_without_it(dtype):
  """bfloat16 holds .999 as 1."""
  params = {'kernel': PARAMS['kernel'].astype(dtype)}
  longest = {}
  for clock in (True, False):
    tx = rigl(optax.adam(0.01), 0.5, every=50, key=jax.random.key(1), clock=clock)
    step, state, now = jax.jit(tx.update), tx.init(params), params
    for count in range(101):
      before = masks_of(state)['kernel']
      grads = {'kernel': jax.random.normal(jax.random.key(count), (6, 10), dtype)}
      updates, state = step(grads, state, now)
      now = optax.apply_updates(now, updates)
    grown = masks_of(state)['kernel'] & ~before
    assert grown.any()
    longest[clock] = float(jnp.where(grown, jnp.abs(updates['kernel']), 0).max())
  assert longest[True] <= 1.1 * longest[False]
