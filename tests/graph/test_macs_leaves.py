"""Multiply-adds: which leaf a product multiplies by, and which share of it is kept."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from jprune.graph import Macs, macs
from tests.graph.shapes import of_leaves, some, struct


def casts(w, x):
  return x.astype(jnp.bfloat16) @ w.T.astype(jnp.bfloat16).T


def as_jit(w, x):
  return jax.jit(lambda x: x @ jax.jit(jnp.transpose)(w.T))(x)


@jax.custom_vjp
def custom(w, x):
  return x @ w


custom.defvjp(lambda w, x: (custom(w, x), (w, x)), lambda r, g: (r[1].T @ g, g @ r[0].T))

FIXED = some(6, 4)
OWNED = {
  'plain': lambda w, x: x @ w,
  'on the left': lambda w, x: w.T @ x.T,
  'casts': casts,
  'reshape': lambda w, x: jnp.einsum('ba,ahd->bhd', x, w.reshape(6, 2, 2)),
  'jit': as_jit,
  'remat': lambda w, x: jax.checkpoint(lambda w: x @ w)(w),
  'custom_vjp': custom,
  'vmap': lambda w, x: jax.vmap(lambda row: row @ w)(x),
  'mask': lambda w, x: x @ (w * FIXED.astype(np.float32)),
  'where': lambda w, x: x @ jnp.where(FIXED, w, jnp.zeros_like(w)),
  'own mask': lambda w, x: x @ jnp.where(jnp.abs(w) > 0.1, w, jnp.zeros_like(w)),
  'temperature': lambda w, x: (x @ (w * x.sum())) / x.mean(),
  'standardised': lambda w, x: x @ ((w - w.mean(0, keepdims=True)) / w.std(0, keepdims=True)),
  'softmax': lambda w, x: x @ jax.nn.softmax(w, axis=0),
  'broadcast': lambda w, x: lax.batch_matmul(
    jnp.broadcast_to(x, (2, 3, 6)), jnp.broadcast_to(w, (2, 6, 4))
  ),
  'stop_gradient': lambda w, x: x @ lax.stop_gradient(w),
  'map': lambda w, x: lax.map(lambda row: row @ w, x),
  'fori_loop': lambda w, x: lax.fori_loop(0, 3, lambda i, y: y + x @ w, jnp.zeros((3, 4))),
  'cond': lambda w, x: lax.cond(x[0, 0] > 0, lambda: x @ w, lambda: -(x @ w)),
  'carried by a loop': lambda w, x: lax.fori_loop(
    0, 2, lambda i, c: (c[0], c[1] + x @ c[0]), (w, jnp.zeros((3, 4)))
  )[1],
}


@pytest.mark.parametrize('name', OWNED)
def test_a_leaf_is_found_through(name):
  fn = OWNED[name]
  masks = {'w': some(6, 4, seed=3)}
  count = macs(lambda p, x: fn(p['w'], x), {'w': struct(6, 4)}, struct(3, 6), masks=masks)
  assert {row.leaf for row in count.equations} == {'w'}
  assert count.others == Macs(0, 0, 0)
  assert count.sparse * 24 == count.dense * int(masks['w'].sum())


def test_a_mask_or_an_index_may_be_an_argument():
  fn = lambda p, m, x: x @ (p['w'] * m)
  count = macs(fn, {'w': struct(6, 4)}, struct(6, 4), struct(3, 6))
  assert count.leaves['w'].dense == 72
  expert = lambda p, i, x: jnp.einsum('ba,bac->bc', x, p['w'][i])
  count = macs(expert, {'w': struct(5, 6, 4)}, struct(3, dtype=jnp.int32), struct(3, 6))
  assert count.leaves['w'].dense == 72


def test_weight_norm_belongs_to_the_kernel():
  def fn(p, x):
    norm = jnp.sqrt(jnp.square(p['v']).sum(0, keepdims=True))
    return x @ (p['v'] * (p['g'] / norm))

  count = macs(fn, {'g': struct(1, 4), 'v': struct(6, 4)}, struct(3, 6))
  assert of_leaves(count) == {'v': Macs(72, 72, 72)}


def test_what_comes_from_several_leaves_belongs_to_none():
  def fn(p, x):
    return x @ (p['w'] + p['a'] @ p['b'])

  count = macs(fn, {'a': struct(6, 2), 'b': struct(2, 4), 'w': struct(6, 4)}, struct(3, 6))
  assert count.leaves['w'] == Macs(0, 0, 0)
  assert count.others.dense == 72
  assert count.dense == 72 + 6 * 2 * 4


def test_concatenated_leaves_share_a_product():
  def fn(p, x):
    fused = jnp.concatenate([p['q'], p['k']], axis=1).astype(jnp.bfloat16)
    return x.astype(jnp.bfloat16) @ fused

  masks = {'k': some(6, 4, seed=1), 'q': some(6, 5, seed=2)}
  count = macs(fn, {'k': struct(6, 4), 'q': struct(6, 5)}, struct(3, 6), masks=masks)
  assert [(row.leaf, row.macs.dense) for row in count.equations] == [('q', 90), ('k', 72)]
  assert count.dense == 3 * 6 * 9
  assert count.sparse == 3 * (masks['k'].sum() + masks['q'].sum())
  assert count.others == Macs(0, 0, 0)


def test_leaves_that_are_stacked_for_a_scan():
  def fn(p, x):
    stacked = jnp.stack([p['a'], p['b'], p['c']])
    return lax.scan(lambda x, w: (jnp.tanh(x @ w.T), None), x, stacked)[0]

  masks = {name: some(6, 6, seed=seed) for seed, name in enumerate('abc')}
  count = macs(fn, {name: struct(6, 6) for name in 'abc'}, struct(6), masks=masks)
  assert of_leaves(count) == {n: Macs(36, int(m.sum()), 36) for n, m in masks.items()}
  cut = lambda p, x: jnp.concatenate([p['a'], p['b']])[:7] @ x
  assert macs(cut, {'a': struct(6, 6), 'b': struct(6, 6)}, struct(6)).others.dense == 42


def test_activations_belong_to_no_leaf_whatever_was_added_to_them():
  def fn(p, x):
    q, k = x @ p['q'] + p['b'], x @ p['k'] * p['b']
    return q @ k.T

  shapes = {'b': struct(1, 4), 'k': struct(6, 4), 'q': struct(6, 4)}
  count = macs(fn, shapes, struct(1, 6))
  assert count.others.dense == 4
  assert count.leaves['b'].dense == 0


def test_an_embedding_is_no_kernel_until_it_is_one():
  fn = lambda p, i: (p['e'][i] @ p['w']) @ p['e'].T
  count = macs(fn, {'e': struct(50, 6), 'w': struct(6, 6)}, struct(3, dtype=jnp.int32))
  assert of_leaves(count) == {'e': Macs(*[3 * 6 * 50] * 3), 'w': Macs(*[3 * 36] * 3)}


# --------------------------------------------------------------------------------- exact densities


def test_a_slice_has_the_density_of_the_slice():
  mask = np.zeros((6, 8), bool)
  mask[:, 2:4] = True

  def fn(p, x):
    first, second = jnp.split(p['w'].T, 2)
    return x @ first.T, (x @ second.T)[:, :, None, None] + x[0, 0]

  count = macs(fn, {'w': struct(6, 8)}, struct(3, 6), masks={'w': mask})
  assert [row.macs.sparse for row in count.equations] == [3 * 6 * 2, 0]
  fn = lambda p, x: x @ p['w'][:, 1:4:2]
  assert macs(fn, {'w': struct(6, 8)}, struct(3, 6), masks={'w': mask}).sparse == 3 * 6
  fn = lambda p, x: x @ p['w'][:, np.array([3, 2, 3])] @ lax.dynamic_slice(p['w'], (0, 2), (3, 2))
  assert macs(fn, {'w': struct(6, 8)}, struct(3, 6), masks={'w': mask}).sparse == 3 * 18 + 3 * 6


def test_slices_within_a_scan():
  mask = some(5, 6, 8, seed=1)

  def fn(p, x):
    body = lambda c, w: (c + jnp.tanh(c @ w[:, :6] + w.reshape(2, 24)[1, :6]), c @ w[:, 6:])
    return lax.scan(body, x, p['w'])

  count = macs(fn, {'w': struct(5, 6, 8)}, struct(6), masks={'w': mask})
  assert [row.times for row in count.equations] == [5, 5]
  assert count.dense == 5 * 6 * 8
  assert count.sparse == mask.sum()


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_sparse_counts_are_the_multiplications_that_are_left(data):
  sizes = [data.draw(st.integers(1, 4)) for _ in range(4)]
  order = data.draw(st.permutations(range(4)))
  mask = np.array(
    data.draw(st.lists(st.booleans(), min_size=math.prod(sizes), max_size=math.prod(sizes)))
  )
  mask = mask.reshape(sizes)
  cut = data.draw(st.integers(0, sizes[order[0]] - 1))
  fn = lambda p, x: jnp.einsum('xabcd,abcd->xa', x, p['w'].transpose(order)[cut:])
  shape = tuple(sizes[i] for i in order)
  x = struct(2, shape[0] - cut, *shape[1:])
  count = macs(fn, {'w': struct(*sizes)}, x, masks={'w': mask})
  assert count.dense == math.prod(x.shape)
  assert count.sparse == 2 * int(mask.transpose(order)[cut:].sum())
