"""The method of multipliers, against the recursion of the papers in float64 and a closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jprune
from jprune import schedules
from jprune.masks import unpack
from jprune.transforms import admm, masks_of
from tests.transforms import reference

SHAPE = (6, 8)
SIZE, KEPT = 48, 12
RNG = np.random.default_rng(0)
CURVATURE = RNG.uniform(0.05, 1.0, SHAPE).astype(np.float32)
BEST = RNG.normal(size=SHAPE).astype(np.float32)
RATE, PENALTY, EVERY, END, STEPS = 0.2, 0.7, 5, 33, 45


def trained(tx, steps=STEPS, dtype=jnp.float32):
  """Count, params before and after, and the state of each step on a quadratic."""
  params = {'kernel': jnp.asarray(BEST, dtype)}
  state = tx.init(params)

  @jax.jit
  def step(params, state):
    grads = {'kernel': CURVATURE * (params['kernel'].astype(jnp.float32) - BEST)}
    updates, state = tx.update(jax.tree.map(lambda g: g.astype(dtype), grads), state, params)
    return optax.apply_updates(params, updates), state

  for count in range(steps):
    before, old = params, state
    params, state = step(params, state)
    yield count, np.asarray(before['kernel']), np.asarray(params['kernel']), old, state


def mask_in(state):
  return np.asarray(unpack(masks_of(state))['kernel'])


def top(scores, kept=KEPT):
  return reference.first(scores.ravel(), kept).reshape(scores.shape)


def loss(weights):
  return float(np.sum(CURVATURE * (weights - BEST) ** 2)) / 2


def test_the_recursion():
  tx = admm(optax.sgd(RATE), 1 - KEPT / SIZE, end=END, every=EVERY, penalty=PENALTY)
  w = z = BEST.astype(np.float64)
  u, mask = np.zeros(SHAPE), np.ones(SHAPE, bool)
  moved = 0
  for count, _, after, _, state in trained(tx):
    if count == END:
      mask = top(np.abs(w))
    elif count % EVERY == 0 and count < END:
      z = np.where(top(np.abs(w + u)), w + u, 0)
      u = u + w - z
      moved += np.abs(u).max() > 0
    strength = PENALTY / 2 * (1 - np.cos(np.pi * count / END)) if count < END else 0
    w = np.where(mask, w - RATE * (CURVATURE * (w - BEST) + strength * (w - z + u)), 0)
    np.testing.assert_array_equal(mask_in(state), mask)
    np.testing.assert_allclose(after, w, rtol=1e-4, atol=1e-6)
    if count < END:
      np.testing.assert_allclose(state.memory.target['kernel'], z, rtol=1e-4, atol=1e-6)
      np.testing.assert_allclose(state.memory.dual['kernel'], u, rtol=1e-4, atol=1e-6)
    assert (after[~mask] == 0).all()
  assert mask.sum() == KEPT
  assert moved == 7


def test_finds_what_magnitude_does_not():
  # Of a separable quadratic the best weights are known: those of the largest h a**2.
  tx = admm(optax.sgd(0.5), 1 - KEPT / SIZE, end=400, every=10, penalty=0.5)
  *_, weights, _, state = list(trained(tx, 480))[-1]
  optimum = loss(np.where(top(CURVATURE * BEST**2), BEST, 0))
  at_once = loss(np.where(top(np.abs(BEST)), BEST, 0))
  assert (weights != 0).sum() == mask_in(state).sum() == KEPT
  assert optimum <= loss(weights) < optimum + 0.1 * (at_once - optimum)


def test_weighted_by_the_second_moment():
  schedule = schedules.linear(0.5, 0.75, 0, 20)
  tx = admm(optax.adam(0.05), schedule, end=END, every=EVERY, penalty=1.0, weighted=True)
  others = 0
  with jax.numpy_dtype_promotion('standard'):
    for count, before, _, old, state in trained(tx):
      if count % EVERY == 0 or count == END:
        u = np.asarray(old.memory.dual['kernel']) if count < END else 0
        scores = np.abs(before + u)
        if count:
          scores = scores * np.sqrt(np.asarray(old.inner[0].nu['kernel']))
        near = top(scores, SIZE - round(schedule(count) * SIZE))
        if count <= END:
          target = np.asarray(state.memory.target['kernel'])
          np.testing.assert_array_equal(target != 0, near)
          np.testing.assert_allclose(target[near], (before + u)[near], rtol=1e-6)
        others += (near != top(np.abs(before + u), near.sum())).any()
      assert (mask_in(state) | (count >= END)).all()
  assert mask_in(state).sum() == KEPT
  assert others  # the weights make a difference


@pytest.mark.parametrize('inner', [optax.sgd(0.1), optax.adafactor(0.1)])
def test_weighted_without_a_second_moment(inner):
  tx = admm(inner, 0.5, end=10, weighted=True)
  params = {'a': {'kernel': jnp.ones((4, 4))}}
  match = (
    'admm: `inner` must be an optimizer with a second moment of each weight, as Adam has it; got '
    "one without at leaf 'a/kernel'. Use optax.adamw"
  )
  with jax.numpy_dtype_promotion('standard'), pytest.raises(ValueError, match=match):
    tx.update(params, tx.init(params), params)


def test_bfloat16_and_packed():
  tx = admm(optax.adam(0.05), 0.75, end=8, every=4, packed=True)
  with jax.numpy_dtype_promotion('standard'):
    for count, _, after, _, state in trained(tx, 11, jnp.bfloat16):
      assert mask_in(state).sum() == (KEPT if count >= 8 else SIZE)
      assert (after[~mask_in(state)] == 0).all()
  assert after.dtype == jnp.bfloat16
  assert {leaf.dtype for leaf in jax.tree.leaves(state.memory)} == {jnp.dtype('float32')}


@pytest.mark.parametrize(
  ('arguments', 'match'),
  [
    ({'penalty': 0.0}, '`penalty` must be positive and finite; got 0.0'),
    ({'penalty': jnp.inf}, '`penalty` must be positive and finite; got inf'),
    ({'every': 0}, '`every` must be an int of at least 1; got 0'),
    ({'end': 0}, '`end` must be greater than begin=0; got 0'),
    ({'end': -1}, r'`end` must be an int in \[0, 2\*\*31\); got -1'),
    ({'sparsity': schedules.linear(0, 0.5, 0, 20)}, '`end` must be at least 20, the end of the s'),
    ({'sparsity': 1.5}, '`sparsity` must be'),
  ],
)
def test_what_it_refuses(arguments, match):
  with pytest.raises(ValueError, match=f'admm: {match}'):
    admm(optax.sgd(0.1), **{'sparsity': 0.5, 'end': 10, **arguments})


def test_its_own_scores():
  with pytest.raises(TypeError, match='admm: `scorer` must be left out; got a value'):
    admm(optax.sgd(0.1), 0.5, end=10, scorer=jprune.scores.magnitude)


def test_no_clock_is_held_as_nothing_comes_back():
  assert admm(optax.adam(0.1), 0.5, end=10).init({'kernel': jnp.ones((2, 2))}).clock == ()
