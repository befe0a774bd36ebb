"""What the primitives that take axes apart tie together: the groups, unit by unit."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jprune
from tests.shrink import _masks

ALL = list(range(8))


def conv(x, w, groups=1, **options):
  numbers = lax.conv_dimension_numbers(x.shape, w.shape, ('NWC', 'WIO', 'NWC'))
  options = {'window_strides': (1,), 'padding': 'SAME', **options}
  return lax.conv_general_dilated(
    x, w, dimension_numbers=numbers, feature_group_count=groups, **options
  )


def window(x, start, size):
  numbers = lax.GatherDimensionNumbers((0, 1), (), (1,))
  return lax.gather(x, jnp.array([start]), numbers, (x.shape[0], size))


# A function of the params and x, shapes of params and x, and for each group its members:
# (path, axis, units).
CASES = {
  'halves_added': (
    lambda p, x: ((x @ p['in'])[:, :4] + (x @ p['in'])[:, 4:]) @ p['out'],
    {'in': (3, 8), 'out': (4, 2)},
    (2, 3),
    [{('in', 1): [0, 1, 2, 3, 0, 1, 2, 3], ('out', 0): [0, 1, 2, 3]}],
  ),
  'halves_apart': (
    lambda p, x: (x @ p['in'])[:, :4] @ p['a'] + jnp.tanh((x @ p['in'])[:, 4:]) @ p['b'],
    {'in': (3, 8), 'a': (4, 2), 'b': (4, 2)},
    (2, 3),
    [
      {('in', 1): [0, 1, 2, 3, -1, -1, -1, -1], ('a', 0): [0, 1, 2, 3]},
      {('in', 1): [-1, -1, -1, -1, 0, 1, 2, 3], ('b', 0): [0, 1, 2, 3]},
    ],
  ),
  'window_at_a_constant_index': (
    lambda p, x: window(x @ p['in'], 2, 5) @ p['out'],
    {'in': (3, 8), 'out': (5, 2)},
    (2, 3),
    [
      {('in', 1): [-1, -1, 0, 1, 2, 3, 4, -1], ('out', 0): [0, 1, 2, 3, 4]},
      {('in', 1): [0, 1, -1, -1, -1, -1, -1, -1]},
    ],
  ),
  'major_factor': (
    lambda p, x: jnp.einsum('bgc,gd->bd', (x @ p['in']).reshape(-1, 4, 2), p['out']),
    {'in': (3, 8), 'out': (4, 2)},
    (2, 3),
    [
      {('in', 1): [0, 0, 1, 1, 2, 2, 3, 3], ('out', 0): [0, 1, 2, 3]},
      {('in', 1): [0, 1, 0, 1, 0, 1, 0, 1]},
    ],
  ),
  'flatten': (
    lambda p, x: conv(x, p['in']).reshape(x.shape[0], -1) @ p['out'],
    {'in': (1, 3, 2), 'out': (8, 5)},
    (2, 4, 3),
    [{('in', 2): [0, 1], ('out', 0): [0, 1, 0, 1, 0, 1, 0, 1]}],
  ),
  'concatenate': (
    lambda p, x: jnp.concatenate([x @ p['a'], x @ p['b']], 1) @ p['out'],
    {'a': (3, 3), 'b': (3, 5), 'out': (8, 2)},
    (2, 3),
    [
      {('a', 1): [0, 1, 2], ('out', 0): [0, 1, 2, -1, -1, -1, -1, -1]},
      {('b', 1): [0, 1, 2, 3, 4], ('out', 0): [-1, -1, -1, 0, 1, 2, 3, 4]},
    ],
  ),
  'concatenated_with_the_input': (
    lambda p, x: jnp.concatenate([x, x @ p['a']], 1) @ p['out'],
    {'a': (3, 5), 'out': (8, 2)},
    (2, 3),
    [{('a', 1): [0, 1, 2, 3, 4], ('out', 0): [-1, -1, -1, 0, 1, 2, 3, 4]}],
  ),
  'padded': (
    lambda p, x: (jnp.pad(x @ p['a'], ((0, 0), (2, 2))) + x @ p['b']) @ p['out'],
    {'a': (3, 4), 'b': (3, 8), 'out': (8, 2)},
    (2, 3),
    [
      {
        ('a', 1): [0, 1, 2, 3],
        ('b', 1): [-1, -1, 0, 1, 2, 3, -1, -1],
        ('out', 0): [-1, -1, 0, 1, 2, 3, -1, -1],
      },
      {('b', 1): [0, 1, *[-1] * 6], ('out', 0): [0, 1, *[-1] * 6]},
      {('b', 1): [*[-1] * 6, 0, 1], ('out', 0): [*[-1] * 6, 0, 1]},
    ],
  ),
  'reversed': (
    lambda p, x: (x @ p['in'])[:, ::-1] @ p['out'],
    {'in': (3, 8), 'out': (8, 2)},
    (2, 3),
    [{('in', 1): ALL, ('out', 0): ALL[::-1]}],
  ),
  'strided': (
    lambda p, x: lax.slice(x @ p['in'], (0, 0), (2, 8), (1, 2)) @ p['out'],
    {'in': (3, 8), 'out': (4, 2)},
    (2, 3),
    [{('in', 1): [0, 0, 1, 1, 2, 2, 3, 3], ('out', 0): [0, 1, 2, 3]}],
  ),
  'repeated': (
    lambda p, x: jnp.repeat(x @ p['in'], 2, 1) @ p['out'],
    {'in': (3, 4), 'out': (8, 2)},
    (2, 3),
    [
      {('in', 1): [0, 1, 2, 3], ('out', 0): [0, 0, 1, 1, 2, 2, 3, 3]},
      {('out', 0): [0, 1] * 4},  # one of the copies
    ],
  ),
  'tiled': (
    lambda p, x: jnp.tile(x @ p['in'], (1, 2)) @ p['out'],
    {'in': (3, 4), 'out': (8, 2)},
    (2, 3),
    [
      {('in', 1): [0, 1, 2, 3], ('out', 0): [0, 1, 2, 3, 0, 1, 2, 3]},
      {('out', 0): [0, 0, 0, 0, 1, 1, 1, 1]},  # one of the copies
    ],
  ),
  'gathered': (
    lambda p, x: (x @ p['in'])[:, np.array([3, 1, 2, 0])] @ p['out'],
    {'in': (3, 4), 'out': (4, 2)},
    (2, 3),
    [{('in', 1): [0, 1, 2, 3], ('out', 0): [3, 1, 2, 0]}],
  ),
  'convolution': (
    lambda p, x: conv(jax.nn.relu(conv(x, p['in'])), p['out']),
    {'in': (3, 3, 8), 'out': (1, 8, 2)},
    (2, 4, 3),
    [{('in', 2): ALL, ('out', 1): ALL}],
  ),
  'dilated_convolution': (
    lambda p, x: conv(
      conv(x, p['in'], lhs_dilation=(2,), padding=((1, 1),)), p['out'], rhs_dilation=(2,)
    ),
    {'in': (3, 3, 8), 'out': (2, 8, 2)},
    (2, 4, 3),
    [{('in', 2): ALL, ('out', 1): ALL}],
  ),
  'transposed_convolution': (
    lambda p, x: lax.conv_transpose(
      conv(x, p['in']), p['out'], (2,), 'SAME', dimension_numbers=('NWC', 'WIO', 'NWC')
    ),
    {'in': (3, 3, 8), 'out': (2, 8, 2)},
    (2, 4, 3),
    [{('in', 2): ALL, ('out', 1): ALL}],
  ),
  'depthwise_convolution': (
    lambda p, x: conv(conv(conv(x, p['in']), p['depth'], groups=8), p['out']),
    {'in': (1, 3, 8), 'depth': (3, 1, 8), 'out': (1, 8, 2)},
    (2, 4, 3),
    [{('in', 2): ALL, ('depth', 2): ALL, ('out', 1): ALL}],
  ),
  'grouped_convolution': (
    lambda p, x: conv(conv(conv(x, p['in']), p['grouped'], groups=2), p['out']),
    {'in': (1, 3, 8), 'grouped': (3, 4, 6), 'out': (1, 6, 2)},
    (2, 4, 3),
    [
      {
        ('in', 2): [0, 0, 0, 0, 1, 1, 1, 1],
        ('grouped', 2): [0, 0, 0, 1, 1, 1],
        ('out', 1): [0, 0, 0, 1, 1, 1],
      },
      {('in', 2): [0, 1, 2, 3] * 2, ('grouped', 1): [0, 1, 2, 3]},
      {('grouped', 2): [0, 1, 2] * 2, ('out', 1): [0, 1, 2] * 2},
    ],
  ),
  'scanned': (
    lambda p, x: (
      lax.scan(lambda c, w: (c + jnp.tanh(c @ w), None), x @ p['in'], p['w'])[0] @ p['out']
    ),
    {'in': (3, 8), 'w': (4, 8, 8), 'out': (8, 2)},
    (2, 3),
    [{('in', 1): ALL, ('w', 1): ALL, ('w', 2): ALL, ('out', 0): ALL}],
  ),
  'tied': (
    lambda p, x: jnp.tanh(x @ p['in']) @ p['in'].T,
    {'in': (3, 8)},
    (2, 3),
    [{('in', 1): ALL}],
  ),
  'heads': (
    lambda p, x: jnp.einsum(
      'bqk,bkhd,hde->bqe',
      jax.nn.softmax(jnp.einsum('bqc,bkc->bqk', x @ p['q'], x @ p['k'])),
      jnp.einsum('btc,chd->bthd', x, p['v']),
      p['out'],
    ),
    {'q': (3, 6), 'k': (3, 6), 'v': (3, 2, 4), 'out': (2, 4, 5)},
    (2, 4, 3),
    [
      {('q', 1): list(range(6)), ('k', 1): list(range(6))},
      {('v', 1): [0, 1], ('out', 0): [0, 1]},
      {('v', 2): [0, 1, 2, 3], ('out', 1): [0, 1, 2, 3]},
    ],
  ),
}


@pytest.mark.parametrize('name', CASES)
def test_groups_are_just_these(name):
  fn, shapes, x, expected = CASES[name]
  rng = np.random.default_rng(0)
  params = {path: rng.standard_normal(shape) for path, shape in shapes.items()}
  with jax.enable_x64(True):
    graph, _ = _masks.check(fn, params, rng.standard_normal(x), gradients=False)
  assert as_partitions(graph.groups) == sorted(map(as_partition, expected))
  sizes = [max(map(max, members.values())) + 1 for members in expected]
  assert sorted(group.size for group in graph.groups) == sorted(sizes)


def as_partitions(groups):
  return sorted(
    as_partition({(m.path, m.axis): m.position.units.tolist() for m in group.members})
    for group in groups
  )


def as_partition(members):
  """The slices of each unit; how the units are numbered doesn't count."""
  units = {}
  for (path, axis), numbers in members.items():
    for index, unit in enumerate(numbers):
      if unit >= 0:
        units.setdefault(unit, []).append((path, axis, index))
  return sorted(sorted(slices) for slices in units.values())


def test_shapes_are_enough():
  fn, shapes, x, _ = CASES['grouped_convolution']
  struct = lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32)
  graph = jprune.graph.channels(fn, {p: struct(s) for p, s in shapes.items()}, struct(x))
  assert len(graph.groups) == 3


def test_positions_that_the_inputs_do_not_have_stay():
  def fn(params, x):
    table = params['table'].astype(x.dtype)[None, : x.shape[1]]
    more = jnp.take(params['more'], jnp.arange(x.shape[1]), axis=0)
    return (x @ params['in'] + table + more[None]) @ params['out']

  shapes = {'in': (3, 8), 'table': (6, 8), 'more': (7, 8), 'out': (8, 2)}
  params = {path: np.ones(shape) for path, shape in shapes.items()}
  graph = jprune.graph.channels(fn, params, np.ones((2, 4, 3)))
  (group,) = graph.groups
  assert {(m.path, m.axis) for m in group.members} == {
    *((path, 1) for path in ('in', 'table', 'more')),
    ('out', 0),
  }
  assert graph.frozen['table', 0] == 'model input 0; fn does not use it'


def test_a_table_that_two_layers_share_does_not_tie_them():
  table = jnp.linspace(0.5, 1.5, 6)

  def fn(params, x):
    first = jnp.tanh(x @ params['a']) * table[None]
    second = jnp.tanh(first @ params['b'] + 1) * table[None]
    return second @ params['c']

  params = {'a': jnp.ones((3, 6)), 'b': jnp.ones((6, 6)), 'c': jnp.ones((6, 2))}
  graph = jprune.graph.channels(fn, params, jnp.ones((4, 3)))
  assert [[m[:2] for m in group.members] for group in graph.groups] == [
    [('a', 1), ('b', 0)],
    [('b', 1), ('c', 0)],
  ]


@pytest.mark.parametrize('batch', [5, 8])
def test_an_output_with_the_path_and_shape_of_a_param_is_an_output(batch):
  params = [jnp.ones((8, 8)), jnp.ones((8, 8))]
  fn = lambda p, x: (jax.nn.relu(x @ p[0]), jax.nn.relu(x @ p[0]) @ p[1])
  graph = jprune.graph.channels(fn, params, jnp.ones((batch, 8)))
  assert not graph.groups
  assert graph.frozen['0', 1] == 'model output 0'
  assert graph.frozen['1', 1] == 'model output 1'


def test_gradients_and_new_averages_shrink_with_their_params():
  params = {'a': jnp.ones((3, 6)), 'm': jnp.ones(6), 'b': jnp.ones((6, 2))}

  def fn(p, x):
    loss = lambda p: jnp.sum((jnp.tanh(x @ p['a']) * p['m'][None]) @ p['b'])
    h = (x @ p['a']).mean(0)
    return jax.grad(loss)(p), {'m': 0.9 * p['m'] + 0.1 * h}

  graph = jprune.graph.channels(fn, params, jnp.ones((4, 3)))
  assert [m[:2] for m in graph.groups[0].members] == [('a', 1), ('b', 0), ('m', 0)]


@pytest.mark.parametrize('axes', [(0,), (1,)])
def test_a_reduction_of_ones_own_freezes_its_axes(axes):
  def fn(p, x):
    h = lax.reduce(x @ p['a'], np.float32(0), lambda a, b: a + b * b, axes)
    return h[:, None] * p['b'] if axes == (1,) else h[None] @ p['c']

  params = {'a': jnp.ones((8, 8)), 'b': jnp.ones((1, 2)), 'c': jnp.ones((8, 2))}
  graph = jprune.graph.channels(fn, params, jnp.ones((5, 8)))
  assert (('a', 1) in graph.frozen) == (axes == (1,))


def _calls(fn, params, x):
  """How many functions of the library the analysis calls."""
  calls = 0

  def count(frame, event, _):
    nonlocal calls
    calls += event == 'call' and 'jprune' in frame.f_code.co_filename

  before = sys.getprofile()
  sys.setprofile(count)
  try:
    jprune.graph.channels(fn, params, x)
  finally:
    sys.setprofile(before)
  return calls


@pytest.mark.parametrize('order', ['flip', 'permutation'])
def test_the_work_grows_with_the_number_of_single_indices_not_with_its_square(order):
  def calls(width):
    places = np.random.default_rng(0).permutation(width)
    turned = (lambda y: y[:, ::-1]) if order == 'flip' else (lambda y: y[:, places])
    params = {'a': jnp.ones((3, width)), 'b': jnp.ones((width, 2))}
    return _calls(lambda p, x: jnp.tanh(turned(x @ p['a'])) @ p['b'], params, jnp.ones((2, 3)))

  assert calls(512) < 2.5 * calls(256)
