"""Moved weights in loops, under vmap and in convolutions; what can't be followed says why."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jprune
from jprune import graph
from tests.graph.captured import check_moments, normal, only

SHUFFLED = np.array([3, 0, 5, 1, 4, 2])
LAYERS = np.array([2, 0, 3, 1])  # in which order a scan takes them
X = normal(8, 6, seed=9)


def scanned(inside=lambda w: w):
  """A scan over stacked weights, each moved in its step."""

  def fn(w, x):
    return lax.scan(lambda h, each: (jnp.tanh(h @ inside(each)), None), x, w)[0]

  return fn


def by_number(w, x):
  """A loop that takes what is moved by the number of the turn."""
  moved = w[LAYERS][:, ::-1]
  return lax.fori_loop(0, 4, lambda i, h: jnp.tanh(h @ moved[i]), x)


# By name: the function of w, (4, 6, 6); in which order it takes the layers; along their inputs, the
# indices of a layer in what is multiplied.
LOOPS = {
  'layers flipped': (lambda w, x: scanned()(w[::-1], x), [3, 2, 1, 0], range(6)),
  'layers shuffled': (lambda w, x: scanned()(w[LAYERS], x), LAYERS, range(6)),
  'layers rolled': (lambda w, x: scanned()(jnp.roll(w, 1, 0), x), [3, 0, 1, 2], range(6)),
  'layers side by side': (
    lambda w, x: scanned()(jnp.concatenate([w[2:], w[:2]]), x),
    [2, 3, 0, 1],
    range(6),
  ),
  'layers stacked': (
    lambda w, x: scanned()(jnp.stack([w[i] for i in LAYERS]), x),
    LAYERS,
    range(6),
  ),
  'flipped before': (lambda w, x: scanned()(w[:, ::-1], x), range(4), range(6)[::-1]),
  'flipped inside': (scanned(lambda w: w[::-1]), range(4), range(6)[::-1]),
  'rolled inside': (scanned(lambda w: jnp.roll(w, 2, 0)), range(4), np.roll(range(6), 2)),
  'stacked inside': (scanned(lambda w: jnp.stack([w[i] for i in SHUFFLED])), range(4), SHUFFLED),
  'shuffled inside': (scanned(lambda w: w[SHUFFLED]), range(4), SHUFFLED),
  'both': (
    lambda w, x: scanned(lambda w: jnp.roll(w, 2, 0))(w[LAYERS], x),
    LAYERS,
    np.roll(range(6), 2),
  ),
  'two loops': (
    lambda w, x: lax.scan(
      lambda h, pair: (scanned()(pair[::-1], h), None), x, w.reshape(2, 2, 6, 6)
    )[0],
    [1, 0, 3, 2],
    range(6),
  ),
  'by the number of the turn': (by_number, LAYERS, range(6)[::-1]),
}
LANES = {  # functions of w, (4, 6, 6), whose layers all have the inputs x: along their inputs
  'flipped lanes': (lambda w, x: jax.vmap(lambda w: x @ w[::-1])(w), range(6)[::-1]),
  'rolled lanes': (lambda w, x: jax.vmap(lambda w: x @ jnp.roll(w, 1, 0))(w), np.roll(range(6), 1)),
  'shuffled lanes': (lambda w, x: jax.vmap(lambda w: x @ w[SHUFFLED])(w), SHUFFLED),
  'lanes of rows': (lambda w, x: jax.vmap(lambda r: r @ w[:, ::-1])(x), range(6)[::-1]),
  'lanes flipped': (lambda w, x: jax.vmap(lambda w: x @ w)(w[::-1]), range(6)),
  'compiled': (jax.jit(lambda w, x: jax.jit(lambda w: x @ w)(w[:, SHUFFLED])), SHUFFLED),
  'remat': (jax.checkpoint(lambda w, x: x @ w[:, SHUFFLED]), SHUFFLED),
}
EACH_ITS_OWN = lambda w, x: jax.vmap(lambda w, r: r @ w[::-1])(w[LAYERS], x.reshape(4, 2, 6))


@pytest.fixture(scope='module')
def stats():
  """Of all that is above, at once."""
  table = {name: fn for name, (fn, *_) in (LOOPS | LANES).items()} | {'own': EACH_ITS_OWN}
  params = {name: 0.5 * normal(4, 6, 6, seed=i) for i, name in enumerate(table)}
  fn = lambda params, x: {name: each(params[name], x) for name, each in table.items()}
  return params, graph.capture(fn, params, X, gram=True)[1]


def test_channels_are_followed_through_what_a_loop_closes_over():
  """An order that stands in the code is an operand of the loop, the same in each turn."""
  fn = lambda params, x: (
    scanned(lambda w: w[SHUFFLED])(params['w'], (x @ params['in'])[:, SHUFFLED]) @ params['out']
  )
  params = {'in': normal(6, 6), 'w': normal(4, 6, 6, seed=1), 'out': normal(6, 2, seed=2)}
  inner = lambda params, x: lax.cond(x[0, 0] > 0, lambda: fn(params, x)[:, :1], lambda: x[:, :1])
  for each in (fn, inner):
    found = graph.channels(each, params, X)
    assert found.frozen.keys() == {('in', 0), ('out', 1), ('w', 0)}
    masks = jprune.masks.channels(jprune.scores.magnitude(params), found, sparsity=0.5)
    assert graph.verify(each, params, masks, X).relative < 1e-5


def back(rows, order):
  """Inputs of what is multiplied as those of the leaf."""
  return rows[..., np.argsort(order)]


@pytest.mark.parametrize('name', LOOPS)
def test_each_layer_has_the_inputs_of_the_step_that_takes_it(stats, name):
  params, found = stats
  _, layers, order = LOOPS[name]
  use, moments = only(found, name)
  assert use.direct
  assert use.sizes == (4, 6, 6)
  inner = 4 // use.shape[use.batch[0]]
  in_order = [layer // inner for layer in layers][::inner] == list(range(4 // inner))
  assert (use.loop is not None) == in_order  # then each step can be pruned after the one before
  w, h = np.asarray(params[name], np.float64), np.asarray(X, np.float64)
  rows = np.zeros((4, *X.shape))
  for layer in layers:
    rows[layer] = back(h, order)
    h = np.tanh(rows[layer] @ w[layer])
  check_moments(moments, rows)


@pytest.mark.parametrize('name', LANES)
def test_lanes_have_the_same_inputs(stats, name):
  use, moments = only(stats[1], name)
  assert use.sizes == (1, 6, 24)
  check_moments(moments, back(np.asarray(X), LANES[name][1]))


def test_lanes_with_inputs_of_their_own(stats):
  use, moments = only(stats[1], 'own')
  assert use.sizes == (4, 6, 6)
  x = np.asarray(X).reshape(4, 2, 6)
  check_moments(moments, back(x[np.argsort(LAYERS)], range(6)[::-1]))


# ------------------------------------------------------------------------------------ convolutions

IMAGE = normal(2, 5, 5, 4, seed=4)
# The shape of the kernel, the groups, what is done to it, and for each of its axes the indices of
# the kernel in what slides over the image.
WINDOWS = {
  'turned': ((3, 3, 4, 6), 1, lambda k: k[::-1, ::-1], {0: [2, 1, 0], 1: [2, 1, 0]}),
  'channels flipped': ((3, 3, 4, 6), 1, lambda k: k[:, :, ::-1], {2: [3, 2, 1, 0]}),
  'channels shuffled': ((2, 3, 4, 6), 1, lambda k: k[:, :, LAYERS], {2: LAYERS}),
  'filters shuffled': ((3, 2, 4, 6), 1, lambda k: k[..., SHUFFLED], {3: SHUFFLED}),
  'rolled and turned': (
    (3, 2, 4, 6),
    1,
    lambda k: jnp.roll(k[:, ::-1], 1, 0),
    {0: [2, 0, 1], 1: [1, 0]},
  ),
  'turned in groups': ((3, 3, 2, 6), 2, lambda k: k[::-1], {0: [2, 1, 0]}),
  'groups flipped': ((2, 2, 2, 6), 2, lambda k: k[..., ::-1], {3: range(6)[::-1]}),
  'depthwise shuffled': ((2, 2, 1, 4), 4, lambda k: k[..., LAYERS], {3: LAYERS}),
}


@pytest.fixture(scope='module')
def windows():
  params = {name: normal(*shape, seed=i) for i, (name, (shape, *_)) in enumerate(WINDOWS.items())}

  def fn(params, x):
    out = {}
    for name, (_, groups, move, _) in WINDOWS.items():
      out[name] = lax.conv_general_dilated(
        x,
        move(params[name]),
        (1, 1),
        'VALID',
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        feature_group_count=groups,
      )
    return out

  return graph.capture(fn, params, IMAGE, gram=True)[1]


@pytest.mark.parametrize('name', WINDOWS)
def test_kernels_see_their_windows_moved_the_other_way(windows, name):
  (height, width, channels, filters), groups, _, orders = WINDOWS[name]
  use, moments = only(windows, name)
  assert use.direct
  x = np.asarray(IMAGE)
  patches = patches_of(x, height, width)  # n, rows, height, width, all channels
  rows = patches.reshape(*patches.shape[:3], groups, channels)
  for axis in (0, 1, 2):
    place = {0: 1, 1: 2, 2: 4}[axis]
    rows = rows.take(np.argsort(orders.get(axis, range(rows.shape[place]))), axis=place)
  each = filters // groups
  of_group = [list(orders.get(3, range(filters)))[g * each] // each for g in range(groups)]
  rows = rows.take(np.argsort(of_group), axis=3)
  inner = {2: 4, 0: 1, 1: 2}
  wanted = [inner[axis] for axis in (use.axes[place] for place in use.inputs)]
  seen = [axis for axis in (1, 2, 4) if axis not in wanted]  # of size 1
  rows = rows.transpose(3, 0, *wanted, *seen).reshape(groups, len(rows), -1)
  assert use.sizes == (groups, rows.shape[-1], each)
  check_moments(moments, rows)


def patches_of(x, height, width):
  """All windows of images: ``(windows, height, width, channels)``."""
  found = np.lib.stride_tricks.sliding_window_view(x, (height, width), axis=(1, 2))
  return found.transpose(0, 1, 2, 4, 5, 3).reshape(-1, height, width, x.shape[-1])


# --------------------------------------------------------------------------- what is not followed

REFUSED = {
  'every second layer': (lambda w, x: scanned()(w[::2], x), 'it is used by scan'),
  'some layers': (lambda w, x: scanned()(w[1:3], x), 'products use only parts of it'),
  'layers twice': (lambda w, x: scanned()(jnp.concatenate([w, w]), x), 'it is used by scan'),
  'padded layers': (
    lambda w, x: scanned()(jnp.pad(w, ((0, 1), (0, 0), (0, 0))), x),
    'it is used by scan',
  ),
  'every second input': (
    lambda w, x: sum(x[:, 3 * i : 3 * i + 3] @ lax.slice_in_dim(w[0], i, 6, 2) for i in range(2)),
    'entries with gaps between them are multiplied',
  ),
  'two sets of outputs': (
    lambda w, x: (x @ w[:, :, np.array([0, 5, 2])], 2 * x @ w[:, :, np.array([3, 1, 4])]),
    'entries with gaps between them are multiplied',
  ),
  'by what is computed': (lambda w, x: x @ w[:, jnp.argsort(x[0])], 'it is used by gather'),
  'another order for each column': (
    lambda w, x: x @ jnp.take_along_axis(w[0], np.stack([SHUFFLED, SHUFFLED[::-1]] * 3, 1), 0),
    'it is used by gather',
  ),
  'written into zeros': (
    lambda w, x: x @ lax.dynamic_update_slice(jnp.zeros((6, 8)), w[0], (0, 1)),
    'it is used by dynamic_update_slice',
  ),
  'interleaved': (
    lambda w, x: x @ jnp.stack([w[0, :3], w[0, 3:]], 1).reshape(6, 6),
    'no product multiplies by it',
  ),
  'groups repeated': (
    lambda w, x: jax.vmap(lambda a, b: a @ b)(jnp.stack([x, 2 * x]), jnp.tile(w[:1], (2, 1, 1))),
    'products use only parts of it',
  ),
}


@pytest.mark.parametrize('name', REFUSED)
def test_what_is_not_followed_says_why(name):
  fn, why = REFUSED[name]
  run = lambda params, x: graph.capture(lambda p, x: fn(p['w'], x), params, x)
  _, found = jax.eval_shape(run, {'w': normal(4, 6, 6)}, X)
  assert found.paths == ()
  ((path, reason),) = found.skipped
  assert path == 'w'
  assert why in reason
