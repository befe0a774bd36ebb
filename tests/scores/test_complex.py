"""Scores of complex weights: those of a real network that has their two parts as weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jprune
from jprune import scores


def _draw(rng, *shape):
  return jnp.asarray(rng.normal(size=shape) + 1j * rng.normal(size=shape), jnp.complex64)


RNG = np.random.default_rng(0)
PARAMS = {'bias': _draw(RNG, 4), 'out': jnp.ones((4, 1)), 'w': _draw(RNG, 3, 4)}
BATCHES = [jnp.asarray(RNG.normal(size=(5, 3)), jnp.float32) for _ in range(2)]


def loss_fn(params, x):
  hidden = x.astype(jnp.complex64) @ params['w'] + params['bias'][None]
  return jnp.mean((jnp.square(hidden.real) * hidden.imag) @ params['out'])


def split(params):
  """The same as real numbers: real and imaginary parts, and how they are put together."""
  parts = {k: (v.real, v.imag) if jnp.iscomplexobj(v) else (v,) for k, v in params.items()}
  return {f'{k}{i}': part for k, v in parts.items() for i, part in enumerate(v)}


def whole(parts):
  made = {k: jax.lax.complex(parts[f'{k}0'], parts[f'{k}1']) for k in ('bias', 'w')}
  return {**made, 'out': parts['out0']}


def real_loss(parts, x):
  return loss_fn(whole(parts), x)


real_grad = jax.jit(jax.grad(real_loss))


def together(found):
  """Sums over the two parts of a weight."""
  return {k: sum(v for name, v in found.items() if name[:-1] == k) for k in PARAMS}


def close(found, want):
  for name, values in want.items():
    assert found[name].dtype == jnp.float32
    np.testing.assert_allclose(found[name], values, rtol=2e-5, atol=1e-6, err_msg=name)


def test_removing_a_weight_takes_both_of_its_parts():
  parts = split(PARAMS)
  grads = [real_grad(parts, x) for x in BATCHES]
  total = jax.tree.map(lambda *g: sum(g), *grads)
  signed = together({k: v * total[k] for k, v in parts.items()})
  first_order = jax.tree.map(jnp.abs, signed)
  close(scores.snip(PARAMS, loss_fn, *BATCHES), first_order)
  mean = jax.tree.map(lambda s: s / 2, first_order)
  close(scores.taylor_batches(PARAMS, loss_fn, *BATCHES), mean)
  # by the gradient that JAX gives, not by its conjugate
  grad = jax.jit(jax.grad(loss_fn))
  given = jax.tree.map(lambda *g: sum(g) / 2, *[grad(PARAMS, x) for x in BATCHES])
  close(scores.taylor(PARAMS, given), mean)
  # what the loss really changes by, for a small weight
  tiny = {**PARAMS, 'w': PARAMS['w'].at[1, 2].set(1e-2 - 3e-2j)}
  removed = {**tiny, 'w': tiny['w'].at[1, 2].set(0)}
  change = float(loss_fn(tiny, BATCHES[0]) - loss_fn(removed, BATCHES[0]))
  found = float(scores.taylor(tiny, grad(tiny, BATCHES[0]))['w'][1, 2])
  assert abs(abs(change) - found) < 0.05 * abs(change)


def test_each_sample_by_itself():
  parts, x = split(PARAMS), BATCHES[0]
  each = []
  for row in x:
    grads = real_grad(parts, row[None])
    each.append(together({k: v * grads[k] for k, v in parts.items()}))
  want = jax.tree.map(lambda *s: sum(jnp.abs(one) for one in s) / len(s), *each)
  close(scores.taylor_samples(PARAMS, loss_fn, x, chunk=2), want)


def test_curvature_is_that_of_the_parts():
  parts = split(PARAMS)
  for scorer in (scores.grasp, scores.fisher):
    close(scorer(PARAMS, loss_fn, BATCHES[0]), together(scorer(parts, real_loss, BATCHES[0])))
  curved = lambda p, x: jnp.sum(jnp.square(jnp.abs(p['w'])) * x)  # a diagonal Hessian, 2 x
  found = scores.obd({'w': PARAMS['w']}, curved, BATCHES[0][:1, :1] * 0 + 3, key=jax.random.key(0))
  close(found, {'w': 3 * jnp.square(jnp.abs(PARAMS['w']))})


def test_sizes_are_absolute_values():
  sizes = jax.tree.map(jnp.abs, PARAMS)
  close(scores.magnitude(PARAMS), sizes)
  close(scores.magnitude(PARAMS, p=2), jax.tree.map(jnp.square, sizes))
  close(scores.lamp(PARAMS), scores.lamp(sizes))
  key = jax.random.key(0)
  close(scores.random(PARAMS, key=key), scores.random(sizes, key=key))
  # of |x W + b| out at x = 1: by what a weight is multiplied on its way
  linear = lambda p, x: (
    (x.astype(p['w'].dtype) @ p['w'] + p['bias'][None]) @ p['out'].astype(p['w'].dtype)
  )
  hidden = sizes['w'].sum(0) + sizes['bias']
  flow = {'w': sizes['w'], 'bias': sizes['bias'], 'out': hidden[:, None]}
  close(scores.synflow(PARAMS, linear, BATCHES[0]), jax.tree.map(lambda s: 5 * s, flow))
  columns = jnp.stack([PARAMS['w'].real, PARAMS['w'].imag], axis=1).reshape(6, 4)
  close(scores.geometric_median({'w': PARAMS['w']}), {'w': scores.geometric_median(columns)[:3]})


def test_statistics_of_real_inputs():
  fn = lambda p, x: jnp.abs(x.astype(p['w'].dtype) @ p['w'])
  params, x = {'w': PARAMS['w']}, BATCHES[0]
  _, stats = jprune.graph.capture(fn, params, x, gram=True)
  sizes = jax.tree.map(jnp.abs, params)
  _, real = jprune.graph.capture(fn, sizes, x, gram=True)
  for scorer in (scores.wanda, scores.ria, scores.obs, scores.activation, scores.independence):
    close(scorer(params, stats), scorer(sizes, real))
  with pytest.raises(TypeError, match="correlation: .* complex weights, complex64 .* leaf 'w'"):
    scores.correlation(params, stats)
  complex_inputs = jax.lax.complex(x, x)
  _, stats = jprune.graph.capture(
    lambda p, x: jnp.abs(x @ p['w']) @ p['v'], {**params, 'v': jnp.ones((4, 2))}, complex_inputs
  )
  assert dict(stats.skipped)['w'].endswith('its inputs are complex')
  with pytest.raises(ValueError, match="wanda: .*'w' was not captured: .*its inputs are complex"):
    scores.wanda(params, stats)


def test_gradients_by_complex_leaves_are_complex():
  with pytest.raises(
    TypeError, match="`grads` must be a complex array; got float32 .* 'bias'. Take"
  ):
    scores.taylor(PARAMS, jax.tree.map(jnp.real, PARAMS))
