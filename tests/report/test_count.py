"""Exact counts: every dtype, layout, sharding and size against NumPy or plain arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jprune import _nonzeros
from jprune.masks import PackedMask, pack
from jprune.report import _count

FLOAT8 = [name for name in dir(jnp) if name.startswith('float8_')]


@pytest.fixture(params=['host', 'device'])
def route(request, monkeypatch):
  """Counts by NumPy, or by the kernel that runs on accelerators."""
  if request.param == 'device':
    monkeypatch.setattr(_nonzeros, '_on_host', lambda part: False)
  return request.param


@pytest.mark.parametrize('dtype', [*FLOAT8, 'float16', 'bfloat16'])
def test_every_value_of_narrow_floats(route, dtype):
  dtype = np.dtype(getattr(jnp, dtype))
  bits = np.arange(2 ** (8 * dtype.itemsize), dtype=f'uint{8 * dtype.itemsize}')
  values = bits.view(dtype)
  expected = sum(float(value) != 0 for value in values)
  assert _count.nonzeros([jnp.asarray(values), values]) == [expected, expected]


@pytest.mark.parametrize('dtype', ['float32', 'complex64'])
def test_denormals_nan_and_negative_zero(route, dtype):
  values = np.array([0.0, -0.0, 1e-45, -1e-45, np.nan, np.inf, -np.inf, 1.0, 1e-38], dtype)
  assert _count.nonzeros([jnp.asarray(values)]) == [7]


def test_imaginary_parts_count(route):
  values = jnp.array([0, 1j, 1, -0.0j, complex(0, 1e-45)], jnp.complex64)
  assert _count.nonzeros([values]) == [3]


@pytest.mark.parametrize('dtype', ['bool', 'int4', 'uint4', 'int8', 'uint8', 'int32', 'uint32'])
def test_integers(route, dtype):
  values = np.array([0, 1, 0, 1, 1], getattr(jnp, dtype if dtype != 'bool' else 'bool_'))
  assert _count.nonzeros([jnp.asarray(values)]) == [3]


@pytest.mark.parametrize('shape', [(), (0,), (1,), (29,), (5, 3), (3, 5), (3, 0, 2), (2, 3, 4, 5)])
def test_shapes_in_small_blocks(route, monkeypatch, shape):
  monkeypatch.setattr(_nonzeros, '_BLOCK', 7)
  values = np.random.default_rng(0).integers(0, 3, shape).astype(np.float32)
  bits = pack({'w': jnp.asarray(values != 0)})['w']
  expected = sum(value != 0 for value in values.ravel())
  assert _count.nonzeros([jnp.asarray(values), bits]) == [expected, expected]


def test_blocks_split_an_axis_whose_rows_are_too_large(monkeypatch):
  monkeypatch.setattr(_nonzeros, '_BLOCK', 3)
  parts = _nonzeros._device_parts(jnp.ones((4, 5, 4)), _nonzeros._is_nonzero)
  assert sum(int(part) for part in parts) == 80
  assert max(int(part) for part in parts) <= 3


def test_scalars_and_order_of_leaves():
  leaves = [2, 0.0, True, np.float32(3), pack({'w': jnp.array(True)})['w'], np.eye(3)]
  assert _count.nonzeros(leaves) == [1, 0, 1, 1, 1, 3]
  assert _count.nonzeros([]) == []


@pytest.mark.parametrize('length', [1, 7, 8, 9, 16, 23])
@pytest.mark.parametrize('array', [jnp.asarray, np.asarray])
def test_packed_counts_weights_not_padding(route, length, array):
  bits = np.full((3, -(-length // 8)), 255, np.uint8)
  assert _count.nonzeros([PackedMask(array(bits), length)]) == [3 * length]


def test_packed_scalar_with_stray_bits():
  assert _count.nonzeros([PackedMask(np.array([254], np.uint8), None)]) == [0]
  assert _count.nonzeros([PackedMask(np.array([255], np.uint8), None)]) == [1]


def test_layouts_of_numpy():
  base = np.random.default_rng(1).integers(0, 2, (6, 8))
  expected = int(base.sum())
  read_only = base.copy()
  read_only.flags.writeable = False
  bits = np.packbits(base.astype(bool), axis=-1, bitorder='little')
  leaves = [base.T, np.asfortranarray(base), base[::-1, ::-1], read_only]
  assert _count.nonzeros(leaves) == [expected] * 4
  assert _count.nonzeros([PackedMask(bits[::-1], 8)]) == [expected]


@pytest.mark.parametrize('spec', [P('x'), P(None, 'y'), P('x', 'y'), P(('x', 'y')), P()])
def test_sharded_and_replicated(route, spec):
  mesh = jax.make_mesh((4, 2), ('x', 'y'), axis_types=(jax.sharding.AxisType.Auto,) * 2)
  values = np.random.default_rng(2).integers(0, 2, (16, 32)).astype(np.float32)
  sharded = jax.device_put(values, NamedSharding(mesh, spec))
  packed = pack({'w': sharded != 0})['w']
  expected = int((values != 0).sum())
  assert _count.nonzeros([sharded, sharded != 0, packed]) == [expected] * 3


def test_one_leaf_past_int32_and_uint32():
  # A row of set bits, seen 2^17 times: 2^32 + 3 * 2^17 weights in 4 KiB.
  row = np.full((1, 2**12 + 1), 255, np.uint8)
  mask = PackedMask(np.broadcast_to(row, (2**17, 2**12 + 1)), 2**15 + 3)
  assert _count.nonzeros([mask]) == [2**32 + 3 * 2**17]


def test_accumulates_past_int32_on_device(monkeypatch):
  monkeypatch.setattr(_nonzeros, '_on_host', lambda part: False)
  block = jnp.full(3, 2**31 - 1, jnp.int32)
  monkeypatch.setattr(_nonzeros, '_device_parts', lambda x, ones: list(block))
  assert _count.nonzeros([jnp.ones(1)]) == [3 * (2**31 - 1)]
