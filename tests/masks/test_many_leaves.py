"""Selection from many leaves under jit on one CPU device: leaves of one shape share their code."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jprune
from jprune.masks._caps import Caps
from jprune.masks._selection import flat as _flat
from jprune.masks._selection import select as _select
from jprune.masks._top_k import select, select_global
from tests import reference
from tests.masks.test_selection import KINDS, jit, leaves_of, to_wide

LANES = 64
SHAPES = [
  *([(0,), (), (1,), (LANES,), (LANES - 1,), (2, LANES), (3, 5), (0, 4), (LANES + 1,)] * 2),
  *((n,) for n in range(2, 13)),
  (4 * LANES + 3,),
  (5, 2 * LANES),
  (7, 3, 2),
  (1, 1),
  (0,),
]
SIZES = [int(np.prod(shape)) for shape in SHAPES]


@pytest.fixture(autouse=True)
def one_device_and_short_rows(monkeypatch):
  """What a process with one device does; and rows so short that leaves have several."""
  monkeypatch.setattr(jax, 'device_count', lambda: 1)
  monkeypatch.setattr(_flat, 'LANES', LANES)
  jax.clear_caches()
  yield
  jax.clear_caches()


@functools.partial(jit, static_argnames='together')
def masks_of(xs, ks, together):
  assert _select._way_of(xs) is _flat
  return _select._traced(xs, ks, together=together)


def kept_of_each():
  """Numbers of weights of each leaf: none, all, one, all but one, and in between."""
  rng = np.random.default_rng(0)
  for share in (0.0, 1.0, 0.1, 0.9):
    yield [round(share * size) for size in SIZES]
  yield [min(1, size) for size in SIZES]
  yield [max(size - 1, 0) for size in SIZES]
  yield [int(rng.integers(0, size + 1)) for size in SIZES]


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float64'])
def test_each(dtype):
  with jax.enable_x64(dtype == 'float64'):
    for kind in KINDS:
      xs = leaves_of(SHAPES, dtype, kind)
      for ks in kept_of_each():
        masks = masks_of(xs, to_wide(ks), False)
        for got, x, k in zip(masks, xs, ks):
          np.testing.assert_array_equal(got, reference.top_k(x, k), err_msg=f'{kind}, k={k}')


@pytest.mark.parametrize('dtype', ['float16', 'float8_e4m3fn', 'float64'])
def test_together(dtype):
  size = sum(SIZES)
  with jax.enable_x64(dtype == 'float64'):
    for kind in KINDS:
      xs = leaves_of(SHAPES, dtype, kind)
      for k in (0, 1, size // 100, size // 3, size - 1, size):
        masks = masks_of(xs, to_wide([k]), True)
        for got, want in zip(masks, reference.top_k_together(xs, k)):
          np.testing.assert_array_equal(got, want, err_msg=f'{kind}, k={k}')


def test_what_is_marked():
  # what came before stays pruned, what comes first stays, the rest compete
  rng = np.random.default_rng(1)
  xs = leaves_of(SHAPES, 'float32', 'repeated')
  alive = [jnp.asarray(rng.random(x.shape) < 0.8) for x in xs]
  first = [jnp.asarray(rng.random(x.shape) < 0.1) for x in xs]
  ranks = [np.where(one, 99.0, np.where(two, x, -99.0)) for x, two, one in zip(xs, alive, first)]

  @jit
  def chosen(xs, sparsity, alive, first):
    return (
      select('f', xs, sparsity, jprune.masks.Unstructured(), alive, first=first),
      select_global('f', xs, sparsity, jprune.masks.Unstructured(), alive, first=first),
    )

  for sparsity in (0.0, 0.5, 0.75, 1.0):
    each, together = chosen(xs, sparsity, alive, first)
    k = sum(SIZES) - round(sparsity * sum(SIZES))
    for x, a, b, one, mine, all_ in zip(
      ranks, each, reference.top_k_together(ranks, k), alive, SIZES, together
    ):
      want = reference.top_k(x, mine - round(sparsity * mine)) & np.asarray(one)
      np.testing.assert_array_equal(a, want)
      np.testing.assert_array_equal(all_, b & np.asarray(one))


def test_caps():
  xs = leaves_of(SHAPES, 'float32', 'magnitudes')
  caps = Caps(3, 0.75, (None,) * len(xs))
  floors = [max(min(3, size), size - int(0.75 * size)) for size in SIZES]
  rows = [[(list(range(size)), floor)] for size, floor in zip(SIZES, floors)]
  everything = [np.ones(x.shape, bool) for x in xs]
  scores = [np.asarray(x) for x in xs]
  pattern = jprune.masks.Unstructured()
  together = jit(lambda xs, sparsity: select_global('f', xs, sparsity, pattern, caps=caps))
  for sparsity in (0.25, 0.7):  # traced: it counts as the float32 nearest to it
    k = sum(SIZES) - round(float(np.float32(sparsity)) * sum(SIZES))
    want = reference.capped(scores, everything, k, rows)
    for got, mask in zip(together(xs, jnp.float32(sparsity)), want):
      np.testing.assert_array_equal(got, mask)
  ks = [size - round(0.7 * size) for size in SIZES]  # known
  each = jit(lambda xs: select('f', xs, 0.7, pattern, caps=caps))(xs)
  for got, mask in zip(each, reference.capped(scores, everything, ks, rows)):
    np.testing.assert_array_equal(got, mask)


def test_rows_of_their_real_length(monkeypatch):
  monkeypatch.setattr(_flat, 'LANES', 1024)
  jax.clear_caches()
  shapes = [*((300 + 7 * (i % 3), 11) for i in range(_select.MANY)), (1024,), (70 * 1024 + 5,)]
  xs = leaves_of(shapes, 'float32', 'repeated')
  run = jit(lambda xs, ks: _select._traced(xs, ks, together=False))
  for share in (0.1, 0.5):
    ks = [round(share * x.size) for x in xs]
    for got, x, k in zip(run(xs, to_wide(ks)), xs, ks):
      np.testing.assert_array_equal(got, reference.top_k(x, k))


def test_under_vmap_and_as_few_leaves():
  many = leaves_of(SHAPES, 'float32', 'repeated')
  run = lambda xs: jprune.masks.top_k(xs, 0.7)
  masks = jit(jax.vmap(run))([jnp.stack([x, -x]) for x in many])
  for got, x, size in zip(masks, many, SIZES):
    k = size - round(0.7 * size)
    np.testing.assert_array_equal(got, [reference.top_k(x, k), reference.top_k(-x, k)])
  few = slice(-4, -2)
  for got, want in zip(jit(run)(many[few]), masks[few]):
    np.testing.assert_array_equal(got, want[0])


def test_nan_ranks_lowest():
  xs = [jnp.full(3, jnp.nan) for _ in range(_select.MANY)]
  xs.append(jnp.asarray([jnp.nan, 1.0, -jnp.inf, jnp.nan, 0.5, -jnp.nan]))
  run = jit(lambda xs, k: _select._traced(xs, k, together=True))
  for k in (1, 3, 4, 50, 98, 102):
    for got, want in zip(run(xs, to_wide([k])), reference.top_k_together(xs, k)):
      np.testing.assert_array_equal(got, want)
