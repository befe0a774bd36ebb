"""The networks themselves: they run in both precisions and trace, and their claims name leaves."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jprune import tree
from tests.zoo import CASES, made
from tests.zoo.selection import ROLES, recorded, roles_of, selection

each = pytest.mark.parametrize('name', CASES)


def in_float64(values):
  return jax.tree.map(lambda x: x.astype(jnp.float64) if tree.is_floating(x) else x, values)


def compiled(fn, *args):
  return jax.jit(fn).lower(*args).compile({'xla_backend_optimization_level': 0})(*args)


@each
def test_runs_in_single_precision_and_may_run_in_double(name):
  fn, params, args = made(name)
  single = jax.tree.leaves(compiled(fn, params, *args))
  assert single
  assert all(np.isfinite(np.asarray(leaf.astype(jnp.float32))).all() for leaf in single)
  with jax.enable_x64(True):
    double = jax.tree.leaves(jax.eval_shape(fn, *in_float64((params, *args))))
  floating = {leaf.dtype for leaf in double if tree.is_floating(leaf)}
  assert floating == {jnp.dtype(jnp.bfloat16 if name == 'bfloat16_compute' else jnp.float64)}


@each
def test_traces_without_values(name):
  fn, params, args = made(name)
  struct = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype)
  found = jax.make_jaxpr(fn)(jax.tree.map(struct, params), *args).out_avals
  again = jax.make_jaxpr(fn)(*jax.tree.map(struct, (params, *args))).out_avals
  assert [x.shape for x in found] == [x.shape for x in again]


@each
def test_params_are_float32_and_no_leaf_is_constant(name):
  for path, leaf in zip(*tree.flatten(made(name)[1])[:2]):
    leaf = np.asarray(leaf)  # nothing to compile
    assert leaf.dtype == np.float32, path
    assert len(np.unique(leaf)) == leaf.size, path
    assert (leaf != 0).all(), path
    assert not path.endswith('var') or (leaf > 0).all(), path


@each
def test_what_is_pruned_by_default_is_what_was_read_and_found_right(name):
  assert selection(made(name)[1]) == recorded().get(name)


@each
def test_what_a_network_says_of_its_leaves_was_read_and_found_right(name):
  assert roles_of(made(name)) == recorded(ROLES).get(name)


def test_no_network_is_recorded_that_is_not_there():
  assert recorded().keys() == recorded(ROLES).keys() == CASES.keys()


@each
def test_claims_name_leaves_and_do_not_contradict_each_other(name):
  paths, leaves, _ = tree.flatten(made(name)[1])
  named = []
  for claims in (CASES[name].prunes, CASES[name].frozen):
    named.append(set())
    for regex, axis in claims:
      found = [(path, leaf) for path, leaf in zip(paths, leaves) if re.search(regex, path)]
      assert found, regex
      assert all(0 <= axis < leaf.ndim for _, leaf in found), (regex, axis)
      named[-1] |= {(path, axis) for path, _ in found}
  assert CASES[name].prunes
  assert not named[0] & named[1]
