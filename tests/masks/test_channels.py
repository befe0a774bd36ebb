"""Channel selection against an oracle that removes one unit after another."""

import functools
import warnings
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jprune import masks, scores
from jprune.typing import Reduction, Scope
from tests import reference
from tests.masks.channel_graphs import graph_of, graphs, kept_of, mlp

SCOPES = get_args(Scope)

every = lambda path, leaf: True


def leaf_of(tree, path):
  return functools.reduce(lambda node, key: node[key], path.split('/'), tree)


def races_of(graph, scope):
  if scope == 'local':
    return list(range(len(graph.groups)))
  kind = lambda g: sorted(
    (m.path.split('/')[-1], m.axis, len(graph.leaves[m.path].shape)) for m in g.members
  )
  kinds = [str(kind(group)) if scope == 'isomorphic' else '' for group in graph.groups]
  return [kinds.index(each) for each in kinds]


def oracle(graph, tree, scope, sparsity, reduce='mean', round_to=1, min_keep=1):
  units = [
    reference.unit_scores(
      [(leaf_of(tree, m.path), m.axis, m.position.units) for m in group.members], group.size, reduce
    )
    for group in graph.groups
  ]
  return reference.units_kept(units, races_of(graph, scope), sparsity, round_to, min_keep)


def assert_masks(found, graph, kept, among=None):
  """``among``: which groups take part, by default all."""
  among = graph.groups if among is None else among
  members = {member.path for group in among for member in group.members}
  for path, want in graph.masks(kept).items():
    got = leaf_of(found, path)
    if path not in members:
      assert got is None, path
    else:
      assert isinstance(got, jax.Array)
      assert got.dtype == bool
      np.testing.assert_array_equal(got, want, err_msg=path)


def quietly(function, *args, **kwargs):
  with warnings.catch_warnings():
    warnings.simplefilter('ignore', UserWarning)
    return function(*args, **kwargs)


@settings(deadline=None, max_examples=60)
@given(
  graphs(),
  st.sampled_from(SCOPES),
  st.floats(0, 1),
  st.sampled_from(get_args(Reduction)),
  st.integers(1, 4),
  st.integers(1, 4),
)
def test_is_the_oracle(made, scope, sparsity, reduce, round_to, min_keep):
  graph, tree = made
  if reduce == 'l2':
    tree = jax.tree.map(np.abs, tree)
  options = {'scope': scope, 'reduce': reduce, 'round_to': round_to, 'min_keep': min_keep}
  found = quietly(masks.channels, tree, graph, sparsity, normalize=None, where=every, **options)
  assert_masks(found, graph, oracle(graph, tree, **options, sparsity=sparsity))


@settings(deadline=None, max_examples=8)
@given(graphs(), st.sampled_from(SCOPES), st.floats(0.2, 0.8), st.sampled_from(get_args(Reduction)))
def test_is_the_oracle_under_jit(made, scope, sparsity, reduce):
  graph, tree = made
  options = {'scope': scope, 'reduce': reduce, 'round_to': 2, 'min_keep': 2}
  run = jax.jit(
    lambda s: masks.channels(s, graph, sparsity, normalize=None, where=every, **options)
  )
  assert_masks(quietly(run, tree), graph, oracle(graph, tree, **options, sparsity=sparsity))


@settings(deadline=None, max_examples=30)
@given(graphs(), st.sampled_from(SCOPES), st.floats(0.05, 1), st.booleans(), st.integers(1, 3))
def test_a_target_is_met_by_the_least_pruning(made, scope, fraction, by_macs, round_to):
  graph, tree = made
  count = graph.macs_at if by_macs else graph.params_at
  name = 'target_macs' if by_macs else 'target_params'
  run = functools.partial(
    quietly,
    masks.channels,
    tree,
    graph,
    scope=scope,
    round_to=round_to,
    normalize=None,
    where=every,
  )
  ways = [
    oracle(graph, tree, scope, sparsity, round_to=round_to)
    for sparsity in [0.0, *sorted(levels(graph, scope)), 1.0]
  ]
  left = [count(kept) for kept in ways]
  goal = fraction * count(None)
  if min(left) > goal:
    with pytest.raises(ValueError, match=rf'channels: `{name}` must be at least [01]\.\d+'):
      run(**{name: fraction})
    return
  found = run(**{name: fraction})
  best = max(n for n in left if n <= goal)
  assert_masks(found, graph, ways[left.index(best)])


def levels(graph, scope):
  """A sparsity just past each at which the number of some race changes."""
  races = races_of(graph, scope)
  for race in set(races):
    total = sum(group.size for group, r in zip(graph.groups, races) if r == race)
    yield from ((j + 0.5) / total + 1e-9 for j in range(total))


def test_a_target_of_one_prunes_nothing_and_the_least_possible_one_is_named():
  params, graph = mlp()
  found = masks.channels(params, graph, target_params=1.0)
  assert all(bool(mask.all()) for mask in jax.tree.leaves(found))
  with pytest.raises(ValueError, match='target_params') as error:
    masks.channels(params, graph, target_params=0.01, min_keep=2)
  least = float(str(error.value).split('at least ')[1].split(',')[0])
  found = masks.channels(params, graph, target_params=least, min_keep=2)
  assert kept_of(found, graph) == [2, 2]


def test_leaves_outside_of_groups_and_groups_without_a_selected_member():
  params, graph = mlp()
  found = masks.channels(params, graph, 0.5, where=['Dense_0/bias'])
  assert found['step'] is None
  assert found['Dense_2'] == {'kernel': None, 'bias': None}
  assert found['Dense_1']['bias'] is None
  order = np.argsort(-np.asarray(params['Dense_0']['bias']))
  keep = np.isin(np.arange(6), order[:3])
  np.testing.assert_array_equal(found['Dense_0']['bias'], keep)
  np.testing.assert_array_equal(found['Dense_0']['kernel'], np.broadcast_to(keep, (3, 6)))
  np.testing.assert_array_equal(found['Dense_1']['kernel'], np.broadcast_to(keep[:, None], (6, 10)))


def test_every_kind_of_where():
  params, graph = mlp()
  tree = jax.tree_util.tree_map_with_path(lambda path, leaf: path[-1].key == 'bias', params)
  want = masks.channels(params, graph, 0.5, where=tree)
  for where in (['Dense_0/bias', 'Dense_1/bias'], lambda path, leaf: len(leaf.shape) == 1):
    found = masks.channels(params, graph, 0.5, where=where)
    jax.tree.map(np.testing.assert_array_equal, found, want)


def test_groups_by_name():
  params, graph = mlp()
  found = masks.channels(params, graph, {'hidden 1': 0.3})
  assert int(found['Dense_1']['bias'].sum()) == 7
  assert found['Dense_0']['bias'] is None
  assert bool(found['Dense_1']['kernel'].any(axis=1).all())
  found = masks.channels(params, graph, {'hidden 1': 0.3, 'hidden 0': 0.0})
  assert kept_of(found, graph) == [6, 7]


def test_scores_that_are_equal():
  params, graph = mlp()
  ones = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, jnp.float32), params)
  for scope, first, second in (('local', 3, 5), ('global', 6, 2), ('isomorphic', 6, 2)):
    found = masks.channels(ones, graph, 0.5, scope=scope)
    assert found['Dense_0']['bias'].tolist() == [True] * first + [False] * (6 - first)
    assert found['Dense_1']['bias'].tolist() == [True] * second + [False] * (10 - second)


def test_isomorphic_groups_of_other_sizes_compete():
  params, graph = mlp((4, 8))
  tree = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, jnp.float32), params)
  tree['Dense_0']['bias'] = jnp.arange(1.0, 5.0) * 100
  tree['extra'] = {'scale': jnp.arange(6.0)}
  groups = [(g.name, g.size, [(m.path, m.axis, None) for m in g.members]) for g in graph.groups]
  graph = graph_of(tree, *groups, ('extra', 6, [('extra/scale', 0, None)]))
  found = masks.channels(tree, graph, 0.5, scope='isomorphic', normalize=None, where=every)
  assert found['extra']['scale'].tolist() == [False] * 3 + [True] * 3
  assert int(found['Dense_0']['bias'].sum()) == 4
  assert int(found['Dense_1']['bias'].sum()) == 2


def test_rounding_to_multiples():
  params, graph = mlp((20, 32))
  counts = lambda sparsity, **kw: kept_of(masks.channels(params, graph, sparsity, **kw), graph)
  assert counts(0.5, round_to=8) == [8, 16]  # of 10 and 16
  assert counts(0.4, round_to=8) == [16, 16]  # of 12, midway, and 19
  assert counts(0.05, round_to=8) == [16, 32]  # 20 has no larger multiple; of 30
  assert counts(0.0, round_to=8) == [20, 32]
  assert counts(1.0, round_to=8) == [8, 8]
  assert counts(0.9, round_to=8, min_keep=9) == [16, 16]
  assert counts(0.9, min_keep=5) == [5, 5]
  for scope in ('global', 'isomorphic'):
    assert all(n % 8 == 0 for n in counts(0.5, round_to=8, scope=scope))


@pytest.mark.parametrize('scope', SCOPES)
@pytest.mark.parametrize('wrap', [lambda f: f, jax.jit], ids=['eager', 'jit'])
def test_groups_that_can_lose_nothing_are_named(scope, wrap):
  params, graph = mlp((6, 32))
  run = wrap(lambda s: masks.channels(s, graph, 0.5, scope=scope, round_to=8))
  with pytest.warns(
    UserWarning, match=r"'hidden 0 \(6 units\)' with round_to=8 and min_keep=1"
  ) as w:
    found = run(params)
  assert len(w) == 1
  assert w[0].filename == __file__
  assert bool(found['Dense_0']['kernel'].all())
  assert kept_of(found, graph)[0] == 6
  assert kept_of(found, graph)[1] % 8 == 0
  assert kept_of(found, graph)[1] < 32
  with pytest.warns(UserWarning, match=r"'hidden 0 \(6 units\)' with round_to=1 and min_keep=7"):
    masks.channels(params, graph, 0.5, scope=scope, min_keep=7)
  masks.channels(params, graph, 0.0, scope=scope, round_to=64)  # nothing was to go


def test_a_group_is_never_emptied():
  params, graph = mlp()
  for scope in SCOPES:
    assert kept_of(masks.channels(params, graph, 1.0, scope=scope), graph) == [1, 1]


def test_one_liners():
  params, graph = mlp()
  grads = jax.tree.map(lambda x: x * 2 if x.ndim else None, params)
  for tree, options in (
    (scores.magnitude(params), {}),
    (scores.magnitude(params), {'reduce': 'l2'}),
    (scores.geometric_median(params), {'where': 'kernel'}),
    (scores.magnitude(params), {'scope': 'global', 'normalize': None, 'where': 'bias'}),
    (scores.taylor(params, grads), {'reduce': 'sum'}),
    (scores.random(params, key=jax.random.key(0)), {}),
  ):
    found = masks.channels(tree, graph, 0.5, **options)
    assert sum(kept_of(found, graph)) == 8


def test_fpgm_prunes_the_filter_nearest_to_the_others():
  kernel = jnp.array([[0.0, 4.0, 0.0, 1.5, -3.0], [4.0, 0.0, -3.0, 0.5, 0.0]])
  params = {'kernel': kernel}
  graph = graph_of(params, ('g', 5, [('kernel', 1, None)]))
  found = masks.channels(scores.geometric_median(params), graph, 0.2)['kernel']
  assert found[0].tolist() == [True, True, True, False, True]


def test_kernels_count_by_default_and_all_members_where_there_are_none():
  params = {
    'a': {'kernel': jnp.array([[3.0, 1.0]]), 'bias': jnp.array([0.0, 9.0])},
    'scale': jnp.array([2.0, 1.0]),
  }
  graph = graph_of(
    params,
    ('a', 2, [('a/kernel', 1, None), ('a/bias', 0, None)]),
    ('b', 2, [('scale', 0, None)]),
  )
  found = masks.channels(params, graph, 0.5)
  assert found['a']['bias'].tolist() == [True, False]
  assert found['scale'].tolist() == [True, False]
  assert masks.channels(params, graph, 0.5, where=['a/kernel', 'a/bias'])['a']['bias'].tolist() == [
    False,
    True,
  ]
