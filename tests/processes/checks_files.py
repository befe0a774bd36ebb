"""Files that all processes write and read together."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jprune
from jprune.io import _container, _read, _together

TEXTS = {'format': 'pt'}


def _params():
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.standard_normal(shape, np.float32)
  return {
    'a': {'kernel': draw(8, 16), 'bias': draw(16)},
    'b': [draw(16, 8), jnp.bfloat16(1) * draw(8, 24).astype(jnp.bfloat16)],
    'stack': draw(4, 8, 12),
    'ids': np.arange(64, dtype=np.int8),
    'step': np.int32(7),
  }


def _masks(params):
  keep = lambda x, share: np.abs(np.asarray(x, np.float32)) > share
  return {
    'a': {'kernel': keep(params['a']['kernel'], 0.7), 'bias': None},
    'b': [keep(params['b'][0], 2.0), None],
    'stack': keep(params['stack'], 0.1),
    'ids': None,
    'step': None,
  }


def _both(world):
  params = _params()
  masks = _masks(params)
  return params, masks, world.put(params), world.put(masks)


def check_one_file(world):
  """The same bytes as one process writes."""
  params, masks, spread, spread_masks = _both(world)
  with jax.set_mesh(world.mesh):
    jprune.save(world.folder / 'together', spread, spread_masks, metadata=TEXTS)
  if world.first:
    jprune.save(world.folder / 'alone', params, masks, metadata=TEXTS)
    assert (world.folder / 'together').read_bytes() == (world.folder / 'alone').read_bytes()


def check_several_files(world):
  """The same files as one process writes, of which each writes some, and the first the index."""
  params, masks, spread, spread_masks = _both(world)
  written = []
  real = _container.write_at
  _container.write_at = lambda file, *args: written.append(file.name) or real(file, *args)
  try:
    for _ in range(2):  # the second replaces the first
      jprune.save(world.folder / 'together', spread, jprune.masks.pack(spread_masks), 512, TEXTS)
  finally:
    _container.write_at = real
  counts = multihost_utils.process_allgather(np.array([len(set(written))], np.int32))
  assert (counts > 0).all()
  if world.first:
    jprune.save(world.folder / 'alone', params, jprune.masks.pack(masks), 512, TEXTS)
    names = sorted(os.listdir(world.folder / 'alone'))
    assert len(names) > 4
    assert sorted(os.listdir(world.folder / 'together')) == names
    for name in names:
      together, alone = (world.folder / each / name for each in ('together', 'alone'))
      assert together.read_bytes() == alone.read_bytes(), name


def check_load(world):
  """Each process reads what its devices hold; on a mesh whose axes are the other way round."""
  params, masks, spread, spread_masks = _both(world)
  path = world.folder / 'x'
  jprune.save(path, spread, spread_masks, max_shard_size=512)
  swapped = lambda x: NamedSharding(world.mesh, P(*reversed(world._spec(x.shape))))
  like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=swapped(x)), params)
  read = []
  real = _read.read_box
  _read.read_box = lambda files, tensor, box: read.append(tensor) or real(files, tensor, box)
  try:
    found = jprune.load(path, like=like)
  finally:
    _read.read_box = real
  assert read  # not all leaves were read whole
  world.lies_like(found[0], like)
  world.same(
    found[0],
    jax.tree.map(lambda x, m: x if m is None else np.where(m, x, x.dtype.type(0)), params, masks),
  )
  world.same(found[1], masks)


def check_packed_masks_come_back(world):
  _, masks, spread, spread_masks = _both(world)
  packed = jprune.masks.pack(spread_masks)
  jprune.save(world.folder / 'x', spread, packed)
  _, found = jprune.load(world.folder / 'x', like=spread)
  world.same(jprune.masks.unpack(found), masks)


def check_pieces(world):
  """Leaves larger than one transfer."""
  spread = world.put({'w': np.arange(4096, dtype=np.float32).reshape(64, 64)})
  whole, _together._PIECE = _together._PIECE, 1000
  try:
    found = _together.host(spread['w'], jax.process_count() - 1)
  finally:
    _together._PIECE = whole
  if jax.process_index() == jax.process_count() - 1:
    np.testing.assert_array_equal(found, np.arange(4096).reshape(64, 64))
  else:
    assert found is None


def check_one_that_fails(world):
  """All of them raise, and nothing is left but the old set."""
  _, _, spread, masks = _both(world)
  rank, real = jax.process_index(), _container.write_at

  def full(*args):
    if rank == last:
      raise OSError(28, 'No space left on device')
    return real(*args)

  for size in (None, 512):
    path = world.folder / str(size)
    jprune.save(path, spread, max_shard_size=size)
    last = jax.process_count() - 1 if size else 0  # one file is written by the first
    match = 'No space left' if rank == last else f'an error on process {last}'
    _container.write_at = full
    try:
      with pytest.raises((OSError, RuntimeError), match=f'save: `path` must be .*{match}'):
        jprune.save(path, spread, masks, max_shard_size=size)
    finally:
      _container.write_at = real
    assert jprune.load(path, like=spread)[1] is None
    names = os.listdir(world.folder) + (os.listdir(path) if size else [])
    assert not [name for name in names if name.endswith('.tmp')]
    multihost_utils.sync_global_devices('looked at')
