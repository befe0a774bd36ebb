"""What every leaf, and every output, keeps whatever is pruned overall."""

import functools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jprune
from jprune.distributions import global_
from jprune.masks import Block, Channel, NOfM, pack
from tests import reference

SHAPES = {'conv': (2, 2, 3, 4), 'dense': (6, 5), 'small': (3, 2)}

# the time of these tests is that of LLVM
QUICK = {'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True}
jit = functools.partial(jax.jit, compiler_options=QUICK)


def scores_of(seed, dtype='float32', scale=1.0):
  rng = np.random.default_rng(seed)
  values = [0.0, 0.25, 0.5, 1.0, 2.0, np.inf] if seed % 3 == 0 else rng.random(50)
  draw = lambda shape: rng.choice(values, shape).astype(np.float32)
  scores = {path: draw(shape) for path, shape in SHAPES.items()}
  return jax.tree.map(lambda x: jnp.asarray(x, dtype), scores | {'small': scores['small'] * scale})


def rows_of(shape, min_keep, max_sparsity, per_output):
  """Flat indices of each row and the least that it keeps."""
  index = np.arange(np.prod(shape)).reshape(-1, shape[-1] if per_output else 1)
  rows = index.T if per_output else index.reshape(1, -1)
  size = rows.shape[1]
  least = next(
    n for n in range(size + 1) if Fraction(size - n, size) <= Fraction(str(max_sparsity))
  )
  return [(row.tolist(), max(least, min(min_keep, size))) for row in rows]


def expected(scores, sparsity, distribution, earlier=None, **caps):
  held = {path: np.asarray(x, np.float32) for path, x in scores.items()}
  alive = {path: np.ones(x.shape, bool) for path, x in held.items()}
  alive |= {path: np.asarray(mask) for path, mask in (earlier or {}).items() if mask is not None}
  rows = [rows_of(x.shape, **caps) for x in held.values()]
  ks = [x.size - round(sparsity * x.size) for x in held.values()]
  if distribution is global_:
    size = sum(x.size for x in held.values())
    ks = size - round(sparsity * size)
  return dict(zip(held, reference.capped(list(held.values()), list(alive.values()), ks, rows)))


def same(got, want):
  for path, mask in want.items():
    np.testing.assert_array_equal(got[path], mask, err_msg=path)


@given(
  seed=st.integers(0, 99),
  sparsity=st.sampled_from([0.0, 0.3, 0.5, 0.8]),
  min_keep=st.integers(0, 4),
  max_sparsity=st.sampled_from([0.8, 0.9, 1.0]),
  per_output=st.booleans(),
  distribution=st.sampled_from([global_, jprune.distributions.uniform]),
  dtype=st.sampled_from(['float32', 'float16']),
  rounds=st.booleans(),
)
@settings(deadline=None, max_examples=30)
def test_the_best_that_the_caps_allow(
  seed, sparsity, min_keep, max_sparsity, per_output, distribution, dtype, rounds
):
  caps = {'min_keep': min_keep, 'max_sparsity': max_sparsity, 'per_output': per_output}
  if not min_keep and max_sparsity == 1:
    caps['min_keep'] = 1
  earlier = None
  if rounds:
    earlier = jprune.prune(scores_of(seed + 1), 0.6, distribution=global_) | {'small': None}
  scores = scores_of(seed, dtype, 1e-3)
  want = expected(scores, sparsity, distribution, earlier, **caps)
  size = sum(x.size for x in want.values())
  call = lambda: jprune.prune(
    scores, sparsity, scorer=scores, distribution=distribution, masks=earlier, **caps
  )
  asked = size - round(sparsity * size)
  if distribution is global_ and sum(int(mask.sum()) for mask in want.values()) > asked:
    with pytest.raises(ValueError, match='prune: `sparsity` must be at most'):
      call()
  else:
    same(call(), want)


@pytest.mark.parametrize('distribution', [global_, jprune.distributions.uniform])
@pytest.mark.parametrize('per_output', [False, True])
def test_under_jit_a_traced_sparsity_gives_way(distribution, per_output):
  caps = {'min_keep': 2, 'max_sparsity': 0.75, 'per_output': per_output}
  earlier = pack(jprune.prune(scores_of(1), 0.3)) | {'small': None}
  run = jit(
    lambda scores, sparsity: jprune.prune(
      scores, sparsity, scorer=scores, distribution=distribution, masks=earlier, **caps
    )
  )
  for seed, sparsity in ((0, 0.5), (2, 0.7), (3, 1.0)):
    scores = scores_of(seed, scale=1e-3)
    want = expected(scores, sparsity, distribution, jprune.masks.unpack(earlier), **caps)
    same(run(scores, sparsity), want)


def test_sharded():
  mesh = jax.make_mesh((2,), ('x',), axis_types=(AxisType.Explicit,))
  scores = scores_of(4, scale=1e-3)
  specs = {'conv': (None,) * 3 + ('x',), 'dense': ('x', None), 'small': (None, 'x')}
  caps = {'min_keep': 1, 'max_sparsity': 0.9, 'per_output': True}
  with jax.set_mesh(mesh):
    placed = {
      path: jax.device_put(x, NamedSharding(mesh, PartitionSpec(*specs[path])))
      for path, x in scores.items()
    }
    masks = jprune.prune(placed, 0.5, scorer=placed, distribution=global_, **caps)
  for path, mask in masks.items():
    assert mask.sharding.is_equivalent_to(placed[path].sharding, mask.ndim)
  same(masks, expected(scores, 0.5, global_, **caps))


def test_units_of_a_pattern():
  scores = {'w': jnp.arange(64.0).reshape(8, 8), 'v': jnp.arange(16.0).reshape(4, 4) / 100}
  run = functools.partial(jprune.prune, scores, 0.75, scorer=scores, distribution=global_)
  assert not run(pattern=Block((2, 2)))['v'].any()
  masks = run(pattern=Block((2, 2)), min_keep=1)
  assert int(masks['v'].sum()) == 4
  assert sum(int(mask.sum()) for mask in masks.values()) == 80 // 4
  masks = jprune.prune(
    scores, 0.7, distribution=global_, pattern=Block((2, 2)), max_sparsity=0.75, per_output=True
  )
  assert masks['w'].reshape(4, 2, 4, 2).any((1, 3)).sum(0).tolist() == [1] * 4
  masks = run(pattern=Channel(-1), min_keep=1)
  assert masks['v'].sum(0).tolist() == [0, 0, 0, 4]
  every = lambda path, leaf: True
  small = {'a': jnp.ones((1, 1)), 'b': jnp.ones((2, 2))}
  one = jprune.prune(small, 1.0, min_keep=3, where=every)
  assert [int(mask.sum()) for mask in one.values()] == [1, 3]  # all that there are


@pytest.mark.parametrize(
  ('caps', 'error', 'words'),
  [
    ({'min_keep': 9}, ValueError, r'prune: `sparsity` must be at most 0.72, since 14 of 50 have'),
    (
      {'max_sparsity': 0.5},
      ValueError,
      '`max_sparsity` must be at least the sparsity 0.9; got 0.5',
    ),
    ({'max_sparsity': 90}, ValueError, r'`max_sparsity` must be in \[0, 1\]; got 90'),
    ({'min_keep': -1}, ValueError, '`min_keep` must be an int of at least 0; got -1'),
    ({'min_keep': 0.1}, TypeError, '`min_keep` must be an int; got 0.1'),
    ({'per_output': True}, ValueError, '`per_output` must be False where nothing is to be kept'),
    ({'per_output': 1, 'min_keep': 1}, TypeError, '`per_output` must be a bool; got 1'),
    (
      {'per_output': True, 'min_keep': 1, 'pattern': Channel(-1)},
      ValueError,
      r"`per_output` must be False for Channel.*; got True at leaf 'a'",
    ),
  ],
)
def test_one_clear_error(caps, error, words):
  params = {'a': jnp.ones((9, 5)), 'b': jnp.ones((1, 5))}
  with pytest.raises(error, match=words):
    jprune.prune(params, 0.9, distribution=global_, where=lambda path, leaf: True, **caps)


def test_groups_of_n_of_m_keep_their_number():
  with pytest.raises(ValueError, match='`min_keep` must be left out for NOfM.* keeps 2; got 1'):
    jprune.prune({'w': jnp.ones((4, 4))}, pattern=NOfM(2, 4), min_keep=1)
