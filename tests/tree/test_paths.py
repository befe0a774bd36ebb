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
  assert [p for p, yes in zip(paths, tree.selected('f', params)) if yes] == [path]
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
  return [p for p, yes in zip(tree.flatten(PARAMS)[0], tree.selected('f', PARAMS, where)) if yes]


@pytest.mark.parametrize(
  ('where', 'want'),
  [
    (None, ['Dense_0/kernel', 'Dense_1/kernel']),
    ('kernel', ['Dense_0/kernel', 'Dense_1/kernel']),
    ('^Dense_1/', ['Dense_1/bias', 'Dense_1/kernel']),
    (re.compile('DENSE_0/K', re.IGNORECASE), ['Dense_0/kernel']),
    (lambda path, leaf: leaf.dtype == jnp.bfloat16, ['Dense_1/kernel']),
    (lambda path, leaf: np.bool_(path.endswith('bias')), ['Dense_0/bias', 'Dense_1/bias']),
    (['Dense_0/b', lambda path, leaf: path == 'scale'], ['Dense_0/bias', 'scale']),
    (jax.tree.map(lambda leaf: leaf.shape == (3,), PARAMS), ['Dense_0/bias']),
  ],
)
def test_every_kind_of_filter(where, want):
  assert names(where) == want


def test_shape_structs_are_enough():
  shapes = jax.eval_shape(lambda: {'a': KERNEL, 'b': BIAS})
  assert tree.selected('f', shapes) == [True, False]
  assert tree.size(jax.ShapeDtypeStruct((2**20, 2**13), jnp.float32)) == 2**33


def test_leaves_that_are_not_arrays_are_left_alone():
  model = eqx.nn.MLP(2, 2, 4, 1, key=jax.random.key(0))  # holds its activations as leaves
  masks = jprune.prune(model, 0.5)
  pruned = jprune.apply(model, masks)
  assert pruned.activation is model.activation
  assert int((pruned.layers[0].weight == 0).sum()) == 4
  assert pruned(jnp.ones(2)).shape == (2,)


@pytest.mark.parametrize(
  ('where', 'error', 'words'),
  [
    (
      'kernal',
      ValueError,
      r'f: `where` must be a filter that selects at least one leaf; got '
      r"where='kernal'",
    ),
    ('Dense_0/kernl', ValueError, r"Did you mean 'Dense_0/"),
    ('empty', ValueError, 'which selects no weights'),
    ('[', ValueError, r"f: `where` must be a regular expression; got '\['"),
    (3, TypeError, 'f: `where` must be a predicate, a regular expression'),
    ([], TypeError, 'f: `where` must be a predicate'),
    (lambda path, leaf: None, TypeError, 'f: `where` must be a predicate that returns a bool'),
    ('.', TypeError, "f: `where` must be a filter of floating leaves; got int32 .* 'count'"),
    ({'Dense_0': True}, ValueError, 'f: `where` must be a tree with the structure of'),
  ],
)
def test_filters_that_cannot_be_meant(where, error, words):
  with pytest.raises(error, match=words):
    tree.selected('f', PARAMS, where)


def test_nothing_to_select_from():
  with pytest.raises(ValueError, match='f: `params` must be a tree with at least one leaf'):
    tree.selected('f', {})
  with pytest.raises(ValueError, match='By default floating leaves with two or more dimensions'):
    tree.selected('f', {'b': BIAS})


def test_along_and_by_leaf():
  params = {'a': {'w': KERNEL}, 'b': BIAS}
  assert tree.along('f', 'x', params, {'a': {'w': None}, 'b': 1}) == [None, 1]
  assert tree.by_leaf('f', 'x', params, 0.5) == [0.5, 0.5]
  assert tree.by_leaf('f', 'x', params, {'a/w': 0.5}) == [0.5, None]
  assert tree.by_leaf('f', 'x', params, {'a': {'w': 0.5}, 'b': None}) == [0.5, None]
  with pytest.raises(ValueError, match=r"f: `x` must be a tree .*; got no leaf 'a/w', 'b' and an"):
    tree.by_leaf('f', 'x', params, {'c': 0.5})
  frozen = flax.core.freeze({'a': {'w': 1}, 'b': 2})
  with pytest.raises(ValueError, match='the same leaf paths in other containers'):
    tree.along('f', 'x', params, frozen)
