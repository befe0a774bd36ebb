"""Canonical paths and leaf filters over every kind of container."""

import dataclasses
import re
from typing import Any, NamedTuple

import chex
import equinox as eqx
import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jprune
from jprune import tree
from jprune.graph import Role, Roles

KERNEL, BIAS = jnp.ones((2, 3)), jnp.ones(3)


class Layer(NamedTuple):
  kernel: Any
  bias: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Plain:
  kernel: Any
  bias: Any


@chex.dataclass
class Chex:
  kernel: Any
  bias: Any


@flax.struct.dataclass
class Struct:
  kernel: Any
  bias: Any


class Module(nnx.Module):
  def __init__(self):
    self.layer = nnx.Linear(2, 3, rngs=nnx.Rngs(0))


CONTAINERS = {
  'dict': ({'layer': {'kernel': KERNEL, 'bias': BIAS}}, 'layer/kernel'),
  'FrozenDict': (flax.core.freeze({'layer': {'kernel': KERNEL, 'bias': BIAS}}), 'layer/kernel'),
  'list': ([BIAS, [KERNEL]], '1/0'),
  'tuple': ((BIAS, (KERNEL,)), '1/0'),
  'int keys': ({3: {'kernel': KERNEL}, 4: BIAS}, '3/kernel'),
  'named tuple': ({'layer': Layer(KERNEL, BIAS)}, 'layer/kernel'),
  'dataclass': ([Plain(KERNEL, BIAS)], '0/kernel'),
  'chex': ([Chex(kernel=KERNEL, bias=BIAS)], '0/kernel'),
  'flax.struct': ([Struct(KERNEL, BIAS)], '0/kernel'),
  'equinox': (eqx.filter(eqx.nn.Linear(3, 2, key=jax.random.key(0)), eqx.is_array), 'weight'),
  'nnx.State': (nnx.state(Module()), 'layer/kernel'),
  'linen boxes': ({'a': nn.Partitioned(KERNEL, names=('x', 'y')), 'b': BIAS}, 'a'),
  'bare array': (KERNEL, ''),
}


@pytest.mark.parametrize('name', CONTAINERS)
def test_paths_and_default_selection(name):
  params, path = CONTAINERS[name]
  paths, leaves, _ = tree.flatten(params)
  assert [p for p, yes in zip(paths, tree.selected(params)) if yes] == [path]
  assert len(set(paths)) == len(leaves)
  masks = jprune.prune(params, 0.5)
  kept = jax.tree.leaves(masks)
  assert [mask.sum() for mask in kept] == [3]
  pruned = jprune.apply(params, masks)
  assert jax.tree.structure(pruned) == jax.tree.structure(params)
  zeros = [int((np.asarray(leaf) == 0).sum()) for leaf in jax.tree.leaves(pruned)]
  assert sorted(zeros)[-1] >= 3
  assert jax.tree.structure(jax.eval_shape(lambda p: jprune.prune(p, 0.5), params)) == (
    jax.tree.structure(masks)
  )


PARAMS = {
  'Dense_0': {'kernel': KERNEL, 'bias': BIAS},
  'Dense_1': {'kernel': jnp.ones((3, 4), jnp.bfloat16), 'bias': jnp.ones(4)},
  'count': jnp.arange(6).reshape(2, 3),
  'empty': jnp.ones((0, 5)),
  'key': jax.random.key(0),
  'scale': jnp.float32(1.0),
}


def names(where):
  return [p for p, yes in zip(tree.flatten(PARAMS)[0], tree.selected(PARAMS, where)) if yes]


@pytest.mark.parametrize(
  ('where', 'want'),
  [
    (None, ['Dense_0/kernel', 'Dense_1/kernel']),
    ('kernel', ['Dense_0/kernel', 'Dense_1/kernel']),
    ('^Dense_1/', ['Dense_1/kernel']),
    ('.', ['Dense_0/kernel', 'Dense_1/kernel']),
    ('^(?!Dense_0)', ['Dense_1/kernel']),
    (re.compile('DENSE_0/K', re.IGNORECASE), ['Dense_0/kernel']),
    (lambda path, leaf: leaf.dtype == jnp.bfloat16, ['Dense_1/kernel']),
    (lambda path, leaf: np.bool_(path.endswith('bias')), ['Dense_0/bias', 'Dense_1/bias']),
    (['Dense_0/bias', lambda path, leaf: path == 'scale'], ['Dense_0/bias', 'scale']),
    (['Dense_0/bias', '^Dense_1'], ['Dense_0/bias', 'Dense_1/kernel']),
    (('kernel', ['scale']), ['Dense_0/kernel', 'Dense_1/kernel', 'scale']),
    (jax.tree.map(lambda leaf: leaf.shape == (3,), PARAMS), ['Dense_0/bias']),
  ],
)
def test_every_kind_of_filter(where, want):
  assert names(where) == want


def test_shape_structs_are_enough():
  shapes = jax.eval_shape(lambda: {'a': KERNEL, 'b': BIAS})
  assert tree.selected(shapes) == [True, False]
  assert tree.size(jax.ShapeDtypeStruct((2**20, 2**13), jnp.float32)) == 2**33


def test_leaves_that_are_not_arrays_are_left_alone():
  model = eqx.nn.MLP(2, 2, 4, 1, key=jax.random.key(0))  # holds its activations as leaves
  masks = jprune.prune(model, 0.5)
  pruned = jprune.apply(model, masks)
  assert pruned.activation is model.activation
  assert int((pruned.layers[0].weight == 0).sum()) == 4
  assert pruned(jnp.ones(2)).shape == (2,)


def test_masks_are_no_params():
  masks = jprune.prune({'kernel': jnp.ones((2, 2)), 'bias': jnp.ones(2)}, 0.5)
  for where in (None, 'kernel', lambda path, leaf: True):
    with pytest.raises(TypeError, match='^prune: `params` must be params; got bool .* masks: pass'):
      jprune.prune(masks, 0.5, where=where)


@pytest.mark.parametrize(
  ('where', 'error', 'words'),
  [
    (
      'kernal',
      ValueError,
      r'selected: `where` must be a filter that selects at least one leaf; got '
      r"where='kernal'",
    ),
    ('Dense_0/kernl', ValueError, r"Did you mean 'Dense_0/"),
    ('empty', ValueError, 'which selects no weights'),
    ('[', ValueError, r"selected: `where` must be a regular expression; got '\['"),
    ('*/kernel', ValueError, r"got '\*/kernel' .* anywhere in a path: write 'kernel'.$"),
    ('**/Dense_*/kernel', ValueError, r"anywhere in a path: write 'Dense_\.\*/kernel'.$"),
    (3, TypeError, 'selected: `where` must be a predicate, a regular expression'),
    ([], TypeError, 'selected: `where` must be a predicate'),
    (
      lambda path, leaf: None,
      TypeError,
      'selected: `where` must be a predicate that returns a bool',
    ),
    (
      'count',
      TypeError,
      "selected: `where` must be a filter of floating leaves; got int32 .* 'count'",
    ),
    (
      ['count'],
      TypeError,
      "selected: `where` must be a filter of floating leaves; got int32 .* 'count'",
    ),
    (
      'bias|scale',
      ValueError,
      r"selected: `where` must be .* that the default takes; got where='bias.scale', which finds "
      r"only 'Dense_0/bias' \(fewer than two dimensions\), .*. A regular expression narrows "
      'the default. To choose these all the same, pass a list of their paths, a predicate',
    ),
    (re.compile('bias$'), ValueError, "got where='bias.', which finds only 'Dense_0/bias'"),
    (
      ['kernel', 'Dense_9'],
      ValueError,
      r"got where\[1\]='Dense_9', which selects no weights out of",
    ),
    (['kernel', 'bias'], ValueError, r"got where\[1\]='bias', which finds only 'Dense_0/bias'"),
    (
      ['kernel', lambda path, leaf: False],
      ValueError,
      r'got where\[1\]=the function <lambda>, which selects no weights out of',
    ),
    ({'Dense_0': True}, ValueError, 'selected: `where` must be a tree with the structure of'),
  ],
)
def test_filters_that_cannot_be_meant(where, error, words):
  with pytest.raises(error, match=words):
    tree.selected(PARAMS, where)


def test_nothing_to_select_from():
  with pytest.raises(ValueError, match='selected: `params` must be a tree with at least one leaf'):
    tree.selected({})
  with pytest.raises(ValueError, match=r'By default floating leaves .*tree.skipped'):
    tree.selected({'b': BIAS})


def test_along_and_by_leaf():
  params = {'a': {'w': KERNEL}, 'b': BIAS}
  assert tree.along(params, {'a': {'w': None}, 'b': 1}) == [None, 1]
  assert tree.by_leaf(params, 0.5) == [0.5, 0.5]
  assert tree.by_leaf(params, {'a/w': 0.5}) == [0.5, None]
  assert tree.by_leaf(params, {'a': {'w': 0.5}, 'b': None}) == [0.5, None]
  with pytest.raises(
    ValueError, match=r"by_leaf: `values` must be a tree .*; got no leaf 'a/w', 'b' and an"
  ):
    tree.by_leaf(params, {'c': 0.5})
  frozen = flax.core.freeze({'a': {'w': 1}, 'b': 2})
  with pytest.raises(ValueError, match='the same leaf paths in other containers'):
    tree.along(params, frozen)


def roles_of(params, **found):
  """Roles of these kinds; the others are kernels."""
  kinds = {path: found.get(path.replace('/', '_'), ('kernel', '')) for path in tree.shapes(params)}
  shapes = tree.shapes(params)
  return Roles({path: Role(kind, shapes[path], why) for path, (kind, why) in kinds.items()})


ROLES = roles_of(
  PARAMS,  # biases are kernels here, whatever their names and axes
  Dense_1_bias=('vector', 'it is added'),
  Dense_1_kernel=('table', 'it is looked up'),
  count=('state', 'no gradient reaches it'),
  key=('unused', 'nothing uses it'),
  scale=('vector', 'it is multiplied by'),
)


def test_roles_take_the_place_of_names():
  find = lambda where: tree.selected(PARAMS, where, ROLES)
  paths = tree.flatten(PARAMS)[0]
  assert [p for p, yes in zip(paths, find(None)) if yes] == ['Dense_0/bias', 'Dense_0/kernel']
  assert [p for p, yes in zip(paths, find('bias')) if yes] == ['Dense_0/bias']
  assert [p for p, yes in zip(paths, find(['Dense_1/bias'])) if yes] == ['Dense_1/bias']
  why = dict(zip(paths, tree.skipped(PARAMS, ROLES)))
  assert why['Dense_1/kernel'] == 'table: it is looked up'
  assert why['count'] == 'not floating'
  assert why['empty'] == 'no weights'
  with pytest.raises(ValueError, match=r"which finds only 'Dense_1/bias' \(vector: it is added\)"):
    find('Dense_1/bias')
  masks = jprune.prune(PARAMS, 0.5, roles=ROLES)
  assert masks['Dense_1']['kernel'] is None
  assert masks['Dense_0']['bias'].shape == (3,)


def test_roles_of_other_leaves():
  words = "prune: `roles` must be those of every leaf; got none at leaf 'a'"
  with pytest.raises(ValueError, match=words):
    jprune.prune({'a': KERNEL}, 0.5, roles=roles_of({'b': KERNEL}))
  with pytest.raises(ValueError, match=r'got shape \(2, 3\) for a leaf of shape \(3, 2\)'):
    jprune.prune({'a': KERNEL.T}, 0.5, roles=roles_of({'a': KERNEL}))
  with pytest.raises(TypeError, match='`roles` must be .*; got function. Pass jprune.graph.roles'):
    jprune.prune({'a': KERNEL}, 0.5, roles=lambda params: params)


SCALE = jnp.ones((4, 1))
QUANTISED = {
  'fp8': ({'l.weight': jnp.ones((4, 2), jnp.float8_e4m3fn), 'l.weight_scale': SCALE}, 'l.weight'),
  'int8': ({'l.weight': jnp.ones((4, 2), jnp.int8), 'l.SCB': jnp.ones(4)}, 'l.weight'),
  'GPTQ': ({'l.qweight': jnp.ones((4, 2), jnp.int32), 'l.scales': SCALE}, 'l.qweight'),
  'MLX': ({'l.weight': jnp.ones((4, 2), jnp.uint32), 'l.scales': SCALE}, 'l.weight'),
  'bnb': ({'l.weight': jnp.ones((8, 1), jnp.uint8), 'l.weight.absmax': jnp.ones(4)}, 'l.weight'),
  'qwix': (
    {'kernel': {'array': {'qvalue': jnp.ones((4, 2), jnp.int8), 'scale': jnp.ones((1, 2))}}},
    'kernel/array/qvalue',
  ),
  'MXFP4': (
    {'up_blocks': jnp.ones((2, 4, 2), jnp.uint8), 'up_scales': jnp.ones((2, 4), jnp.uint8)},
    'up_blocks',
  ),
}


@pytest.mark.parametrize('name', QUANTISED)
def test_quantised_weights_are_refused_unless_left_out(name):
  params, path = QUANTISED[name]
  params = {**params, 'head': {'kernel': KERNEL}}
  words = (
    rf"selected: `params` must be weights that are not quantised; .* scales '.*' at leaf '{path}'"
  )
  for where in (None, '.', ['.']):
    with pytest.raises(ValueError, match=words + '. Dequantise the weights first'):
      tree.selected(params, where)
  assert sum(tree.selected(params, 'head')) == 1
  assert sum(tree.selected(params, lambda path, leaf: path == 'head/kernel')) == 1
  del params['head']
  assert set(tree.skipped(params)) - {None, 'not floating'} or name == 'MXFP4'


def test_small_dtypes_without_scales_are_weights_like_others():
  params = {
    'l': {'kernel': jnp.ones((4, 2), jnp.float8_e4m3fn), 'bias': jnp.ones(2)},
    'norm': {'scale': jnp.ones(2)},
    'swin': {'index': jnp.ones((4, 4), jnp.int32), 'scale': jnp.ones(4)},
  }
  assert [p for p, yes in zip(tree.flatten(params)[0], tree.selected(params)) if yes] == [
    'l/kernel'
  ]
