"""Primitives that call other functions."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core
from jax.extend.core import primitives

from tests.graph.primitives._instances import Instance, Operand, form, sizes

# What is called: of one array, and of two.
_ONE = [
  jnp.sin,
  jnp.cos,
  lambda x: x + 1,
  lambda x: x * jnp.cos(x),
  lambda x: x,
  lambda x: jnp.zeros_like(x),
  lambda x: x[::-1] if x.ndim else x,
]
_TWO = [
  lambda x, y: x * y,
  lambda x, y: x + jnp.cos(y),
  lambda x, y: jnp.where(x > y, x, y),
  lambda x, y: y,
  lambda x, y: x,
]


def _one(rng):
  return _ONE[rng.integers(len(_ONE))]


def _two(rng):
  return _TWO[rng.integers(len(_TWO))]


@form('jit')
def _jit(rng):
  return Instance(jax.jit(_two(rng)), (Operand(sizes(rng, 2)),) * 2)


@form('closed_call')
def _closed_call(rng):
  """Nothing that is public makes one: that of ``jit`` is made into it."""
  operand = Operand(sizes(rng, 2))
  closed = jax.make_jaxpr(jax.jit(_two(rng)))(operand.struct, operand.struct)
  (eqn,) = closed.jaxpr.eqns
  call = {'call_jaxpr': eqn.params['jaxpr']}
  eqn = eqn.replace(primitive=primitives.closed_call_p, params=call)
  closed = closed.replace(jaxpr=closed.jaxpr.replace(eqns=[eqn]))
  return Instance(lambda *xs: core.jaxpr_as_fun(closed)(*xs), (operand, operand))


@form('remat2')
def _remat(rng):
  inner = _two(rng)
  return Instance(jax.checkpoint(lambda x, y: inner(x, y) * 2), (Operand(sizes(rng, 2)),) * 2)


@form('scan')
def _scan(rng):
  """Carried, stacked, constant; any number of steps, either way."""
  steps, n = (int(size) for size in rng.choice([0, 1, 2, 3], 2))
  first, second = _two(rng), _two(rng)

  def fn(carry, xs, const):
    body = lambda c, x: (first(c, x) * const, second(x, c))
    return lax.scan(body, carry, xs, reverse=reverse, unroll=unroll)

  reverse, unroll = bool(rng.random() < 0.5), int(rng.choice([1, 2]))
  return Instance(fn, (Operand((n,)), Operand((steps, n)), Operand((n,))))


@form('scan')
def _scan_by_number(rng):
  """No arrays are scanned over; two are carried, which may change places."""
  steps, n = int(rng.choice([0, 1, 3])), sizes(rng, 1)
  inner, swapped = _two(rng), rng.random() < 0.5

  def body(carry, i):
    a, b = carry
    pair = (b, inner(a, b)) if swapped else (inner(a, b), b)
    return pair, a

  fn = lambda a, b: lax.scan(body, (a, b), None, length=steps)
  return Instance(fn, (Operand(n), Operand(n)))


@form('scan')
def _scan_of_matrices(rng):
  n, steps = int(rng.choice([1, 2, 3])), int(rng.choice([1, 2]))
  fn = lambda x, ws: lax.scan(lambda c, w: (c @ w, c), x, ws)
  return Instance(fn, (Operand((2, n)), Operand((steps, n, n))), apart=False)


@form('scan')
def _scan_of_scan(rng):
  n, steps = sizes(rng, 1), sizes(rng, 2)
  inner = _two(rng)

  def fn(x, ys):
    within = lambda c, y: (inner(c, y), c)
    return lax.scan(lambda c, y: lax.scan(within, c, y), x, ys)

  return Instance(fn, (Operand(n), Operand((*steps, *n))))


@form('while')
def _while(rng):
  """So many turns; none at all; under ``vmap`` so many for each."""
  inner, n = _two(rng), sizes(rng, 2)

  def fn(x, y, start):
    going = lambda state: state[0] < 2
    body = lambda state: (state[0] + 1, inner(state[1], y))
    return lax.while_loop(going, body, (start, x))

  return Instance(fn, (Operand(n), Operand(n), Operand((), 'int32', 0, 3)))


@form('while')
def _while_never(rng):
  inner, n = _one(rng), sizes(rng, 2)
  fn = lambda x, end: lax.fori_loop(0, end, lambda _, y: inner(y), x)
  return Instance(fn, (Operand(n), Operand((), 'int32', 0, 2)))


@form('while')
def _while_on_values(rng):
  """How often depends on what is carried."""
  n = sizes(rng, 1)
  fn = lambda x, s: lax.while_loop(lambda c: c[1] < 1.5, lambda c: (c[0] * 2, c[1] + 1), (x, s))
  return Instance(fn, (Operand(n), Operand(())))


@form('cond')
def _cond(rng):
  branches = [_two(rng) for _ in range(int(rng.choice([2, 3])))]
  n = sizes(rng, 2)
  fn = lambda i, x, y: lax.switch(i, branches, x, y)
  return Instance(fn, (Operand((), 'int32', -1, 3), Operand(n), Operand(n)))


@form('cond')
def _cond_on_bool(rng):
  one, other, n = _one(rng), _one(rng), sizes(rng, 1)
  fn = lambda yes, x: lax.cond(yes, one, other, x)
  return Instance(fn, (Operand((), 'bool'), Operand(n)))


@form('cond')
def _cond_on_constant(rng):
  one, other, n = _one(rng), _one(rng), sizes(rng, 1)
  yes = bool(rng.random() < 0.5)
  fn = lambda x: lax.cond(yes, lambda y: (one(y), 1.0), lambda y: (other(y), 0.0), x)
  return Instance(fn, (Operand(n),))


@form('custom_jvp_call')
def _custom_jvp(rng):
  inner, slope = _two(rng), _two(rng)
  fn = jax.custom_jvp(inner)
  fn.defjvp(lambda xs, ts: (inner(*xs), slope(*xs) * ts[0] + ts[1]))
  return Instance(fn, (Operand(sizes(rng, 2)),) * 2)


@form('custom_jvp_call')
def _relu(rng):
  return Instance(lambda x: jax.nn.relu(x) + jax.nn.silu(x), (Operand(sizes(rng, 2)),))


@form('custom_vjp_call')
def _custom_vjp(rng):
  inner, slope = _two(rng), _two(rng)
  fn = jax.custom_vjp(inner)
  fn.defvjp(
    lambda x, y: (inner(x, y), (x, y)),
    lambda xs, ct: (ct * slope(*xs), ct),
  )
  return Instance(fn, (Operand(sizes(rng, 2)),) * 2)


@form('custom_vjp_call')
def _custom_vjp_of_ints(rng):
  """An operand that has no derivative."""
  inner = lambda x, i: x * i.astype(x.dtype)
  none = lambda i: np.zeros(i.shape, jax.dtypes.float0)
  fn = jax.custom_vjp(inner)
  fn.defvjp(lambda x, i: (inner(x, i), i), lambda i, ct: (inner(ct, i), none(i)))
  n = sizes(rng, 2)
  return Instance(fn, (Operand(n), Operand(n, 'int32')))
