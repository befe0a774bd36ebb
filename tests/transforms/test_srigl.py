"""Constant fan-in: masks against NumPy, and networks that get smaller as neurons go."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jprune
from jprune import distributions, schedules
from jprune.transforms import masks_of, srigl
from tests.transforms import reference
from tests.transforms.test_sparse_to_sparse import (
  END,
  EVERY,
  KEY,
  SETTINGS,
  STEPS,
  X,
  gradient,
  kernels,
  params,
)


@pytest.mark.parametrize('gamma', [0.3, 0.9])
def test_masks_are_those_of_the_paper(gamma):
  drop = schedules.cosine(0.5, 0.0, 0, END)
  tx = srigl(optax.sgd(0.05, momentum=0.9), 0.7, drop=drop, gamma=gamma, ablate='^a', **SETTINGS)
  now = params()
  state = tx.init(now)
  step = jax.jit(lambda grads, state, now: tx.update(grads, state, now))
  masks = kernels(masks_of(state))
  budgets = [72, 22]
  assert [set(mask.sum(0).tolist()) for mask in masks] == [{3}, {7}]
  for count in range(STEPS):
    grads = gradient(now)
    if count <= END and count % EVERY == 0:
      weights, sizes = ([np.abs(x) for x in kernels(each)] for each in (now, grads))
      fraction = float(drop(jnp.int32(count)))
      masks = [
        reference.constant_fan_in(w, g, mask, budget, fraction, gamma, ablates)
        for w, g, mask, budget, ablates in zip(weights, sizes, masks, budgets, (True, False))
      ]
    updates, state = step(grads, state, now)
    now = optax.apply_updates(now, updates)
    for mask, got in zip(masks, kernels(masks_of(state))):
      np.testing.assert_array_equal(got, mask)
  gone, left = (masks[0].sum(0) == 0).sum(), masks[0].sum(0).max()
  assert (gone > 0) == (gamma == 0.9)
  assert left == min(72 // (24 - gone), 10)
  assert (masks[1].sum(0) == 7).all()


Y = jnp.sin(3 * X[:, :3])
WIDTHS = (10, 16, 12, 3)


def deep():
  """Three layers with norms; what a unit has in common is its kernel, bias, scale and reader."""
  keys = jax.random.split(jax.random.key(2), 3)
  layer = lambda key, m, n: {
    'kernel': jax.random.normal(key, (m, n)) / m**0.5,
    'bias': jnp.full(n, 0.1),
    'scale': jnp.ones(n),
  }
  return {f'l{i}': layer(keys[i], WIDTHS[i], WIDTHS[i + 1]) for i in range(3)}


def fn(p, x):
  for i in range(3):
    x = x @ p[f'l{i}']['kernel'] + p[f'l{i}']['bias'][None]
    x = x * p[f'l{i}']['scale'][None]
    x = jax.nn.relu(x) if i < 2 else x
  return x


def trained(step, now, state, steps):
  for _ in range(steps):
    now, state = step(now, state)
  return now, state


def step_of(tx, fn):
  @jax.jit
  def step(now, state):
    grads = jax.grad(lambda p: jnp.mean((fn(p, X) - Y) ** 2))(now)
    updates, state = tx.update(grads, state, now)
    return optax.apply_updates(now, updates), state

  return step


def optimizer(graph):
  return srigl(
    optax.sgd(0.1, momentum=0.9),
    0.6,
    every=4,
    key=KEY,
    end=80,
    drop=schedules.cosine(0.3, 0.0, 0, 80),
    gamma=0.8,
    ablate=graph,
    distribution=distributions.uniform,
  )


def test_with_a_graph_all_that_belongs_to_a_neuron_goes():
  """The network is shrunk in mid-training, and goes on as the large one does."""
  graph = jprune.graph.channels(fn, deep(), X)
  tx = optimizer(graph)
  step = step_of(tx, fn)
  now, state = trained(step, deep(), jax.jit(tx.init)(deep()), 41)
  masks = masks_of(state)
  assert masks['l2']['bias'] is None  # of outputs, nothing goes
  gone = [~np.asarray(masks[f'l{i}']['kernel']).any(0) for i in range(2)]
  assert 0 < gone[0].sum() < 16
  assert 0 < gone[1].sum() < 12
  for i in range(2):
    for name in ('bias', 'scale'):
      np.testing.assert_array_equal(~masks[f'l{i}'][name], gone[i])
      assert (np.asarray(now[f'l{i}'][name])[gone[i]] == 0).all()
    assert not masks[f'l{i + 1}']['kernel'][gone[i]].any()
  small = jprune.shrink(fn, now, masks, X, strict=False)
  assert small.params['l0']['kernel'].shape == (10, 16 - gone[0].sum())
  np.testing.assert_allclose(small.fn(small.params, X), fn(now, X), atol=1e-6)

  less = optimizer(jprune.graph.channels(small.fn, small.params, X))
  step_of_less = step_of(less, small.fn)
  narrow, state_of_less = trained(step_of_less, small.params, small.slice(state), 40)
  now, state = trained(step, now, state, 40)
  np.testing.assert_allclose(small.fn(narrow, X), fn(now, X), atol=1e-5)
  kept = lambda masks: [int(m.sum()) for m in jax.tree.leaves(masks)]
  assert kept(masks_of(state_of_less)) == kept(masks_of(state))


def test_no_pattern_of_another_kind():
  with pytest.raises(
    ValueError, match=r'^srigl: `pattern` must be left out, as every neuron keeps'
  ):
    srigl(optax.sgd(0.1), 0.5, every=1, key=KEY, pattern=jprune.masks.NOfM(2, 4))
