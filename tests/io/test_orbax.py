"""Masks, and optimizer states that hold them, through the checkpoints of a training loop."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jprune.masks import pack, unpack
from jprune.transforms import keep_pruned


def problem():
  params = {
    'Dense_0': {'kernel': jnp.arange(1.0, 97.0).reshape(8, 12), 'bias': jnp.ones(12)},
    'Dense_1': {'kernel': jnp.ones((12, 3), jnp.bfloat16)},
  }
  masks = jax.tree.map(
    lambda x: jnp.arange(x.size).reshape(x.shape) % 3 == 0 if x.ndim > 1 else None, params
  )
  return params, masks


def saved_and_restored(folder, tree):
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(folder / 'checkpoint', tree)
    checkpointer.wait_until_finished()
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)
    return checkpointer.restore(folder / 'checkpoint', abstract)


def assert_same(found, expected):
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  for new, old in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    assert new.dtype == old.dtype
    np.testing.assert_array_equal(np.asarray(new), np.asarray(old))
    assert new.sharding == old.sharding


@pytest.mark.parametrize('form', [unpack, pack])
def test_masks(tmp_path, form):
  params, masks = problem()
  tree = {'params': params, 'masks': form(masks)}
  assert_same(saved_and_restored(tmp_path, tree), tree)


def test_sharded_masks(tmp_path):
  sharding = NamedSharding(jax.make_mesh((4, 2), ('x', 'y')), P('x', 'y'))
  tree = {'w': jax.device_put(jnp.arange(96).reshape(8, 12) % 5 == 0, sharding), 'b': None}
  assert_same(saved_and_restored(tmp_path, tree), tree)


@pytest.mark.parametrize('form', [unpack, pack])
def test_training_goes_on_from_a_restored_optimizer_state(tmp_path, form):
  params, masks = problem()
  params = jax.tree.map(lambda x, m: x if m is None else jnp.where(m, x, 0), params, masks)
  tx = optax.chain(optax.clip_by_global_norm(9.0), optax.adamw(1e-2), keep_pruned(form(masks)))

  @jax.jit
  def step(params, state):
    with jax.numpy_dtype_promotion('standard'):  # optax itself mixes dtypes
      updates, state = tx.update(params, state, params)  # the gradients of half the squares
    return optax.apply_updates(params, updates), state

  params, state = step(*step(params, tx.init(params)))
  restored = saved_and_restored(tmp_path, {'params': params, 'state': state})
  assert_same(restored, {'params': params, 'state': state})
  held = optax.tree.get(restored['state'], 'masks')
  assert jax.tree.structure(held) == jax.tree.structure(form(masks))
  going_on, restarted = step(params, state), step(restored['params'], restored['state'])
  assert_same(restarted, going_on)
  pruned = jax.tree.map(lambda x, m: m is None or bool(jnp.all(x[~m] == 0)), going_on[0], masks)
  assert all(jax.tree.leaves(pruned))


def test_zeros_take_no_room(tmp_path):
  """A checkpoint that is 90 % pruned against a dense one: TensorStore compresses the zeros."""
  params = {'w': jax.random.normal(jax.random.key(0), (512, 512))}
  masks = {'w': abs(params['w']) > 1.64}  # a tenth
  pruned = jax.tree.map(lambda x, m: jnp.where(m, x, 0), params, masks)
  saved_and_restored(tmp_path / 'dense', params)
  saved_and_restored(tmp_path / 'pruned', {'params': pruned, 'masks': pack(masks)})
  size = lambda name: sum(f.stat().st_size for f in (tmp_path / name).rglob('*') if f.is_file())
  assert size('pruned') < 0.2 * size('dense')
