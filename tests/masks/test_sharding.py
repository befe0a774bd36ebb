"""Eight virtual devices: shardings are kept, masks equal, and no scores move."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jprune
from tests import reference

SPECS = {
  'both axes': PartitionSpec('x', 'y'),
  'rows': PartitionSpec('x', None),
  'one axis over all': PartitionSpec(None, ('x', 'y')),
  'replicated': PartitionSpec(),
}


def mesh(kind):
  return jax.make_mesh((4, 2), ('x', 'y'), axis_types=(kind, kind))


def sharded(kind, spec, dtype='float32'):
  rng = np.random.default_rng(0)
  leaf = np.round(rng.standard_normal((64, 48)) * 8).astype(np.float32)  # many ties
  one = jax.device_put(jnp.asarray(leaf, dtype), NamedSharding(mesh(kind), SPECS[spec]))
  return {'a': one, 'b': jax.device_put(-one[::-1], one.sharding) if spec == 'replicated' else one}


@pytest.mark.parametrize(
  ('kind', 'jit', 'spec'),
  [
    *((AxisType.Explicit, False, spec) for spec in SPECS),
    (AxisType.Auto, False, 'rows'),
    (AxisType.Auto, True, 'both axes'),
    (AxisType.Auto, True, 'replicated'),
  ],
  ids=str,
)
def test_masks_follow_the_params(jit, spec, kind):
  scores = sharded(kind, spec)
  whole = [np.asarray(leaf) for leaf in jax.tree.leaves(scores)]
  size = whole[0].size
  selections = {
    'global': (
      lambda s: jprune.masks.top_k_global(s, 0.7),
      reference.top_k_together(whole, 2 * size - round(0.7 * 2 * size)),
    ),
    'each': (
      lambda s: jprune.masks.top_k(s, 0.7),
      [reference.top_k(leaf, size - round(0.7 * size)) for leaf in whole],
    ),
    'rows': (
      lambda s: jprune.masks.top_k_rows(s, 0.5),
      [reference.top_k_rows(leaf, 32, -2) for leaf in whole],
    ),
    'n of m': (
      lambda s: jprune.masks.n_of_m(s, 2, 4),
      [reference.n_of_m(leaf, 2, 4, -2) for leaf in whole],
    ),
    'prune': (
      lambda s: jprune.prune(s, 0.7, scorer=jax.tree.map(jnp.abs, s)),
      [reference.top_k(abs(leaf), size - round(0.7 * size)) for leaf in whole],
    ),
  }
  with jax.set_mesh(mesh(kind)):
    for name, (select, want) in selections.items():
      masks = jax.tree.leaves((jax.jit(select) if jit else select)(scores))
      for got, expected, leaf in zip(masks, want, jax.tree.leaves(scores)):
        np.testing.assert_array_equal(got, expected, err_msg=name)
        assert got.sharding.is_equivalent_to(leaf.sharding, 2), name


@pytest.mark.parametrize(
  ('spec', 'dtype'),
  [
    ('both axes', 'float32'),
    ('both axes', 'bfloat16'),
    ('one axis over all', 'float32'),
  ],
)
def test_no_scores_travel(spec, dtype):
  scores = sharded(AxisType.Auto, spec, dtype)
  for select in (
    lambda s: jprune.masks.top_k_global(s, 0.7),
    lambda s: jprune.masks.top_k(s, 0.7),
    lambda s: jprune.masks.n_of_m(s, 2, 4),
  ):
    text = jax.jit(select).lower(scores).compile().as_text()
    moved = re.findall(
      r'= (\w+)\[([\d,]*)\][^=]*? (all-gather|all-to-all|collective-permute)', text
    )
    sizes = [np.prod([int(n) for n in shape.split(',') if n], dtype=int) for _, shape, _ in moved]
    shard = 64 * 48 // 8
    assert all(size < shard for size in sizes), moved


def test_the_search_for_collectives_finds_them():
  # the reader of the compiled text would notice an all-gather of scores
  leaf = sharded(AxisType.Auto, 'both axes')['a']
  text = jax.jit(lambda x: jnp.sort(x.reshape(-1))).lower(leaf).compile().as_text()
  assert re.findall(r'= (\w+)\[([\d,]*)\][^=]*? (all-gather|all-to-all|collective-permute)', text)


@pytest.mark.parametrize('kind', [AxisType.Auto, AxisType.Explicit], ids=str)
def test_each_device_prunes_its_shard(kind):
  leaf = jnp.asarray(np.round(np.random.default_rng(0).standard_normal((16, 8)) * 4), jnp.float32)
  spec = PartitionSpec('x', None)

  def select(x, sparsity):
    scores = {'a': x, 'b': -x}
    return {
      'each': jprune.masks.top_k(scores, 0.7)['b'],
      'global': jprune.masks.top_k_global(scores, sparsity)['b'],
      'rows': jprune.masks.top_k_rows(scores, 0.5)['b'],
      'n of m': jprune.masks.n_of_m(scores, 2, 4)['b'],
      'prune': jprune.prune(scores, 0.7, scorer=scores, min_keep=9)['b'],
      'magnitude': jprune.prune(scores, 0.7)['b'],
    }

  with jax.set_mesh(mesh(kind)):
    inside = jax.shard_map(select, in_specs=(spec, PartitionSpec()), out_specs=spec)
    masks = jax.jit(inside)(jax.device_put(leaf, NamedSharding(mesh(kind), spec)), 0.4)
  masks = jax.tree.map(np.asarray, masks)
  for i in range(4):
    part = np.asarray(leaf)[4 * i : 4 * i + 4]
    want = {
      'each': reference.top_k(-part, 32 - round(0.7 * 32)),
      'global': reference.top_k_together([part, -part], 64 - round(0.4 * 64))[1],
      'rows': reference.top_k_rows(-part, 2, -2),
      'n of m': reference.n_of_m(-part, 2, 4, -2),
      'prune': reference.top_k(-part, 32 - round(0.7 * 32)),
      'magnitude': reference.top_k(abs(part), 32 - round(0.7 * 32)),
    }
    for name, expected in want.items():
      np.testing.assert_array_equal(masks[name][4 * i : 4 * i + 4], expected, err_msg=name)
