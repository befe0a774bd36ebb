"""Files to prune, and what is expected of them."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

import jprune
from jprune._cli import main
from jprune.io import save


def weights(dtype, seed=0):
  """A flat dict as other libraries save it; many equal weights, a denormal, zeros of both signs."""
  rng = np.random.default_rng(seed)
  draw = lambda *shape: rng.normal(size=shape).astype(np.float32).astype(jnp.dtype(dtype))
  odd = np.array([0.0, -0.0, 1e-40, -1e-40, 1.0, -1.0, np.inf, 2.0], np.float32)
  return {
    'layers.10.weight': draw(24, 40),
    'layers.2.weight': np.round(draw(16, 64).astype(np.float32) * 2).astype(jnp.dtype(dtype)),
    'conv.weight': draw(8, 4, 3, 3),
    'odd': np.tile(odd, (5, 1)).astype(jnp.dtype(dtype)),
    'layers.2.bias': draw(16),
    'ids': np.arange(6, dtype=np.int32).reshape(2, 3),
    'empty': np.zeros((0, 4), np.float32),
    'scalar': np.ones((), np.float32),
  }


def foreign(path, params, metadata=None):
  """A file of another library."""
  params = {name: np.asarray(leaf, order='C') for name, leaf in params.items()}
  safetensors.numpy.save_file(params, path, metadata=metadata)
  return path


def sharded(folder, params, count=3, metadata=None):
  """A folder of another library: as many files, all of about as many tensors, and their index."""
  folder.mkdir(exist_ok=True)
  names = [f'model-{i + 1:05}-of-{count:05}.safetensors' for i in range(count)]
  where = {name: names[i % count] for i, name in enumerate(params)}
  for each in names:
    held = {name: leaf for name, leaf in params.items() if where[name] == each}
    foreign(folder / each, held, metadata)
  size = sum(np.asarray(leaf).nbytes for leaf in params.values())
  index = {'metadata': {'total_size': size, 'of': 'someone'}, 'weight_map': where}
  (folder / 'model.safetensors.index.json').write_text(json.dumps(index))
  return folder


def own(path, params, masks=None):
  save(path, params, masks)
  return path


def run(*args, code=0):
  """Runs a command in this process."""
  assert main([str(arg) for arg in args]) == code


def assert_same(path, params, masks):
  """That a file holds these masks and the params under them, bit by bit."""
  found, found_masks = jprune.load(path)
  assert jax.tree.structure(found) == jax.tree.structure(params)
  none = lambda leaf: leaf is None
  expected = jax.tree.leaves(masks, is_leaf=none)
  for one, two in zip(jax.tree.leaves(found_masks, is_leaf=none), expected, strict=True):
    assert (one is None) == (two is None)
    if one is not None:
      np.testing.assert_array_equal(np.asarray(one), np.asarray(two))
  pruned = jprune.apply(params, masks)
  for one, two in zip(jax.tree.leaves(found), jax.tree.leaves(pruned), strict=True):
    assert one.dtype == two.dtype
    assert np.asarray(one).tobytes() == np.asarray(two).tobytes()
