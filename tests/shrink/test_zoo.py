"""Every network of the zoo: shrunk it computes what it computes masked, and is really smaller."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jprune
from tests import zoo
from tests.shrink import _masks
from tests.zoo import CASES

each = pytest.mark.parametrize('name', CASES)
BACKWARDS = 'Reverse-mode differentiation does not work'


@pytest.fixture(autouse=True)
def _in_float64():
  with jax.enable_x64(True):
    yield


@functools.cache
def made(name):
  fn, params, args = zoo.made(name)
  # NumPy arrays: taking slices of them compiles nothing
  return fn, jax.tree.map(np.asarray, _masks.in_float64(params)), _masks.in_float64(args)


@functools.cache
def graph_of(name):
  fn, params, args = made(name)
  return jprune.graph.channels(fn, params, *args)


def named(name, claims):
  """The leaf axes that regular expressions name."""
  leaves = graph_of(name).leaves
  return {(path, axis) for regex, axis in claims for path in leaves if re.search(regex, path)}


def larger_batch(fn, params, args):
  """The arguments with one more example, if the function takes that, else as they are."""
  grown = jax.tree.map(_one_more, args)
  try:
    jax.eval_shape(fn, params, *grown)
  except (TypeError, ValueError):
    return args
  return grown


def _one_more(leaf):
  if leaf.ndim < 2:
    return leaf
  return jnp.concatenate([leaf, 1 - leaf[:1]])


def differentiable(fn, params, args):
  try:
    jax.eval_shape(lambda params: _masks.scalar_gradient(lambda p: fn(p, *args), params), params)
  except ValueError as error:
    if BACKWARDS not in str(error):
      raise
    return False
  return True


@each
def test_shrunk_equals_masked_in_values_and_gradients_at_another_batch_size(name):
  fn, params, args = made(name)
  rng = np.random.default_rng(0)
  graph = graph_of(name)
  masks = _masks.masks_of(graph, _masks.random_kept(graph, rng), single=0.2, rng=rng)
  pair = _masks.pair(fn, params, masks, *args, graph=graph)
  _masks.compare(pair, *larger_batch(fn, params, args), gradients=differentiable(fn, params, args))


@each
def test_half_of_every_group_makes_the_claimed_axes_smaller(name):
  fn, params, args = made(name)
  graph = graph_of(name)
  kept = _masks.half_kept(graph, np.random.default_rng(1))
  small = jprune.shrink(fn, params, _masks.masks_of(graph, kept), *args)
  full, shapes = (dict(zip(graph.leaves, jax.tree.leaves(p))) for p in (params, small.params))
  lost = {
    (path, axis): full[path].shape[axis] - shapes[path].shape[axis]
    for path in full
    for axis in range(full[path].ndim)
  }
  assert all(lost[claim] > 0 for claim in named(name, CASES[name].prunes))
  assert not any(lost[claim] for claim in named(name, CASES[name].frozen))
  members = {(m.path, m.axis) for group in graph.groups for m in group.members}
  assert not members & named(name, CASES[name].frozen)
  assert {axis for axis, n in lost.items() if n} <= members
  assert sum(x.size for x in shapes.values()) == graph.params_at(kept) < graph.params_at()
  assert [kept for _, _, kept in small.plan.groups] == [int(keep.sum()) for keep in kept]


@each
def test_every_axis_is_in_a_group_or_has_its_reason(name):
  graph = graph_of(name)
  members = {(m.path, m.axis) for group in graph.groups for m in group.members}
  axes = {(path, axis) for path, leaf in graph.leaves.items() for axis in range(len(leaf.shape))}
  assert axes == members | graph.frozen.keys()
  assert all(graph.frozen.values())
  names = [group.name for group in graph.groups]
  assert len(set(names)) == len(names)
