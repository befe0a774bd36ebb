"""Units of every pattern, against loops; shapes that a pattern doesn't fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import jprune
from jprune.masks import Block, Channel, NOfM
from tests import reference

repeated = st.sampled_from([0.0, -0.0, 1.0, 2.0, -3.0, np.inf, -np.inf, 1e-45])


@given(
  hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.integers(1, 17), st.integers(1, 5)),
    elements=repeated,
  ),
  st.integers(1, 9).flatmap(lambda m: st.tuples(st.integers(1, m), st.just(m))),
  st.sampled_from([-1, -2, 0]),
)
@settings(deadline=None, max_examples=25)
def test_n_of_m_in_every_group(leaf, ratio, axis):
  n, m = ratio
  got = jprune.masks.n_of_m({'w': leaf}, n, m, axis, pad=True)['w']
  np.testing.assert_array_equal(got, reference.n_of_m(leaf, n, m, axis))


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16', 'float8_e4m3fn'])
@pytest.mark.parametrize('m', [4, 16])
def test_n_of_m_narrow_dtypes(dtype, m):
  leaf = jax.random.normal(jax.random.key(0), (64, 6)).astype(dtype)
  got = jprune.masks.n_of_m({'w': leaf}, 2, m)['w']
  np.testing.assert_array_equal(got, reference.n_of_m(leaf, 2, m, -2))


def test_two_of_four_by_magnitude():
  params = {'w': jnp.array([[0.25, 4.0], [-1.33, 3.0], [0.43, 2.0], [-0.11, 1.0]])}
  mask = jprune.prune(params, pattern=NOfM(2, 4))['w']
  assert mask.T.astype(int).tolist() == [[0, 1, 1, 0], [1, 1, 0, 0]]


@pytest.mark.parametrize('shape', [(8, 12), (3, 4, 8, 6), (2, 9, 10)])
@pytest.mark.parametrize('block', [(2, 3), (4, 6), (1, 1)])
def test_blocks(shape, block):
  scores = jnp.abs(jax.random.normal(jax.random.key(1), shape))
  pattern = Block(block, pad=True)
  mask = np.asarray(jprune.masks.top_k({'w': scores}, 0.4, pattern=pattern)['w'])
  means = reference.block_means(scores, *block).astype(np.float32)
  keep = reference.top_k(means, means.size - round(0.4 * means.size))
  want = keep.repeat(block[0], -2)[..., : shape[-2], :].repeat(block[1], -1)[..., : shape[-1]]
  np.testing.assert_array_equal(mask, want)


@pytest.mark.parametrize('axis', [0, 1, -1])
def test_channels(axis):
  scores = jnp.abs(jax.random.normal(jax.random.key(2), (6, 5, 7)))
  mask = np.moveaxis(
    np.asarray(jprune.masks.top_k({'w': scores}, 0.5, pattern=Channel(axis))['w']), axis, 0
  )
  means = np.moveaxis(np.asarray(scores, np.float64), axis, 0).reshape(mask.shape[0], -1).mean(1)
  keep = reference.top_k(means, mask.shape[0] - round(0.5 * mask.shape[0]))
  assert [bool(row.all()) for row in mask] == keep.tolist()
  assert [bool(row.any()) for row in mask] == keep.tolist()


def test_channels_compete_over_leaves():
  scores = {'a': jnp.array([[1.0, 9.0]]), 'b': jnp.array([[5.0, 2.0, 7.0, 3.0]])}
  masks = jprune.masks.top_k_global(scores, 0.5, pattern=Channel(-1))
  assert masks['a'].tolist() == [[False, True]]
  assert masks['b'].tolist() == [[True, False, True, False]]


def test_patterns_under_jit():
  scores = jax.random.uniform(jax.random.key(3), (8, 8))
  for pattern in (Block((2, 4)), Channel(0)):
    select = lambda x, p=pattern: jprune.masks.top_k({'w': x}, 0.5, pattern=p)['w']
    np.testing.assert_array_equal(jax.jit(select)(scores), select(scores))


@pytest.mark.parametrize(
  ('call', 'error', 'words'),
  [
    (lambda: NOfM(5, 4), ValueError, r'NOfM: `n` must be at most m=4; got 5'),
    (lambda: NOfM(0, 4), ValueError, r'NOfM: `n` must be an int of at least 1; got 0'),
    (lambda: NOfM(2, 4.0), ValueError, r'NOfM: `m` must be an int of at least 1; got 4.0'),
    (lambda: NOfM(2, 4, axis='last'), TypeError, r"NOfM: `axis` must be an int; got 'last'"),
    (lambda: Block((2,)), TypeError, r'Block: `shape` must be a tuple of two ints'),
    (lambda: Block((0, 2)), ValueError, r'Block: `shape` must be an int of at least 1; got 0'),
    (lambda: Channel('out'), TypeError, r"Channel: `axis` must be an int; got 'out'"),
  ],
)
def test_patterns_that_make_no_sense(call, error, words):
  with pytest.raises(error, match=words):
    call()


@pytest.mark.parametrize(
  ('pattern', 'shape', 'words'),
  [
    (
      NOfM(2, 4),
      (30, 64),
      r"prune: axis -2 of leaf 'block/kernel' must be divisible by m=4; "
      r'got shape \(30, 64\)\. Exclude the leaf with where=',
    ),
    (Block((4, 4)), (8, 6), r"axis -1 of leaf 'block/kernel' must be divisible by the block=4"),
    (
      Channel(2),
      (8, 6),
      r'prune: `axis` must be an axis of a leaf with 2 dimensions; got 2 at '
      r"leaf 'block/kernel'",
    ),
  ],
)
def test_shapes_that_do_not_fit(pattern, shape, words):
  sparsity = None if isinstance(pattern, NOfM) else 0.5
  with pytest.raises(ValueError, match=words):
    jprune.prune({'block': {'kernel': jnp.ones(shape)}}, sparsity, pattern=pattern)


def test_blocks_need_two_dimensions():
  with pytest.raises(ValueError, match=r'of two or more dimensions for Block; got shape \(4,\)'):
    jprune.masks.top_k({'b': jnp.ones(4)}, 0.5, pattern=Block((2, 2)))


def test_n_of_m_brings_its_own_sparsity():
  words = r'prune: `sparsity` must be None for NOfM.*whose sparsity is its own \(0.5\); got 0.5'
  with pytest.raises(ValueError, match=words):
    jprune.prune({'w': jnp.ones((4, 4))}, 0.5, pattern=NOfM(2, 4))
  with pytest.raises(ValueError, match='top_k_global: `pattern` must be one with units'):
    jprune.masks.top_k_global({'w': jnp.ones((4, 4))}, 0.5, pattern=NOfM(2, 4))


def test_inputs_that_nothing_tells_are_asked_for():
  message = r"prune: `axis` must be an axis where .*; got None for shape \(4, 2, 8\) at leaf 'w'"
  for sparsity, pattern in ((None, NOfM(2, 4)), (0.5, Channel())):
    with pytest.raises(ValueError, match=message):
      jprune.prune({'w': jnp.ones((4, 2, 8))}, sparsity, pattern=pattern)
