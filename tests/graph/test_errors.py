"""What the analysis refuses, and what it says of primitives that it doesn't know."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core

import jprune
from tests.shrink import _masks

X = np.ones((2, 3), np.float32)
odd_p = core.Primitive('odd_thing')
odd_p.def_abstract_eval(lambda x: x)
odd_p.def_impl(lambda x: x)
jax.interpreters.mlir.register_lowering(odd_p, lambda context, x: [x])


def make_params():
  rng = np.random.default_rng(0)
  shapes = {'in': (3, 8), 'mid': (8, 6), 'out': (6, 2)}
  return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def with_odd_thing(params, x):
  return jnp.tanh(odd_p.bind(x @ params['in']) @ params['mid']) @ params['out']


def test_an_unknown_primitive_freezes_its_operands_and_is_named():
  graph = jprune.graph.channels(with_odd_thing, make_params(), X)
  assert graph.unsupported == {'odd_thing': 1}
  line = with_odd_thing.__code__.co_firstlineno + 1
  for axis in (('in', 1), ('mid', 0)):
    assert graph.frozen[axis] == f'no rule for primitive odd_thing (test_errors.py:{line})'
  assert [(m.path, m.axis) for group in graph.groups for m in group.members] == [
    ('mid', 1),
    ('out', 0),
  ]
  assert 'odd_thing' in str(graph)
  assert graph.to_dict()['unsupported'] == {'odd_thing': 1}


def test_what_lies_behind_an_unknown_primitive_still_shrinks():
  pair = _masks.check(with_odd_thing, make_params(), X, gradients=False)[1]
  assert pair.small.params['mid'].shape[0] == 8
  assert pair.small.params['mid'].shape[1] < 6


@pytest.mark.parametrize(
  ('fn', 'message'),
  [
    ('relu', 'a function of the params and further arguments; got str. Pass model.apply'),
    (lambda params, x: 'text', 'a function that takes these params and args and returns arrays'),
    (lambda params, x: params['none'], "got KeyError: 'none'. Call fn"),
    (lambda params: params, 'got TypeError: .* 2 were given'),
    (lambda params, x: x @ params['mid'], 'got TypeError: dot_general requires'),
  ],
  ids=['str', 'text', 'key', 'arity', 'shapes'],
)
def test_functions_that_can_not_be_traced(fn, message):
  with pytest.raises(TypeError, match=f'^channels: `fn` must be .*{message}'):
    jprune.graph.channels(fn, make_params(), X)


@pytest.mark.parametrize('params', [{}, [], None, {'a': {}}])
def test_params_without_leaves(params):
  with pytest.raises(ValueError, match='^channels: `params`'):
    jprune.graph.channels(lambda params, x: x, params, X)


def test_an_error_within_the_function_is_the_cause():
  def fn(params, x):
    raise RuntimeError('from within\nand more')

  with pytest.raises(TypeError, match=r'got RuntimeError: from within\. Call') as caught:
    jprune.graph.channels(fn, make_params(), X)
  assert isinstance(caught.value.__cause__, RuntimeError)


def test_params_that_the_function_does_not_use():
  fn = lambda params, x: jnp.tanh(x @ params['in']).sum(-1)
  graph = jprune.graph.channels(fn, make_params(), X)
  assert 'does not use' in graph.frozen['mid', 0]
  assert {member.path for group in graph.groups for member in group.members} == {'in'}


def test_a_function_of_nothing_but_params():
  graph = jprune.graph.channels(lambda params: (params['in'] @ params['mid']).sum(), make_params())
  sizes = {(m.path, m.axis): group.size for group in graph.groups for m in group.members}
  assert sizes == {('in', 0): 3, ('in', 1): 8, ('mid', 0): 8, ('mid', 1): 6}


def test_groups_are_read_only():
  graph = jprune.graph.channels(with_odd_thing, make_params(), X)
  with pytest.raises(ValueError, match='read-only'):
    graph.groups[0].members[0].position.units[0] = 3
  with pytest.raises(AttributeError):
    graph.groups = ()


@pytest.mark.parametrize('count', ['params_at', 'macs_at'])
@pytest.mark.parametrize(
  ('kept', 'got'),
  [
    ([], '0 of them'),
    ([np.ones(6, bool)] * 2, '2 of them'),
    ([np.ones(5, bool)], r"shape \(5,\) for the 6 units of 'mid\[1\]'"),
    ([True], r"shape \(\) for the 6 units of 'mid\[1\]'"),
  ],
  ids=['none', 'two', 'shorter', 'number'],
)
def test_kept_of_another_length(count, kept, got):
  graph = jprune.graph.channels(with_odd_thing, make_params(), X)
  message = f'^{count}: `kept` must be a bool array of its size for each group, 1 in all; got {got}'
  with pytest.raises(ValueError, match=message):
    getattr(graph, count)(kept)


def test_a_function_that_returns_nothing():
  with pytest.raises(TypeError, match=r'^channels: `fn` must be .*; got no array\. Is a return'):
    jprune.graph.channels(lambda params, x: None, {'w': jnp.ones((2, 2))}, jnp.ones((2, 2)))
