"""Training under masks that span processes, compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jprune
from jprune import transforms


def _params():
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.standard_normal(shape, np.float32)
  return {'in': draw(8, 16), 'bias': draw(16), 'out': draw(16, 8)}


def _loss(params, x):
  hidden = jnp.tanh(x @ params['in'] + params['bias'][None])
  return jnp.mean(jnp.square(hidden @ params['out']))


def _batch(number):
  return np.random.default_rng(number + 1).standard_normal((8, 8), np.float32)


def _trained(tx, state, params, put, steps=3):
  """A few compiled steps, which donate what they replace."""

  def step(params, state, x):
    with jax.numpy_dtype_promotion('standard'):
      updates, state = tx.update(jax.grad(_loss)(params, x), state, params)
    return optax.apply_updates(params, updates), state

  step, params = jax.jit(step, donate_argnums=(0, 1)), jax.tree.map(jnp.copy, params)
  for number in range(steps):
    params, state = step(params, state, put(_batch(number)))
  return params, state


def _train_under_masks(make, params, put):
  masks = jprune.prune(params, 0.5)
  tx = optax.chain(optax.adamw(1e-2), make(masks))
  state = tx.init(params)
  trained, state = _trained(tx, state, jprune.apply(params, masks), put)
  return trained, masks, optax.tree.get(state, 'masks')


def check_steps_under_masks(world):
  params = _params()
  spread = world.put(params)
  with jax.set_mesh(world.mesh):
    for make in (jprune.keep_pruned, jprune.mask_updates):
      trained, masks, held = _train_under_masks(make, spread, world.put)
      alone = lambda make=make: _train_under_masks(make, params, jnp.asarray)
      world.same((trained, masks, held), alone, rtol=1e-5, atol=1e-6)
      world.lies_like(trained, spread)
      world.same(jprune.apply(trained, masks), world.gathered(trained))


def check_init_under_jit(world):
  params = world.put(_params())
  masks = jprune.prune(params, 0.5)
  make = lambda masks: optax.chain(optax.sgd(1e-2, momentum=0.9), jprune.keep_pruned(masks))
  with jax.set_mesh(world.mesh):
    expected = make(masks).init(params)
    found = jax.jit(lambda params, masks: make(masks).init(params))(params, masks)
    world.same(optax.tree.get(found, 'masks'), lambda: jprune.prune(_params(), 0.5))
    shapes = jax.eval_shape(make(masks).init, params)
    kinds = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
    assert kinds(shapes) == kinds(expected) == kinds(found)
    for held in (masks, jprune.masks.pack(masks)):
      for make in (jprune.keep_pruned, jprune.mask_updates, transforms.growing):
        with pytest.raises(
          ValueError, match=r'masks` must be arguments .*closed over.* outside of'
        ):
          jax.jit(make(held).init)(params)


def _train_to_sparsity(params, put, init=lambda tx: tx.init):
  tx = transforms.rigl(optax.sgd(1e-2), 0.5, every=2, key=jax.random.key(1))
  state = init(tx)(params)
  start = jprune.apply(params, transforms.masks_of(state))
  trained, state = _trained(tx, state, start, put)
  return trained, transforms.masks_of(state), transforms.metrics(state)


def check_sparse_training_compiled(world):
  params = _params()
  with jax.set_mesh(world.mesh):
    found = _train_to_sparsity(world.put(params), world.put, lambda tx: jax.jit(tx.init))
    world.same(found, lambda: _train_to_sparsity(params, jnp.asarray), rtol=1e-5, atol=1e-6)


check_sparse_training_compiled.kinds = ('explicit',)
