"""Programs in which pruned entries come back as something else than zero: computed, or frozen.

Each of them is finite when it is masked. ``w [6, 8]`` makes ``h [4, 8]`` of ``x [4, 6]``; ``a`` and
``b [1, 8]`` scale, ``o [8, 2]`` goes to the results.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jprune
from jprune import graph

TAKEN = np.array([[3, 1, 2, 0, 5, 7, 6, 4]])
TOKENS = jnp.array([0, 1, 7, 2])  # of six rows: 7 is filled in
COMPLEX = lambda p, x: lax.complex(x[:, :1] * p['a'], x[:, 1:2] * p['b'])


@pytest.fixture(autouse=True)
def _in_float64():
  with jax.enable_x64(True):
    yield


def filled(rows, value=None):
  return rows.at[TOKENS].get(mode='fill', fill_value=value)


def pooled(h, init, op, **options):
  return lax.reduce_window(h, init, op, (2, 1), (1, 1), ((2, 2), (0, 0)), **options)


def divided(h, x):
  return h / jnp.maximum(x[:, :1], 0.0)  # by zero in some rows


# Functions of h, params and inputs, whose channels are as free as they were.
COMPUTED = {
  'take_under_vmap': lambda h, p, x: jax.vmap(lambda i: jnp.take(h, i, axis=1))(TAKEN)[0] @ p['o'],
  'take_under_vmap_of_another_axis': lambda h, p, x: (
    jax.vmap(lambda i: jnp.take(h.T, i, axis=0), out_axes=1)(TAKEN)[:, 0].T @ p['o']
  ),
  'softmax_of_what_is_filled': lambda h, p, x: jax.nn.softmax(filled(p['w'], 3.0)) @ p['o'],
  'fill_of_zeros': lambda h, p, x: filled(p['w'], 0.0).sum(-1),
  'fill_within_bounds': lambda h, p, x: p['w'].at[jnp.array([0, 5])].get(mode='fill').sum(-1),
  'fill_and_contract': lambda h, p, x: jax.nn.leaky_relu(jnp.take(p['w'], TOKENS[:2], 0)) @ p['o'],
  'max_of_nothing': lambda h, p, x: h[:0].max(0, initial=-1.0).sum(),
  'min_of_nothing': lambda h, p, x: jnp.minimum(h[:0].min(0, initial=jnp.inf), 2.0).sum(),
  'product_of_nothing': lambda h, p, x: h[:0].prod(0).sum(),
  'all_of_nothing': lambda h, p, x: (h > 0)[:0].all(0).sum(),
  'any_of_nothing': lambda h, p, x: (h > 0)[:0].any(0).sum(),
  'max_of_padding': lambda h, p, x: jnp.maximum(pooled(h, -jnp.inf, lax.max), -3.0).sum(-1),
  'min_of_padding': lambda h, p, x: jnp.minimum(pooled(h, jnp.inf, lax.min), 3.0).sum(-1),
  'sum_of_padding': lambda h, p, x: pooled(h, 0.0, lax.add).sum(-1),
  'loop_of_no_turns': lambda h, p, x: lax.fori_loop(0, 0, lambda _, c: jnp.sin(c), h).sum(-1),
  'steps_of_an_empty_scan': lambda h, p, x: (
    lax.scan(lambda c, _: (c, c), h, None, length=0)[1].max(0, initial=-1.0).sum(-1)
  ),
  'batch_norm_then_leaky_relu': lambda h, p, x: (
    jax.nn.leaky_relu((h - p['a']) * lax.rsqrt(p['b'] + 5.0)) @ p['o']
  ),
  'ghost_of_a_value_from_outside_of_remat': lambda h, p, x: (
    jax.checkpoint(lambda u: u.sum(-1))(jnp.cos(h)) + jnp.cos(h).max(-1)
  ),
  'bound_that_is_converted': lambda h, p, x: jax.jit(
    lambda h, c: jnp.maximum(h, c.astype(jnp.uint8))
  )(h.astype(jnp.uint8), -1).sum(-1),
  'complex_bound': lambda h, p, x: jnp.abs(
    lax.max(lax.complex(h, 0 * h), jnp.full((4, 8), 1j))
  ).sum(-1),
  'whole_quotient_by_zero': lambda h, p, x: (
    h.astype(int) // jnp.exp(x[:, :1] - 1).astype(int)
  ).sum(-1),
  'short_integers_that_wrap': lambda h, p, x: (
    p['w'].sum(0, keepdims=True).astype(jnp.uint8)
    // (jnp.maximum(255 - jnp.abs(x[:, :1]).astype(jnp.uint8), 1) + 1)
  ).sum(-1),
  'softmax_of_what_is_hidden': lambda h, p, x: (
    jax.nn.softmax(jnp.where(x[:, :1] > 0, h, -1e9), axis=0) * jnp.cos(h)
  ).sum(1),
  'division_by_what_has_no_sign': lambda h, p, x: (1 / jnp.cos(h)).sum(1),
  'safe_division': lambda h, p, x: (
    jax.nn.leaky_relu(h / jnp.where(x[:, :1] > 0, x[:, :1], 1.0)) @ p['o']
  ),
}

# Those of which some channel can't be left out, and why.
FROZEN = {
  'angle': lambda h, p, x: jnp.angle(COMPLEX(p, x)).sum(-1),
  'atan2': lambda h, p, x: jnp.arctan2(x[:, :1] * p['a'], x[:, 1:2] * p['b']).sum(-1),
  'angle_of_a_negative': lambda h, p, x: jnp.angle(lax.complex(-jax.nn.relu(h), 0 * h)).sum(-1),
  'sign_of_what_is_filled_in': lambda h, p, x: jnp.signbit(
    jnp.take(p['w'], TOKENS, axis=0, mode='fill', fill_value=-0.0)
  ).sum(1),
  'signbit': lambda h, p, x: jnp.signbit(x[:, :1] * p['a']).sum(-1),
  'copysign': lambda h, p, x: jnp.copysign(1.0, x[:, :1] * p['a']).sum(-1),
  'bits': lambda h, p, x: (lax.bitcast_convert_type(-x[:, :1] * p['a'], jnp.int64) < 0).sum(-1),
  'sign_of_infinity': lambda h, p, x: jnp.tanh(1 / jnp.maximum(h, -jnp.exp(x[:, :1]))).sum(-1),
  'branch_cut': lambda h, p, x: jnp.sqrt(lax.complex(-jnp.exp(0 * h), h)).imag.sum(-1),
  'function_at_indices': lambda h, p, x: h.at[jnp.array([0, 2])].apply(jnp.cos).sum(-1),
  'nan_of_pruned_units_alone': lambda h, p, x: jnp.nan_to_num(
    jnp.where(np.arange(8) < 2, h * jnp.sqrt(x[:, :1]), h).sum(-1), nan=1.0
  ),
  'bits_that_may_be_nan': lambda h, p, x: jnp.nan_to_num(
    h * lax.bitcast_convert_type(x[:, :1].astype(int) | -1, jnp.float64), nan=1.0
  ).sum(-1),
  'nan_filled_in': lambda h, p, x: jnp.nan_to_num(filled(p['w']), nan=1.0).sum(-1),
  'division_that_is_caught': lambda h, p, x: jnp.where(
    jnp.isfinite(divided(h, x)), divided(h, x), 1.0
  ).sum(-1),
  'division_that_is_compared': lambda h, p, x: jnp.where(divided(h, x) >= 0, 0.0, 1.0).sum(-1),
  'division_lost_in_a_sum': lambda h, p, x: jnp.nan_to_num(divided(h, x) @ p['o'], nan=1.0),
  'infinite_times_zero': lambda h, p, x: jnp.nan_to_num(
    (1 / jnp.maximum(x[:, :1], 0.0)) * h, nan=1.0, posinf=2.0, neginf=3.0
  ).sum(-1),
}


def network(middle):
  """The function, its params and input; some inputs are negative, and some zero of either sign."""
  rng = np.random.default_rng(0)
  shapes = {'w': (6, 8), 'a': (1, 8), 'b': (1, 8), 'o': (8, 2)}
  params = {name: jnp.asarray(rng.standard_normal(shape)) for name, shape in shapes.items()}
  x = rng.standard_normal((4, 6))
  x[0, :2], x[1, :2], x[2, 0] = (0.0, -0.0), (-0.0, 0.0), 0.0
  return (lambda p, x: middle(x @ p['w'], p, x)), params, jnp.asarray(x)


def differs(fn, params, x, found):
  masks = jprune.masks.channels(jprune.scores.magnitude(params), found, sparsity=3 / 8)
  return graph.verify(fn, params, masks, x).relative


@pytest.mark.parametrize('name', COMPUTED)
def test_what_comes_back_is_computed(name):
  fn, params, x = network(COMPUTED[name])
  found = graph.channels(fn, params, x)
  assert any(group.size == 8 for group in found.groups), str(found)
  assert differs(fn, params, x, found) < 1e-9


@pytest.mark.parametrize('name', FROZEN)
def test_what_cannot_be_computed_is_frozen(name):
  fn, params, x = network(FROZEN[name])
  assert np.isfinite(fn(jax.tree.map(lambda w: w.at[..., :3].set(0.0), params), x)).all()
  found = graph.channels(fn, params, x)
  if found.groups:  # such as params of which there are no zeros with a sign
    assert differs(fn, params, x, found) < 1e-9
  reasons = set(found.frozen.values())
  assert any('pruned entries' in why or 'is applied' in why for why in reasons), reasons


def test_short_sums_of_many_ghosts_wrap():
  params = {'w': jnp.asarray(np.random.default_rng(0).standard_normal((6, 300)))}
  fn = lambda p, x: ((x @ p['w']) == 0).astype(jnp.int8).sum(-1, dtype=jnp.int8)
  masks = {'w': jnp.arange(300)[None].repeat(6, 0) >= 180}
  assert graph.channels(fn, params, jnp.ones((4, 6))).groups
  assert graph.verify(fn, params, masks, jnp.ones((4, 6))).largest == 0


@pytest.mark.parametrize('extreme', [jnp.max, jnp.min])
def test_pruned_channels_that_tie_share_the_derivative(extreme):
  """Those that stay are rounded to zero, which pruned ones are."""
  params = {'w': jnp.asarray(np.random.default_rng(0).standard_normal((6, 8)))}
  straight = lambda h: h + lax.stop_gradient(jnp.round(h) - h)
  fn = lambda p, x: extreme(straight(0.01 * x @ p['w']), -1)
  masks = {'w': jnp.arange(8)[None].repeat(6, 0) >= 3}
  x = jnp.ones((4, 6))
  small, masked = jprune.shrink(fn, params, masks, x), jprune.apply(params, masks)
  slope = lambda fn, p: jax.grad(lambda p: fn(p, x).sum())(p)
  expected = small.slice(slope(fn, masked))['w']
  assert small.params['w'].shape == (6, 5)
  np.testing.assert_allclose(slope(small.fn, small.params)['w'], expected, rtol=1e-12)
  np.testing.assert_allclose(expected, 0.01 * 4 / 8, rtol=1e-12)
