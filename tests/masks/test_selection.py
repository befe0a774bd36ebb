"""Exact k and the tie rule, against a stable sort, on every way to count."""

import functools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import jprune
from jprune.masks._selection import driven as _driven
from jprune.masks._selection import flat as _flat
from jprune.masks._selection import keys as _keys
from jprune.masks._selection import native as _native
from jprune.masks._selection import rows as _rows
from jprune.masks._selection import search as _search
from jprune.masks._selection import select as _select
from jprune.masks._selection import sorted as _sorted
from jprune.masks._selection import wide as _wide
from tests import reference

DTYPES = ('float32', 'bfloat16', 'float16', 'float8_e4m3fn', 'float8_e5m2')
KINDS = {
  'normal': lambda rng, n: rng.standard_normal(n),
  'magnitudes': lambda rng, n: np.abs(rng.standard_normal(n)),
  'repeated': lambda rng, n: np.round(rng.standard_normal(n) * 2) / 2,
  'half zeros of both signs': lambda rng, n: (
    np.where(rng.random(n) < 0.5, -0.0, 0.0)
    + np.where(rng.random(n) < 0.5, 0.0, rng.standard_normal(n))
  ),
  'heavy tails': lambda rng, n: rng.standard_cauchy(n),
  'ascending': lambda rng, n: np.sort(rng.standard_normal(n)),
  'all equal': lambda rng, n: np.ones(n),
  'two far clusters': lambda rng, n: (
    np.where(rng.random(n) < 0.3, 1e-30, 1e30) * (1 + 1e-6 * rng.integers(0, 9, n))
  ),
  'denormal': lambda rng, n: rng.standard_normal(n) * 1e-41,
  'infinite': lambda rng, n: rng.choice([np.inf, -np.inf, 0.0, 1.0], n),
}
CHUNK = 4096  # see short_rows: 64 rows
SHAPES = (
  [(1,)],
  [()],
  [(5,)],
  [(65,)],
  [(CHUNK,)],
  [(CHUNK + 1,)],
  [(3, 5000)],
  [(64,), (17, 9), (7, 3), (0, 4), (2 * CHUNK + 128 + 5,), (40, 30), (9, 9)],
)


@pytest.fixture(autouse=True, scope='module')
def short_rows():
  """Rows of 64 keys, so that small leaves have many; one test goes without."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(_flat, 'LANES', 64)
    patch.setattr(_driven, 'ON_HOST', CHUNK)
    jax.clear_caches()  # what was compiled counted on other rows
    yield
  jax.clear_caches()


def leaves_of(shapes, dtype, kind, seed=0):
  rng = np.random.default_rng(seed)
  with np.errstate(all='ignore'):
    make = lambda shape: np.asarray(KINDS[kind](rng, int(np.prod(shape))), np.float32)
    return [jnp.asarray(make(shape).reshape(shape)).astype(dtype) for shape in shapes]


def places(sizes):
  size = sum(sizes)
  return sorted({0, min(1, size), size // 100, size // 3, max(size - 1, 0), size})


WAYS = [_flat, _native, _sorted]


def to_wide(k):
  return jnp.asarray(_wide.constant(k))


# the time of these tests is that of LLVM
QUICK = {'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True}
jit = functools.partial(jax.jit, compiler_options=QUICK)


@functools.partial(jit, static_argnames=['way', 'together'])
def traced(xs, ks, way, together):
  if way is _sorted:
    return _sorted.largest(xs, jnp.stack(ks), together)
  return _select._traced(xs, ks, together=together, way=way)


@pytest.mark.parametrize('way', WAYS, ids=['flat', 'native', 'sorted'])
@pytest.mark.parametrize('shapes', SHAPES[1:3] + SHAPES[5:], ids=str)
def test_together_under_a_trace(way, shapes):
  for kind in KINDS:
    xs = leaves_of(shapes, 'float32', kind)
    for k in places([x.size for x in xs]):
      masks = traced(xs, [to_wide(k)], way, True)
      for got, want in zip(masks, reference.top_k_together(xs, k)):
        np.testing.assert_array_equal(got, want, err_msg=f'{kind}, k={k}')


@pytest.mark.parametrize(
  ('way', 'dtype'), [(_flat, 'bfloat16'), (_native, 'float8_e4m3fn'), (_sorted, 'float16')]
)
def test_narrow_dtypes_under_a_trace(way, dtype):
  for kind in KINDS:
    xs = leaves_of(SHAPES[-1], dtype, kind)
    for k in places([x.size for x in xs]):
      masks = traced(xs, [to_wide(k)], way, True)
      for got, want in zip(masks, reference.top_k_together(xs, k)):
        np.testing.assert_array_equal(got, want, err_msg=f'{kind}, k={k}')


@pytest.mark.parametrize('way', WAYS, ids=['flat', 'native', 'sorted'])
def test_each_under_a_trace(way):
  for kind in KINDS:
    xs = leaves_of(SHAPES[-1], 'float32', kind)
    for fraction in (0.0, 0.01, 0.5, 0.99, 1.0):
      ks = [int(fraction * x.size) for x in xs]
      masks = traced(xs, [to_wide(k) for k in ks], way, False)
      for got, x, k in zip(masks, xs, ks):
        np.testing.assert_array_equal(got, reference.top_k(x, k), err_msg=f'{kind}, k={k}')


@pytest.mark.parametrize(
  ('shapes', 'dtype'),
  [*((shapes, 'float32') for shapes in SHAPES), *((SHAPES[-1], dtype) for dtype in DTYPES[1:])],
  ids=str,
)
def test_together_on_concrete_arrays(shapes, dtype):
  for kind in KINDS:
    xs = leaves_of(shapes, dtype, kind)
    for k in places([x.size for x in xs]):
      for got, want in zip(_select.largest_together(xs, k), reference.top_k_together(xs, k)):
        np.testing.assert_array_equal(got, want, err_msg=f'{kind}, k={k}')


def test_nan_ranks_lowest_under_a_trace():
  x = jnp.asarray([jnp.nan, 1.0, -jnp.inf, jnp.nan, 0.5, -jnp.nan])
  for k in range(7):
    for way in WAYS:
      (mask,) = traced([x], [to_wide(k)], way, True)
      np.testing.assert_array_equal(mask, reference.top_k(x, k))


def test_rows_of_their_real_length():
  with pytest.MonkeyPatch.context() as patch:
    patch.undo()
    patch.setattr(_flat, 'LANES', 1024)
    patch.setattr(_driven, 'ON_HOST', 2**18)
    jax.clear_caches()
    for kind in ('magnitudes', 'repeated', 'all equal'):
      xs = leaves_of([(64 * 4096 + 8192 + 5,), (300, 300)], 'float32', kind)
      for k in (0, 77, 100_000):
        want = reference.top_k_together(xs, k)
        for masks in (traced(xs, [to_wide(k)], _flat, True), _select.largest_together(xs, k)):
          for got, mask in zip(masks, want):
            np.testing.assert_array_equal(got, mask, err_msg=f'{kind}, k={k}')
  jax.clear_caches()


def test_dtypes_are_compared_by_value():
  xs = [jnp.asarray([1.0, 3.0], jnp.bfloat16), jnp.asarray([2.0, 4.0], jnp.float32)]
  got = jprune.masks.top_k_global(xs, 0.5)
  assert [mask.tolist() for mask in got] == [[False, True], [False, True]]


def test_guesses_that_fail_cost_passes_not_exactness():
  # the sample is taken at places that hold nothing of what matters
  x = np.full(10 * CHUNK, 1.0, np.float32)
  x[_flat.jittered(x.size, _driven.SAMPLE)] = 100.0
  x[7] = 0.5
  for k in (1, 2, 2047, 2048, 2049, x.size - 1):
    np.testing.assert_array_equal(_select.largest([jnp.asarray(x)], [k])[0], reference.top_k(x, k))
    (mask,) = traced([jnp.asarray(x)], [to_wide(k)], _flat, False)
    np.testing.assert_array_equal(mask, reference.top_k(x, k))


def test_float64_scores():
  with jax.enable_x64(True):
    x = jnp.asarray(np.random.default_rng(0).standard_normal(5000)) * 1e-200
    assert x.dtype == jnp.float64
    for way in WAYS:
      masks = traced([x], [to_wide(1234)], way, True)
      np.testing.assert_array_equal(masks[0], reference.top_k(x, 1234))
    np.testing.assert_array_equal(_select.largest([x], [1234])[0], reference.top_k(x, 1234))


scores_strategy = hnp.arrays(
  np.float32,
  hnp.array_shapes(max_dims=3, max_side=12),
  elements=st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, np.inf, -np.inf, 1e-45, -1e-45, 2.0**-126]),
    st.floats(width=32, allow_nan=False),
  ),
)


@given(st.lists(scores_strategy, min_size=1, max_size=4), st.floats(0, 1))
@settings(deadline=None, max_examples=100)
def test_exact_k_and_ties(leaves, sparsity):
  scores = {str(i): jnp.asarray(leaf) for i, leaf in enumerate(leaves)}
  each = jprune.masks.top_k(scores, sparsity)
  for i, leaf in enumerate(leaves):
    want = reference.top_k(leaf, leaf.size - round(sparsity * leaf.size))
    np.testing.assert_array_equal(each[str(i)], want)
  size = sum(leaf.size for leaf in leaves)
  together = jprune.masks.top_k_global(scores, sparsity)
  want = reference.top_k_together(leaves, size - round(sparsity * size))
  for i, mask in enumerate(want):
    np.testing.assert_array_equal(together[str(i)], mask)


@given(scores_strategy, st.floats(0, 1), st.floats(0, 1))
@settings(deadline=None, max_examples=50)
def test_masks_nest_as_sparsity_rises(leaf, one, two):
  low, high = sorted((one, two))
  loose = np.asarray(jprune.masks.top_k({'w': leaf}, low)['w'])
  tight = np.asarray(jprune.masks.top_k({'w': leaf}, high)['w'])
  assert not (tight & ~loose).any()


@given(
  hnp.arrays(np.float32, (6, 10), elements=st.sampled_from([0.0, -0.0, 1.0, 2.0, -3.0, np.inf])),
  st.floats(0, 1),
  st.sampled_from([-2, -1, 0]),
)
@settings(deadline=None, max_examples=50)
def test_rows(leaf, sparsity, axis):
  size = leaf.shape[axis]
  got = jprune.masks.top_k_rows({'w': leaf}, sparsity, axis=axis)['w']
  want = reference.top_k_rows(leaf, size - round(sparsity * size), axis)
  np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float8_e5m2'])
def test_many_rows(dtype):
  x = leaves_of([(3, 130, 50)], dtype, 'repeated')[0]
  for axis in range(3):
    got = jprune.masks.top_k_rows([x], 0.7, axis=axis)[0]
    k = x.shape[axis] - round(0.7 * x.shape[axis])
    np.testing.assert_array_equal(got, reference.top_k_rows(x, k, axis))


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float8_e5m2'])
def test_few_rows(dtype):
  """They are sorted."""
  for kind in KINDS:
    x = leaves_of([(4, 30, 7)], dtype, kind)[0]
    for axis in range(3):
      k = x.shape[axis] - round(0.7 * x.shape[axis])
      got = _rows.largest(x, k, axis)
      np.testing.assert_array_equal(got, reference.top_k_rows(x, k, axis), err_msg=kind)


def test_sparsity_may_be_traced():
  x = jnp.abs(jax.random.normal(jax.random.key(0), (300, 400)))
  masks = jit(lambda x, s: jprune.masks.top_k({'w': x}, s))
  together = jit(lambda x, s: jprune.masks.top_k_global({'w': x}, s))
  rows = jit(lambda x, s: jprune.masks.top_k_rows({'w': x}, s))
  for s in (0.0, 0.25, 0.5, 0.75, 1.0):
    k = x.size - round(s * x.size)
    assert int(masks(x, s)['w'].sum()) == int(together(x, s)['w'].sum()) == k
    assert set(rows(x, s)['w'].sum(0).tolist()) == {300 - round(s * 300)}


def test_vmap_equals_a_loop():
  x = jax.random.normal(jax.random.key(0), (4, 20, 30))
  for function in (
    lambda x: jprune.masks.top_k({'w': x}, 0.7)['w'],
    lambda x: jprune.masks.top_k_global({'w': x, 'v': -x}, 0.7)['w'],
    lambda x: jprune.masks.top_k_rows({'w': x}, 0.7)['w'],
    lambda x: jprune.masks.n_of_m({'w': x}, 2, 4)['w'],
  ):
    found, single = jit(jax.vmap(function))(x), jit(function)
    np.testing.assert_array_equal(found, jnp.stack([single(each) for each in x]))


def test_flat_counting_under_vmap():
  x = jax.random.normal(jax.random.key(0), (3, 5000))
  run = lambda x: _select._traced([x], [1000], together=True, way=_flat)[0]
  for got, each in zip(jax.vmap(run)(x), x):
    np.testing.assert_array_equal(got, reference.top_k(each, 1000))


def test_no_leaf_is_compiled_twice_for_another_sparsity(compilations):
  x = jnp.abs(jax.random.normal(jax.random.key(0), (CHUNK + 3,)))
  jprune.masks.top_k({'w': x}, 0.5)
  compilations.clear()
  jprune.masks.top_k({'w': x}, 0.9)
  assert compilations == []


@pytest.mark.parametrize('dtype', [*DTYPES, 'float64'])
def test_keys_order_as_the_floats_do(dtype):
  rng = np.random.default_rng(0)
  special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 2e-45, -1e-45]
  with np.errstate(all='ignore'):
    x = np.concatenate([rng.standard_normal(100), special]).astype(jnp.dtype(dtype))
  value, nan = reference.order(x)
  keys = _keys.host_keys(x)
  less = (value[:, None] < value) | (nan[:, None] & ~nan)
  np.testing.assert_array_equal(keys[:, None] < keys, less)
  for low in np.unique(keys).tolist():
    for high in (low, int(np.median(keys)), int(keys.max())):
      found = _keys.host_between(x, low, high)
      np.testing.assert_array_equal(found, (keys >= low) & (keys <= high))
  with jax.enable_x64(dtype == 'float64'):
    np.testing.assert_array_equal(_keys.keys(jnp.asarray(x)), keys)


@given(st.floats(0, 1, width=32), st.integers(0, 2**44))
@settings(deadline=None)
def test_rounded_product_is_exact(fraction, count):
  got = _wide.value(_wide.rounded_product(jnp.float32(fraction), count))
  exact = Fraction(fraction) if fraction >= 2**-8 else Fraction(round(fraction * 2**32), 2**32)
  assert got == round(exact * count)


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=30))
@settings(deadline=None)
def test_wide_counts_past_two_to_the_32(counts):
  wide = _wide.wide(jnp.asarray(counts, jnp.uint32))
  assert _wide.value(_wide.total(wide, axis=0)) == sum(counts)
  assert [_wide.value(each) for each in _wide.running_total(wide)] == np.cumsum(counts).tolist()
  whole, part = _wide.constant(sum(counts)), _wide.constant(counts[0])
  whole, part = jnp.asarray(whole), jnp.asarray(part)
  assert _wide.value(_wide.subtract(whole, part)) == sum(counts[1:])
  assert bool(_wide.at_least(whole, part)) == (sum(counts) >= counts[0])
  assert int(_wide.narrow(whole)) == min(sum(counts), 2**32 - 1)


@pytest.mark.parametrize('seed', range(6))
def test_a_race_of_more_than_two_to_the_36(seed):
  # leaves that no machine holds: each is one key, so many times over, counted without being there
  rng = np.random.default_rng(seed)
  keys = rng.integers(0, 2**32, 40, dtype=np.uint32)
  times = rng.integers(2**30, 2**32, 40, dtype=np.uint32)
  size = int(times.astype(object).sum())
  assert size > 2**36

  def passed(edges, blocks):
    hit = jnp.asarray(keys)[:, None] > edges
    return jnp.where(hit, jnp.asarray(times)[:, None], jnp.uint32(0))

  total = jnp.asarray(_wide.constant(size))[None]
  totals = lambda counts: _wide.total(_wide.wide(counts), axis=0)[None]

  @jax.jit
  def search(k):
    start = _search.start(k, total, jnp.uint32, None)
    blocks = _search.Blocks(jnp.asarray(times), jnp.zeros(40, jnp.uint32))
    return _search.run(passed, totals, start, k, blocks, np.zeros(40, np.int32))

  for k in (1, size // 3, 2**33 + 1, size - 1, int(times[np.argmax(keys)])):
    state, blocks = search(jnp.asarray(_wide.constant(k))[None])
    low, upto = int(state.low[0]), _wide.value(state.upto[0])
    count = lambda chosen: int(times[chosen].astype(object).sum())
    assert upto == count(keys >= low) >= k
    if upto != k:
      above = _wide.value(state.above[0])
      assert above == count(keys > low) < k
      assert int(np.asarray(blocks.inside()).astype(object).sum()) == upto - above
