"""Each point of the curves is the metric of params with one group pruned, and nothing else."""

import functools
import itertools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jprune
from jprune.sensitivity import Sensitivity, curves
from tests.sensitivity.networks import accuracy, digits, forward, trained

POINTS = (0.0, 0.25, 0.5, 1.0)


def toy():
  rng = np.random.default_rng(3)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape).astype(np.float32))
  return {
    'a': {'kernel': draw(3, 4), 'bias': draw(4)},
    'b': {'kernel': draw(4, 5), 'bias': draw(5)},
    'c': {'kernel': draw(5, 2), 'bias': draw(2)},
  }


def metric(params):
  """Each leaf counts with another factor, so that points can't be mixed up."""
  leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(params)]
  return float(sum((i + 1) * (leaf**2).sum() for i, leaf in enumerate(leaves)))


def by_hand(leaf, sparsity):
  """The lowest ``round(sparsity * size)`` magnitudes set to 0, by sorting."""
  flat = np.asarray(leaf, np.float64).ravel().copy()
  order = sorted(range(flat.size), key=lambda i: (abs(flat[i]), -i))
  flat[order[: round(sparsity * flat.size)]] = 0
  return flat.reshape(leaf.shape)


def replaced(params, paths, sparsity):
  flat, treedef = jax.tree_util.tree_flatten_with_path(params)
  return treedef.unflatten(
    [
      by_hand(leaf, sparsity) if jprune.tree.path_string(path) in paths else leaf
      for path, leaf in flat
    ]
  )


def test_every_point_equals_the_one_by_hand():
  params = toy()
  found = curves(metric, params, reversed(POINTS))
  kernels = ('a/kernel', 'b/kernel', 'c/kernel')
  assert (found.names, found.sparsities, found.unit) == (kernels, POINTS, 'weights')
  assert found.baseline == metric(params)
  assert found.size == 12 + 4 + 20 + 5 + 10 + 2
  for curve in found.curves:
    size = curve.sizes[curve.name]
    assert curve.pruned == {curve.name: tuple(round(s * size) for s in POINTS)}
    expected = [metric(replaced(params, {curve.name}, s)) for s in POINTS]
    np.testing.assert_allclose(curve.metrics, expected, rtol=1e-12)
  np.testing.assert_array_equal(found.drops, found.baseline - np.array(found.metrics))
  means = [np.mean(row) for row in found.drops]
  assert [name for name, _ in found.ranking()] == [kernels[i] for i in np.argsort(means)[::-1]]
  assert dict(found.ranking())['b/kernel'] == pytest.approx(means[1], rel=1e-12)
  assert found.at(0.5) == {curve.name: curve.metrics[2] for curve in found.curves}


@pytest.mark.parametrize('groups', ['^(a|b)/', lambda path: None if path[0] == 'c' else path[0]])
def test_groups(groups):
  params = toy()
  where = lambda path, leaf: path.endswith(('kernel', 'bias'))
  found = curves(metric, params, POINTS, groups=groups, where=where)
  both = lambda name: (f'{name}/bias', f'{name}/kernel')
  expected = {'a': both('a'), 'b': both('b'), 'c/bias': ('c/bias',), 'c/kernel': ('c/kernel',)}
  assert {curve.name: curve.leaves for curve in found.curves} == expected
  for curve in found.curves:
    by_point = [metric(replaced(params, set(curve.leaves), s)) for s in POINTS]
    np.testing.assert_allclose(curve.metrics, by_point, rtol=1e-12)
  assert found.at(0.5)['a/bias'] == found.at(0.5)['a/kernel'] == found.metrics[0][2]


def test_pattern():
  params = {'w': jnp.arange(16.0).reshape(4, 4)}
  found = curves(metric, params, [0.0, 0.5], pattern=jprune.masks.Block((2, 2)))
  assert found.pattern == repr(jprune.masks.Block((2, 2)))
  assert found.curves[0].pruned == {'w': (0, 8)}
  assert found.metrics[0][1] == (np.arange(8, 16) ** 2).sum()


def test_scorer_and_scores():
  params = {'w': jnp.array([[1.0, 2.0], [3.0, 4.0]])}
  least = lambda params: jax.tree.map(lambda x: -x, params)
  for scorer in (least, least(params), functools.partial(least)):
    assert curves(metric, params, [0.5], scorer=scorer).metrics == ((1.0 + 4.0,),)
  draw = functools.partial(jprune.scores.random, key=jax.random.key(0))
  masks = jprune.prune(params, 0.5, scorer=jprune.scores.random, key=jax.random.key(0))
  assert curves(metric, params, [0.5], scorer=draw).metrics[0][0] == metric(
    jprune.apply(params, masks)
  )


def channel_case():
  params = toy()
  x = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)

  def fn(params, x):
    for name in ('a', 'b', 'c'):
      x = x @ params[name]['kernel'] + params[name]['bias'][None]
      x = jax.nn.relu(x) if name != 'c' else x
    return x

  return params, fn, jnp.asarray(x)


def test_channel_groups():
  params, fn, x = channel_case()
  graph = jprune.graph.channels(fn, params, x)
  evaluate = lambda params: -float(jnp.sum(fn(params, x) ** 2))
  found = curves(evaluate, params, POINTS, graph=graph)
  assert found.unit == 'channels'
  assert found.names == tuple(group.name for group in graph.groups)
  assert [curve.size for curve in found.curves] == [4, 5]
  # a group is never emptied
  assert [tuple(curve.pruned.values()) for curve in found.curves] == [
    ((0, 1, 2, 3),),
    ((0, 1, 2, 4),),
  ]
  for curve, j in itertools.product(found.curves, (1, 2, 3)):
    scores = jprune.scores.magnitude(params)
    masks = jprune.masks.channels(scores, graph, {curve.name: POINTS[j]})
    assert curve.metrics[j] == evaluate(jprune.apply(params, masks))


def test_evaluate_compiles_once_and_selection_not_per_sparsity(compilations):
  params = jax.tree.map(lambda leaf: np.asarray(leaf), toy())  # NumPy leaves too
  traces = []

  @jax.jit
  def summed(params):
    traces.append(1)
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))

  scored = []

  def scorer(params):
    scored.append(1)
    return jprune.scores.magnitude(params)

  params['d'] = jnp.zeros((2, 2)) + 1.0
  curves(summed, params, [0.0, 0.3], scorer=scorer)
  assert (len(traces), len(scored)) == (1, 1)
  compilations.clear()
  curves(summed, params, np.linspace(0.3, 0.7, 9), scorer=scorer)
  assert compilations == []
  assert len(traces) == 1


def test_large_leaves_do_not_compile_per_sparsity(compilations):
  params = {'w': jax.random.normal(jax.random.key(0), (600, 600))}  # past what NumPy selects
  evaluate = lambda params: float(params['w'][0, 0])
  curves(evaluate, params, [0.3])
  compilations.clear()
  curves(evaluate, params, [0.1, 0.2, 0.7])
  assert compilations == []


def test_params_keep_dtype_weak_type_and_other_leaves():
  params = {
    'w': jnp.full((2, 2), 2.0),
    'half': jnp.ones((2, 2), jnp.bfloat16),
    'n': 3,
    'none': None,
  }
  kinds = set()

  def evaluate(params):
    kinds.add(str(jax.tree.map(lambda x: (jnp.asarray(x).dtype, jax.typeof(x)), params)))
    return 1.0

  curves(evaluate, params, [0.0, 0.5])
  assert len(kinds) == 1


def test_digits_by_hand():
  x, y = digits()[1]
  params, evaluate = trained(), accuracy(1)
  found = curves(evaluate, params, [0.0, 0.9])
  for curve in found.curves:
    logits = forward(replaced(params, {curve.name}, 0.9), x)
    assert curve.metrics[1] == int(np.sum(np.argmax(logits, -1) == np.asarray(y))) / 450


# ------------------------------------------------------------------------------------- the result


def test_round_trip():
  found = curves(metric, toy(), POINTS, groups='^(a|b)/')
  assert Sensitivity.from_dict(json.loads(json.dumps(found.to_dict()))) == found
  assert (found.pattern, found.scorer) == ('Unstructured()', 'magnitude')


@pytest.mark.parametrize(
  ('change', 'why'),
  [
    ({'version': 2}, 'version 2'),
    ({'curves': 1}, 'TypeError'),
    ({'curves': [{}]}, 'KeyError'),
    ({'sparsities': 'abcd'}, 'ValueError'),
    ({'sparsities': []}, 'which do not ascend'),
    ({'sparsities': [0.0, 0.5, 0.25, 1.0]}, 'which do not ascend'),
    ({'sparsities': [0.0, 0.5, 0.5, 1.0]}, 'which do not ascend'),
    ({'sparsities': [0.0, 0.25, 0.5, 50.0]}, 'which do not ascend'),
    ({'sparsities': [0.0, float('nan'), 0.5, 1.0]}, 'which do not ascend'),
    ({'sparsities': [0.0, 1.0]}, "other numbers of points for 'a/kernel'"),
    ({'baseline': float('inf')}, 'a baseline of inf'),
  ],
)
def test_foreign_dicts(change, why):
  data = curves(metric, toy(), POINTS).to_dict()
  with pytest.raises(ValueError, match=f'from_dict: `data` must be what to_dict.*; got .*{why}'):
    Sensitivity.from_dict({**data, **change})
  with pytest.raises(ValueError, match='from_dict: `data` must be what to_dict'):
    Sensitivity.from_dict([])
  row = data['curves'][0]
  for bad in (
    {'pruned': {'a/kernel': [0, 3, 6, 13]}},
    {'pruned': {}},
    {'metrics': [0.0, math.nan, 0.0, 0.0]},
  ):
    with pytest.raises(ValueError, match='from_dict: `data` must be what to_dict.*a/kernel'):
      Sensitivity.from_dict({**data, 'curves': [{**row, **bad}]})


@pytest.mark.parametrize('points', [3, 12, 60])
def test_text_and_html(points):
  names = ['x' * 70, '<b>', '$\n', 'plain']
  params = {name: jnp.ones((2, 2)) * (i + 1) for i, name in enumerate(names)}
  found = curves(lambda p: metric(p) / 7e4, params, np.linspace(0, 1, points))
  lines = str(found).splitlines()
  assert max(map(len, lines)) <= 100
  assert 'plain' in str(found)
  assert '1.0' not in lines[0].split()[1]
  html = found._repr_html_()
  assert '<b>' not in html
  assert '&lt;b&gt;' in html
  assert 'x' * 70 in html
  assert html.count('<tr>') == 5
  assert '4 groups at' in repr(found)


def test_plot():
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot as plt

  params = {f'_{i}$': jnp.ones((2, 2)) * (i + 1) for i in range(12)}
  found = curves(metric, params, POINTS)
  ax = found.plot()
  assert len(ax.lines) == 13
  ranked = [name for name, _ in found.ranking()]
  top = {curve.name: curve.metrics for curve in found.curves}[ranked[0]]
  labels = [text.get_text() for text in ax.figure.legends[0].get_texts()]
  assert len(labels) == 9
  assert ranked[0].replace('$', r'\$') in labels[0]
  np.testing.assert_array_equal(ax.lines[4].get_ydata(), top)
  other = plt.subplots()[1]
  assert found.plot(other) is other
  ax.figure.draw_without_rendering()
  plt.close('all')


# --------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
  ('changed', 'error', 'match'),
  [
    ({'sparsities': []}, ValueError, 'curves: `sparsities` must be at least one number'),
    ({'sparsities': [0.5, 1.5]}, ValueError, r'`sparsities` must be in \[0, 1\]; got 1.5'),
    ({'sparsities': [float('nan')]}, ValueError, r'`sparsities` must be in \[0, 1\]'),
    ({'sparsities': 0.5}, TypeError, '`sparsities` must be a sequence'),
    ({'sparsities': ['a']}, TypeError, '`sparsities` must be a number'),
    ({'evaluate': 1}, TypeError, 'curves: `evaluate` must be a function'),
    ({'evaluate': lambda p: None}, TypeError, r'one finite number \(of the dense params\)'),
    ({'evaluate': lambda p: jnp.ones(2)}, TypeError, 'got float32 of shape'),
    ({'evaluate': lambda p: True}, TypeError, 'one finite number'),
    ({'evaluate': lambda p: np.True_}, TypeError, 'one finite number .* got bool'),
    ({'evaluate': lambda p: jnp.complex64(1)}, TypeError, 'one finite number .* got complex64'),
    ({'evaluate': lambda p: 1j}, TypeError, 'one finite number .* got complex'),
    ({'evaluate': lambda p: np.str_('.5')}, TypeError, 'one finite number'),
    ({'evaluate': lambda p: jax.random.key(0)}, TypeError, 'one finite number .* got key'),
    ({'evaluate': lambda p: 10**400}, ValueError, 'one finite number .* got inf'),
    ({'evaluate': lambda p: jnp.nan}, ValueError, 'one finite number .* got nan'),
    (
      {'evaluate': lambda p: 1 / float((p['b']['kernel'] != 0).sum() > 0) if 1 else 0},
      ZeroDivisionError,
      'division',
    ),
    (
      {'evaluate': lambda p: jnp.log((p['b']['kernel'] ** 2).sum())},
      ValueError,
      r"one finite number \(of group 'b/kernel' at sparsity 1\); got -inf",
    ),
    ({'where': 'nothing'}, ValueError, 'curves: `where` must be'),
    ({'params': {}}, ValueError, 'curves: `params` must be a tree with at least one leaf'),
    (
      {'pattern': jprune.masks.NOfM(2, 4)},
      ValueError,
      'curves: `pattern` must be one that can be',
    ),
    (
      {'params': {'a/b': jnp.ones((2, 3)), 'a': {'b': jnp.ones((3, 3))}}},
      ValueError,
      'several leaves',
    ),
    ({'pattern': 3}, TypeError, 'curves: `pattern` must be a pattern'),
    ({'scorer': 'magnitude'}, TypeError, 'curves: `scorer` must be a function or a tree'),
    ({'scorer': jprune.scores.random}, TypeError, 'Bind it: functools.partial'),
    ({'groups': 'a'}, ValueError, 'curves: `groups` must be a regular expression with one group'),
    ({'groups': '('}, ValueError, 'curves: `groups` must be a regular expression'),
    ({'groups': 3}, TypeError, 'curves: `groups` must be'),
    ({'groups': lambda path: 3}, TypeError, "returns the name of a group, .* at leaf 'a/kernel'"),
    ({'table': 3}, TypeError, 'curves: `table` must be'),
    ({'table': 'no/folder/x'}, FileNotFoundError, 'curves: `table` must be in an existing folder'),
    ({'graph': 3}, TypeError, 'curves: `graph` must be a ChannelGraph'),
    ({'graph': 3, 'groups': '(a)'}, ValueError, '`groups` must be left out where a graph is given'),
    (
      {'graph': 3, 'pattern': jprune.masks.Channel(0)},
      ValueError,
      '`pattern` must be left out where a graph',
    ),
  ],
)
def test_bad_input(changed, error, match):
  given = {'evaluate': metric, 'params': toy(), 'sparsities': POINTS} | changed
  with pytest.raises(error, match=match):
    curves(**given)


def test_under_jit():
  with pytest.raises(
    TypeError, match="curves: `params` must be arrays .* at leaf 'a/bias'. Call it"
  ):
    jax.jit(lambda params: curves(metric, params, POINTS).baseline)(toy())


def test_not_measured_there():
  found = curves(metric, toy(), np.linspace(0, 1, 11, dtype=np.float32))
  assert found.at(0.3) == found.at(np.float32(0.3)) == found.at(jnp.float32(0.3))
  assert found.at(0.3)['a/kernel'] == found.metrics[0][3]
  with pytest.raises(ValueError, match='at: `sparsity` must be one of those measured'):
    found.at(0.31)
  with pytest.raises(TypeError, match='at: `sparsity` must be a number'):
    found.at('half')


def test_a_graph_of_other_params():
  params, fn, x = channel_case()
  graph = jprune.graph.channels(fn, params, x)
  other = {**params, 'a': {'kernel': jnp.ones((3, 6)), 'bias': jnp.ones(6)}}
  with pytest.raises(ValueError, match='curves: `params` must be of shape'):
    curves(metric, other, POINTS, graph=graph)
