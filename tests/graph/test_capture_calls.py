"""Products in calls: compiled, rematerialised, with derivative rules, and all of it in loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from tests.graph.captured import captured, check_moments, check_same, close, normal, only, together
from tests.graph.captured import unrolled as steps_of

X = normal(3, 5)
W = 0.5 * normal(4, 5, 5, seed=1)
unrolled = functools.partial(steps_of, x=X)
as64 = lambda x: np.asarray(x, np.float64)


@jax.custom_vjp
def with_vjp(x, w):
  return x @ w


with_vjp.defvjp(lambda x, w: (x @ w, (x, w)), lambda kept, g: (g @ kept[1].T, kept[0].T @ g))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def with_static(activation, x, w):
  return activation(x @ w)


with_static.defvjp(lambda f, x, w: (f(x @ w), (x, w)), lambda f, kept, g: kept)


@jax.custom_jvp
def with_jvp(x, w):
  return x @ w


with_jvp.defjvp(lambda xs, ts: (xs[0] @ xs[1], ts[0] @ xs[1] + xs[0] @ ts[1]))

CALLS = {
  'jit': jax.jit(lambda x, w: x @ w),
  'jit in jit': jax.jit(lambda x, w: jax.jit(jnp.matmul)(x, w)),
  'remat': jax.checkpoint(lambda x, w: x @ w),
  'remat policy': jax.checkpoint(jnp.matmul, policy=jax.checkpoint_policies.dots_saveable),
  'custom_vjp': with_vjp,
  'custom_vjp static': functools.partial(with_static, jnp.tanh),
  'custom_jvp': with_jvp,
  'closed_call': lambda x, w: jax.linearize(lambda w: x @ w, w)[0],
}


@pytest.mark.parametrize('name', CALLS)
def test_a_product_in_a_call(name):
  call = CALLS[name]
  fn = lambda p, x: call(jnp.sin(call(x, p['a'])), p['b'])
  stats = captured(fn, {'a': W[0], 'b': W[1]}, X)
  y = as64(X) @ as64(W[0])
  check_moments(only(stats, 'a')[1], X)
  check_moments(only(stats, 'b')[1], np.sin(np.tanh(y) if 'static' in name else y))


@pytest.mark.parametrize('name', ['jit', 'remat', 'custom_vjp', 'custom_jvp'])
def test_a_product_in_a_call_in_a_scan(name):
  step = lambda x, w: (jnp.tanh(CALLS[name](x, w)), None)
  stats = captured(lambda p, x: lax.scan(step, x, p['w'])[0], {'w': W}, X)
  check_moments(only(stats, 'w')[1], unrolled(W))


def test_one_compiled_function_called_with_several_leaves():
  step = jax.jit(lambda x, w: jnp.tanh(x @ w))
  fn = lambda p, x: step(step(step(x, p['a']), p['b']), p['a'])
  stats = captured(fn, {'a': W[0], 'b': W[1]}, X)
  rows = unrolled(W, order=[0, 1, 0])
  check_moments(only(stats, 'a')[1], together(rows[[0, 2]]))
  check_moments(only(stats, 'b')[1], rows[1])


def test_a_derivative_within_the_function_is_another_use():
  fn = lambda p, x: jax.grad(lambda x: jnp.tanh(x @ p['w']).sum())(x)
  stats = captured(fn, {'w': W[0]}, X)
  _, moments = only(stats, 'w')
  check_moments(moments, X)
  assert dict(stats.notes)['w'].startswith('also used by a product in another form')


def test_scanned_equals_unrolled_with_everything_at_once():
  """Remat, a branch and a shared weight in the steps, against the steps written out."""

  def step(x, w, shared):
    h = lax.cond(x.sum() > 0, lambda x: x @ w, lambda x: jnp.sin(x) @ w, x)
    return jnp.tanh(h) @ shared

  def scanned(p, x):
    body = jax.checkpoint(lambda x, w: (step(x, w, p['shared']), None))
    return lax.scan(body, x, p['w'])[0]

  def written_out(p, x):
    for w in p['w']:
      x = step(x, w, p['shared'])
    return x

  params = {'shared': W[3], 'w': W[:3]}
  stats, others = captured(scanned, params, X), captured(written_out, params, X)
  apart = others['w']
  assert [use.sizes for use, _ in apart] == [(1, 5, 5)] * 3
  _, moments = only(stats, 'w')
  for i, (_, expected) in enumerate(apart):
    close(moments.products[i], expected.products[0])
    close(moments.mean[i], expected.mean[0])
  close(only(stats, 'shared')[1].products, only(others, 'shared')[1].products)
  check_same(stats, captured(jax.jit(scanned), params, X))
