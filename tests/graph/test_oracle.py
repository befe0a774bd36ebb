"""Oracles that know nothing of the analysis: deletion by hand, and units that are perturbed."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jprune
from tests import zoo
from tests.shrink import _masks

# ------------------------------------------------------------------- networks in NumPy, by hand


def mlp(p, x):
  return np.maximum(x @ p['in'] + p['bias'], 0) @ p['out']


def mlp_jax(p, x):
  return jax.nn.relu(x @ p['in'] + p['bias'][None]) @ p['out']


def softmax(x):
  x = np.exp(x - x.max(-1, keepdims=True))
  return x / x.sum(-1, keepdims=True)


def attention(p, x):
  q, k, v = (np.einsum('btc,chd->bthd', x, p[name]) for name in 'qkv')
  weights = softmax(np.einsum('bqhd,bkhd->bhqk', q, k))
  return np.einsum('bhqk,bkhd,hde->bqe', weights, v, p['out'])


def attention_jax(p, x):
  q, k, v = (jnp.einsum('btc,chd->bthd', x, p[name]) for name in 'qkv')
  weights = jax.nn.softmax(jnp.einsum('bqhd,bkhd->bhqk', q, k))
  return jnp.einsum('bhqk,bkhd,hde->bqe', weights, v, p['out'])


def glu(p, x):
  # after deletion the two halves are still as long as each other
  value, gate = np.split(x @ p['wide'], 2, -1)
  return (value / (1 + np.exp(-gate))) @ p['out']


def glu_jax(p, x):
  value, gate = jnp.split(x @ p['wide'], 2, -1)
  return (value * jax.nn.sigmoid(gate)) @ p['out']


def conv_norm(p, x):
  y = sum(x[:, i : i + 3] @ p['kernel'][i] for i in range(2))
  y = (y - p['mean']) / np.sqrt(p['var'] + 1e-5) * p['scale'] + p['bias']
  return np.maximum(y, 0).reshape(len(x), -1) @ p['out']


def conv_norm_jax(p, x):
  y = jax.lax.conv_general_dilated(
    x, p['kernel'], (1,), 'VALID', dimension_numbers=('NWC', 'WIO', 'NWC')
  )
  along = lambda name: p[name][None, None]
  y = (y - along('mean')) * jax.lax.rsqrt(along('var') + 1e-5) * along('scale') + along('bias')
  return jax.nn.relu(y).reshape(len(x), -1) @ p['out']


# In NumPy, in JAX, shapes of params and input; for each unit of each group what is deleted:
# {path: (axis, indices of unit u)}.
NETWORKS = {
  'mlp': (
    mlp,
    mlp_jax,
    {'in': (3, 6), 'bias': (6,), 'out': (6, 2)},
    (4, 3),
    [(6, lambda u: {'in': (1, [u]), 'bias': (0, [u]), 'out': (0, [u])})],
  ),
  'attention': (
    attention,
    attention_jax,
    {'q': (3, 2, 4), 'k': (3, 2, 4), 'v': (3, 2, 5), 'out': (2, 5, 3)},
    (2, 4, 3),
    [
      (4, lambda u: {'q': (2, [u]), 'k': (2, [u])}),
      (2, lambda u: {'q': (1, [u]), 'k': (1, [u]), 'v': (1, [u]), 'out': (0, [u])}),
      (5, lambda u: {'v': (2, [u]), 'out': (1, [u])}),
    ],
  ),
  'glu': (
    glu,
    glu_jax,
    {'wide': (3, 8), 'out': (4, 2)},
    (4, 3),
    [(4, lambda u: {'wide': (1, [u, 4 + u]), 'out': (0, [u])})],
  ),
  'conv_norm': (
    conv_norm,
    conv_norm_jax,
    {
      'kernel': (2, 3, 4),
      **dict.fromkeys(('mean', 'var', 'scale', 'bias'), (4,)),
      'out': (12, 2),
    },
    (2, 4, 3),
    [
      (
        4,
        lambda u: {
          'kernel': (2, [u]),
          **dict.fromkeys(('mean', 'var', 'scale', 'bias'), (0, [u])),
          'out': (0, [u, 4 + u, 8 + u]),
        },
      )
    ],
  ),
}


def made(name):
  by_hand, fn, shapes, x, expected = NETWORKS[name]
  rng = np.random.default_rng(0)
  params = {path: 0.5 + rng.random(shape) for path, shape in shapes.items()}
  params = {p: leaf if p in ('var',) else leaf - 1 for p, leaf in params.items()}
  return by_hand, fn, params, rng.standard_normal(x), expected


def slices_of(graph, index, unit):
  """What goes with a unit, in the words of the graph."""
  group = graph.groups[index]
  return {
    m.path: (m.axis, np.flatnonzero(m.position.units == unit).tolist()) for m in group.members
  }


def matching(graph, expected):
  """For each expected group the graph's, which has just the same units."""
  found = [
    {str(sorted(slices_of(graph, i, u).items())) for u in range(group.size)}
    for i, group in enumerate(graph.groups)
  ]
  wanted = [{str(sorted(unit(u).items())) for u in range(size)} for size, unit in expected]
  assert sorted(map(sorted, found)) == sorted(map(sorted, wanted))
  return [found.index(each) for each in wanted]


def deleted(params, gone):
  """Params without the slices of units, a list of ``{path: (axis, indices)}``."""
  out = dict(params)
  for path, leaf in params.items():
    lost = {}
    for unit in gone:
      if path in unit:
        axis, indices = unit[path]
        lost.setdefault(axis, set()).update(indices)
    for axis, indices in lost.items():
      leaf = np.delete(leaf, sorted(indices), axis)
    out[path] = leaf
  return out


@pytest.fixture(autouse=True)
def _in_float64():
  with jax.enable_x64(True):
    yield


@pytest.mark.parametrize('name', NETWORKS)
def test_deletion_by_hand_of_every_unit_and_of_many(name):
  by_hand, fn, params, x, expected = made(name)
  graph = jprune.graph.channels(fn, params, x)
  order = matching(graph, expected)
  np.testing.assert_allclose(by_hand(params, x), fn(params, x), rtol=1e-12)
  units = [(g, u) for g, (size, _) in enumerate(expected) for u in range(size)]
  for gone in [[unit] for unit in units] + [units[: len(units) // 2 : 2], units[1::3]]:
    kept = [np.ones(group.size, bool) for group in graph.groups]
    for g, u in gone:
      numbers = [slices_of(graph, order[g], v) for v in range(expected[g][0])]
      kept[order[g]][numbers.index(expected[g][1](u))] = False
    small = jprune.shrink(fn, params, _masks.masks_of(graph, kept), x)
    less = deleted(params, [expected[g][1](u) for g, u in gone])
    _masks.assert_same(less, small.params, 0.0)
    found = _masks.compiled(_masks.QUICK, small.fn, small.params, x)
    np.testing.assert_allclose(found, by_hand(less, x), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('name', NETWORKS)
def test_a_unit_is_no_larger_than_it_has_to_be(name):
  """Without any one of its slices a unit is not deleted: shapes don't fit, or values differ."""
  by_hand, _, params, x, expected = made(name)
  for size, unit in expected:
    whole = by_hand(deleted(params, [unit(size - 1)]), x)
    for path in unit(size - 1):
      part = {p: gone for p, gone in unit(size - 1).items() if p != path}
      try:
        found = by_hand(deleted(params, [part]), x)
      except ValueError:
        continue
      assert found.shape != whole.shape or not np.allclose(found, whole), path


# ----------------------------------------------------------- groups of the zoo, perturbed by unit

SMALL = ['mlp', 'glu_split', 'channel_flip_added', 'densenet', 'grouped_conv_2', 'qkv_reshape']


def of_the_zoo(name):
  fn, params, args = zoo.made(name)
  return fn, jax.tree.map(np.asarray, _masks.in_float64(params)), _masks.in_float64(args)


@pytest.mark.parametrize('name', SMALL)
def test_each_group_alone_and_all_pairs(name):
  fn, params, args = of_the_zoo(name)
  graph = jprune.graph.channels(fn, params, *args)
  whole = [np.ones(group.size, bool) for group in graph.groups]
  half = _masks.half_kept(graph, np.random.default_rng(0))
  chosen = [(i,) for i in range(len(whole))] + list(itertools.combinations(range(len(whole)), 2))
  for indices in chosen[:8]:
    kept = [half[i] if i in indices else whole[i] for i in range(len(whole))]
    pair = _masks.pair(fn, params, _masks.masks_of(graph, kept), *args, graph=graph)
    assert [k for _, _, k in pair.small.plan.groups] == [int(keep.sum()) for keep in kept]
    _masks.compare(pair, *args, gradients=False)


@pytest.mark.parametrize('name', SMALL)
def test_pruned_entries_make_no_difference(name):
  """Whatever stands at pruned places before masking: masked and small see nothing of it."""
  fn, params, args = of_the_zoo(name)
  graph = jprune.graph.channels(fn, params, *args)
  masks = _masks.masks_of(graph, _masks.half_kept(graph, np.random.default_rng(0)))
  noise = jax.tree.map(lambda p, m: p if m is None else np.where(m, p, np.nan), params, masks)
  first, second = (jprune.shrink(fn, p, masks, *args) for p in (params, noise))
  _masks.assert_same(first.params, second.params, 0.0)


# ---------------------------------------------------------------- what is frozen for good reason

# Deleting channels is not what masking them is.
WRONG = {
  'running_sum': lambda h: h + jnp.cumsum(h, -1),
  'sorted': lambda h: jnp.sort(h, -1),
  'place_of_the_largest': lambda h: h * h.argmax(-1, keepdims=True).astype(h.dtype),
  'positions': lambda h: h + jnp.square(h + jnp.arange(6.0)[None]).mean(-1, keepdims=True),
  'number_of_channels': lambda h: h * jnp.linspace(1, 2, 6)[None].sum(),
}


@pytest.mark.parametrize('name', WRONG)
def test_what_masking_and_deleting_disagree_on_is_not_pruned_or_right(name):
  rng = np.random.default_rng(0)
  params = {'in': rng.standard_normal((3, 6)), 'out': rng.standard_normal((6, 2))}
  fn = lambda p, x: WRONG[name](jnp.tanh(x @ p['in'])) @ p['out']
  graph, _ = _masks.check(fn, params, rng.standard_normal((4, 3)))
  assert len(graph.groups) == (name == 'number_of_channels')
