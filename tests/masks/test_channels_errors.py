"""What channel selection refuses, and how it says so."""

import types

import jax
import jax.numpy as jnp
import pytest

from jprune import masks
from jprune.graph import Roles
from tests.masks.channel_graphs import graph_of

PARAMS = {'a': {'kernel': jnp.ones((3, 4)), 'bias': jnp.arange(4.0)}, 'step': jnp.array(3)}
GRAPH = graph_of(PARAMS, ('a/bias', 4, [('a/kernel', 1, None), ('a/bias', 0, None)]))


def refused(error, text, *args, scores=PARAMS, graph=GRAPH, **kwargs):
  with pytest.raises(error, match=text):
    masks.channels(scores, graph, *args, **kwargs)


def test_graphs():
  refused(TypeError, 'channels: `graph` must be a ChannelGraph; got dict. Build it', 0.5, graph={})
  refused(
    ValueError,
    'channels: `graph` must be one with channel groups; got none',
    0.5,
    graph=graph_of(PARAMS),
  )


def test_masks_are_no_scores():
  found = {'a': {'kernel': jnp.ones((3, 4), bool), 'bias': None}, 'step': None}
  text = '^channels: `scores` must be scores; got bool leaves alone. .* pass the scores that'
  refused(TypeError, text, 0.5, scores=found)


def test_exactly_one_target():
  refused(TypeError, '`sparsity` must be given alone: exactly one of .*; got none of them')
  refused(TypeError, "got 'sparsity', 'target_macs'. Leave the others out", 0.5, target_macs=0.5)
  refused(TypeError, "got 'target_params', 'target_macs'", target_params=0.5, target_macs=0.5)


@pytest.mark.parametrize('value', [-0.1, 1.5, float('nan')])
def test_fractions(value):
  refused(ValueError, r'channels: `sparsity` must be in \[0, 1\]; got', value)
  refused(ValueError, r"channels: `sparsity\['a/bias'\]` must be in \[0, 1\]", {'a/bias': value})
  refused(ValueError, r'channels: `target_params` must be in \[0, 1\]', target_params=value)


def test_targets():
  refused(ValueError, r'`target_macs` must be in \(0, 1\]; got 0.0. It is the', target_macs=0.0)
  refused(TypeError, '`target_macs` must be a number', target_macs='half')
  text = '`target_params` must be at least 0.2942, what is left .*; got 0.01. Lower min_keep'
  refused(ValueError, text, target_params=0.01)


def test_what_must_not_be_traced():
  text = '`target_params` must be None where scores are traced; got 0.5. Call it outside jit'
  with pytest.raises(TypeError, match=text):
    jax.jit(lambda s: masks.channels(s, GRAPH, target_params=0.5))(PARAMS)
  with pytest.raises(
    TypeError, match='channels: `sparsity` must be a number at hand; got a traced'
  ):
    jax.jit(lambda x: masks.channels(PARAMS, GRAPH, x))(0.5)


def test_words():
  text = "`scope` must be 'local', 'global' or 'isomorphic'; got 'globl'. Did you mean 'global'"
  refused(ValueError, text, 0.5, scope='globl')
  refused(ValueError, '`scope` must be .*; got None', 0.5, scope=None)
  refused(ValueError, "`normalize` must be None, 'mean', 'max' or 'gaussian'", 0.5, normalize='std')
  text = "`reduce` must be 'mean', 'sum', 'max', 'l2' or a function; got 'men'. Did you mean 'mean'"
  refused(ValueError, text, 0.5, reduce='men')
  refused(TypeError, '`reduce` must be .* or a function; got None', 0.5, reduce=None)


@pytest.mark.parametrize('value', [0, -1, 1.5, True, None])
def test_counts(value):
  refused(ValueError, '`round_to` must be an int of at least 1; got', 0.5, round_to=value)
  refused(ValueError, '`min_keep` must be an int of at least 1; got', 0.5, min_keep=value)


def test_functions_that_reduce_to_something_else():
  text = r"`reduce` must be a function .*shape \(4,\); got {}. Reduce axis 0.* group 'a/bias'"
  refused(
    ValueError,
    text.format('float32 of shape .2,.'),
    0.5,
    reduce=lambda x: x.mean(axis=1),
    where=['a/kernel', 'a/bias'],
  )
  refused(
    ValueError,
    text.format('int32 of shape .4,.'),
    0.5,
    reduce=lambda x: jnp.arange(4),
    where=['a/kernel', 'a/bias'],
  )
  refused(
    ValueError, text.format('NoneType'), 0.5, reduce=lambda x: None, where=['a/kernel', 'a/bias']
  )


def test_groups_by_name():
  refused(
    ValueError,
    "a dict whose keys are names of groups or members; got 'a/bas', .* Did you mean 'a/bias'",
    {'a/bas': 0.5},
  )
  refused(
    ValueError,
    "'q', which no group or member is called. There are 'a/bias', 'a/kernel.1.'",
    {'q': 0.5},
  )
  refused(ValueError, "got an empty dict. .* graph.groups; '.' stands for all others", {})
  both = graph_of(PARAMS, ('k', 3, [('a/kernel', 0, None)]), ('b', 4, [('a/bias', 0, None)]))
  refused(
    ValueError,
    "`sparsity` must be a dict of groups that may be pruned; got 'k', of which no member",
    {'k': 0.5},
    graph=both,
    where=['a/bias'],
  )
  refused(
    ValueError, "got 'k', of which `keep` names a member", {'k': 0.5}, graph=both, keep='kernel'
  )
  text = (
    "a dict that names each group once; got 'a/bias' by 'a/bias' and by 'a/kernel.1.'. Leave one"
  )
  refused(ValueError, text, {'a/bias': 0.5, 'a/kernel[1]': 0.5})
  text = (
    "without the key '.' where target_macs says what all other groups lose; got a dict with '.'"
  )
  refused(TypeError, text, {'a/bias': 0.5, '*': 0.5}, target_macs=0.9)
  refused(ValueError, r"`sparsity\['\*'\]` must be in \[0, 1\]", {'*': 2.0})


def test_keep_and_roles():
  refused(
    ValueError, '`keep` must be a filter that selects .* got keep=.stem., which', 0.5, keep='stem'
  )
  refused(ValueError, "which selects no .* 'a/bias'", 0.5, keep=['kernel', 'stem'])
  refused(ValueError, '`keep` must be a regular expression', 0.5, keep='(')
  refused(TypeError, '`keep` must be a predicate, a regular .* got 3', 0.5, keep=3)
  refused(TypeError, '`keep` must be a predicate that returns a bool', 0.5, keep=lambda p, x: None)
  refused(ValueError, '`keep` must be a tree with the structure', 0.5, keep={'a': True})
  text = '`keep` must be a filter that leaves a scored group to prune; got none, .* `keep` for 1'
  refused(ValueError, text, 0.5, keep='bias')
  text = (
    '`where` must be a filter .* `where`, which leaves out a kernel that makes .*, for 1. Whole'
  )
  linked = graph_of(
    {**PARAMS, 'b': jnp.ones((4, 2))}, ('g', 4, [('a/kernel', 1, None), ('b', 0, None)])
  )
  scores = {**PARAMS, 'b': jnp.ones((4, 2))}
  refused(ValueError, text, 0.5, where='b$', graph=linked, scores=scores)
  refused(TypeError, '`roles` must be roles of leaves; got int. Pass', 0.5, roles=3)
  text = "`roles` must be those of every leaf; got none at leaf 'a/bias'. Make"
  refused(ValueError, text, 0.5, roles=Roles({}))


def test_scores():
  refused(ValueError, '`scores` must be a tree with the structure of', 0.5, scores={'a': 1.0})
  other = {**PARAMS, 'a': {**PARAMS['a'], 'bias': jnp.ones(5)}}
  refused(ValueError, r"`scores` must be of shape \(4,\); .*'a/bias'", 0.5, scores=other)
  nan = {**PARAMS, 'a': {**PARAMS['a'], 'bias': jnp.array([0.0, 1.0, jnp.nan, 2.0])}}
  for reduce in ('mean', 'sum', 'max', 'l2', lambda x: x[0]):
    refused(
      ValueError,
      "`scores` must be free of NaN; got NaN at leaf 'a/bias'",
      0.5,
      scores=nan,
      reduce=reduce,
      where=['a/kernel', 'a/bias'],
    )
  masks.channels(nan, GRAPH, 0.5, where='kernel')  # it has no part in this
  structs = jax.eval_shape(lambda: PARAMS)
  refused(TypeError, '`scores` must be arrays; got a shape struct', 0.5, scores=structs)
  odd = {**PARAMS, 'a': {**PARAMS['a'], 'bias': jnp.ones(4, jnp.complex64)}}
  text = "`scores` must be real; got complex scores, complex64 of shape .4,. at leaf 'a/bias'"
  refused(TypeError, text, 0.5, scores=odd)
  none = {'a': {'kernel': None, 'bias': None}, 'step': None}
  refused(ValueError, '`scores` must be scores for at least one selected member', 0.5, scores=none)


def test_where():
  refused(
    ValueError, '`where` must be a filter that selects at least one leaf', 0.5, where='kernal'
  )
  refused(TypeError, "`where` must be a filter of floating leaves; .*'step'", 0.5, where='step')
  alone = graph_of({**PARAMS, 'c': jnp.ones(2)}, ('g', 4, [('a/bias', 0, None)]))
  scores = {**PARAMS, 'c': jnp.ones(2)}
  text = 'scores for at least one selected member of a group; got none'
  refused(ValueError, text, 0.5, where=['c'], scores=scores, graph=alone)


def test_other_objects_with_the_attributes_of_a_graph_will_do():
  names = ('groups', 'leaves', 'treedef')
  graph = types.SimpleNamespace(**{name: getattr(GRAPH, name) for name in names})
  assert masks.channels(PARAMS, graph, 0.5, where=['a/kernel', 'a/bias'])['a']['bias'].tolist() == [
    False,
    False,
    True,
    True,
  ]
