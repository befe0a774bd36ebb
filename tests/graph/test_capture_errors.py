"""What capture refuses; and that of every leaf something is known or the reason is told."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend import core

from jprune.graph import capture, capture_batches
from tests.graph.captured import captured, check_accounts, normal
from tests.zoo import CASES, made

W, LAYERS = normal(16, 16), normal(3, 16, 16, seed=1)
X = normal(2, 6, 16, seed=2)
PARAMS = {'out': normal(16, 3), 'up': normal(16, 16)}  # they run in the other order


def fn(p, x):
  return jnp.tanh(x @ p['up']) @ p['out']


# ----------------------------------------------------------------------------------- left_out

odd_p = core.Primitive('odd_function')
odd_p.def_abstract_eval(lambda x: x)
odd_p.def_impl(lambda x: x)
jax.interpreters.mlir.register_lowering(odd_p, lambda context, x: [x])
NWC = ('NWC', 'WIO', 'NWC')


def conv(x, w, **options):
  return lax.conv_general_dilated(x, w, (1,), 'SAME', dimension_numbers=NWC, **options)


def convolved(p, x):
  return conv(x, jnp.concatenate([p['w'], p['w'] ** 2], 2))


def changed_by_a_loop(p, x):
  step = lambda state, _: ((state[0] * 0.9, state[1] @ state[0]), None)
  return lax.scan(step, (p['w'], x), length=2)[0][1]


def called_back(p, x):
  product = lambda x, w: np.asarray(x) @ np.asarray(w)
  return jax.pure_callback(product, jax.ShapeDtypeStruct(x.shape, x.dtype), x, p['w'])


# A function of the params {'w': leaf} and X, the leaf, and the reason that is given.
LEFT_OUT = {
  'unused': (lambda p, x: x, W, 'fn does not use it'),
  'returned': (lambda p, x: (x, p['w']), W, 'fn only returns it'),
  'penalty': (lambda p, x: (x, (p['w'] ** 2).sum()), W, 'used by reduce_sum'),
  'lookup': (lambda p, x: p['w'][jnp.argmax(x, -1)], W, 'used by gather'),
  'position': (lambda p, x: x + p['w'][None, :6], W, 'used by add'),
  'expert by data': (lambda p, x: x @ p['w'][x[0, 0].argmax() % 3], LAYERS, 'by dynamic_slice'),
  'layer by another counter': (
    lambda p, x: lax.fori_loop(0, 3, lambda i, x: jnp.tanh(x @ p['w'][2 - i]), x),
    LAYERS,
    'used by dynamic_slice',
  ),
  'layers twice': (
    lambda p, x: lax.fori_loop(0, 6, lambda i, x: jnp.tanh(x @ p['w'][i % 3]), x),
    LAYERS,
    'used by dynamic_slice',
  ),
  'ragged': (
    lambda p, x: lax.ragged_dot(x.reshape(-1, 16), p['w'], jnp.array([5, 7, 0])),
    LAYERS,
    r'ragged_dot_general \(.*\): its inputs in this form are not followed',
  ),
  'groups of batches': (
    lambda p, x: conv(x, p['w'], batch_group_count=2),
    LAYERS,
    'a convolution with groups of batches',
  ),
  'kernel as image': (
    lambda p, x: conv(p['w'], x),
    normal(3, 5, 6),
    r'conv_general_dilated \(.*\): its inputs in this form are not followed',
  ),
  'joined kernels': (convolved, LAYERS, 'it is concatenated with others'),
  'complex': (
    lambda p, x: jnp.abs(jnp.fft.fft(x) @ p['w'].astype(jnp.complex64)),
    W,
    'its inputs are complex',
  ),
  'every other': (
    lambda p, x: x @ lax.slice_in_dim(p['w'], 0, 16, 2, 1),
    W,
    'entries with gaps between them',
  ),
  'a part': (lambda p, x: x @ p['w'][:, :8], W, 'products use only parts of it'),
  'overlap': (
    lambda p, x: (x @ p['w'][:, :8], jnp.sin(x) @ p['w'][:, 4:]),
    W,
    'products use only parts of it, or parts that overlap',
  ),
  'diagonal': (lambda p, x: jnp.einsum('btd,dd->bt', x, p['w']), W, 'used by reduce_sum'),
  'summed up': (lambda p, x: x @ jnp.cumsum(p['w'], 0), W, 'used by cumsum'),
  'sorted': (lambda p, x: x @ jnp.sort(p['w'], 0), W, 'used by sort'),
  'inverse': (lambda p, x: x @ jnp.linalg.inv(p['w']), W, 'used by lu'),
  'by entries': (lambda p, x: (x[..., None] * p['w'][None, None]).sum(-2), W, 'by reduce_sum'),
  'times itself': (lambda p, x: x @ (p['w'] @ p['w'].T), W, 'partner depends on params only'),
  'changed by a loop': (changed_by_a_loop, W, 'used by scan'),
  'stacked by a scan': (
    lambda p, x: x @ lax.scan(lambda s, w: (s + 1, w * s), 0.0, p['w'])[1],
    W,
    'used by scan',
  ),
  'unknown primitive': (lambda p, x: x @ odd_p.bind(p['w']), W, 'used by odd_function'),
  'callback': (called_back, W, 'used by pure_callback'),
}


@pytest.mark.parametrize('name', LEFT_OUT)
def test_a_leaf_that_is_left_out_has_a_reason(name):
  fn, leaf, reason = LEFT_OUT[name]
  params = {'w': leaf}
  stats = jax.eval_shape(lambda p, x: capture(fn, p, x, gram=True)[1], params, X)
  check_accounts(stats, params)
  ((path, why),) = stats.skipped
  assert path == 'w'
  assert re.search(reason, why)
  assert why.startswith('fn ') or why.startswith('products ') or '(test_capture_errors.py:' in why
  assert f'Skipped:\n  w: {why}' in str(stats)
  with pytest.raises(KeyError, match="no statistics of leaf 'w': "):
    stats['w']


ODD = {
  'unknown primitive after': (lambda p, x: odd_p.bind(x @ p['w']), W),
  'integers': (lambda p, x: x.astype(int) @ (p['w'] * 10).astype(int), W),
  'rounded': (lambda p, x: x @ (jnp.round(p['w'] * 8) / 8), W),
  'bilinear': (lambda p, x: jnp.einsum('bti,oij,btj->bto', x, p['w'], x), LAYERS),
  'locally connected': (lambda p, x: jnp.einsum('btd,tdo->bto', x, p['w']), normal(6, 16, 4)),
  'tensordot': (lambda p, x: jnp.tensordot(x, p['w'], ((2,), (1,))), LAYERS),
  'map': (lambda p, x: lax.map(lambda w: x @ w, p['w']), LAYERS),
  'jacobian': (lambda p, x: jax.vmap(jax.jacrev(lambda x: jnp.tanh(x @ p['w'])))(x[0]), W),
  'hessian product': (
    lambda p, x: jax.jvp(jax.grad(lambda x: jnp.tanh(x @ p['w']).sum()), (x,), (x,))[1],
    W,
  ),
  'inner step': (
    lambda p, x: x @ (p['w'] - 0.1 * jax.grad(lambda w: jnp.tanh(x @ w).sum())(p['w'])),
    W,
  ),
  'one by one': (lambda p, x: x.reshape(-1, 1) @ p['w'], normal(1, 1)),
  'no rows': (lambda p, x: x[:0] @ p['w'], W),
  'either side': (
    lambda p, x: lax.cond(x.sum() > 0, lambda x: x @ p['w'], lambda x: x @ p['w'].T, x),
    W,
  ),
}


@pytest.mark.parametrize('name', ODD)
def test_odd_functions_compute_what_they_did(name):
  fn, leaf = ODD[name]
  stats = captured(fn, {'w': leaf}, X)
  assert stats.paths == ('w',)


@pytest.mark.parametrize('name', CASES)
def test_every_leaf_of_the_zoo_is_accounted_for(name):
  fn, params, args = made(name)
  stats = jax.eval_shape(lambda p, *args: capture(fn, p, *args, gram=True)[1], params, *args)
  check_accounts(stats, params)
  kernels = [path for path, why in stats.skipped if 'kernel' in path]
  # what the gradient of a sum multiplies by, 1, is no input
  expected = {'input_gradient': ['head/kernel']}
  assert kernels == expected.get(name, [])


@pytest.mark.parametrize('name', ['while_loop', 'linen_scan_remat', 'lstm'])
def test_networks_of_the_zoo_compute_what_they_did(name):
  fn, params, args = made(name)
  captured(fn, params, *args)


# ------------------------------------------------------------------------------------- refusals


def both(match, error, fn, params, *args, **options):
  """From one batch, and from several."""
  with pytest.raises(error, match=f'^capture: {match}'):
    capture(fn, params, *args, **options)
  with pytest.raises(error, match=f'^capture_batches: {match}'):
    capture_batches(fn, params, [args], **options)


@pytest.mark.parametrize('other', ['relu', None, 3], ids=str)
def test_what_is_no_function(other):
  both(f'`fn` must be a function .*; got {type(other).__name__}', TypeError, other, PARAMS, X)


def test_functions_that_can_not_be_traced():
  match = '`fn` must be a function that takes these params and args and returns arrays; got '
  both(f'{match}TypeError: dot_general', TypeError, fn, PARAMS, X[..., :3])
  both(f'{match}TypeError: .* positional argument', TypeError, fn, PARAMS)
  mapped = jax.vmap(fn)  # over params too, whose sizes then differ: said in several lines
  both(f'{match}ValueError: vmap got .* to be mapped. Call fn', TypeError, mapped, PARAMS, X)
  both(f'{match}KeyError', TypeError, lambda p, x: p['none'], PARAMS, X)
  both(f'{match}TracerBoolConversionError', TypeError, lambda p, x: x if x.sum() else -x, PARAMS, X)
  both('`fn` must be a function that returns arrays', TypeError, lambda p, x: None, PARAMS, X)


def test_leaves_that_can_not_be_selected():
  for where in ('none', lambda path, leaf: False, {'up': False, 'out': False}):
    match = '`where` must be .* at least one leaf'
    both(match, ValueError, fn, PARAMS, X, where=where)
  both('`where` must be', TypeError, fn, PARAMS, X, where=3)
  counted = PARAMS | {'steps': jnp.ones((2, 2), int)}
  both("`.*steps'", TypeError, fn, counted, X, where='steps')
  both('`params`|`where`', ValueError, lambda p, x: x, {}, X)


@pytest.mark.parametrize('shape', [(), (3,), (6, 2), (2, 6, 16, 1)], ids=str)
def test_weights_of_another_shape(shape):
  weights = np.ones(shape, np.float32)
  match = (
    '`sample_weights` must be an array whose shape is how that of an argument begins; got shape '
  )
  match += re.escape(f'{shape}, and arguments of shapes (2, 6, 16)')
  with pytest.raises(ValueError, match=f'^capture: {match}'):
    capture(fn, PARAMS, X, sample_weights=weights)
  with pytest.raises(ValueError, match=f'^capture_batches: {match}'):
    capture_batches(fn, PARAMS, [X], sample_weights=lambda batch: weights)


@pytest.mark.parametrize(
  'weights', [np.array([1.0, -0.5]), np.array([0, -1]), np.array([np.nan, 1])]
)
def test_weights_that_are_negative(weights):
  weights = np.array(weights)
  match = f'`sample_weights` must be at least 0; got {weights.min():.6g}'
  with pytest.raises(ValueError, match=f'^capture: {match}'):
    capture(fn, PARAMS, X, sample_weights=weights)
  with pytest.raises(ValueError, match=f'^capture_batches: {match}'):
    capture_batches(fn, PARAMS, [X], sample_weights=lambda batch: weights)


def test_arguments_that_are_no_arrays():
  match = "`args` must be trees of arrays; got {} at leaf '{}'. Bind what is no array: functools"
  both(match.format("'train'", 1), TypeError, lambda p, x, mode: fn(p, x), PARAMS, X, 'train')
  masked = lambda p, batch: fn(p, batch['x'])
  both(match.format(re.escape('{1}'), '0/act'), TypeError, masked, PARAMS, {'x': X, 'act': {1}})


def test_no_batches():
  for batches in ([], iter([]), (each for each in ())):
    with pytest.raises(ValueError, match='^capture_batches: `batches` must be at least one; got n'):
      capture_batches(fn, PARAMS, batches)
  for batches in (X, {'x': X}, 3):
    with pytest.raises(TypeError, match='^capture_batches: `batches` must be an iterable of batch'):
      capture_batches(fn, PARAMS, batches)


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize('number', [0, 2])
def test_batches_that_are_not_finite(bad, number):
  batches = [X] * 4
  batches[number] = X.at[1, 2, 3].set(bad)
  match = 'capture_batches: `batches` must be such that activations are finite; got infinite or '
  match += f"NaN inputs of that leaf in batch {number} at leaf 'up'"
  with pytest.raises(ValueError, match=f'^{match}'):
    capture_batches(fn, PARAMS, batches)


def test_activations_that_overflow():
  big = PARAMS | {'up': 1e38 * PARAMS['up']}
  squared = lambda p, x: (x @ p['up']) ** 2 @ p['out']
  with pytest.raises(ValueError, match="finite; got .* of that leaf in batch 1 at leaf 'out'"):
    capture_batches(squared, big, [0 * X, X])
  stats = capture_batches(squared, big, [X], where='up')  # of the other nothing is asked
  assert stats.paths == ('up',)


def test_layers_of_a_scan_that_are_not_finite():
  scanned = lambda p, x: lax.scan(lambda x, w: (jnp.exp(x @ w), None), x, p['w'])[0]
  with pytest.raises(ValueError, match="batch 0 at leaf 'w'"):
    capture_batches(scanned, {'w': 10 + jnp.abs(LAYERS)}, [X])


# --------------------------------------------------------------------------- statistics of others


def test_leaves_without_statistics():
  stats = capture(fn, PARAMS | {'bias': jnp.ones(3), 'unused': W}, X)[1]
  with pytest.raises(KeyError, match="no statistics of leaf 'unused': fn does not use it"):
    stats['unused']
  for path in ('bias', 'typo', ''):
    with pytest.raises(KeyError, match=f"of leaf '{path}': it was not selected, or is no leaf"):
      stats[path]
  assert ('up' in stats, 'unused' in stats, 3 in stats) == (True, False, False)


def test_statistics_that_do_not_belong_together():
  stats = capture(fn, PARAMS, X)[1]
  others = {
    'gram': capture(fn, PARAMS, X, gram=True)[1],
    'where': capture(fn, PARAMS, X, where='up')[1],
    'shapes': capture(fn, PARAMS | {'out': normal(16, 4)}, X)[1],
  }
  for other in others.values():
    for one, two in ((stats, other), (other, stats)):
      with pytest.raises(ValueError, match='^merge: `other` must be statistics of the same functi'):
        one.merge(two)


def test_weights_of_batches_are_a_function():
  with pytest.raises(
    TypeError, match=r'capture_batches: `sample_weights` must be a function of a batch'
  ):
    capture_batches(fn, PARAMS, [X], sample_weights=np.ones(len(X), np.float32))


def test_products_that_were_not_captured():
  _, stats = capture(fn, PARAMS, X)
  for name in ('gram', 'covariance'):
    with pytest.raises(ValueError, match='no products of inputs; capture with gram=True'):
      getattr(stats.inputs[0], name)
