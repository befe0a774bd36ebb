"""Functions that bring their own derivative keep it in the small function."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.custom_derivatives import SymbolicZero

import jprune
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


def of_itself(v):
  """Whose rule is made of the function, and so of the rule."""

  @jax.custom_jvp
  def f(v):
    return v

  @f.defjvp
  def _(primals, tangents):
    return f(*primals), 2 * f(*primals) * tangents[0]

  return f(v)


@jax.custom_vjp
def back_by_itself(v):
  return jnp.tanh(v)


back_by_itself.defvjp(
  lambda v: (back_by_itself(v), v), lambda v, cotangent: (3 * cotangent * back_by_itself(v) ** 2,)
)


def mixing_after(levels, v):
  """Whose rule is a function whose rule ... is, at the last level, a sum along the channels."""

  @jax.custom_jvp
  def f(v):
    return jnp.sin(v)

  @f.defjvp
  def _(primals, tangents):
    slope = mixing_after(levels - 1, *primals) if levels else jnp.cumsum(primals[0], -1)
    return f(*primals), tangents[0] * slope

  return f(v)


def slopes(net, orders):
  """Derivatives of all orders along one line, of the masked and of the small function."""
  found = []
  for fn, params in ((net.fn, net.masked), (net.small.fn, net.small.params)):
    along = lambda s, fn=fn, params=params: fn(jax.tree.map(lambda w: w * s, params), net.x).sum()
    found.append([])
    for _ in range(orders):
      along = jax.grad(along)
      found[-1].append(float(along(1.0)))
  return found


ORDERS = {
  'jvp': of_itself,
  'vjp': back_by_itself,
  'in_scan': lambda v: jax.lax.scan(lambda c, _: (of_itself(c), None), v, length=2)[0],
  'in_vmap': jax.vmap(of_itself),
  'in_checkpoint': jax.checkpoint(back_by_itself),
}


@pytest.mark.parametrize('name', ORDERS)
def test_rules_are_kept_to_the_fourth_order(name):
  net = network(lambda x, scale: ORDERS[name](0.1 * x) * scale[None])
  assert net.small.params['stem'].shape == (3, 4)
  masked, small = slopes(net, 4)
  np.testing.assert_allclose(small, masked, rtol=1e-9)


def test_a_rule_of_the_third_order_that_mixes_channels_is_refused_each_time():
  net = network(lambda x, scale: mixing_after(2, x) * scale[None])
  assert net.small.params['stem'].shape == (3, 4)
  masked, small = slopes(net, 2)
  np.testing.assert_allclose(small, masked, rtol=1e-9)
  for _ in range(2):
    with pytest.raises(
      ValueError, match='small.fn: `fn` must be one whose derivative rules.*third'
    ):
      slopes(net, 3)


def test_the_value_of_a_rule_is_taken_where_it_is_differentiated():
  @jax.custom_jvp
  def f(v):
    return v

  f.defjvp(lambda primals, tangents: (jnp.sin(f(*primals)), tangents[0]))
  net = network(lambda x, scale: f(x) * jnp.cos(f(x)) * scale[None])
  slope = lambda fn, params: jax.jvp(lambda p: fn(p, net.x), (params,), (params,))
  _masks.assert_same(slope(net.fn, net.masked), slope(net.small.fn, net.small.params))


def test_a_tangent_that_is_not_zero_where_the_value_is_cannot_be_left_out():
  @jax.custom_jvp
  def f(v):
    return jnp.tanh(v)

  f.defjvp(lambda primals, tangents: (f(*primals), tangents[0] + tangents[0].mean()))
  fn = lambda params, x: f(x @ params['stem']).sum(-1)
  params = {'stem': jnp.asarray(np.random.default_rng(0).standard_normal((3, 8)))}
  net = shrunk(fn, params, jnp.ones((4, 3)))
  slope = lambda fn, p: jax.grad(lambda p: fn(p, net.x).sum())(p)
  expected = net.small.plan.slice(slope(net.fn, net.masked))
  _masks.assert_same(expected, slope(net.small.fn, net.small.params), overall=True)


def closing_over_data(v, x):
  other = jnp.tanh(x).sum(-1, keepdims=True)
  f = jax.custom_vjp(lambda v: v * other)
  f.defvjp(
    lambda v: (f(v) * other.mean(), other),
    lambda kept, cotangent: (2 * cotangent * kept * jnp.cos(x).sum(),),
  )
  return f(v)


def test_a_rule_may_close_over_what_is_no_param():
  rng = np.random.default_rng(0)
  params = {k: jnp.asarray(rng.standard_normal(s)) for k, s in (('stem', (3, 8)), ('head', (8, 2)))}
  fn = lambda params, x: closing_over_data(x @ params['stem'], x) @ params['head']
  net = shrunk(fn, params, jnp.asarray(rng.standard_normal((4, 3))))
  assert net.small.params['stem'].shape == (3, 4)
  slope = lambda fn, p: jax.grad(lambda p: jnp.sin(fn(p, net.x)).sum())(p)
  expected = net.small.plan.slice(slope(net.fn, net.masked))
  _masks.assert_same(expected, slope(net.small.fn, net.small.params), overall=True)


@jax.custom_vjp
def timed(x, times):
  return jnp.round(4 * x) / 4 * times


def _timed_forward(x, times):
  assert not times.perturbed, 'times may not be differentiated by'
  return timed(x.value, times.value), times.value


timed.defvjp(_timed_forward, lambda times, g: (3.0 * g * times, None), symbolic_zeros=True)


@jax.custom_jvp
def weighted(x, times):
  return jnp.floor(2 * x) * times


@functools.partial(weighted.defjvp, symbolic_zeros=True)
def _(primals, tangents):
  assert isinstance(tangents[1], SymbolicZero), 'times may not be differentiated by'
  return weighted(*primals), 5.0 * tangents[0] * primals[1]


@jax.custom_jvp
def either(x, times):
  return jnp.floor(2 * x) * times


@functools.partial(either.defjvp, symbolic_zeros=True)
def _(primals, tangents):
  (x, times), (dx, dtimes) = primals, tangents
  by_x, by_times = (not isinstance(each, SymbolicZero) for each in tangents)
  assert by_x != by_times, 'by one of them'
  return either(x, times), 5.0 * dx * times if by_x else 7.0 * x * dtimes


@pytest.mark.parametrize('rule', [timed, weighted, either])
def test_a_rule_that_refuses_operands_is_one_by_what_params_have_a_part_in(rule):
  """As JAX asks for it: also what comes out of loops, calls and branches of the arguments."""

  def fn(params, x):
    times = lax.scan(lambda c, y: (c + y.sum(), c), jnp.zeros(()), x)[0]
    times = jax.jit(lax.stop_gradient)(params['stem'].sum()) + jnp.tanh(times)
    return rule(x @ params['stem'], times) * params['scale'][None] @ params['head']

  rng = np.random.default_rng(0)
  shapes = {'stem': (3, 8), 'scale': (8,), 'head': (8, 2)}
  params = {name: jnp.asarray(rng.standard_normal(shape)) for name, shape in shapes.items()}
  net = shrunk(fn, params, jnp.asarray(rng.standard_normal((4, 3))))
  assert net.small.params['stem'].shape == (3, 4)
  slope = lambda fn, params: jax.grad(lambda p: jnp.sin(fn(p, net.x)).sum())(params)
  expected = net.small.plan.slice(slope(net.fn, net.masked))
  _masks.assert_same(expected, slope(net.small.fn, net.small.params), overall=True)
  for fn, params in ((net.small.fn, net.small.params), (net.fn, net.masked)):
    with pytest.raises(AssertionError, match='times may not|by one of them'):
      jax.grad(lambda x, fn=fn, params=params: fn(params, x).sum())(net.x)


def test_a_rule_by_other_operands_is_coupled_where_a_derivative_asks_for_it():
  def fn(params, x, times):
    return either(x @ params['stem'], times) * params['scale'][None] @ params['head']

  rng = np.random.default_rng(0)
  shapes = {'stem': (3, 8), 'scale': (8,), 'head': (8, 2)}
  params = {name: jnp.asarray(rng.standard_normal(shape)) for name, shape in shapes.items()}
  x = jnp.asarray(rng.standard_normal((4, 3)))
  graph = jprune.graph.channels(fn, params, x, jnp.float64(0.7))
  masks = _masks.masks_of(graph, _masks.half_kept(graph, rng))
  small = jprune.shrink(fn, params, masks, x, jnp.float64(0.7))
  by_times = lambda fn, params: jax.grad(lambda t: fn(params, x, t).sum())(jnp.float64(0.7))
  expected = by_times(fn, jprune.apply(params, masks))
  assert abs(expected) > 0
  _masks.assert_same(expected, by_times(small.fn, small.params), overall=True)


@jax.custom_jvp
def squashed(x):
  return jnp.round(4 * jnp.tanh(x)) / 4


squashed.defjvp(
  lambda primals, tangents: (squashed(*primals), 3.0 * tangents[0] * squashed(*primals))
)

GHOSTS = {
  'relu': jax.nn.relu,
  'softplus': jax.nn.softplus,
  'in_jit': jax.jit(squashed),
  'nested': lambda x: jax.nn.relu(squashed(x)) + jnp.tanh(jax.nn.relu(x)),
}


@pytest.mark.parametrize('name', GHOSTS)
def test_one_ghost_stands_for_all_pruned_channels_in_front_of_a_rule(name):
  """What pruned channels hold is the same for all of them, not zero, and in a mean of all."""

  def fn(params, x):
    shift = jnp.cos(x).sum(-1, keepdims=True)
    hidden = GHOSTS[name](x @ params['stem'] + shift)
    return (hidden - hidden.mean(-1, keepdims=True)) * params['scale'][None] @ params['head']

  rng = np.random.default_rng(0)
  shapes = {'stem': (3, 8), 'scale': (8,), 'head': (8, 2)}
  params = {key: jnp.asarray(rng.standard_normal(shape)) for key, shape in shapes.items()}
  net = shrunk(fn, params, jnp.asarray(rng.standard_normal((4, 3))))
  assert net.small.params['stem'].shape == (3, 4)

  def run(fn, params):
    slope = jax.grad(lambda p, x: jnp.sin(fn(p, x)).sum(), (0, 1))
    return fn(params, net.x), jax.jvp(lambda x: slope(params, x), (net.x,), (jnp.cos(net.x),))

  value, ((by_params, by_x), (twice, by_x_twice)) = run(net.fn, net.masked)
  slices = net.small.plan.slice
  expected = value, ((slices(by_params), by_x), (slices(twice), by_x_twice))
  _masks.assert_same(expected, run(net.small.fn, net.small.params), overall=True)


def test_a_rule_over_channels_has_no_ghost():
  def fn(params, x):
    hidden = normalised(x @ params['stem'] + jnp.cos(x).sum(-1, keepdims=True), params['scale'])
    return (hidden - hidden.mean(-1, keepdims=True)) @ params['head']

  params = {'stem': np.ones((3, 8)), 'scale': np.ones(8), 'head': np.ones((8, 2))}
  graph = jprune.graph.channels(fn, params, np.ones((4, 3)))
  assert not graph.groups
  assert 'summed over, where its pruned entries are not zero' in graph.frozen['stem', 1]
