"""apply, combine, invert, straight_through, pack: what masks do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

import jprune
from jprune.masks import PackedMask, combine, invert, pack, straight_through, unpack

bools = hnp.arrays(bool, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=19))


def test_apply_is_a_selection_not_a_product():
  params = {'w': jnp.array([jnp.nan, jnp.inf, -0.0, 3.0, -2.0]), 'b': jnp.ones(2)}
  masks = {'w': jnp.array([False, False, False, True, False]), 'b': None}
  out = np.asarray(jprune.apply(params, masks)['w'])
  assert out.tolist() == [0.0, 0.0, 0.0, 3.0, 0.0]
  assert not np.signbit(out).any()


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16', 'float8_e4m3fn', 'int32'])
def test_apply_keeps_the_dtype_and_is_idempotent(dtype):
  params = {'w': jnp.arange(1, 7).reshape(2, 3).astype(dtype)}
  masks = {'w': jnp.array([[True, False, True], [False, True, True]])}
  once = jprune.apply(params, masks)
  assert once['w'].dtype == dtype
  np.testing.assert_array_equal(once['w'], np.where(masks['w'], params['w'], 0))
  np.testing.assert_array_equal(once['w'], jprune.apply(once, masks)['w'])
  np.testing.assert_array_equal(once['w'], jax.jit(jprune.apply)(params, pack(masks))['w'])


def test_apply_under_grad_and_vmap():
  masks = {'w': jnp.array([True, False])}
  grad = jax.grad(lambda p: jnp.sum(jprune.apply(p, masks)['w'] ** 2))({'w': jnp.array([3.0, 4.0])})
  assert grad['w'].tolist() == [6.0, 0.0]
  many = jax.vmap(jprune.apply, in_axes=(0, None))({'w': jnp.ones((3, 2))}, masks)
  assert many['w'].tolist() == [[1.0, 0.0]] * 3


@given(bools)
@settings(deadline=None, max_examples=25)
def test_pack_round_trip(mask):
  packed = pack({'w': jnp.asarray(mask)})['w']
  assert isinstance(packed, PackedMask)
  assert packed.shape == mask.shape
  last = mask.shape[-1] if mask.ndim else 1
  assert packed.bits.size == -(-last // 8) * (mask.size // last if last else 0)
  np.testing.assert_array_equal(unpack({'w': packed})['w'], mask)
  if mask.size:
    want = np.packbits(np.atleast_1d(mask), axis=-1, bitorder='little')
    np.testing.assert_array_equal(packed.bits, want)


def test_pack_under_jit_and_for_none():
  masks = {'w': jnp.arange(20).reshape(2, 10) % 3 == 0, 'b': None}
  packed = jax.jit(pack)(masks)
  assert packed['b'] is None
  assert packed['w'].bits.shape == (2, 2)
  np.testing.assert_array_equal(jax.jit(unpack)(packed)['w'], masks['w'])
  assert pack(packed)['w'] is packed['w']


@given(hnp.arrays(bool, (4, 5)), hnp.arrays(bool, (4, 5)))
@settings(deadline=None)
def test_combine_and_invert(one, two):
  masks = combine({'w': one, 'b': None}, pack({'w': jnp.asarray(two), 'b': None}))
  np.testing.assert_array_equal(masks['w'], one & two)
  assert masks['b'] is None
  np.testing.assert_array_equal(invert({'w': jnp.asarray(one)})['w'], ~one)
  assert combine({'w': one}, {'w': None})['w'].tolist() == one.tolist()


def test_straight_through():
  params = {'w': jnp.array([1.0, -2.0, jnp.inf])}
  masks = {'w': jnp.array([True, False, False])}
  value = straight_through(params, masks)
  assert value['w'].tolist() == jprune.apply(params, masks)['w'].tolist()
  loss = lambda p: jnp.sum(straight_through(p, masks)['w'] * jnp.array([3.0, 5.0, 7.0]))
  assert jax.grad(loss)(params)['w'].tolist() == [3.0, 5.0, 7.0]
  assert jax.jit(jax.grad(loss))(params)['w'].tolist() == [3.0, 5.0, 7.0]
  primal, tangent = jax.jvp(lambda p: straight_through(p, masks)['w'], (params,), (params,))
  assert primal.tolist() == [1.0, 0.0, 0.0]
  assert tangent.tolist() == params['w'].tolist()


PARAMS = {'a': {'w': jnp.ones((2, 3))}, 'b': jnp.ones(2)}


@pytest.mark.parametrize(
  ('masks', 'error', 'words'),
  [
    (
      {'a': {'w': jnp.ones((2, 3), bool)}},
      ValueError,
      r"apply: `masks` must be a tree with the structure of `params`; got no leaf 'b'",
    ),
    ({'a': {'w': None, 'v': None}, 'b': None}, ValueError, r"an unknown leaf 'a/v'"),
    (
      {'a': {'w': jnp.ones((3, 2), bool)}, 'b': None},
      ValueError,
      r"`masks` must be of shape \(2, 3\); got bool of shape \(3, 2\) at leaf 'a/w'",
    ),
    (
      {'a': {'w': jnp.ones((2, 3))}, 'b': None},
      TypeError,
      r"`masks` must be of dtype bool; got float32 of shape \(2, 3\) at leaf 'a/w'",
    ),
    ([jnp.ones((2, 3), bool), None], ValueError, r'must be a tree with the structure'),
  ],
)
@pytest.mark.parametrize('function', ['apply', 'straight_through'])
def test_masks_of_another_tree(function, masks, error, words):
  call = {'apply': jprune.apply, 'straight_through': straight_through}[function]
  with pytest.raises(error, match=words.replace('apply', function)):
    call(PARAMS, masks)


def test_other_messages():
  with pytest.raises(ValueError, match='combine: `masks` must be at least one; got none'):
    combine()
  with pytest.raises(ValueError, match="combine: `masks` must be a tree .* no leaf 'w'"):
    combine({'w': jnp.ones(2, bool)}, {'v': jnp.ones(2, bool)})
  with pytest.raises(ValueError, match=r'combine: `masks` must be of shape \(2,\)'):
    combine({'w': jnp.ones(2, bool)}, {'w': jnp.ones(3, bool)})
  with pytest.raises(TypeError, match="pack: `masks` must be of dtype bool; got float32.*'w'"):
    pack({'w': jnp.ones(2)})
  with pytest.raises(TypeError, match='unpack: `masks` must be of dtype bool'):
    unpack({'w': jnp.ones(2)})
  with pytest.raises(TypeError, match="invert: `masks` must be of dtype bool.*'w'"):
    invert({'w': jnp.ones(2)})
  with pytest.raises(ValueError, match='apply: `params` must be a tree with at least one leaf'):
    jprune.apply({}, {})
