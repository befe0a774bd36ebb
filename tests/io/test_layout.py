"""The bytes on disk, read by what this package didn't write."""

import itertools
import json
import struct

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open

from jprune import tree
from jprune.io import load, save
from jprune.masks._storage import header_bytes, smallest_storage


def raw_header(path):
  data = path.read_bytes()
  (length,) = struct.unpack('<Q', data[:8])
  return json.loads(data[8 : 8 + length]), 8 + length, data


def tensors(path):
  with safe_open(path, framework='numpy') as file:
    return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def bitmask_decompress(values, bitmask, shape):
  """The format's own steps: unpack little-endian bits of each row, then scatter the values."""
  bits = np.unpackbits(bitmask, axis=-1, count=shape[-1], bitorder='little')
  dense = np.zeros(shape, values.dtype)
  dense[bits.reshape(shape).astype(bool)] = values
  return dense


@pytest.mark.parametrize('shape', [(64, 32), (64, 33), (3, 3, 8, 31), (129,), (1, 100), (4, 1, 90)])
def test_bitmask_as_compressed_tensors_reads_it(tmp_path, shape):
  rng = np.random.default_rng(0)
  weight = rng.normal(size=shape).astype(np.float32)
  mask = rng.random(shape) < 0.3
  assert smallest_storage(shape, int(mask.sum()), 4).format == 'bitmask'
  save(tmp_path / 'x', {'layer': {'weight': weight}}, {'layer': {'weight': mask}})
  found = tensors(tmp_path / 'x')
  names = {f'layer/weight.{part}' for part in ('compressed', 'bitmask', 'row_offsets', 'shape')}
  assert set(found) == names
  part = lambda name: found[f'layer/weight.{name}']
  assert part('shape').dtype == part('row_offsets').dtype == np.int64
  assert part('bitmask').dtype == np.uint8
  assert part('bitmask').shape == (*shape[:-1], (shape[-1] + 7) // 8)
  assert part('compressed').ndim == part('row_offsets').ndim == 1
  assert tuple(part('shape')) == shape
  dense = bitmask_decompress(part('compressed'), part('bitmask'), tuple(part('shape')))
  np.testing.assert_array_equal(dense, weight * mask)
  rows = (weight * mask).reshape(-1, shape[-1])
  for row, start in zip(rows, part('row_offsets'), strict=True):
    kept = row[row != 0]
    np.testing.assert_array_equal(part('compressed')[start : start + kept.size], kept)


def test_index_and_dense(tmp_path):
  weight = np.arange(1, 4001, dtype=np.float32).reshape(40, 100)
  few = weight % 997 == 0
  most = np.ones((7, 9), bool)
  most[2, 3] = False
  params = {'few': weight, 'full': weight, 'most': weight[:7, :9], 'free': weight}
  save(tmp_path / 'x', params, {'few': few, 'full': weight > 0, 'most': most, 'free': None})
  found = tensors(tmp_path / 'x')
  assert set(found) == {
      'few.shape', 'few.values', 'few.indices', 'full', 'most', 'most.mask', 'free'
  }  # fmt: skip
  assert found['few.indices'].dtype == np.int32
  assert found['few.indices'].tolist() == [996, 1993, 2990, 3987]
  assert found['few.values'].tolist() == [997, 1994, 2991, 3988]
  assert tuple(found['few.shape']) == (40, 100)
  np.testing.assert_array_equal(found['full'], weight)
  np.testing.assert_array_equal(found['free'], weight)
  np.testing.assert_array_equal(found['most'], weight[:7, :9] * most)
  bits = np.packbits(most, axis=-1, bitorder='little')
  np.testing.assert_array_equal(found['most.mask'], bits)


def test_params_without_masks_are_a_plain_safetensors_file(tmp_path):
  params = {'a': {'w': jnp.ones((3, 4), jnp.bfloat16)}, 'b': [jnp.zeros(2, jnp.float8_e4m3fn)]}
  save(tmp_path / 'x', params)
  entries, start, data = raw_header(tmp_path / 'x')
  assert entries['a/w']['dtype'] == 'BF16'
  assert entries['b/0']['dtype'] == 'F8_E4M3'
  begin, end = entries['a/w']['data_offsets']
  found = np.frombuffer(data[start + begin : start + end], ml_dtypes.bfloat16)
  np.testing.assert_array_equal(found, np.ones(12, ml_dtypes.bfloat16))


def test_tensors_are_aligned_and_without_gaps(tmp_path):
  shapes, dtypes = [(3,), (5, 7), (33, 9), ()], ['bool', 'int8', 'float16', 'float32', 'bfloat16']
  params = {f'{d}{i}': jnp.ones(s, d) for d in dtypes for i, s in enumerate(shapes)}
  masks = jax.tree.map(lambda x: jnp.arange(x.size).reshape(x.shape) % 3 == 0, params)
  save(tmp_path / 'x', params, masks)
  entries, start, data = raw_header(tmp_path / 'x')
  entries.pop('__metadata__')
  width = {'BOOL': 1, 'I8': 1, 'U8': 1, 'F16': 2, 'BF16': 2, 'F32': 4, 'I32': 4, 'I64': 8}
  assert start % 8 == 0
  end = 0
  for entry in sorted(entries.values(), key=lambda entry: entry['data_offsets']):
    begin, following = entry['data_offsets']
    assert begin == end
    assert begin % width[entry['dtype']] == 0
    end = following
  assert start + end == len(data)


def test_the_metadata_lists_every_leaf(tmp_path):
  save(tmp_path / 'x', {'w': jnp.ones((2, 3))}, {'w': jnp.arange(6).reshape(2, 3) > 0})
  contents = json.loads(raw_header(tmp_path / 'x')[0]['__metadata__']['jprune'])
  assert contents['version'] == 1
  assert contents['tree'] == {'w': 0}
  assert contents['leaves'][0][:-1] == ['w', 'float32', [2, 3], 'dense', 5, 'bool']


def model(widths, depth):
  """A ConvNet's tree with a few large kernels, or a deep one with many small leaves."""
  key, params = jax.random.key(0), {}
  for i, (a, b) in enumerate(itertools.pairwise(widths)):
    params[f'Conv_{i}'] = {'kernel': jax.random.normal(key, (3, 3, a, b)), 'bias': jnp.zeros(b)}
    params[f'BatchNorm_{i}'] = {'scale': jnp.ones(b), 'bias': jnp.zeros(b)}
  for i in range(depth):
    params[f'block_{i}'] = {'mlp': {'Dense_0': {'kernel': jax.random.normal(key, (65, 64))}}}
  return {'params': params}


@pytest.mark.parametrize('sparsity', [0.0, 0.5, 0.99])
@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(('widths', 'depth'), [((3, 64, 64, 128), 0), ((), 30), ((1, 32, 64), 20)])
def test_file_size_is_the_announced_sum(tmp_path, widths, depth, dtype, sparsity):
  params = jax.tree.map(lambda x: x.astype(dtype), model(widths, depth))
  uniform = lambda x: np.random.default_rng(1).random(x.shape)
  masks = jax.tree.map(lambda x: uniform(x) >= sparsity if x.ndim > 1 else None, params)
  paths, leaves, _ = tree.flatten(params)
  found = tree.along(params, masks)
  assert sum(leaf.size for leaf in leaves) >= 100_000
  storages = [
    smallest_storage(x.shape, x.size if mask is None else int(mask.sum()), x.dtype.itemsize)
    for x, mask in zip(leaves, found, strict=True)
  ]
  save(tmp_path / 'x', params, masks)
  size = (tmp_path / 'x').stat().st_size
  tensors = sum(storage.bytes for storage in storages)
  _, start, data = raw_header(tmp_path / 'x')
  assert len(data) - start == tensors  # the tensors: to the byte
  announced = tensors + header_bytes(paths, [leaf.shape for leaf in leaves], storages)
  assert abs(size - announced) <= 0.01 * announced
  back, back_masks = load(tmp_path / 'x')
  assert jax.tree.structure(back) == jax.tree.structure(params)
  assert jax.tree.structure(back_masks) == jax.tree.structure(masks)


def every_format(shape, kept, itemsize):
  """Bytes of each format, counted on arrays."""
  mask = np.arange(int(np.prod(shape))).reshape(shape) < kept
  bits = np.packbits(np.atleast_1d(mask), axis=-1).nbytes
  rows = np.count_nonzero(np.atleast_1d(mask), axis=-1).size
  yield 'dense', mask.size * itemsize + (0 if mask.all() else bits)
  if mask.size:
    yield 'bitmask', kept * itemsize + bits + 8 * rows + 8 * len(shape)
  yield 'index', kept * (itemsize + 4) + 8 * len(shape)


@pytest.mark.parametrize('shape', [(), (1,), (0, 3), (3, 0), (10,), (9, 33), (4, 5, 6), (200, 1)])
@pytest.mark.parametrize('itemsize', [1, 2, 4])
def test_smallest_storage_is_the_smallest(shape, itemsize):
  size = int(np.prod(shape))
  for kept in sorted({0, 1, size // 50, size // 2, size - 1, size} & set(range(size + 1))):
    options = dict(every_format(shape, kept, itemsize))
    format, count = smallest_storage(shape, kept, itemsize)
    assert count == min(options.values())
    assert options[format] == count
