"""save, then load: the same bits, the same containers, the same masks."""

import os
import stat
import tempfile
import tracemalloc
from collections import OrderedDict
from typing import Any, NamedTuple

import equinox as eqx
import flax.core
import hypothesis as hp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jprune.io import load, save
from jprune.io._container import CODES
from jprune.masks import PackedMask, pack

NARROW = sorted(set(CODES) - {'float64', 'int64', 'uint64', 'complex128'})
SHAPES = [(), (1,), (7,), (0,), (3, 0), (0, 4), (5, 9), (16, 40), (2, 3, 17), (2, 1, 2, 8)]


def random_array(dtype, shape, seed):
  """Any bits that the dtype has, so NaN payloads, denormals, infinities and -0.0 too."""
  rng = np.random.default_rng(seed)
  dtype = jnp.dtype(dtype)
  if dtype.name == 'bool':
    return rng.random(shape) < 0.5
  if dtype.name in ('int2', 'uint2', 'int4', 'uint4', 'float4_e2m1fn'):
    return rng.integers(0, 2, shape).astype(dtype)
  raw = rng.integers(0, 256, (int(np.prod(shape)), dtype.itemsize), np.uint8)
  raw[rng.random(len(raw)) < 0.1] = 0
  return raw.reshape(-1).view(dtype).reshape(shape)


def random_mask(shape, density, seed):
  return np.random.default_rng(seed + 1).random(shape) < density


def packed_by_numpy(mask):
  bits = np.packbits(np.atleast_1d(mask), axis=-1, bitorder='little')
  return PackedMask(jnp.asarray(bits), mask.shape[-1] if mask.ndim else None)


def unpacked_by_numpy(packed):
  count = 1 if packed.length is None else packed.length
  bits = np.unpackbits(np.asarray(packed.bits), axis=-1, count=count, bitorder='little')
  return bits.astype(bool).reshape(packed.shape)


class Spec(NamedTuple):
  """A leaf to make. A tuple, so tree functions need ``is_leaf``."""

  dtype: str
  shape: tuple
  density: float
  kind: str
  seed: int


specs = st.builds(
  Spec,
  st.sampled_from(NARROW),
  st.sampled_from(SHAPES),
  st.sampled_from([0.0, 0.02, 0.1, 0.5, 0.97, 1.0]),
  st.sampled_from(['none', 'bool', 'packed', 'numpy']),
  st.integers(0, 10**6),
)
text_keys = st.text(alphabet='ab 0é"\\\n雪', max_size=3)
trees = st.recursive(
  specs | st.none(),
  lambda child: (
    st.dictionaries(text_keys, child, max_size=3)
    | st.dictionaries(st.integers(-3, 10**20), child, max_size=3)
    | st.dictionaries(st.booleans(), child, max_size=2)
    | st.lists(child, max_size=3)
    | st.lists(child, max_size=3).map(tuple)
  ),
  max_leaves=8,
)


def is_spec(node):
  return isinstance(node, Spec)


def built(specs):
  params = jax.tree.map(
    lambda s: jnp.asarray(random_array(s.dtype, s.shape, s.seed)), specs, is_leaf=is_spec
  )
  kinds = {
    'none': lambda mask: None,
    'bool': jnp.asarray,
    'packed': packed_by_numpy,
    'numpy': lambda mask: mask,
  }
  masks = jax.tree.map(
    lambda s: kinds[s.kind](random_mask(s.shape, s.density, s.seed)), specs, is_leaf=is_spec
  )
  return params, masks


def assert_same_bits(found, expected):
  expected = np.asarray(expected)
  assert isinstance(found, jax.Array)
  found = np.asarray(found)
  assert found.dtype == expected.dtype
  assert found.shape == expected.shape
  assert found.tobytes() == expected.tobytes()


def assert_round_trip(path, params, masks, found, found_masks):
  assert jax.tree.structure(found) == jax.tree.structure(params)
  assert jax.tree.structure(found_masks) == jax.tree.structure(masks)
  treedef = jax.tree.structure(params)
  together = zip(
    treedef.flatten_up_to(params),
    treedef.flatten_up_to(masks),
    treedef.flatten_up_to(found),
    treedef.flatten_up_to(found_masks),
    strict=True,
  )
  for leaf, mask, new, new_mask in together:
    if mask is None:
      assert new_mask is None
      assert_same_bits(new, leaf)
      continue
    if isinstance(mask, PackedMask):
      assert isinstance(new_mask, PackedMask)
      mask, new_mask = unpacked_by_numpy(mask), jnp.asarray(unpacked_by_numpy(new_mask))
    assert_same_bits(new_mask, mask)
    expected = np.zeros_like(np.asarray(leaf))
    expected[np.asarray(mask)] = np.asarray(leaf)[np.asarray(mask)]
    assert_same_bits(new, expected)


@hp.given(trees)
@hp.settings(max_examples=60, deadline=None)
def test_random_trees_come_back_bit_for_bit(specs):
  hp.assume(jax.tree.leaves(specs, is_leaf=is_spec))
  params, masks = built(specs)
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, 'x.safetensors')
    save(path, params, masks)
    assert os.listdir(folder) == ['x.safetensors']
    assert_round_trip(path, params, masks, *load(path))
    assert_round_trip(path, params, masks, *load(path, like=params))
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    assert_round_trip(path, params, masks, *load(path, like=shapes))


@pytest.mark.parametrize('dtype', sorted(CODES))
@pytest.mark.parametrize('density', [0.03, 0.5, 0.999, None])
def test_every_dtype_in_every_format(tmp_path, dtype, density):
  params = {'w': random_array(dtype, (64, 48), 0)}
  masks = {'w': None if density is None else random_mask((64, 48), density, 1)}
  with jax.enable_x64(True):
    save(tmp_path / 'x', params, masks)
    assert_round_trip(tmp_path / 'x', params, masks, *load(tmp_path / 'x'))


def test_no_masks_at_all(tmp_path):
  params = {'w': jnp.array([0.0, -0.0, 2.0])}
  save(tmp_path / 'x', params)
  found, masks = load(tmp_path / 'x')
  assert masks is None
  assert_same_bits(found['w'], params['w'])


@pytest.mark.parametrize('shape', [(10,), (40, 60), (1000,)])
@pytest.mark.parametrize('density', [0.01, 0.5, 1.0])
def test_kept_zeros_stay_kept_and_pruned_garbage_goes(tmp_path, shape, density):
  mask = random_mask(shape, density, 0)
  params = np.where(mask, np.float32(0.0), np.float32(np.nan))
  save(tmp_path / 'x', [params], [mask])
  found, masks = load(tmp_path / 'x')
  assert_same_bits(found[0], np.zeros(shape, np.float32))
  assert_same_bits(masks[0], mask)


def test_none_in_the_params_and_a_bare_array(tmp_path):
  params = {'a': None, 'b': [None, jnp.ones(3)], 'c': {}, 'd': ()}
  save(tmp_path / 'x', params, {'a': None, 'b': [None, jnp.arange(3) > 0], 'c': {}, 'd': ()})
  found, masks = load(tmp_path / 'x')
  assert jax.tree.structure(found) == jax.tree.structure(params)
  assert found['a'] is None
  assert found['b'][0] is None
  assert masks['b'][1].tolist() == [False, True, True]
  save(tmp_path / 'x', jnp.arange(4), jnp.arange(4) > 2)
  found, mask = load(tmp_path / 'x')
  assert found.tolist() == [0, 0, 0, 3]
  assert mask.tolist() == [False, False, False, True]


class Pair(NamedTuple):
  w: Any
  b: Any


class Module(eqx.Module):
  w: Any
  inner: Any


def containers():
  w, b = jnp.arange(6.0).reshape(2, 3), jnp.ones(3)
  state = nnx.state(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
  boxed = flax.core.meta.Partitioned(w, names=('x', None))
  return {
    'frozen': flax.core.freeze({'a': {'w': w, 'b': b}}),
    'state': state,
    'tuple': Pair(w, Pair(b, None)),
    'module': Module(w, {'x': b}),
    'ordered': OrderedDict(z=w, a=b),
    'boxed': {'k': boxed},
  }


PLAIN_PATHS = {
  'frozen': {'a': {'w': 0, 'b': 0}},
  'state': {'kernel': 0, 'bias': 0},
  'tuple': {'w': 0, 'b': {'w': 0, 'b': None}},
  'module': {'w': 0, 'inner': {'x': 0}},
  'ordered': {'z': 0, 'a': 0},
  'boxed': {'k': 0},
}


@pytest.mark.parametrize('name', sorted(PLAIN_PATHS))
def test_other_containers_come_back_by_like_and_else_as_dicts(tmp_path, name):
  params = containers()[name]
  masks = jax.tree.map(lambda x: x > 1 if x.ndim == 2 else None, params)
  save(tmp_path / 'x', params, masks)
  for like in (params, jax.eval_shape(lambda: params)):
    assert_round_trip(tmp_path / 'x', params, masks, *load(tmp_path / 'x', like=like))
  plain, plain_masks = load(tmp_path / 'x')
  assert jax.tree.structure(plain) == jax.tree.structure(PLAIN_PATHS[name])
  values, masked = jax.tree.leaves(params), jax.tree.leaves(masks)
  bits = lambda leaves: sorted(np.asarray(leaf).tobytes() for leaf in leaves)
  pruned = [jnp.where(x > 1, x, 0) if x.ndim == 2 else x for x in values]
  assert bits(jax.tree.leaves(plain)) == bits(pruned)
  assert bits(jax.tree.leaves(plain_masks)) == bits(masked)


def test_like_may_have_other_containers_and_another_order(tmp_path):
  saved = {'x': [jnp.full(2, i) for i in range(11)]}  # 10 before 2, as strings sort
  save(tmp_path / 'x', saved, jax.tree.map(lambda x: x > 4, saved))
  like = {'x': {str(i): jax.ShapeDtypeStruct((2,), jnp.int32) for i in range(11)}}
  found, masks = load(tmp_path / 'x', like=flax.core.freeze(like))
  assert isinstance(found, flax.core.FrozenDict)
  assert [int(found['x'][str(i)][0]) for i in (2, 10)] == [0, 10]
  assert [bool(masks['x'][str(i)][0]) for i in (2, 10)] == [False, True]


def test_unusual_memory_layouts(tmp_path):
  base = np.arange(24, dtype=np.float32).reshape(4, 6)
  other = {'t': base.T, 's': base[::-2, ::3], 'b': base.astype('>f4')}
  params = {'f': np.asfortranarray(base), **other}
  masks = jax.tree.map(lambda x: np.asfortranarray(x > 5), params)
  save(tmp_path / 'x', params, masks)
  native = jax.tree.map(lambda x: x.astype(np.float32), params)
  assert_round_trip(tmp_path / 'x', native, masks, *load(tmp_path / 'x'))


def mesh_sharding(*spec):
  return NamedSharding(jax.make_mesh((4, 2), ('x', 'y')), P(*spec))


def test_shards_are_gathered_and_scattered_again(tmp_path):
  sharding = mesh_sharding('x', 'y')
  params = {'w': jax.device_put(jnp.arange(128.0).reshape(8, 16), sharding), 'b': jnp.ones(3)}
  masks = {'w': jax.device_put(params['w'] > 60, sharding), 'b': None}
  for saved in (masks, pack(masks)):
    save(tmp_path / 'x', params, saved)
    structs = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), params
    )
    for like in (params, structs):
      found, found_masks = load(tmp_path / 'x', like=like)
      assert_round_trip(tmp_path / 'x', params, saved, found, found_masks)
      assert found['w'].sharding == sharding
      if saved is masks:
        assert found_masks['w'].sharding == sharding
    assert len(load(tmp_path / 'x')[0]['w'].sharding.device_set) == 1


def test_one_leaf_at_a_time_lies_on_the_host(tmp_path):
  size = 2**20
  sharding = mesh_sharding(('x', 'y'))
  params = {str(i): jax.device_put(jnp.full(size, float(i)), sharding) for i in range(8)}
  masks = {key: jax.device_put(jnp.arange(size) % 4 == 0, sharding) for key in params}
  jax.block_until_ready((params, masks))
  tracemalloc.start()
  save(tmp_path / 'x', params, masks)
  left, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert peak < 3 * 4 * size  # of 8 * 5 * size
  assert left < size  # nothing of the gathered copies stays cached in the caller's arrays


def test_permissions_and_links(tmp_path):
  path, link = tmp_path / 'x', tmp_path / 'link'
  umask = os.umask(0o027)
  try:
    save(path, jnp.ones(2))
  finally:
    os.umask(umask)
  assert stat.S_IMODE(path.stat().st_mode) == 0o640
  path.chmod(0o604)
  link.symlink_to(path)
  save(str(link), jnp.zeros(2))
  assert link.is_symlink()
  assert stat.S_IMODE(path.stat().st_mode) == 0o604
  assert load(path)[0].tolist() == [0.0, 0.0]
