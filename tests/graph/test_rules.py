"""Each family of primitives once: which axes can be pruned, which can't, why, and where it says so.

Between ``in [3, 8]`` and ``out [8, 2]`` stands the primitive. Whether the numbers are right is
asked in `tests.graph.primitives`.
"""

import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name

import jprune

PERMUTATION = np.array([5, 0, 3, 7, 1, 4, 2, 6])
EVERYWHERE = np.zeros(8, int)  # of an axis with a single index
TABLE = np.array([0.5, 2.0])
WINDOWS = lax.GatherDimensionNumbers((1, 2), (), (0, 1))


def along_batch(move):
  return lambda x: move(x, 0)


def row_of_each(x):
  return (x.sum(-1) > 0).astype(int)


def caught(x, factor):
  """Whether an infinite factor would do harm: 0 * inf is summed, and then compared."""
  x = x * factor
  return jnp.where(x.sum(-1, keepdims=True) > 0, x, 2 * x)


def quotient(x):
  return 1 / jnp.square(x).sum(-1, keepdims=True)


FREE = {
  'elementwise': lambda x: jnp.exp(jnp.tanh(x) * 2) - 1,
  'integer_pow': lambda x: x**3,
  'implicit_broadcast': lambda x: x * x[:1],
  'broadcast_in_dim': lambda x: jnp.broadcast_to(x[None], (2, *x.shape)).sum(0),
  'reshape_within': lambda x: x.reshape(-1, 4, 2).reshape(-1, 8),
  'transpose': lambda x: x.T.T,
  'squeeze_expand_dims': lambda x: lax.squeeze(lax.expand_dims(x, (0, 3)), (0, 3)),
  'reduce_sum': lambda x: x + x.sum(-1, keepdims=True),
  'reduce_max': lambda x: x - x.max(-1, keepdims=True),
  'reduce_min': lambda x: x - x.min(-1, keepdims=True),
  'reduce_prod': lambda x: x * jnp.cos(x).prod(-1, keepdims=True),
  'reduce_and': lambda x: x * (jnp.abs(x) < 9).all(-1, keepdims=True).astype(x.dtype),
  'reduce_or': lambda x: x * (x > 0).any(-1, keepdims=True).astype(x.dtype),
  'argmax_of_another_axis': lambda x: x + x.argmax(0, keepdims=True).astype(x.dtype),
  'dot_general_of_itself': lambda x: (x @ x.T) @ x,
  'dot_general_batched': lambda x: jnp.einsum('bc,bc->b', x, x)[:, None] * x,
  'concatenate': lambda x: jnp.concatenate([x, x], 0)[: x.shape[0]],
  'stack': lambda x: jnp.stack([x, 2 * x]).sum(0),
  'slice_of_another_axis': lambda x: x[:1] + x,
  'split': lambda x: jnp.concatenate(jnp.split(x, [3], -1), -1),
  'dynamic_slice': lambda x: lax.dynamic_slice(x, (x.shape[0] - 1, 0), (1, 8)) + x,
  'dynamic_update_slice': lambda x: lax.dynamic_update_slice(x, 2 * x[:1], (0, 0)),
  'pad_of_another_axis': lambda x: jnp.pad(x, ((1, 0), (0, 0)))[1:],
  'rev': lambda x: x[:, ::-1],
  'gather': lambda x: x[:, PERMUTATION],
  'gather_of_another_axis': lambda x: x[jnp.argsort(jnp.arange(x.shape[0]) % 2)],
  'slices_one_by_one': lambda x: jax.vmap(lambda i: x[i])(row_of_each(x)),
  'slices_at_constants_one_by_one': lambda x: jax.vmap(lambda i: x[i])(jnp.array([1, 0])),
  'updates_one_by_one': lambda x: jax.vmap(
    lambda row, i: lax.dynamic_update_slice(x, row[None], (i, i))
  )(x, row_of_each(x)).sum(0),
  'rolls_one_by_one': lambda x: jax.vmap(lambda n: jnp.roll(x, n, 0))(row_of_each(x)).sum(0),
  'fill_of_windows_over_all': lambda x: lax.gather(
    x, jnp.stack([row_of_each(x)] * 2, 1), WINDOWS, (1, 8), mode='fill', fill_value=0
  )[:, 0],
  'gather_by_what_is_zero': lambda x: x * jnp.asarray(TABLE)[(x > 0).astype('uint8')],
  'sum_of_what_is_read_by_zero': lambda x: (
    x * jnp.asarray(TABLE)[(x > 0).astype('uint8')].sum(-1, keepdims=True)
  ),
  'scatter_of_another_axis': lambda x: x.at[0].add(1.0 * x[0]),
  'scatter_of_zeros': lambda x: x * jnp.ones_like(x[:, :1]).at[:, EVERYWHERE].add(x),
  'select_n': lambda x: jnp.where(x > 0, x, 0.1 * x),
  'iota_of_another_axis': lambda x: x * lax.broadcasted_iota(x.dtype, x.shape, 0),
  'iota': lambda x: x * lax.broadcasted_iota(x.dtype, x.shape, 1),
  'tile': lambda x: jnp.tile(x, (2, 1))[: x.shape[0]],
  'cumsum_of_another_axis': along_batch(jnp.cumsum),
  'cumprod_of_another_axis': along_batch(jnp.cumprod),
  'cummax_of_another_axis': lambda x: lax.cummax(x, 0),
  'cumlogsumexp_of_another_axis': lambda x: lax.cumlogsumexp(x, 0),
  'reduce_window_of_another_axis': lambda x: lax.reduce_window(
    x, -jnp.inf, lax.max, (2, 1), (1, 1), 'SAME'
  ),
  'fft_of_another_axis': lambda x: jnp.fft.fft(x, axis=0).real,
  'sort_of_another_axis': along_batch(jnp.sort),
  'psum_over_what_is_mapped': jax.vmap(
    lambda x: x - lax.pmean(x, 'batch') + lax.pmax(x, 'batch'), axis_name='batch'
  ),
  'jit': jax.jit(lambda x: x * 2),
  'custom_jvp': jax.nn.relu,
  'remat': jax.checkpoint(jnp.tanh),
  'scan': lambda x: lax.scan(lambda c, _: (jnp.tanh(c), None), x, length=3)[0],
  'while': lambda x: lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, 2 * c[1]), (0, x))[1],
  'cond': lambda x: lax.cond(x.sum() > 0, jnp.sin, jnp.tanh, x),
  'mean_of_a_rule': lambda x: (
    x - jax.vmap(jax.nn.relu6)(x + jnp.cos(x.sum(-1, keepdims=True))).mean(-1, keepdims=True)
  ),
  'random_bits': lambda x: x * jax.random.normal(jax.random.key(0), x.shape, x.dtype),
  'convert': lambda x: x.astype(jnp.bfloat16).astype(x.dtype),
  'stop_gradient': lax.stop_gradient,
  'optimization_barrier': lambda x: lax.optimization_barrier((x, x))[1],
  'clamp': lambda x: lax.clamp(-1.0, x, 1.0),
  'softmax': lambda x: jax.nn.softmax(x, -1),
  'logsumexp': lambda x: x - jax.nn.logsumexp(x, -1, keepdims=True),
  'quotient_between_bounds': lambda x: caught(x, jnp.clip(quotient(x), 0.1, 2.0)),
  'quotient_that_is_clamped': lambda x: caught(x, lax.clamp(0.1, quotient(x), 2.0)),
  'name': lambda x: checkpoint_name(x, 'hidden'),
  'triangular': lambda x: x * jnp.tril(jnp.ones((x.shape[0], 8), x.dtype)),
}

FROZEN = {
  'argmax': (lambda x: x + x.argmax(-1, keepdims=True).astype(x.dtype), 'argmax along it'),
  'cumsum': (lambda x: jnp.cumsum(x, -1), 'cumsum along it'),
  'cumprod': (lambda x: jnp.cumprod(x, -1), 'cumprod along it'),
  'cummax': (lambda x: lax.cummax(x, 1), 'cummax along it'),
  'sort': (lambda x: jnp.sort(x, -1), 'sorted along it'),
  'top_k': (lambda x: jnp.tile(lax.top_k(x, 4)[0], (1, 2)), 'top_k along it'),
  'reduce_window': (
    lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 3), (1, 1), 'SAME'),
    'the window of reduce_window_sum',
  ),
  'dynamic_slice': (
    lambda x: jnp.tile(lax.dynamic_slice(x, (0, (x[0, 0] > 0).astype(int)), (2, 4)), (1, 2)),
    'indexed by what is computed',
  ),
  'dynamic_update_slice': (
    lambda x: lax.dynamic_update_slice(x, x[:, :2], (0, (x[0, 0] > 0).astype(int))),
    'indexed by what is computed',
  ),
  'gather': (lambda x: x[:, (x[0] > 0).astype(int)], 'indexed by what is computed'),
  'scatter': (
    lambda x: x.at[:, (x[0, :2] > 0).astype(int)].add(1.0),
    'indexed by what is computed',
  ),
  'scatter_at_constants': (lambda x: jnp.ones_like(x).at[:, PERMUTATION].set(x), 'written to'),
  'scatter_of_what_is_not_zero': (
    lambda x: x * jnp.ones_like(x[:, :1]).at[:, EVERYWHERE].add(jnp.exp(x)),
    'summed over, where its pruned entries are not zero: scatter-add',
  ),
  'window_of_every_other_index': (
    lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 1), (1, 2), ((0, 0), (3, 4))),
    'the window of reduce_window_sum',
  ),
  'pmax_of_zeros': (
    lambda x: x * jax.vmap(lambda y: lax.pmax(y, 'i'), 1, None, axis_name='i')(x)[:, None],
    'summed over, where its pruned entries are not zero: pmax',
  ),
  'interior_pad': (lambda x: lax.pad(x, 0.0, ((0, 0, 0), (0, 0, 1)))[:, :8], 'padded inside'),
  'scanned_over': (
    lambda x: lax.scan(lambda c, y: (c + y, c * y), x[:, 0], x.T)[1].T,
    'the axis of a scan',
  ),
  'fft': (lambda x: jnp.fft.fft(x).real, 'Fourier transformed along it'),
  'unknown': (lambda x: jnp.linalg.svd(x, full_matrices=False)[2], 'no rule for primitive svd'),
  'not_zero': (
    lambda x: x / (jnp.arange(8, dtype=x.dtype)[None] + jnp.cos(x)).sum(-1, keepdims=True),
    'summed over, where its pruned entries are not zero: reduce_sum',
  ),
  'not_finite': (
    lambda x: x * (1 / x).sum(-1, keepdims=True),
    'summed over, where its pruned entries may be infinite or NaN',
  ),
}


def network(move):
  """The middle between two matrices; the line of the middle is that of the lambda."""

  def fn(params, x):
    return move(x @ params['in']) @ params['out']

  rng = np.random.default_rng(0)
  return fn, {'in': rng.standard_normal((3, 8)), 'out': rng.standard_normal((8, 2))}


X = np.random.default_rng(1).standard_normal((2, 3))


@pytest.fixture(autouse=True)
def _in_float64():
  with jax.enable_x64(True):
    yield


def axes(graph):
  return {(member.path, member.axis) for group in graph.groups for member in group.members}


@pytest.mark.parametrize('name', FREE)
def test_channels_pass(name):
  fn, params = network(FREE[name])
  graph = jprune.graph.channels(fn, params, X)
  assert axes(graph) == {('in', 1), ('out', 0)}
  assert graph.frozen == {('in', 0): 'model input 0', ('out', 1): 'model output'}
  assert not graph.unsupported


@pytest.mark.parametrize('name', FROZEN)
def test_channels_are_frozen_with_reason_and_line(name):
  move, why = FROZEN[name]
  fn, params = network(move)
  graph = jprune.graph.channels(fn, params, X)
  assert ('in', 1) not in axes(graph)
  assert graph.frozen['in', 0] == 'model input 0'
  reason = graph.frozen['in', 1]
  assert why in reason
  lines, first = inspect.getsourcelines(move)
  found = re.search(r'\(test_rules\.py:(\d+)\)', reason)
  assert found, reason
  assert first <= int(found[1]) < first + len(lines)


@pytest.mark.parametrize('bound', [lambda x: x, lambda x: jnp.minimum(-x, 2.0)])
def test_a_quotient_that_may_be_infinite_is_no_factor_of_what_is_compared(bound):
  fn, params = network(lambda x: caught(x, bound(quotient(x))))
  graph = jprune.graph.channels(fn, params, X)
  assert not graph.groups
  assert 'may be 0 / 0 or 0 * inf, and their NaN is caught' in graph.frozen['in', 1]
