"""Equinox' own primitives, as its loops, buffers and checks leave them in a trace."""

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jprune
from tests.shrink import _masks


@pytest.fixture(autouse=True)
def _in_float64():
  with jax.enable_x64(True):
    yield


PARAMS = {
  'in': np.random.default_rng(0).standard_normal((3, 8)),
  'out': np.random.default_rng(1).standard_normal((8, 3)),
}
X = np.random.default_rng(2).standard_normal((3,))


def field(params, x):
  return jnp.tanh(x @ params['in']) @ params['out']


def steps(kind, batched=False):
  """As many steps as the size of the state asks for, each written to a buffer."""

  def solve(params, x):
    def body(carry):
      i, x, buffer = carry
      x = x + 0.3 * field(params, x)
      return eqxi.nonbatchable(i) + 1, x, buffer.at[i].set(x)

    going = lambda carry: eqxi.unvmap_any(jnp.square(carry[1]).sum() < 9) & (carry[0] < 5)
    state = 0, x, jnp.zeros((5, 3), x.dtype)
    options = {'max_steps': 5, 'buffers': lambda carry: carry[2], 'kind': kind}
    _, x, buffer = eqxi.while_loop(going, body, state, **options)
    return x, buffer

  return (lambda params, x: jax.vmap(solve, (None, 0))(params, x)) if batched else solve


def scanned(kind):
  def solve(params, x):
    def body(x, factor):
      x = x + factor * field(params, x)
      return x, x.sum()

    factors = jnp.array([0.1, 0.2, 0.3], x.dtype)
    options = {'checkpoints': 2} if kind == 'checkpointed' else {}
    return eqxi.scan(body, x, factors, kind=kind, **options)

  return solve


def checked(params, x):
  """The checks are of the hidden units; what is done where one fails is a callback."""
  hidden = eqxi.nonbatchable(jnp.tanh(x @ params['in']))
  hidden = eqxi.nondifferentiable_backward(hidden, symbolic=False) + hidden
  small = eqxi.unvmap_all(jnp.square(x) < 99) & eqxi.unvmap_any(jnp.abs(hidden) > 0)
  most = eqxi.unvmap_max((x > 0).astype(int)).astype(x.dtype)
  return jnp.where(small, hidden * most, hidden) @ params['out']


CASES = {
  'while_checkpointed': steps('checkpointed'),
  'while_bounded': steps('bounded'),
  'while_of_several': steps('checkpointed', batched=True),
  'scan_checkpointed': scanned('checkpointed'),
}


@pytest.mark.parametrize('name', CASES)
def test_values_and_gradients(name):
  fn, x = CASES[name], np.stack([X, -X]) if name.endswith('several') else X
  graph = jprune.graph.channels(fn, PARAMS, x)
  assert [(group.name, group.size) for group in graph.groups] == [('in[1]', 8)]
  assert not graph.unsupported
  masks = _masks.masks_of(graph, [np.arange(8) % 3 > 0])
  pair = _masks.pair(fn, PARAMS, masks, x, graph=graph)
  _masks.compare(pair, x)


def test_a_loop_that_has_no_gradient():
  fn = steps('lax')
  graph = jprune.graph.channels(fn, PARAMS, X)
  assert [(group.name, group.size) for group in graph.groups] == [('in[1]', 8)]
  masks = _masks.masks_of(graph, [np.arange(8) % 3 > 0])
  _masks.compare(_masks.pair(fn, PARAMS, masks, X, graph=graph), X, gradients=False)


def test_checks():
  graph = jprune.graph.channels(checked, PARAMS, X)
  assert [(group.name, group.size) for group in graph.groups] == [('in[1]', 8)]
  assert not graph.unsupported
  masks = _masks.masks_of(graph, [np.arange(8) % 3 > 0])
  small = jprune.shrink(checked, PARAMS, masks, X)
  _masks.assert_same(checked(jprune.apply(PARAMS, masks), X), small.fn(small.params, X))
  with pytest.raises(ValueError, match='cannot be vmap'):  # that of nonbatchable
    jax.vmap(small.fn, (None, 0))(small.params, X[None])


def test_what_has_rules_of_its_own_stays_whole():
  """A primitive that is under Equinox' ``vmap`` is known by what it is without it."""
  lonely = eqxi.create_vprim(
    'lonely', lambda x: [x + 1], lambda x: [x], lambda x, t: ([x[0] + 1], [t[0]]), None
  )
  fn = lambda params, x: jax.vmap(lambda x: lonely.bind(x)[0])(x @ params['in']) @ params['out']
  graph = jprune.graph.channels(fn, PARAMS, X[None])
  assert not graph.groups
  assert 'the rule for vprim failed' in graph.frozen['in', 1]


def test_a_rule_that_refuses_an_operand():
  """As the solvers of diffrax have it: times may not be differentiated by, states may."""

  @eqx.filter_custom_vjp
  def scaled(h, times):
    return h * times

  scaled.def_fwd(lambda perturbed, h, times: (h * times, None))
  scaled.def_bwd(lambda residuals, grad, perturbed, h, times: grad * times)
  fn = lambda params, x: scaled(jnp.tanh(x @ params['in']), x.sum()) @ params['out']
  graph = jprune.graph.channels(fn, PARAMS, X)
  assert [(group.name, group.size) for group in graph.groups] == [('in[1]', 8)]
  masks = _masks.masks_of(graph, [np.arange(8) % 3 > 0])
  pair = _masks.pair(fn, PARAMS, masks, X, graph=graph)
  _masks.compare(pair, X)
