"""Groups that are factors of one axis share what the axis may lose."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jprune
from jprune import masks
from jprune.masks._channels import shares as _shares
from tests.masks.channel_graphs import graph_of

SCOPES = ('local', 'global', 'isomorphic')


def products(*axes, alone=5, seed=0):
  """Leaves whose axes are row-major products of groups, given by ``(name, size)``; one alone."""
  rng = np.random.default_rng(seed)
  members, sizes, params = {}, {}, {}
  for number, factors in enumerate(axes):
    total = math.prod(size for _, size in factors)
    sizes |= factors
    params[f'{number}'] = {'kernel': rng.random((3, total)).astype(np.float32)}
    minor = 1
    for name, size in reversed(factors):
      units = np.arange(total) // minor % size
      members.setdefault(name, []).append((f'{number}/kernel', 1, units))
      minor *= size
  params['alone'] = {'kernel': rng.random((3, alone)).astype(np.float32)}
  groups = [(name, size, members[name]) for name, size in sizes.items()]
  return params, graph_of(params, *groups, ('alone', alone, [('alone/kernel', 1, None)]))


def left(found, number=0):
  return int(np.asarray(found[f'{number}']['kernel'])[0].sum())


def nearest(sizes, sparsity):
  """Of the products that are left as the largest factor loses one unit at a time.

  Of two the larger: 0.8 of 15 lies halfway between 4 and 2 left, however it is rounded.
  """
  sizes, ways = list(sizes), []
  while True:
    ways.append(math.prod(sizes))
    if max(sizes) == 1:
      return min(ways, key=lambda way: (round(abs(way - (1 - sparsity) * ways[0]), 9), -way))
    sizes[sizes.index(max(sizes))] -= 1


@settings(deadline=None, max_examples=25)
@given(
  st.lists(st.integers(2, 9), min_size=2, max_size=3),
  st.lists(st.floats(0, 1), min_size=2, max_size=2),
  st.integers(0, 99),
)
def test_an_axis_loses_what_was_asked_and_others_what_they_lost_before(sizes, sparsities, seed):
  params, graph = products([(f'g{i}', n) for i, n in enumerate(sizes)], seed=seed)
  before = None
  for sparsity in sorted(sparsities):
    found = masks.channels(params, graph, sparsity, reduce='sum')
    assert left(found) == nearest(sizes, sparsity)
    assert left(found, 'alone') == max(5 - round(5 * sparsity), 1)
    if before is not None:  # what a lower sparsity prunes is pruned
      assert not (found['0']['kernel'] & ~before).any()
    before = found['0']['kernel']


@settings(deadline=None, max_examples=20)
@given(
  st.lists(st.integers(2, 12), min_size=2, max_size=3),
  st.floats(0.05, 0.95),
  st.sampled_from(['global', 'isomorphic']),
  st.integers(0, 99),
)
def test_where_groups_compete_an_axis_keeps_the_mean_of_what_its_factors_would(
  sizes, sparsity, scope, seed
):
  factors = [(f'g{i}', n) for i, n in enumerate(sizes)]
  params, graph = products(factors, seed=seed)
  race = lambda g: masks.channels(params, g, sparsity, scope=scope)
  found = race(graph)
  assert found['0']['kernel'].any()
  lines = np.asarray(found['0']['kernel'])[0].reshape(sizes)
  kept = [int(lines.any(axis=tuple(set(range(len(sizes))) - {i})).sum()) for i in range(len(sizes))]
  assert math.prod(kept) == lines.sum()
  by_itself = unshared(race, graph)  # where the race doesn't know that they meet
  for n, mine, own in zip(sizes, kept, by_itself):
    assert mine == max(1, math.floor(n * (own / n) ** (1 / len(sizes)) + 0.5))
  assert left(found, 'alone') == by_itself[-1]


def unshared(race, graph):
  """How many units of each group the race alone leaves."""
  seen = []
  original = _shares.families
  _shares.families = lambda groups, among: []
  try:
    found = race(graph)
  finally:
    _shares.families = original
  flat = dict(zip(graph.leaves, graph.treedef.flatten_up_to(found)))
  for group in graph.groups:
    (path, axis, position), *_ = group.members
    line = np.asarray(flat[path]).any(axis=1 - axis)
    seen.append(len(set(position.units[line].tolist())))
  return seen


def test_a_factor_that_is_there_twice_counts_twice():
  params, graph = products([('g', 8), ('g', 8)])
  for scope in SCOPES:
    for sparsity, kept in ((0.5, 6), (0.75, 4)):
      found = masks.channels(params, graph, sparsity, scope=scope)
      if scope == 'local':
        assert left(found) == kept * kept
      assert math.isqrt(left(found)) ** 2 == left(found)


def test_factors_of_several_axes():
  heads, keys, values = ('heads', 12), ('keys', 64), ('values', 32)
  params, graph = products([heads, keys], [heads, values], [heads])
  for sparsity in (0.25, 0.5, 0.9):
    found = masks.channels(params, graph, sparsity)
    for number, size in ((0, 12 * 64), (1, 12 * 32)):
      assert abs(left(found, number) / size - (1 - sparsity)) < 0.02
  assert left(masks.channels(params, graph, 0.5), 2) == 12


def test_powers_add_up_to_one_over_each_axis():
  find = _shares.exponents
  assert find([0, 1], [{0: 1, 1: 1}]) == {0: 0.5, 1: 0.5}
  assert find([0], [{0: 2}]) == {0: 0.5}
  third = pytest.approx(1 / 3)
  found = find([0, 1, 2, 3], [{0: 1, 1: 1}, {1: 1, 2: 1, 3: 1}])
  assert found == {0: pytest.approx(2 / 3), 1: third, 2: third, 3: third}


def test_what_rounding_and_floors_leave_to_the_other_factors():
  params, graph = products([('a', 16), ('b', 4)])
  run = functools.partial(masks.channels, params, graph)
  assert left(run(0.5)) == 32  # 8 by 4
  assert left(run(0.5, min_keep=4)) == 32
  assert left(run(0.9, min_keep=2)) == 6  # 3 by 2
  assert left(run(0.5, min_keep=4, scope='global')) == 5 * 4  # 12 of 25 units go
  with pytest.warns(UserWarning, match=r"pruned of 'alone \(5 units\)' with round_to=8"):
    assert left(run(0.5, round_to=8)) == 32
  assert left(run(1.0)) == 1


def test_a_name_is_for_its_group_alone_and_an_axis_for_what_it_holds():
  params, graph = products([('a', 8), ('b', 4)], [('a', 8)])
  run = functools.partial(masks.channels, params, graph)
  for scope in SCOPES:
    assert left(run({'a': 0.5}, scope=scope)) == 16
    assert left(run({'a': 0.5, 'b': 0.5}, scope=scope)) == 8
    assert left(run({'0/kernel[1]': 0.75}, scope=scope)) == nearest((8, 4), 0.75)
    assert run({'a': 0.5}, scope=scope)['alone']['kernel'] is None
  # what is kept is no factor: the other one has the whole budget
  assert left(run({'a': 0, '*': 0.5})) == 16
  assert left(run({'b': 0.25, '*': 0.5})) == 12


def test_targets_are_met_at_once_and_under_a_trace_the_same_go():
  params, graph = products([('a', 8), ('b', 4)], [('b', 4), ('c', 9)])
  for scope in SCOPES:
    for fraction in (0.7, 0.4, 0.2):
      found = masks.channels(params, graph, scope=scope, target_params=fraction)
      stay = sum(int(mask.sum()) for mask in jax.tree.leaves(found))
      goal = fraction * graph.params_at(None)
      assert stay <= goal
      assert stay > 0.75 * goal  # the least pruning that gets there: one unit of 4 is a quarter
    run = functools.partial(masks.channels, graph=graph, sparsity=0.6, scope=scope)
    jax.tree.map(np.testing.assert_array_equal, jax.jit(run)(params), run(params))


def test_half_of_the_channels_stay_under_a_group_norm():
  def norm(x):
    groups = x.reshape(*x.shape[:-1], 8, 4)
    return (groups - groups.mean((1, 3), keepdims=True)).reshape(x.shape)

  fn = lambda p, x: jax.nn.relu(norm(x @ p['in'])).mean(1) @ p['out']
  params = {'in': jnp.asarray(np.random.default_rng(0).normal(size=(3, 32)), jnp.float32)}
  params['out'] = jnp.ones((32, 2))
  x = jnp.ones((2, 5, 3))
  graph = jprune.graph.channels(fn, params, x)
  assert sorted(group.size for group in graph.groups) == [4, 8]
  found = masks.channels(jprune.scores.magnitude(params), graph, 0.5)
  small = jprune.shrink(fn, params, found, x)
  assert small.params['in'].shape == (3, 16)
  np.testing.assert_allclose(
    small.fn(small.params, x), fn(jprune.apply(params, found), x), atol=1e-5
  )
  assert 'axis in which groups have parts  kept  of   share' in str(small.plan)
  assert 'in[1]                              16  32  50.00%' in str(small.plan)
  assert '>in[1]</td>' in small.plan._repr_html_()
