"""Complex values: on which side of a branch cut pruned entries lie, and what is seen as real."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jprune

RNG = np.random.default_rng(0)
PARAMS = {
  name: jnp.asarray(RNG.normal(size=shape) + 1j * RNG.normal(size=shape), 'c8')
  for name, shape in (('kernel', (6, 12)), ('bias', (12,)))
}
X = jnp.asarray(RNG.normal(size=(5, 6)), jnp.float32)
ONE = np.complex64(1)


@pytest.mark.parametrize(
  ('activation', 'free'),
  [
    (lambda z: jnp.log(jnp.cosh(z)), True),  # the log amplitude of a quantum state
    (lambda z: jnp.log(2 * ONE * jnp.cosh(z)), True),
    (lambda z: jnp.log(ONE + z), True),
    (lambda z: jnp.sqrt(ONE + z * z), True),
    (lambda z: jnp.exp(z) - ONE, True),
    (lambda z: jnp.log(jnp.cosh(z) - 2 * ONE), False),  # log(-1 + 0i) is not log(-1 - 0i)
    (lambda z: jnp.log(-jnp.exp(z)), False),
    (lambda z: jnp.sqrt(np.complex64(-1) * jnp.cosh(z)), False),
    (lambda z: jnp.log(np.complex64(1j) * jnp.cosh(z)), False),
    (lambda z: jnp.sqrt(jnp.square(z)), False),
  ],
)
def test_functions_with_a_cut_along_the_negative_numbers(activation, free):
  def fn(params, x):
    hidden = x.astype('c8') @ params['kernel'] + params['bias'][None]
    return activation(hidden).sum(-1)

  graph = jprune.graph.channels(fn, PARAMS, X)
  assert [group.size for group in graph.groups] == [12] * free
  if free:
    masks = jprune.masks.channels(jprune.scores.magnitude(PARAMS), graph, 0.5)
    # inputs of both signs, so that zeros of both signs reach the function
    for x in (X, -X, jnp.zeros_like(X)):
      small = jprune.shrink(fn, PARAMS, masks, x)
      masked = fn(jprune.apply(PARAMS, masks), x)
      np.testing.assert_allclose(small.fn(small.params, x), masked, rtol=1e-5, atol=1e-5)


def test_inputs_that_are_real_are_captured():
  fn = lambda p, x: (x.reshape(5, 6).astype('c8') @ p['kernel']).real
  _, stats = jprune.graph.capture(fn, PARAMS, X.reshape(6, 5), gram=True)
  ((_, moments),) = stats['kernel']
  np.testing.assert_allclose(
    moments.gram[0], X.reshape(5, 6).T @ X.reshape(5, 6) / 5, rtol=1e-5, atol=1e-6
  )
  rotated = lambda p, x: jnp.abs(jax.lax.complex(x, x) @ p['kernel'])
  _, stats = jprune.graph.capture(rotated, {**PARAMS, 'v': X[0]}, X)
  assert 'its inputs are complex' in dict(stats.skipped)['kernel']
