"""Leaves of 2**32 weights and more: by shapes, and the arithmetic of their counts by itself.

No array of that size fits into a test. What is done for such a leaf only is done here for small
ones, with the sizes from which on it is done set low.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jprune
from jprune import distributions, masks, scores
from jprune.masks import Block, Channel, NOfM
from jprune.masks._selection import native as _native
from jprune.masks._selection import rows as _rows
from jprune.masks._selection import search as _search
from jprune.masks._selection import select as _select
from jprune.masks._selection import wide as _wide
from tests import reference

# the time of these tests is that of LLVM
FAST = {'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True}
every = lambda path, leaf: True
CALLS = {
  'uniform': lambda w, s, m, key: jprune.prune(w, 0.5, where=every, masks=m),
  'traced sparsity': lambda w, s, m, key: jprune.prune(w, s, where=every),
  'global_': lambda w, s, m, key: masks.top_k_global(w, s),
  'erk': lambda w, s, m, key: jprune.prune(w, 0.5, where=every, distribution=distributions.erk),
  'n_of_m': lambda w, s, m, key: masks.n_of_m(w, 2, 4, axis=-1, pad=True),
  'pattern NOfM': lambda w, s, m, key: masks.top_k(w, pattern=NOfM(1, 2, axis=0, pad=True)),
  'Channel': lambda w, s, m, key: masks.top_k(w, 0.5, pattern=Channel(0)),
  'last Channel': lambda w, s, m, key: masks.top_k_global(w, 0.5, pattern=Channel(-1)),
  'rows': lambda w, s, m, key: masks.top_k_rows(w, s, axis=0),
  'rows along the last axis': lambda w, s, m, key: masks.top_k_rows(w, 0.5, axis=-1),
  'from_zeros': lambda w, s, m, key: masks.from_zeros(w, where=every),
  'bernoulli': lambda w, s, m, key: masks.bernoulli(w, s, key=key, where=every),
  'threshold': lambda w, s, m, key: masks.threshold(w, s.astype(jnp.bfloat16)),
  'random': lambda w, s, m, key: scores.random(w, key=key),
  'magnitude': lambda w, s, m, key: scores.magnitude(w),
  'pack': lambda w, s, m, key: masks.unpack(masks.pack(m)),
  'combine': lambda w, s, m, key: masks.combine(m, masks.invert(m)),
  'apply': lambda w, s, m, key: jprune.apply(w, masks.pack(m)),
  'keep_pruned': lambda w, s, m, key: jprune.keep_pruned(m).init(w).masks,
  'mask_updates': lambda w, s, m, key: jprune.mask_updates(m).init(w).masks,
}


@pytest.mark.parametrize(
  'shapes',
  [[(2**16, 2**17)], [(2**32,), (3, 2**31)]],
  ids=['square', 'flat and long'],
)
def test_by_shapes(shapes):
  leaf = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.bfloat16)
  params = [leaf(shape) for shape in shapes]
  kept = [jax.ShapeDtypeStruct(shape, bool) for shape in shapes]

  def calls(params, sparsity, kept, seed):
    return [call(params, sparsity, kept, jax.random.key(seed)) for call in CALLS.values()]

  number = jax.ShapeDtypeStruct((), jnp.float32)
  found = jax.eval_shape(calls, params, number, kept, jax.ShapeDtypeStruct((), jnp.uint32))
  for name, each in zip(CALLS, found, strict=True):
    assert [leaf.shape for leaf in jax.tree.leaves(each)] == shapes, name
  assert jprune.tally(params).size == sum(map(math.prod, shapes))


def test_blocks_and_vmap_by_shapes():
  """Blocks that don't divide, in each of two models."""
  models = jax.ShapeDtypeStruct((2, 3, 2**31), jnp.float32)
  run = jax.vmap(lambda w: masks.top_k_global({'w': w}, 0.5, pattern=Block((2, 3), pad=True)))
  assert jax.eval_shape(run, models)['w'].shape == models.shape
  run = jax.vmap(lambda w: jprune.prune({'w': w}, 0.5, where=every))
  for shape in (models.shape, (2, 2**33 + 5)):
    assert jax.eval_shape(run, jax.ShapeDtypeStruct(shape, jnp.float32))['w'].shape == shape


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**48 - 1))
@settings(deadline=None)
def test_times(number, by):
  by = min(by, (2**48 - 1) // max(number, 1))
  found = _wide.times(np.uint32(number), by)
  assert _wide.value(found) == number * by
  assert found[1] < 2**16


def test_sums_of_more_counts_than_a_word_carries():
  counts = np.random.default_rng(0).integers(0, 2**32, 2**17 + 3, dtype=np.uint32)
  total = _wide.total(_wide.wide(jnp.asarray(counts)), axis=0)
  assert _wide.value(total) == int(counts.sum(dtype=np.uint64)) > 2**47
  side_by_side = jnp.stack([_wide.wide(jnp.asarray(counts))] * 2)
  np.testing.assert_array_equal(_wide.total(side_by_side, axis=1), [total, total])


@pytest.mark.parametrize('shape', [(60,), (2, 53), (3, 4, 5)], ids=str)
def test_counts_in_parts(shape, monkeypatch):
  monkeypatch.setattr(_wide, '_NARROW', 20)
  hits = np.random.default_rng(0).random(shape) < 0.7
  assert _wide.value(_wide.count(jnp.asarray(hits))) == hits.sum()
  assert _wide.value(_wide.count(jnp.ones(shape, bool))) == hits.size


@pytest.mark.parametrize('shape', [(70001,), (3, 5, 7), (2, 65537)], ids=str)
def test_indices_of_two_words(shape, monkeypatch):
  monkeypatch.setattr(_native, 'LONG', 6)
  high, low = _native._long_index(shape)
  index = np.arange(math.prod(shape)).reshape(shape)
  np.testing.assert_array_equal(high, index >> 16)
  np.testing.assert_array_equal(low, index & 0xFFFF)


def test_indices_reach_past_two_to_the_32():
  """Of a leaf that is nowhere in full: its corner."""
  shape = (2**16 + 1, 2**17 + 3)
  first, second = 2**16, 2**17 + 2
  words = [_wide.times(jnp.uint32(first), shape[1]), _wide.times(jnp.uint32(second), 1)]
  assert _wide.value(_wide.total(jnp.stack(words), axis=0)) == math.prod(shape) - 1


@pytest.mark.parametrize('together', [True, False])
def test_ties_of_long_leaves(together, monkeypatch):
  """One leaf counts as long, the other doesn't; both are cut at a tie."""
  monkeypatch.setattr(_native, 'LONG', 100)
  monkeypatch.setattr(_wide, '_NARROW', 2**16)
  rng = np.random.default_rng(0)
  xs = [rng.integers(0, 4, shape).astype(np.float32) for shape in ((2, 70000), (9, 11))]
  xs[0][:, :3000] = np.round(rng.normal(size=(2, 3000)))

  @functools.partial(jax.jit, compiler_options=FAST)
  def run(xs, ks):
    return _select._traced(xs, list(ks), together=together, way=_native)

  size = sum(x.size for x in xs)
  for part in (0.0, 0.1, 0.5, 0.9, 1.0):
    if together:
      ks = [round(part * size)]
      wanted = reference.top_k_together(xs, ks[0])
    else:
      ks = [round(part * x.size) for x in xs]
      wanted = [reference.top_k(x, k) for x, k in zip(xs, ks)]
    for mask, right in zip(run(xs, jnp.stack([_wide.constant(k) for k in ks])), wanted):
      np.testing.assert_array_equal(mask, right)


def test_rows_of_long_axes(monkeypatch):
  """Rows that are too long for one count are searched side by side."""
  monkeypatch.setattr(_rows, 'LONG', 10)
  x = np.random.default_rng(0).integers(0, 5, (12, 3)).astype(np.float32)
  found = jax.jit(lambda x: _rows.largest(x, 5, 0), compiler_options=FAST)(x)
  np.testing.assert_array_equal(found, reference.top_k_rows(x, 5, 0))


@given(st.lists(st.integers(0, 2**40), min_size=5, max_size=5), st.floats(0, 1))
@settings(deadline=None, max_examples=50)
def test_ties_are_shared_in_order(ties, part):
  """Also where one leaf has more than 2**32 of them."""
  left = int(part * sum(ties))
  wanted, rest = [], left
  for each in ties:
    wanted.append(min(each, rest))
    rest -= wanted[-1]
  held = jnp.stack([_wide.constant(each) for each in ties])
  found = _select._shared(held, jnp.asarray(_wide.constant(left))[None])
  assert [_wide.value(each) for each in found] == wanted


@pytest.mark.parametrize('size', [2**32, 2**33 + 5])
def test_a_race_of_one_long_leaf(size):
  """Four values of known number: the search counts, and how many ties are to be kept."""
  keys = np.array([5, 9, 2**31, 2**32 - 9], np.uint32)
  times = [size // 3, size // 7, 2**31, 0]
  times[3] = size - sum(times)

  def count(edges, blocks):
    each = jnp.stack([_wide.constant(n) for n in times])[:, None]
    hit = (jnp.asarray(keys)[:, None] > edges)[..., None]
    return _wide.total(jnp.where(hit, each, 0), axis=0)[None]

  @jax.jit
  def run(k):
    total = jnp.asarray(_wide.constant(size))[None]
    start = _search.start(k, total, jnp.uint32, None)
    blocks = _search.Blocks(total, jnp.zeros_like(total))
    return _search.run(count, lambda counts: counts, start, k, blocks, np.zeros(1, np.int32))

  for k in (1, times[3], times[3] + 1, size // 2, size - 1):
    state, blocks = run(jnp.asarray(_wide.constant(k))[None])
    above = int(np.searchsorted(np.cumsum(times[::-1]), k))
    low, upto = int(state.low[0]), sum(times[3 - above :])
    assert _wide.value(state.upto[0]) == sum(n for key, n in zip(keys, times) if key >= low)
    if upto != k:
      assert low == keys[3 - above]
      assert _wide.value(state.above[0]) == upto - times[3 - above]
      assert _wide.value(blocks.inside()[0]) == times[3 - above]
