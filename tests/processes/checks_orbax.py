"""One checkpoint of params, masks and sparse training, between all processes and a single one."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

import jprune


def _tree():
  """What each process can make by itself, the same one."""
  rng = np.random.default_rng(0)
  params = {'w': jnp.asarray(rng.standard_normal((16, 8), np.float32)), 'bias': jnp.ones(8)}
  tx = jprune.transforms.rigl(optax.adam(1e-2), 0.75, every=2, key=jax.random.key(0))
  state = tx.init(params)
  masks = optax.tree.get(state, 'masks')
  return {'params': jprune.apply(params, masks), 'masks': masks, 'state': state}


def _save(folder, tree):
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(folder, tree)


def _restored(folder, like):
  target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
  with ocp.StandardCheckpointer() as checkpointer:
    return checkpointer.restore(folder, target)


def check_what_all_processes_saved_is_restored_by_one(world):
  _save(world.folder / 'many', world.put(_tree()))
  if world.first:
    _alone('restore', world.folder / 'many')


def check_what_one_process_saved_is_restored_by_all(world):
  if world.first:
    _alone('save', world.folder / 'one')
  multihost_utils.sync_global_devices('saved by one')
  wanted = world.put(_tree())
  found = _restored(world.folder / 'one', wanted)
  world.lies_like(found, wanted)
  world.same(found, _tree)


def _alone(what, folder):
  """The same in a process of its own, which knows of no others."""
  env = os.environ | {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': '1'}
  args = [sys.executable, '-m', 'tests.processes.checks_orbax', what, str(folder)]
  done = subprocess.run(
    args, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=100
  )
  assert done.returncode == 0, done.stdout[-3000:]


def _main(what, folder):
  assert jax.process_count() == 1
  tree = _tree()
  if what == 'save':
    _save(folder, tree)
    return
  numbers = lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
  found = _restored(folder, tree)
  for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(tree), strict=True):
    assert one.dtype == other.dtype
    np.testing.assert_array_equal(numbers(one), numbers(other))


if __name__ == '__main__':
  _main(sys.argv[1], pathlib.Path(sys.argv[2]))
