"""Masks, and optimizer states that hold them, through the checkpoints of a training loop."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jprune
from jprune import transforms
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


def on_mesh(tree, shape):
  """A tree on a mesh of so many devices: matrices split along both axes where they divide."""
  mesh = jax.make_mesh(shape, ('x', 'y'), axis_types=(AxisType.Auto,) * 2)

  def put(x):
    whole = x.ndim != 2 or any(n % ways for n, ways in zip(x.shape, shape, strict=True))
    return jax.device_put(x, NamedSharding(mesh, P() if whole else P('x', 'y')))

  return jax.tree.map(put, tree)


def sparse_training(name):
  """A method, a step of it, params and a state in the middle of training."""
  how = {'every': 2, 'key': jax.random.key(0)}
  tx = getattr(transforms, name)(optax.adam(1e-2), 0.75, **how)
  noise = lambda i, shape: jnp.asarray(np.random.default_rng(i).standard_normal(shape), jnp.float32)
  params = {'w': noise(0, (16, 8)), 'v': noise(1, (8, 4)), 'bias': jnp.ones(4)}

  @jax.jit
  def step(params, state, i):
    grads = jax.tree.map(lambda p: jnp.sin(p * (3 + i).astype(p.dtype)), params)
    with jax.numpy_dtype_promotion('standard'):  # optax itself mixes dtypes
      updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state

  return step, params, tx.init(params)


METHODS = [('rigl', [(2, 4), (1, 1)]), ('gradual', [(2, 2)])]


@pytest.mark.parametrize(('name', 'shapes'), METHODS)
def test_sparse_training_goes_on_upon_another_mesh(tmp_path, name, shapes):
  step, params, state = sparse_training(name)
  params, state = on_mesh((params, state), (4, 2))
  for i in range(3):
    params, state = step(params, state, jnp.int32(i))
  tree = {'params': params, 'state': state, 'masks': optax.tree.get(state, 'masks')}
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(tmp_path / 'checkpoint', tree)
  going_on = step(*step(params, state, jnp.int32(3)), jnp.int32(4))
  for shape in shapes:
    target = on_mesh(jax.tree.map(jnp.zeros_like, tree), shape)
    with ocp.StandardCheckpointer() as checkpointer:
      found = checkpointer.restore(
        tmp_path / 'checkpoint', jax.tree.map(ocp.utils.to_shape_dtype_struct, target)
      )
    assert found['params']['w'].sharding == target['params']['w'].sharding
    assert found['masks']['w'].sharding == target['masks']['w'].sharding
    again = step(*step(found['params'], found['state'], jnp.int32(3)), jnp.int32(4))
    for new, old in zip(jax.tree.leaves(again), jax.tree.leaves(going_on), strict=True):
      np.testing.assert_array_equal(as_numbers(new), as_numbers(old))
    zeros = np.asarray(found['params']['w'] == 0)
    np.testing.assert_array_equal(zeros, ~np.asarray(found['masks']['w']))


def as_numbers(x):
  return np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)


def size(folder):
  return sum(file.stat().st_size for file in folder.rglob('*') if file.is_file())


def test_zeros_take_little_room_on_disk(tmp_path):
  params = {'w': jax.random.normal(jax.random.key(0), (512, 512))}
  masks = jprune.prune(params, 0.9)
  trees = {
    'dense': params,
    'sparse': jprune.apply(params, masks),
    'bool': masks,
    'packed': pack(masks),
  }
  with ocp.StandardCheckpointer() as checkpointer:
    for name, tree in trees.items():
      checkpointer.save(tmp_path / name, tree)
      checkpointer.wait_until_finished()
  taken = {name: size(tmp_path / name) for name in trees}
  assert taken['sparse'] < 0.2 * taken['dense']
  assert taken['packed'] < taken['bool'] < 0.25 * taken['dense']
  found = jprune.masks.from_zeros(trees['sparse'])
  np.testing.assert_array_equal(found['w'], masks['w'])
