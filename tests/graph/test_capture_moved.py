"""Weights that are moved before their product: channels, macs and capture see the same entries.

``x @ (m @ w)`` is ``(x @ m) @ w``, so what is known of the leaf is known from its inputs moved the
other way. Each form says which index of the leaf stands at each index of what is multiplied.
"""

import re

import jax.numpy as jnp
import numpy as np
import pytest

import jprune
from jprune import graph, reconstruct, scores
from tests import reference_repair, reference_statistics
from tests.graph.captured import check_moments, normal, only

SIZE, OUTPUTS = 6, 4
SHUFFLED, OUT_SHUFFLED = np.array([3, 0, 5, 1, 4, 2]), np.array([2, 0, 3, 1])
ALL = list(range(SIZE))
OUT = list(range(OUTPUTS))

# By name: what is done to w, and along both axes the indices of w in the result, -1 for others.
ALONG_INPUTS = {
  'flipped': (lambda w: w[::-1], ALL[::-1]),
  'permuted': (lambda w: w[SHUFFLED], SHUFFLED),
  'taken': (lambda w: jnp.take(w, SHUFFLED, axis=0), SHUFFLED),
  'padded': (lambda w: jnp.pad(w, ((1, 2), (0, 0))), [-1, *ALL, -1, -1]),
  'padded above': (lambda w: jnp.pad(w, ((0, 2), (0, 0))), [*ALL, -1, -1]),
  'tiled': (lambda w: jnp.tile(w, (2, 1)), ALL * 2),
  'repeated': (lambda w: jnp.repeat(w, 2, axis=0), np.repeat(ALL, 2)),
  'stack of unstack': (lambda w: jnp.stack(list(w)), ALL),
  'stacked in another order': (lambda w: jnp.stack([w[i] for i in SHUFFLED]), SHUFFLED),
  'rolled': (lambda w: jnp.roll(w, 2, 0), np.roll(ALL, 2)),
  'slices swapped': (lambda w: jnp.concatenate([w[4:], w[:4]]), [4, 5, 0, 1, 2, 3]),
  'every second': (lambda w: jnp.concatenate([w[::2], w[1::2]]), [0, 2, 4, 1, 3, 5]),
  'beside zeros': (lambda w: jnp.concatenate([jnp.zeros((2, OUTPUTS)), w]), [-1, -1, *ALL]),
  'between constants': (
    lambda w: jnp.concatenate([jnp.ones((1, OUTPUTS)), w, jnp.zeros((2, OUTPUTS))]),
    [-1, *ALL, -1, -1],
  ),
  'beside its reverse': (lambda w: jnp.concatenate([w, w[::-1]]), [*ALL, *ALL[::-1]]),
  'blocks flipped': (lambda w: w.reshape(2, 3, 4)[::-1].reshape(6, 4), [3, 4, 5, 0, 1, 2]),
  'flipped in blocks': (lambda w: w.reshape(2, 3, 4)[:, ::-1].reshape(6, 4), [2, 1, 0, 5, 4, 3]),
}
ALONG_OUTPUTS = {
  'outputs flipped': (lambda w: w[:, ::-1], OUT[::-1]),
  'outputs permuted': (lambda w: w[:, OUT_SHUFFLED], OUT_SHUFFLED),
  'outputs padded': (lambda w: jnp.pad(w, ((0, 0), (2, 1))), [-1, -1, *OUT, -1]),
  'outputs tiled': (lambda w: jnp.tile(w, (1, 2)), OUT * 2),
  'outputs rolled': (lambda w: jnp.roll(w, 1, 1), np.roll(OUT, 1)),
  'outputs beside ones': (lambda w: jnp.concatenate([w, jnp.ones((6, 3))], 1), [*OUT, -1, -1, -1]),
  'columns stacked': (lambda w: jnp.stack([w[:, i] for i in OUT_SHUFFLED], 1), OUT_SHUFFLED),
  'transposed and flipped': (lambda w: jnp.flip(w.T, 0).T, OUT[::-1]),
}
# One after the other, of any number of inputs: what is done, and what that does to the indices.
STEPS = {
  'flip': (lambda w: w[::-1], lambda order: order[::-1]),
  'shuffle': (
    lambda w: w[np.random.default_rng(0).permutation(len(w))],
    lambda order: order[np.random.default_rng(0).permutation(len(order))],
  ),
  'roll': (lambda w: jnp.roll(w, 1, 0), lambda order: np.roll(order, 1)),
  'pad': (lambda w: jnp.pad(w, ((2, 0), (0, 0))), lambda order: np.r_[-1, -1, order]),
  'tile': (lambda w: jnp.tile(w, (2, 1)), lambda order: np.tile(order, 2)),
}


def forms():
  """The move, and the indices along inputs and outputs."""
  found = {name: (move, order, OUT) for name, (move, order) in ALONG_INPUTS.items()}
  found |= {name: (move, ALL, order) for name, (move, order) in ALONG_OUTPUTS.items()}
  both = lambda w: jnp.roll(w[::-1], 1, 1)
  found['both'] = both, ALL[::-1], np.roll(OUT, 1)
  return {name: (move, np.array(i), np.array(o)) for name, (move, i, o) in found.items()}


def combined():
  """One step after another."""

  def then(one, other):
    (first, before), (second, after) = STEPS[one], STEPS[other]
    return lambda w: second(first(w)), after(before(np.array(ALL))), np.array(OUT)

  return {f'{a}, {b}': then(a, b) for a in STEPS for b in STEPS if a != b}


def made(moves):
  """Params, and a function with a product by each moved leaf between two others."""
  params = {
    name: {
      'a': normal(5, len(inputs), seed=3 * i),
      'w': normal(SIZE, OUTPUTS, seed=3 * i + 1),
      'c': normal(len(outputs), 2, seed=3 * i + 2),
    }
    for i, (name, (_, inputs, outputs)) in enumerate(moves.items())
  }

  def fn(params, x):
    out = {}
    for name, (move, _, _) in moves.items():
      a, w, c = (params[name][leaf] for leaf in 'awc')
      out[name] = jnp.tanh(x @ a) @ move(w) @ c
    return out

  return params, fn


X = normal(20, 5, seed=99)
MOVES = forms() | combined()


def inputs_of(a, order):
  """What the leaf is multiplied by, moved the other way: float64."""
  h = np.asarray(jnp.tanh(X @ a), np.float64)
  rows = np.zeros((len(h), SIZE))
  for place, index in enumerate(order):
    if index >= 0:
      rows[:, index] += h[:, place]
  return rows


@pytest.fixture(scope='module')
def moved():
  """Params, and statistics of all forms at once."""
  params, fn = made(MOVES)
  return params, graph.capture(fn, params, X, gram=True, where=re.compile('w$'))[1]


@pytest.mark.parametrize('name', MOVES)
def test_statistics_are_of_the_inputs_moved_the_other_way(moved, name):
  params, stats = moved
  use, moments = only(stats, f'{name}/w')
  assert use.direct
  assert (use.box, use.sizes) == (((0, SIZE), (0, OUTPUTS)), (1, SIZE, OUTPUTS))
  check_moments(moments, inputs_of(params[name]['a'], MOVES[name][1]))


@pytest.fixture(scope='module')
def traced():
  """Params and the function; masks of the moved leaves; channels."""
  params, fn = made(MOVES)
  rng = np.random.default_rng(5)
  keep = {name: rng.random((SIZE, OUTPUTS)) < 0.5 for name in params}
  masks = {name: {'a': None, 'w': jnp.asarray(keep[name]), 'c': None} for name in params}
  count = graph.macs(fn, params, X, masks=masks, strict=False)
  return keep, count, graph.channels(fn, params, X)


@pytest.mark.parametrize('name', MOVES)
def test_macs_are_those_of_the_mask_that_moves_along(traced, name):
  """What is laid beside the leaf is not pruned."""
  keep, count, _ = traced
  _, inputs, outputs = MOVES[name]
  mask = keep[name][inputs][:, outputs] | (inputs < 0)[:, None] | (outputs < 0)
  macs = count.leaves[f'{name}/w']
  assert macs.dense == len(X) * mask.size
  assert macs.sparse == len(X) * mask.sum()


def units_along(found, path, axis):
  """By group, which unit lies at each index of an axis."""
  return {
    place: member.position.units
    for place, group in enumerate(found.groups)
    for member in group.members
    if (member.path, member.axis) == (path, axis)
  }


def stays(name):
  """How many indices of the leaf no channel has: those that are taken by themselves."""
  if 'stack' in name or re.match('tile, (?!pad)', name):
    return len(OUT if name == 'columns stacked' else ALL)
  return 1 if re.search('roll$|roll,|both|outputs rolled', name) else 0


@pytest.mark.parametrize('name', MOVES)
def test_channels_are_tied_to_the_indices_that_they_meet(traced, name):
  _, _, found = traced
  _, inputs, outputs = MOVES[name]
  frozen = 0
  for axis, order, beside in ((0, inputs, ('a', 1)), (1, outputs, ('c', 0))):
    of_leaf = units_along(found, f'{name}/w', axis)
    others = units_along(found, f'{name}/{beside[0]}', beside[1])
    for group, units in of_leaf.items():
      np.testing.assert_array_equal(others[group][order >= 0], units[order[order >= 0]])
    alone = np.max([np.full(max(order) + 1, -1), *of_leaf.values()], axis=0) < 0
    assert not alone.any() or (f'{name}/w', axis) in found.frozen
    frozen += alone.sum()
  assert frozen == stays(name)


# All have the statistics that were checked above, so some will do.
SOME = ['flipped', 'permuted', 'padded', 'between constants', 'both', 'tile, shuffle']


def some(params):
  return {name: params[name] for name in SOME}


def test_masked_is_shrunk():
  params, fn = made({name: MOVES[name] for name in SOME})
  found = graph.channels(fn, params, X)
  masks = jprune.masks.channels(scores.magnitude(params), found, sparsity=0.4)
  verified = graph.verify(fn, params, masks, X)
  assert verified.relative < 1e-5
  count = graph.macs(fn, params, X, masks=masks)
  assert count.shrunk < 0.9 * count.dense


# --------------------------------------------------------------------------------- scores, repair


@pytest.mark.parametrize(
  ('scorer', 'reference'),
  [
    (scores.wanda, reference_statistics.wanda),
    (scores.ria, lambda x, w: reference_statistics.ria(x, w, 0.5)),
    (scores.obs, lambda x, w: reference_statistics.obs(x, w, 0.01)),
    (scores.correlation, reference_statistics.correlation),
  ],
  ids=['wanda', 'ria', 'obs', 'correlation'],
)
def test_scores_are_those_of_the_inputs_moved_the_other_way(moved, scorer, reference):
  params, stats = moved
  found = scorer(some(params), stats)
  for name in SOME:
    inputs = MOVES[name][1]
    expected = reference(inputs_of(params[name]['a'], inputs), params[name]['w'])
    np.testing.assert_allclose(
      found[name]['w'], expected, rtol=1e-4, atol=1e-5 * expected.max(), err_msg=name
    )


def test_least_squares_repairs_what_is_moved(moved):
  params, stats = moved
  keep = np.random.default_rng(6).random((SIZE, OUTPUTS)) < 0.6
  masks = {name: {'a': None, 'w': jnp.asarray(keep), 'c': None} for name in SOME}
  found, _, _ = reconstruct.least_squares(some(params), stats, masks)
  for name in SOME:
    x, w = inputs_of(params[name]['a'], MOVES[name][1]), params[name]['w']
    expected = reference_repair.least_squares(w, x, keep)
    np.testing.assert_allclose(found[name]['w'], expected, rtol=0, atol=2e-3, err_msg=name)


def test_sparsegpt_prunes_what_is_moved(moved):
  params, stats = moved
  found, masks, _ = reconstruct.sparsegpt(some(params), stats, 0.5, where=re.compile('w$'))
  for name in SOME:
    x, w = inputs_of(params[name]['a'], MOVES[name][1]), params[name]['w']
    expected, mask = reference_repair.sparsegpt(w, x, 0.5)
    np.testing.assert_array_equal(masks[name]['w'], mask, err_msg=name)
    np.testing.assert_allclose(found[name]['w'], expected, rtol=0, atol=2e-3, err_msg=name)
