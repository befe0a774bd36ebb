"""Leaves that are multiplied by one number that is known only when the function runs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jprune import reconstruct
from jprune.graph import capture
from tests.graph.captured import captured, check_moments, close, normal, only

X = normal(7, 6)
PARAMS = {'w': normal(6, 4, seed=1), 'v': normal(6, 5, seed=2), 's': jnp.float32(-0.3)}
as64 = lambda x: np.asarray(x, np.float64)
norm = lambda x: jnp.linalg.norm(as64(x))

NUMBERS = {  # by how much, and a function of params, inputs, and 2.5
  'argument': (2.5, lambda p, x, t: x @ (p['w'] * t)),
  'entry of an argument': (X[0, 0], lambda p, x, t: x @ (p['w'] * x[0, 0])),
  'leaf': (-0.3, lambda p, x, t: x @ (p['s'] * p['w'])),
  'divided': (1 / 2.5, lambda p, x, t: x @ (p['w'] / t)),
  'several': (0.3 / 5, lambda p, x, t: x @ (2 * (p['w'] * -p['s']).T / (t * 4)).T),
  'filled': (5, lambda p, x, t: x @ (jnp.full((6, 4), t) * p['w'] * jnp.full((1, 1), 2.0))),
  'spread before it is computed': (
    2.5**0.5,
    lambda p, x, t: x @ (jnp.sqrt(jnp.full(4, t))[None] * p['w']),
  ),
  'another leaf': (norm(PARAMS['v']), lambda p, x, t: x @ (p['w'] * jnp.linalg.norm(p['v']))),
  'activation': (norm(X @ PARAMS['v']), lambda p, x, t: x @ (p['w'] * jnp.linalg.norm(x @ p['v']))),
  'einsum': (2.5, lambda p, x, t: jnp.einsum('ni,io,->no', x, p['w'], t)),
  'einsum, first': (2.5, lambda p, x, t: jnp.einsum(',ni,io->no', t, x, p['w'])),
  'einsum, two axes': (2.5, lambda p, x, t: jnp.einsum('ni,io,ab->no', x, p['w'], t[None, None])),
  'called': (2.5, lambda p, x, t: x @ jax.jit(lambda w: jax.jit(jnp.multiply)(w, t))(p['w'])),
  'remat': (2.5, lambda p, x, t: jax.checkpoint(lambda w, x: x @ (w * t))(p['w'], x)),
  'slices': (2.5, lambda p, x, t: [x @ (t * p['w'][:, :1]), x @ (p['w'][:, 1:] * t)]),
}


@pytest.mark.parametrize('name', NUMBERS)
def test_numbers_known_only_when_fn_runs(name):
  scale, fn = NUMBERS[name]
  args = X, jnp.float32(2.5)
  stats = captured(fn, PARAMS, *args)
  use, moments = only(stats, 'w')
  assert (use.direct, use.sizes, dict(stats.notes).get('w')) == (True, (1, 6, 4), None)
  rows = as64(scale) * as64(X)
  check_moments(moments, rows)
  y = jnp.concatenate(jax.tree.leaves(fn(PARAMS, *args)), 1)
  close(rows @ as64(use.matrices(PARAMS['w'])[0]), y)


@pytest.mark.parametrize('method', [reconstruct.least_squares, reconstruct.sparsegpt, None])
def test_pruned_as_without_the_number(method):
  """Which entries go, what is kept and relative errors don't depend on one number."""
  prune = functools.partial(reconstruct.prune, method=method, sparsity=0.5, where='w')
  by = lambda p, x, t: jnp.einsum('ni,io,->no', x, p['w'], t)
  found, masks, report = prune(by, PARAMS, [(X, jnp.float32(2.5))], progress=False)
  plain, others, expected = prune(lambda p, x: x @ p['w'], PARAMS, [X], progress=False)
  np.testing.assert_array_equal(masks['w'], others['w'])
  close(found['w'], plain['w'], 1e-5)
  close(report.rows[0].error_after, expected.rows[0].error_after, 1e-5)
  y, true = as64(X) @ as64(PARAMS['w']), as64(X) @ as64(found['w'])
  close(report.rows[0].error_after, ((true - y) ** 2).sum() / (y**2).sum(), 1e-5)


OTHERS = {
  'own size': lambda p, x: x @ (p['w'] / jnp.linalg.norm(p['w'])),
  'a number for each input': lambda p, x: x @ (p['w'] * x[0, :, None]),
  'own size, side by side': lambda p, x: (
    x @ (jnp.concatenate([p['w'], p['v']], 1) / jnp.linalg.norm(p['w']))
  ),
}


@pytest.mark.parametrize('name', OTHERS)
def test_what_is_no_number_for_the_leaf_is_refused(name):
  stats = captured(OTHERS[name], PARAMS, X)
  assert not any(use.direct for use, _ in stats['w']) if 'w' in stats else stats.skipped
  with pytest.raises(ValueError, match="at leaf 'w'|'w': "):
    reconstruct.prune(OTHERS[name], PARAMS, [X], sparsity=0.5, where='w', progress=False)


def test_a_number_that_products_by_the_leaf_made_is_noted():
  stats = captured(lambda p, x: x @ (p['w'] * jnp.sin(x @ p['w']).mean()), PARAMS, X)
  check_moments(only(stats, 'w')[1], X)
  assert dict(stats.notes)['w'].startswith('also used by mul (test_capture_scales.py:')


def test_leaves_at_equal_numbers_share_their_moments():
  fn = lambda p, x, s, t: (x @ (p['w'] * s), x @ (s * p['v']), x @ (p['w'] * t))
  stats = captured(fn, PARAMS, X, jnp.float32(2), jnp.float32(3))
  x = as64(X)
  check_moments(only(stats, 'w')[1], np.concatenate([2 * x, 3 * x]))
  check_moments(only(stats, 'v')[1], 2 * x)
  alone = captured(lambda p, x, s: (x @ (p['w'] * s), x @ (s * p['v'])), PARAMS, X, jnp.float32(2))
  assert len(alone.inputs) == 1


def test_leaves_side_by_side_at_one_number():
  fn = lambda p, x, t: x @ (jnp.concatenate([p['w'], p['v']], 1) * t)
  stats = captured(fn, PARAMS, X, jnp.float32(2.5))
  for path in 'wv':
    use, moments = only(stats, path)
    assert use.direct
    check_moments(moments, 2.5 * as64(X))


# ------------------------------------------------------------------------------------------- loops

STEPS = jnp.array([0.5, -2.0, 3.0])


@pytest.mark.parametrize('way', ['stacked', 'carried', 'backwards'])
def test_layers_each_at_a_number_of_its_own(way):
  layers = {'w': 0.4 * normal(3, 6, 6, seed=3)}

  def fn(p, x, steps):
    if way == 'carried':
      step = lambda c, w: ((jnp.tanh(c[0] @ (w * c[1])), c[1] + 1), None)
      return lax.scan(step, (x, steps[0]), p['w'])[0][0]
    step = lambda x, each: (jnp.tanh(x @ (each[0] * each[1])), None)
    return lax.scan(step, x, (p['w'], steps), reverse=way == 'backwards')[0]

  steps = [0.5, 1.5, 2.5] if way == 'carried' else as64(STEPS)
  rows, x = [None] * 3, as64(X)
  for i in reversed(range(3)) if way == 'backwards' else range(3):
    rows[i] = steps[i] * x
    x = np.tanh(rows[i] @ as64(layers['w'][i]))
  use, moments = only(captured(fn, layers, X, STEPS), 'w')
  assert (use.direct, use.sizes) == (True, (3, 6, 6))
  check_moments(moments, np.stack(rows))


@pytest.mark.parametrize('way', ['inside', 'before', 'both', 'while', 'cond'])
def test_a_leaf_that_a_loop_uses_at_one_number_or_another(way):
  params = {'w': 0.4 * normal(6, 6, seed=3)}

  def fn(p, x, steps):
    if way == 'cond':
      both = lambda x: jnp.tanh(x @ (p['w'] * steps[0]))
      return lax.cond(steps[1] < 0, both, lambda x: x @ (p['w'] * steps[1]), x)
    w = p['w'] if way == 'inside' else p['w'] / steps[2]
    if way == 'while':
      turn = lambda c: (c[0] + 1, jnp.tanh(c[1] @ (w * steps[c[0]])))
      return lax.while_loop(lambda c: c[0] < 3, turn, (0, x))[1]
    by = lambda w, t: w if way == 'before' else jnp.einsum('io,->io', w, t)
    return lax.scan(lambda x, t: (jnp.tanh(x @ by(w, t)), None), x, steps)[0]

  first = 1 if way in ('inside', 'cond') else 1 / 3
  steps = {'before': [1, 1, 1], 'cond': [0.5]}.get(way, as64(STEPS))
  rows, x = [], as64(X)
  for step in steps:
    rows.append(first * step * x)
    x = np.tanh(rows[-1] @ as64(params['w']))
  use, moments = only(captured(fn, params, X, STEPS), 'w')
  assert use.direct
  check_moments(moments, np.concatenate(rows))


@pytest.mark.parametrize('kind', [AxisType.Auto, AxisType.Explicit], ids=str)
def test_sharded_rows_and_weights_of_tokens(kind):
  mesh = jax.make_mesh((4,), ('data',), axis_types=(kind,))
  put = lambda x, *spec: jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec)))
  x, weights = normal(8, 6), jnp.array([1, 1, 0, 1, 0.5, 1, 0, 2])
  fn = lambda p, x, t: x @ (jnp.full((6, 4), t) * p['w'])
  args = put(PARAMS['w']), put(x, 'data'), put(jnp.float32(2.5))
  run = lambda w, x, t: capture(fn, {'w': w}, x, t, gram=True, sample_weights=weights)
  with jax.set_mesh(mesh):
    _, stats = run(*args)
  check_moments(only(stats, 'w')[1], 2.5 * as64(x), weights)
