"""What a change of masks does to the state beside the masks."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jprune
from jprune.transforms import Method, masks_of, metrics, sparse_training


def by_gradient(step):
  """The largest gradients stay, whatever the weights are."""
  return step.best({path: jnp.abs(g) for path, g in step.grads.items()}), ()


METHOD = Method('by_gradient', by_gradient, regrows=True)
PARAMS = {'a': jnp.ones((2, 3)), 'b': jnp.ones((2, 3)), 'c': jnp.ones((3, 4)), 'd': jnp.ones(5)}


def grads_at(count):
  rng = np.random.default_rng(count)
  return {path: jnp.asarray(rng.standard_normal(w.shape), w.dtype) for path, w in PARAMS.items()}


@pytest.mark.parametrize('devices', [1, 8])
def test_churn_is_the_share_of_weights_that_changed_sides(devices, monkeypatch):
  monkeypatch.setattr(jax, 'device_count', lambda: devices)
  tx = sparse_training(METHOD, optax.sgd(0.1), 0.5, every=2, where=lambda path, _: path != 'd')
  state = tx.init(PARAMS)
  update = jax.jit(lambda grads, state: tx.update(grads, state, PARAMS)[1])
  churn = 0.0
  for count in range(4):
    before = masks_of(state)
    state = update(grads_at(count), state)
    if count % 2 == 0:
      pairs = [(np.asarray(before[path]), np.asarray(masks_of(state)[path])) for path in 'abc']
      changed = sum(int((old ^ new).sum()) for old, new in pairs)
      churn = changed / sum(old.size for old, _ in pairs)
      assert churn > 0.2
    assert float(metrics(state)['churn']) == pytest.approx(churn, rel=1e-6)


def test_agents_of_which_some_are_due():
  tx = sparse_training(METHOD, optax.sgd(0.1), 0.5, every=2)
  states = []
  for steps in range(4):  # so far behind each other
    state = tx.init(PARAMS)
    for count in range(steps):
      _, state = tx.update(grads_at(count), state, PARAMS)
    states.append(state)
  grads = [grads_at(7 + i) for i in range(4)]
  alone = [tx.update(g, state, PARAMS)[1] for g, state in zip(grads, states)]
  stack = lambda *xs: jnp.stack(xs).reshape(2, 2, *xs[0].shape)
  update = lambda g, state: tx.update(g, state, PARAMS)[1]
  together = jax.jit(jax.vmap(jax.vmap(update)))(
    jax.tree.map(stack, *grads), jax.tree.map(stack, *states)
  )
  jax.tree.map(np.testing.assert_array_equal, together, jax.tree.map(stack, *alone))


@pytest.mark.parametrize('packed', [False, True])
def test_moments_that_do_not_start_at_zero_are_fresh_where_weights_come_back(packed):
  inner = optax.rmsprop(0.1, decay=0.5, initial_scale=3.0)
  tx = sparse_training(METHOD, inner, 0.5, every=3, packed=packed)
  state = tx.init(PARAMS)
  update = jax.jit(lambda grads, state: tx.update(grads, state, PARAMS)[1])
  nu = {path: np.full(w.shape, 3.0, np.float32) for path, w in PARAMS.items()}
  mask = {path: np.ones(w.shape, bool) for path, w in PARAMS.items()}
  came_back = 0
  for count in range(7):
    grads = grads_at(count)
    state = update(grads, state)
    held = jprune.masks.unpack(masks_of(state)) if packed else masks_of(state)
    found = next(each for each in jax.tree.leaves(state.inner, is_leaf=_has_nu) if _has_nu(each)).nu
    for path in 'abc':
      new = np.asarray(held[path])
      came_back += int((new & ~mask[path]).sum())
      fresh = np.where(mask[path] & new, nu[path], 3.0)
      nu[path] = 0.5 * fresh + 0.5 * np.where(new, grads[path], 0.0) ** 2
      mask[path] = new
      np.testing.assert_allclose(np.asarray(found[path])[new], nu[path][new], rtol=1e-6)
  assert came_back > 3


def _has_nu(node):
  return isinstance(node, tuple) and hasattr(node, 'nu')
