"""Functions that bring their own derivative keep it in the small function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.shrink import _masks
from tests.shrink._networks import shrunk


@pytest.fixture(autouse=True)
def _in_float64():
  with jax.enable_x64(True):
    yield


@jax.custom_vjp
def rounded(x):
  return jnp.round(4 * x) / 4


rounded.defvjp(lambda x: (rounded(x), None), lambda _, cotangent: (3.0 * cotangent,))


@jax.custom_jvp
def stepped(x):
  return jnp.floor(2 * x)


@stepped.defjvp
def _(primals, tangents):
  return stepped(*primals), 5.0 * tangents[0]


@jax.custom_jvp
def normalised(x, scale):
  return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 0.1) * scale[None]


@normalised.defjvp
def _(primals, tangents):
  out = normalised(*primals)
  return out, 2.0 * tangents[0] + out * tangents[1][None]


@jax.custom_vjp
def gated(x, scale):
  return x * jax.nn.sigmoid(scale)[None]


def _gated_forward(x, scale):
  return gated(x, scale), {'x': x, 'scale': scale}


def _gated_backward(kept, cotangent):
  return 7.0 * cotangent * kept['scale'][None], (cotangent * kept['x']).sum(0)


gated.defvjp(_gated_forward, _gated_backward)

FUNCTIONS = {
  'vjp': lambda x, scale: rounded(x) * scale[None],
  'jvp': lambda x, scale: stepped(x) * scale[None],
  'jvp_over_channels': normalised,
  'vjp_with_residuals': gated,
  'in_jit': lambda x, scale: jax.jit(rounded)(x) * scale[None],
  'in_vmap': lambda x, scale: jax.vmap(stepped)(x) * scale[None],
  'in_checkpoint': lambda x, scale: jax.checkpoint(rounded)(x) * scale[None],
  'nested': lambda x, scale: gated(stepped(x), rounded(scale)),
}


def network(middle):
  def fn(params, x):
    return middle(x @ params['stem'], params['scale']) @ params['head']

  rng = np.random.default_rng(0)
  shapes = {'stem': (3, 8), 'scale': (8,), 'head': (8, 2)}
  params = {name: jnp.asarray(rng.standard_normal(shape)) for name, shape in shapes.items()}
  return shrunk(fn, params, jnp.asarray(rng.standard_normal((4, 3))))


@pytest.mark.parametrize('name', FUNCTIONS)
def test_gradient_is_the_rule_and_not_what_jax_would_derive(name):
  net = network(FUNCTIONS[name])
  slope = lambda fn, params: jax.grad(lambda p: jnp.sin(fn(p, net.x)).sum())(params)
  expected = net.small.plan.slice(slope(net.fn, net.masked))
  assert net.small.params['stem'].shape == (3, 4)
  assert np.abs(expected['stem']).max() > 0  # rounding has no other slope
  _masks.assert_same(expected, slope(net.small.fn, net.small.params), overall=True)


@pytest.mark.parametrize('name', ['jvp', 'jvp_over_channels'])
def test_forward_mode_and_second_derivatives_keep_the_rule(name):
  net = network(FUNCTIONS[name])

  def run(fn, params):
    slope = jax.grad(lambda p: jnp.sin(fn(p, net.x)).sum())
    return jax.jvp(slope, (params,), (params,))

  expected = net.small.plan.slice(run(net.fn, net.masked))
  _masks.assert_same(expected, run(net.small.fn, net.small.params), overall=True)


def test_the_rule_runs_once_for_a_trace():
  calls = []

  @jax.custom_vjp
  def identity(x):
    return jnp.sin(x)

  def backward(_, cotangent):
    calls.append(cotangent.shape)
    return (cotangent,)

  identity.defvjp(lambda x: (identity(x), None), backward)
  net = network(lambda x, scale: identity(x) * scale[None])
  calls.clear()
  jax.grad(lambda p: net.small.fn(p, net.x).sum())(net.small.params)
  assert calls  # traced at full size, as the function is
  assert set(calls) == {(4, 8)}


def test_a_rule_that_mixes_channels_is_respected():
  @jax.custom_vjp
  def odd(x):
    return jnp.tanh(x)

  # the backward pass sums over all channels, with ones where they are pruned
  odd.defvjp(
    lambda x: (odd(x), x),
    lambda x, cotangent: ((cotangent + jnp.exp(x)).sum(-1, keepdims=True) * jnp.ones_like(x),),
  )
  fn = lambda params, x: odd(x @ params['stem']) @ params['head']
  rng = np.random.default_rng(0)
  shapes = {'stem': (3, 8), 'head': (8, 2)}
  params = {name: jnp.asarray(rng.standard_normal(shape)) for name, shape in shapes.items()}
  net = shrunk(fn, params, jnp.ones((4, 3)))
  slope = lambda fn, p: jax.grad(lambda p: fn(p, net.x).sum())(p)
  expected = net.small.plan.slice(slope(net.fn, net.masked))
  _masks.assert_same(expected, slope(net.small.fn, net.small.params), overall=True)


def test_relu_of_a_pruned_channel_and_of_zero():
  fn = lambda params, x: jax.nn.relu(x @ params['stem']).max(-1)
  params = {'stem': jnp.asarray(np.random.default_rng(0).standard_normal((3, 8)))}
  net = shrunk(fn, params, -jnp.abs(jnp.ones((4, 3))))
  assert np.isfinite(net.small.fn(net.small.params, net.x)).all()
  _masks.assert_same(net.fn(net.masked, net.x), net.small.fn(net.small.params, net.x))
