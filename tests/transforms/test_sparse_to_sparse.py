"""Masks of sparse-to-sparse methods against NumPy, for 200 steps of a regression."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jprune import distributions, schedules, scores
from jprune.transforms import granet, masks_of, mest, rigl, sparse_evolution
from tests.transforms import reference

STEPS, EVERY, END = 200, 5, 160
KEY = jax.random.key(7)
X = jax.random.normal(jax.random.key(0), (32, 10))
Y = jnp.sin(3 * X[:, :3])


def params():
  keys = jax.random.split(jax.random.key(1), 2)
  return {
    'a': {'kernel': jax.random.normal(keys[0], (10, 24)) / 3, 'bias': jnp.zeros(24)},
    'b': {'kernel': jax.random.normal(keys[1], (24, 3)) / 5},
  }


def loss(params, x, y):
  hidden = jax.nn.relu(x @ params['a']['kernel'] + params['a']['bias'][None])
  return jnp.mean((hidden @ params['b']['kernel'] - y) ** 2)


gradient = jax.jit(lambda now: jax.grad(loss)(now, X, Y))


def kernels(tree):
  return [np.asarray(tree['a']['kernel']), np.asarray(tree['b']['kernel'])]


def draws(count):
  found = scores.random(
    {'a/kernel': params()['a']['kernel'], 'b/kernel': params()['b']['kernel']},
    key=jax.random.fold_in(KEY, count),
  )
  return [np.asarray(found[path]) for path in ('a/kernel', 'b/kernel')]


DROP = schedules.cosine(0.3, 0.0, 0, END)
FALLING = schedules.cubic(0.3, 0.8, 0, END)
SETTINGS = {'every': EVERY, 'end': END, 'key': KEY, 'distribution': distributions.uniform}
METHODS = {
  'sparse_evolution': (sparse_evolution, 0.7, 0.3, 'weights', 'random'),
  'rigl': (rigl, 0.7, DROP, 'weights', 'grads'),
  'granet': (granet, FALLING, 0.5, 'weights', 'grads'),
  'mest': (mest, FALLING, 0.3, 'both', 'random'),
}


@pytest.mark.parametrize('name', METHODS)
def test_masks_are_those_of_the_paper(name):
  make, sparsity, drop, stays, grows = METHODS[name]
  tx = make(optax.sgd(0.05, momentum=0.9), sparsity, drop=drop, **SETTINGS)
  schedule = sparsity if callable(sparsity) else schedules.constant(sparsity)
  fraction = drop if callable(drop) else schedules.constant(drop)
  now = params()
  state = tx.init(now)
  step = jax.jit(lambda grads, state, now: tx.update(grads, state, now))
  masks = kernels(masks_of(state))
  for i, size in enumerate((240, 72)):  # Erdős-Rényi or not: at random, so many
    assert masks[i].sum() == size - round(schedule(0) * size)
  changes = 0
  for count in range(STEPS):
    grads = gradient(now)
    if count <= END and count % EVERY == 0:
      weights = [np.abs(w) for w in kernels(now)]
      sizes = [np.abs(g) for g in kernels(grads)]
      of = {
        'weights': weights,
        'grads': sizes,
        'both': [w + g for w, g in zip(weights, sizes)],
        'random': draws(count),
      }
      before = masks
      masks = [
        reference.dropped_and_grown(
          of[stays][i],
          of[grows][i],
          mask,
          mask.size - round(schedule(count) * mask.size),
          float(fraction(jnp.int32(count))),
        )
        for i, mask in enumerate(masks)
      ]
      changes += sum((a != b).sum() for a, b in zip(before, masks))
    updates, state = step(grads, state, now)
    now = optax.apply_updates(now, updates)
    for mask, got, weights in zip(masks, kernels(masks_of(state)), kernels(now)):
      np.testing.assert_array_equal(got, mask)
      assert (weights[~mask] == 0).all()
  assert changes > 300


@pytest.mark.parametrize('make', [sparse_evolution, mest])
def test_the_first_change_grows_others_than_init_chose(make):
  tx = make(optax.sgd(0.05), 0.7, drop=0.3, **SETTINGS)
  now = params()
  _, state = tx.update(gradient(now), tx.init(now), now)
  assert float(state.churn) > 0.05
