"""What every selector promises. A new one joins ``SELECTORS``; a public one that doesn't fails.

A selector gives masks and takes none. A row's name starts with the selector's; every row gets
scores and a key, and adds whatever else its selector needs.
"""

import functools
import inspect
import types
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jprune import masks
from jprune.masks import Block, Channel, NOfM


class Graph(NamedTuple):
  """What channel selection needs of a graph of channels: here, each last axis for itself."""

  groups: list
  leaves: dict
  treedef: Any


def last_axes(scores):
  flat, treedef = jax.tree_util.tree_flatten_with_path(scores)
  leaves = {jax.tree_util.keystr(path, simple=True, separator='/'): leaf for path, leaf in flat}
  groups = []
  for path, leaf in leaves.items():
    size = leaf.shape[-1]
    position = types.SimpleNamespace(units=np.arange(size, dtype=np.int32))
    member = types.SimpleNamespace(path=path, axis=leaf.ndim - 1, position=position)
    groups.append(types.SimpleNamespace(name=path, size=size, members=(member,)))
  return Graph(groups, leaves, treedef)


SELECTORS = {
  'top_k': lambda s, key: masks.top_k(s, 0.3),
  'top_k Block': lambda s, key: masks.top_k(s, 0.3, pattern=Block((2, 4))),
  'top_k Block pad': lambda s, key: masks.top_k(s, 0.3, pattern=Block((3, 5), pad=True)),
  'top_k Channel': lambda s, key: masks.top_k(s, 0.3, pattern=Channel(-1)),
  'top_k NOfM': lambda s, key: masks.top_k(s, pattern=NOfM(2, 4)),
  'top_k NOfM pad': lambda s, key: masks.top_k(s, pattern=NOfM(2, 3, pad=True)),
  'top_k_global': lambda s, key: masks.top_k_global(s, 0.3),
  'top_k_rows': lambda s, key: masks.top_k_rows(s, 0.3),
  'threshold': lambda s, key: masks.threshold(s, 0.25),
  'n_of_m': lambda s, key: masks.n_of_m(s, 2, 4),
  'n_of_m pad': lambda s, key: masks.n_of_m(s, 2, 3, axis=-1, pad=True),
  'channels': lambda s, key: masks.channels(s, last_axes(s), 0.3),
  'channels global': lambda s, key: masks.channels(s, last_axes(s), 0.3, scope='global'),
  'channels isomorphic': lambda s, key: masks.channels(s, last_axes(s), 0.3, scope='isomorphic'),
  'from_zeros': lambda s, key: masks.from_zeros(s, where=lambda path, leaf: True),
  'bernoulli': lambda s, key: masks.bernoulli(s, 0.3, key=key, where=lambda path, leaf: True),
}

each_selector = pytest.mark.parametrize('name', SELECTORS)
each_dtype = pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16', 'float8_e4m3fn'])
# the time of these tests is that of LLVM
jit = functools.partial(
  jax.jit,
  compiler_options={
    'xla_backend_optimization_level': 0,
    'xla_llvm_disable_expensive_passes': True,
  },
)

SPECS = {
  'both': PartitionSpec('x', 'y'),
  'last': PartitionSpec(None, ('x', 'y')),
}


@pytest.fixture
def key():
  return jax.random.key(7)


def make_scores(dtype='float32', leading=()):
  """Nested containers, a ``None``, a leaf without weights, ties.

  3 and 5, the sizes of the padded patterns, divide no axis.
  """
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(np.round(rng.normal(size=(*leading, *shape)) * 8) / 8, dtype)
  return {'dense': {'kernel': draw(8, 16), 'bias': None}, 'empty': [draw(0, 16)]}


def assert_masks(found, scores):
  assert jax.tree.structure(found) == jax.tree.structure(scores)
  for mask, leaf in zip(jax.tree.leaves(found), jax.tree.leaves(scores), strict=True):
    assert isinstance(mask, jax.Array)
    assert mask.dtype == bool
    assert mask.shape == leaf.shape


def assert_same(one, two):
  assert jax.tree.structure(one) == jax.tree.structure(two)
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
    np.testing.assert_array_equal(a, b)


def test_every_public_selector_is_in_the_table():
  public = set()
  for name, value in vars(masks).items():
    if inspect.isfunction(value) and not name.startswith('_'):
      signature = inspect.signature(value)
      if signature.return_annotation == 'Masks' and 'masks' not in signature.parameters:
        public.add(name)
  assert public == {name.split()[0] for name in SELECTORS}


@each_selector
@each_dtype
def test_bool_of_the_scores_shapes(name, dtype, key):
  scores = make_scores(dtype)
  found = SELECTORS[name](scores, key)
  assert_masks(found, scores)
  assert found['dense']['bias'] is None
  assert 0 < found['dense']['kernel'].sum() < 8 * 16


@each_selector
def test_jit_gives_what_eager_gives(name, key):
  scores = make_scores()
  found = jit(SELECTORS[name])(scores, key)
  assert_masks(found, scores)
  assert_same(found, SELECTORS[name](scores, key))


@each_selector
def test_is_pure(name, key):
  scores = make_scores()
  before = jax.tree.map(np.array, scores)
  first, second = SELECTORS[name](scores, key), SELECTORS[name](scores, key)
  assert_same(first, second)
  jax.tree.map(lambda mask: mask.delete(), first)
  assert_same(scores, before)


@each_selector
def test_vmap_selects_in_each_model_by_itself(name, key):
  stacked, keys = make_scores(leading=(3,)), jax.random.split(key, 3)
  found = jit(jax.vmap(SELECTORS[name]))(stacked, keys)
  for i in range(3):
    pick = functools.partial(jax.tree.map, lambda leaf, i=i: leaf[i])
    assert_same(pick(found), SELECTORS[name](pick(stacked), keys[i]))


@each_selector
@pytest.mark.parametrize('shape', [(0, 16), (8, 0), (0, 4, 4)], ids=str)
def test_a_leaf_without_weights(name, shape, key):
  scores = {'empty': jnp.zeros(shape), 'w': make_scores()['dense']['kernel']}
  found = SELECTORS[name](scores, key)
  assert_masks(found, scores)
  assert 0 < found['w'].sum() < 8 * 16


# By the partitioner under jit, by each operation outside of it.
@each_selector
@pytest.mark.parametrize(
  ('kind', 'wrap'),
  [(AxisType.Auto, jit), (AxisType.Explicit, lambda f: f)],
  ids=['auto-jit', 'explicit-eager'],
)
def test_sharding_is_kept(name, kind, wrap, key):
  mesh = jax.make_mesh((4, 2), ('x', 'y'), axis_types=(kind, kind))
  whole = make_scores()['dense']['kernel']
  local = {spec: jnp.roll(whole, i, axis=1) for i, spec in enumerate(SPECS)}
  shardings = {each: NamedSharding(mesh, spec) for each, spec in SPECS.items()}
  found = wrap(SELECTORS[name])(jax.device_put(local, shardings), key)
  assert_masks(found, local)
  for spec, mask in found.items():
    assert mask.sharding.is_equivalent_to(shardings[spec], mask.ndim), spec
  assert_same(found, SELECTORS[name](local, key))
