"""Matrices dealt out to eight devices: the same bits as on one, and nothing whole but a unit."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jprune
from jprune import reconstruct
from jprune.graph._capture.capturing import Capturing, split_of
from jprune.reconstruct import _owners, _units

SIZE = 16  # of all matrices, so that one program solves all of them
SPECS = {
  'layers': P('d', None, 'm'),
  'experts': P(('d', 'm')),
  'q': P('d'),
  'k': P(None, 'm'),
  'v': P(),
}
each_kind = pytest.mark.parametrize('kind', [AxisType.Auto, AxisType.Explicit], ids=str)


def net(params, x):
  x, _ = jax.lax.scan(lambda x, w: (x + jnp.tanh(x @ w), None), x, params['layers'])
  of_experts = jnp.einsum('ni,eio->eno', x, params['experts'])
  return of_experts, *(x @ params[name] for name in 'qkv')


@functools.cache
def given():
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape) / 4, jnp.float32)
  params = {'layers': draw(12, SIZE, SIZE), 'experts': draw(8, SIZE, SIZE)}
  params |= {name: draw(SIZE, SIZE) for name in 'qkv'}
  _, stats = jprune.graph.capture(net, params, draw(256, SIZE) @ draw(SIZE, SIZE), gram=True)
  return params, stats


def spread(kind):
  """The same on a mesh, the products of inputs split by rows."""
  params, stats = given()
  mesh = jax.make_mesh((4, 2), ('d', 'm'), axis_types=(kind, kind))
  put = lambda x, spec: jax.device_put(x, NamedSharding(mesh, spec))
  rows = lambda x: P(None, ('d', 'm')) if x.ndim == 3 else P()
  return jax.tree.map(put, params, SPECS), jax.tree.map(lambda x: put(x, rows(x)), stats)


def by_least_squares(params, stats):
  return reconstruct.least_squares(params, stats, jax.tree.map(lambda w: jnp.abs(w) > 0.1, params))


def after_an_earlier_mask(params, stats):
  masks = jax.tree.map(lambda w: jnp.abs(w) > 0.1, params)
  return reconstruct.sparsegpt(params, stats, 0.6, masks=masks, per_output=True)


METHODS = {
  'sparsegpt': lambda params, stats: reconstruct.sparsegpt(params, stats, 0.45),
  'earlier mask': after_an_earlier_mask,
  'n of m': lambda params, stats: reconstruct.sparsegpt(params, stats, pattern=jprune.NOfM(2, 4)),
  'least_squares': by_least_squares,
  'alps': lambda params, stats: reconstruct.alps(params, stats, 0.45, iterations=20, steps=2),
}


# With explicit axes arrays come and go in other ways; who solves, and by what, is the same.
@pytest.mark.parametrize(
  ('method', 'kind'),
  [(method, AxisType.Auto) for method in METHODS]
  + [(method, AxisType.Explicit) for method in ('sparsegpt', 'earlier mask')],
)
def test_the_same_bits_as_on_one_device(method, kind):
  alone, apart = METHODS[method](*given()), METHODS[method](*spread(kind))
  split, _ = spread(kind)
  for name, leaf in split.items():
    np.testing.assert_array_equal(alone[1][name], apart[1][name], err_msg=name)
    near = 1e-5 if method == 'n of m' else 0.0  # XLA rounds once less in one of the programs
    np.testing.assert_allclose(alone[0][name], apart[0][name], near, near / 10, err_msg=name)
    assert apart[0][name].sharding == apart[1][name].sharding == leaf.sharding
  if method != 'n of m':
    assert alone[2].rows == apart[2].rows
  assert 0 < alone[2]['experts'].error_after < 1


def test_a_few_small_matrices_are_solved_together(monkeypatch):
  params, stats = given()
  one = reconstruct.sparsegpt(params, stats, 0.45, where='layers')
  monkeypatch.setattr(_units, '_MOST', 2)  # twelve, as two units
  assert _units.matrices_of_a_unit((12, SIZE, SIZE)) == 6
  two = reconstruct.sparsegpt(params, stats, 0.45, where='layers')
  np.testing.assert_array_equal(one[1]['layers'], two[1]['layers'])
  np.testing.assert_allclose(one[0]['layers'], two[0]['layers'], rtol=1e-5, atol=1e-6)
  assert one[2].rows[0].pruned == two[2].rows[0].pruned


def test_units_cover_all_matrices_whatever_their_number():
  assert _units.matrices_of_a_unit((10**6, 4096, 4096)) == 1
  assert _units.matrices_of_a_unit((64, 3, 3)) == 1
  for batch in (1, 2, 63, 64, 65, 500):
    per = _units.matrices_of_a_unit((batch, 9, 1))
    starts = _units.starts(batch, per)
    assert {start + i for start in starts for i in range(per)} == set(range(batch))
    assert len(starts) == min(batch, len(starts)) <= 64


def exchanged(compiled):
  """Elements in the largest array of each kind of exchange."""
  found = {}
  for results, kind in re.findall(
    r'= (.*?) (all-reduce|all-gather|all-to-all|collective-permute)\(', compiled.as_text()
  ):
    for dims in re.findall(r'\w+\[([\d,]*)\]', results):
      size = math.prod(int(n) for n in dims.split(',') if n)
      found[kind] = max(found.get(kind, 0), size)
  return found


def test_matrices_are_dealt_out_without_gathering_any():
  params, stats = spread(AxisType.Auto)
  ((use, moments),) = stats['layers']
  with _owners.owners_of(params, stats) as owners:
    leaf = jax.device_put(params['layers'], NamedSharding(owners.mesh, P()))
    sources = [_owners.Given(leaf, None, moments)]
    how = {'owners': owners, 'use': use, 'places': (0,) * 8, 'per': 1}
    starts = np.arange(8, dtype=np.int32)
    sent = exchanged(_owners.dealt.lower(sources, starts, **how).compile())
    found = _owners.dealt(sources, starts, **how)
  np.testing.assert_array_equal(found.weights, params['layers'][:8])
  np.testing.assert_array_equal(found.moments.products, moments.products[:8])
  assert {each.data.shape for each in found.moments.products.addressable_shards} == {
    (1, SIZE, SIZE)
  }
  assert 'all-gather' not in sent
  assert sent['all-to-all'] <= SIZE * SIZE


@each_kind
def test_grams_are_never_whole_on_a_device(kind):
  size = 1024
  mesh = jax.make_mesh((4, 2), ('d', 'm'), axis_types=(kind, kind))
  put = lambda x, spec: jax.device_put(x, NamedSharding(mesh, spec))
  x = np.random.default_rng(0).normal(size=(64, size)).astype(np.float32)
  fn = lambda params, x: x @ params['w']
  params = {'w': put(np.ones((size, 8), np.float32), P())}
  capturing = Capturing('capture', fn, [True], True, None, split=True)
  batch = put(x, P('d'))
  (moments,) = capturing(params, [batch, batch]).inputs
  assert {each.data.shape for each in moments.products.addressable_shards} == {(1, size // 8, size)}
  x = np.concatenate([x, x]).astype(np.float64)
  expected = (x - x.mean(axis=0)).T @ (x - x.mean(axis=0))
  np.testing.assert_allclose(moments.products[0], expected, rtol=1e-4, atol=1e-3)
  np.testing.assert_array_equal(moments.products[0], moments.products[0].T)
  assert moments.mean.sharding.is_fully_replicated
  split = split_of([batch], True)
  sent = exchanged(capturing._step.lower(params, (batch,), None, spread=split).compile())
  assert max(sent.values()) <= size * size // 4  # a strip


def test_grams_that_no_device_count_divides_are_split_as_far_as_it_goes():
  spec = lambda *shape: split_of([spread(AxisType.Auto)[0]['q']], True).spec(shape)
  assert spec(1, 24, 24) == P(None, ('d', 'm'))
  assert spec(1, 12, 12) == P(None, ('d',))
  assert spec(1, 6, 6) == P(None, ('m',))
  assert spec(8, 9, 9) == P(('d', 'm'))
  assert spec(1, 9, 9) == P()
