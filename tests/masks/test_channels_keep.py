"""Layers that stay whole, groups with a sparsity of their own, and whose scores count."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jprune
from jprune import masks
from jprune.graph import Role, Roles

SCOPES = ('local', 'global', 'isomorphic')
WIDTHS = {'stem': 8, 'mid': 12, 'last': 10}
X = jnp.ones((2, 3))


def forward(params, x):
  for name in WIDTHS:
    x = jax.nn.relu(x @ params[name]['kernel'] + params[name]['bias'][None])
  return x @ params['head']['kernel']


@functools.cache
def model():
  rng, params, inputs = np.random.default_rng(0), {}, 3
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  for name, width in WIDTHS.items():
    params[name] = {'kernel': draw(inputs, width), 'bias': draw(width)}
    inputs = width
  params['head'] = {'kernel': draw(inputs, 2)}
  return params, jprune.graph.channels(forward, params, X), jax.tree.map(jnp.abs, params)


def run(*args, **options):
  """How many units each layer keeps; and masks."""
  _, graph, scores = model()
  found = masks.channels(scores, graph, *args, **options)
  alive = lambda mask, n: n if mask is None else int(mask.sum())
  return {name: alive(found[name]['bias'], n) for name, n in WIDTHS.items()}, found


TARGETS = [{'sparsity': 0.5}, {'target_params': 0.6}, {'target_macs': 0.6}]


@pytest.mark.parametrize('scope', SCOPES)
@pytest.mark.parametrize('target', TARGETS, ids=lambda target: next(iter(target)))
def test_a_layer_that_is_kept_is_whole(scope, target):
  kept, found = run(scope=scope, keep='stem', **target)
  assert kept['stem'] == 8
  assert kept['mid'] < 12 or kept['last'] < 10
  assert found['stem'] == {'kernel': None, 'bias': None}
  if 'sparsity' not in target:
    _, graph, _ = model()
    (name, fraction), *_ = target.items()

    in_order = {layer: np.arange(n) < kept[layer] for layer, n in WIDTHS.items()}
    count = graph.params_at if name == 'target_params' else graph.macs_at
    assert count([in_order[g.name.split('/')[0]] for g in graph.groups]) <= fraction * count(None)
  # the input of `mid` is kept with it: none of what it has goes
  kept, found = run(scope=scope, keep=['mid'], **{'sparsity': 0.5})
  assert kept == {'stem': 8, 'mid': 12, 'last': 5}


def test_every_kind_of_filter_keeps():
  params, *_ = model()
  first = jax.tree_util.tree_map_with_path(lambda path, _: path[0].key == 'stem', params)
  want = run(0.5, keep='stem|head')[1]
  assert run(0.5, keep='stem|head')[0] == {'stem': 8, 'mid': 6, 'last': 10}
  for keep in (['stem', 'head'], lambda path, leaf: path[0] in 'sh', [first, 'head']):
    jax.tree.map(np.testing.assert_array_equal, run(0.5, keep=keep)[1], want)
  traced = jax.jit(lambda s: masks.channels(s, model()[1], 0.5, keep='stem|head'))(model()[2])
  jax.tree.map(np.testing.assert_array_equal, traced, want)


def test_a_graph_shows_what_is_kept():
  params, graph, scores = model()
  kept = graph.keeping('stem|head')
  assert [group.name for group in kept.groups] == ['mid/kernel[1]']
  assert kept.frozen['last/kernel', 1] == "kept, as part of 'last/kernel[1]'"
  assert "kept, as part of 'stem/kernel[1]' (3): " in str(kept)
  assert 'kept, as part of' in kept._repr_html_()
  assert {'path': 'stem/bias', 'axis': 0, 'reason': "kept, as part of 'stem/kernel[1]'"} in (
    kept.to_dict()['frozen']
  )
  assert list(kept.frozen) == sorted(
    kept.frozen, key=lambda place: list(graph.leaves).index(place[0])
  )
  for options in TARGETS:
    found = [
      masks.channels(scores, g, keep=k, **options)
      for g, k in ((graph, 'stem'), (graph.keeping('stem'), None))
    ]
    jax.tree.map(np.testing.assert_array_equal, *found)
  with pytest.raises(ValueError, match='keeping: `keep` must be a filter that selects .*stm'):
    graph.keeping('stm')
  assert params.keys() == scores.keys()


def test_what_where_leaves_out_is_left_alone():
  """The kernel that makes channels has to be selected; those that read them needn't be."""
  for scope in SCOPES:
    assert run(0.5, scope=scope, where='^(?!.*stem).*kernel')[0]['stem'] == 8
    not_stem = lambda path, leaf: 'stem' not in path
    kept, found = run(0.5, scope=scope, where=not_stem)
    assert kept['stem'] == 8
    assert kept['mid'] + kept['last'] < 22
    assert found['stem']['kernel'] is None
  assert run(0.5, where='^(?!.*head).*kernel')[0] == {'stem': 4, 'mid': 6, 'last': 5}
  assert run(0.5, where='mid/kernel')[0] == {'stem': 8, 'mid': 6, 'last': 10}
  # vectors speak for whole groups, as the scales of norms do
  assert run(0.5, where=['mid/bias', 'last/bias'])[0] == {'stem': 8, 'mid': 6, 'last': 5}


def test_layouts_and_layers_that_both_make_and_read():
  """Who makes channels is read from the function, not from the axes of the kernel."""

  def fn(p, x):
    y = p['table'][x] + p['in']  # table and shift make what rows read
    y = y + jnp.tanh(p['square'] @ y.T).T
    return jnp.einsum('ni,oi->no', jax.nn.relu(y @ p['rows'].T), p['out'])

  shapes = {'table': (5, 6), 'in': (1, 6), 'square': (6, 6), 'rows': (8, 6), 'out': (2, 8)}
  params = {name: jnp.ones(shape) for name, shape in shapes.items()}
  graph = jprune.graph.channels(fn, params, jnp.arange(3))
  sizes = {group.size: reads for group, reads in zip(graph.groups, graph.readers)}
  assert sizes == {6: {'rows'}, 8: {'out'}}
  left = lambda where: [
    group.size
    for group in graph.groups
    if masks.channels(params, graph, 0.5, where=where)[group.members[0].path] is not None
  ]
  assert left('rows|out') == [8]
  assert left('table|square|in|rows') == [6, 8]
  assert left('square|out|rows') == [8]


def test_groups_have_sparsities_of_their_own_in_every_scope():
  for scope in SCOPES:
    one = run({'mid/kernel[1]': 0.75}, scope=scope)
    assert one[0] == {'stem': 8, 'mid': 3, 'last': 10}
    jax.tree.map(
      np.testing.assert_array_equal, run({'last/kernel[0]': 0.75}, scope=scope)[1], one[1]
    )
    kept, _ = run({'mid/kernel[1]': 0.75, '*': 0.5}, scope=scope)
    assert kept['mid'] == 3
    assert kept['stem'] + kept['last'] == 9
    kept, _ = run({'mid/bias[0]': 0.0}, scope=scope, target_params=0.6)
    assert kept['mid'] == 12
    assert kept['stem'] + kept['last'] < 18
    kept, _ = run(
      dict.fromkeys(('stem/bias[0]', 'mid/bias[0]', 'last/bias[0]'), 0.5),
      scope=scope,
      target_params=0.9,
    )
    assert kept == {'stem': 4, 'mid': 6, 'last': 5}
  _, graph, scores = model()
  named = {'mid/kernel[1]': 0.75, '*': 0.5}
  traced = jax.jit(lambda s: masks.channels(s, graph, named, scope='global'))(scores)
  jax.tree.map(np.testing.assert_array_equal, traced, run(named, scope='global')[1])


def test_roles_say_whose_scores_count():
  fn = lambda p, x: (jax.nn.relu(x @ p['in'] + p['shift'])) @ p['out']
  params = {
    'in': jnp.ones((3, 4)),
    'shift': jnp.array([[9.0, 1.0, 2.0, 3.0]]),
    'out': jnp.ones((4, 2)),
  }
  params['in'] = params['in'] * jnp.array([[1.0, 2.0, 3.0, 4.0]])
  graph = jprune.graph.channels(fn, params, X)
  kinds = {'in': 'kernel', 'shift': 'vector', 'out': 'kernel'}
  roles = Roles({path: Role(kind, params[path].shape) for path, kind in kinds.items()})
  found = masks.channels(params, graph, 0.5, roles=roles)
  assert found['out'][:, 0].tolist() == [False, False, True, True]
  named = masks.channels(
    params, graph, 0.5, roles=roles, where=['shift']
  )  # a vector, if it is named
  assert named['out'][:, 0].tolist() == [True, False, False, True]
  assert masks.channels(params, graph, 0.5, roles=roles, where='in')['out'].sum() == 4
