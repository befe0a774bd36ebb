"""Methods in which weights come back from behind their masks, against NumPy from the papers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jprune
from jprune import schedules
from jprune.masks import NOfM, PackedMask, unpack
from jprune.transforms import (
  ac_dc,
  gradual,
  masks_of,
  metrics,
  movement,
  rigl,
  s_ste,
  soft_movement,
  sr_ste,
  straight_through,
)
from tests.transforms import reference

STEPS, RATE = 40, 0.1
SIZE = 12 * 8
X = np.asarray(jax.random.normal(jax.random.key(0), (64, 12)))
Y = np.sin(2 * X[:, :8])


def params(dtype=jnp.float32):
  return {'kernel': (jax.random.normal(jax.random.key(1), (12, 8)) / 3).astype(dtype)}


@jax.jit
def gradient(kernel):
  loss = lambda kernel: jnp.mean((jnp.tanh(X @ kernel.astype(jnp.float32)) - Y) ** 2)
  return jax.grad(loss)(kernel)


def trained(tx, steps=STEPS, start=None):
  """Count, gradient, params and state of each step; the gradient is that at the params before."""
  now = params() if start is None else start
  state = tx.init(now)
  step = jax.jit(lambda grads, state, now: tx.update(grads, state, now))
  for count in range(steps):
    grads = gradient(now['kernel'])
    updates, state = step({'kernel': grads}, state, now)
    now = optax.apply_updates(now, updates)
    yield count, np.asarray(grads), np.asarray(now['kernel']), state


def mask_in(state):
  return np.asarray(unpack(masks_of(state)['kernel']))


def best(scores, kept):
  return reference.first(scores.ravel(), kept).reshape(scores.shape)


def by_groups(scores, n, m=4):
  """The n best of every m down each column, among equal ones the first."""
  out = np.zeros(scores.shape, bool)
  for j in range(scores.shape[1]):
    for i in range(0, scores.shape[0], m):
      out[i : i + m, j] = reference.first(scores[i : i + m, j], n)
  return out


def close(a, b):
  np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-7)


def test_straight_through_is_pruning_with_feedback():
  schedule = schedules.cubic(0.2, 0.9, 2, 21)
  dense = np.asarray(params()['kernel'])
  mask, kinds = np.ones_like(dense, bool), set()
  for count, grads, shown, state in trained(straight_through(optax.sgd(RATE), schedule, every=4)):
    if count % 4 == 0 or count == 21:  # for good: also after the schedule's end
      mask = best(np.abs(dense), SIZE - round(schedule(count) * SIZE))
      kinds.add(mask.tobytes())
    dense = dense - np.float32(RATE) * grads
    np.testing.assert_array_equal(mask_in(state), mask)
    close(state.dense['kernel'], dense)
    close(shown, np.where(mask, dense, 0))
    assert (shown[~mask] == 0).all()
    dense = np.asarray(state.dense['kernel'])
  assert len(kinds) > 6  # after the end weights still change sides


@pytest.mark.parametrize('sparsity', [None, schedules.linear(0.0, 0.5, 0, 24)])
def test_sr_ste(sparsity):
  decay = 0.3
  tx = sr_ste(optax.sgd(RATE, momentum=0.9), sparsity, every=6, decay=decay)
  dense = np.asarray(params()['kernel'])
  mask, trace, seen = None, np.zeros_like(dense), []
  for count, grads, shown, state in trained(tx):
    if count % 6 == 0:
      n = 2 if sparsity is None else max(4 - int(4 * sparsity(count)), 2)
      mask = by_groups(np.abs(dense), n)
      seen.append(n)
    trace = np.float32(0.9) * trace + grads + np.float32(decay) * np.where(mask, 0, dense)
    dense = dense - np.float32(RATE) * trace
    np.testing.assert_array_equal(mask_in(state), mask)
    close(state.dense['kernel'], dense)
    close(shown, np.where(mask, dense, 0))
    dense, trace = np.asarray(state.dense['kernel']), np.asarray(state.inner[0].trace['kernel'])
  assert seen == ([2] * 7 if sparsity is None else [4, 4, 3, 3, 2, 2, 2])


def test_sr_ste_of_another_pattern_needs_a_sparsity():
  with pytest.raises(TypeError, match='sr_ste: `sparsity` must be a number'):
    sr_ste(optax.sgd(0.1), pattern=jprune.masks.Unstructured())
  tx = sr_ste(optax.sgd(0.1), 0.75, pattern=jprune.masks.Block((2, 2)))
  *_, state = next(trained(tx))
  assert mask_in(state).sum() == SIZE // 4
  with pytest.raises(ValueError, match='sr_ste: `decay` must be at least 0 and finite; got -1.0'):
    sr_ste(optax.sgd(0.1), decay=-1.0)


def soft_by_hand(dense, mask, m=4):
  """Hu et al., section 4, group by group; ``mask`` says what is pruned."""
  out = np.zeros_like(dense)
  for j in range(dense.shape[1]):
    for i in range(0, dense.shape[0], m):
      w, keep = dense[i : i + m, j], mask[i : i + m, j]
      least = np.abs(w[~keep]).max(initial=0)
      out[i : i + m, j] = np.where(keep, np.sign(w) * np.maximum(np.abs(w) - least, 0), 0)
  return out


@pytest.mark.parametrize('packed', [False, True])
def test_s_ste(packed):
  schedule = schedules.linear(0.0, 0.5, 0, 12) if packed else None
  tx = s_ste(optax.sgd(RATE), schedule, every=6 if packed else 1, packed=packed)
  dense = np.asarray(params()['kernel'])
  n, scales = 4, []
  for count, grads, shown, state in trained(tx):
    if not packed or count % 6 == 0:
      before, n = n, {0: 4, 6: 3}.get(count, 2) if packed else 2
      mask = by_groups(np.abs(dense), n)
      if n != before:
        soft = soft_by_hand(dense, mask)
        scales.append(np.sum(dense * soft) / np.sum(soft * soft))
    dense = dense - np.float32(RATE) * grads
    np.testing.assert_array_equal(mask_in(state), mask)
    close(state.dense['kernel'], dense)
    close(shown, (scales[-1] if scales else 1) * soft_by_hand(dense, mask))
    dense = np.asarray(state.dense['kernel'])
  assert len(scales) == (2 if packed else 1)
  assert min(scales) > 1.05
  assert isinstance(state.masks['kernel'], PackedMask) == packed


def test_s_ste_along_an_axis_with_padding_and_without_weights():
  tx = s_ste(optax.sgd(1.0), pattern=NOfM(1, 3, axis=-1, pad=True), where=lambda path, leaf: True)
  start = {'a': jnp.array([[1.0, -3.0, 2.0, 0.5, 0.25]]), 'b': jnp.zeros((0, 3))}
  updates, state = tx.update(jax.tree.map(jnp.zeros_like, start), tx.init(start), start)
  shown = optax.apply_updates(start, updates)
  soft = np.array([0, -1, 0, 0.25, 0])
  scale = (3 + 0.125) / (1 + 0.0625)
  np.testing.assert_allclose(shown['a'][0], scale * soft, rtol=1e-6)
  assert float(state.memory.scale['b']) == 1


def test_s_ste_of_stacked_layers():
  # two layers in one leaf, as a scan has them: groups lie along their inputs
  kernel = np.asarray(jax.random.normal(jax.random.key(4), (2, 8, 3)))
  start = {'layers': {'kernel': jnp.asarray(kernel), 'bias': jnp.zeros((2, 3))}}
  tx = s_ste(optax.sgd(1.0))
  updates, state = tx.update(jax.tree.map(jnp.zeros_like, start), tx.init(start), start)
  masks = np.stack([by_groups(np.abs(layer), 2) for layer in kernel])
  soft = np.stack([soft_by_hand(*pair) for pair in zip(kernel, masks)])
  scale = np.sum(kernel * soft) / np.sum(soft * soft)
  np.testing.assert_array_equal(masks_of(state)['layers']['kernel'], masks)
  close(optax.apply_updates(start, updates)['layers']['kernel'], scale * soft)


@pytest.mark.parametrize('optimizer', [None, optax.adam(0.05)])
def test_movement(optimizer):
  schedule = schedules.cubic(0.0, 0.8, 0, 30)
  tx = movement(optax.sgd(RATE), schedule, every=3, optimizer=optimizer)
  dense = np.asarray(params()['kernel'])
  scores = mean = square = np.zeros_like(dense)
  with jax.numpy_dtype_promotion('standard'):
    for count, grads, shown, state in trained(tx):
      move = dense * grads
      if optimizer is None:
        scores = scores - move
      else:
        mean = 0.9 * mean + 0.1 * move
        square = 0.999 * square + 0.001 * move**2
        t = count + 1
        scores = scores - 0.05 * (mean / (1 - 0.9**t)) / (np.sqrt(square / (1 - 0.999**t)) + 1e-8)
      np.testing.assert_allclose(state.memory.scores['kernel'], scores, rtol=1e-3, atol=1e-5)
      scores = np.asarray(state.memory.scores['kernel'])
      if count % 3 == 0:
        mask = best(scores, SIZE - round(schedule(count) * SIZE))
      dense = dense - np.float32(RATE) * np.where(mask, grads, 0)  # pruned weights rest
      np.testing.assert_array_equal(mask_in(state), mask)
      close(state.dense['kernel'], dense)
      close(shown, np.where(mask, dense, 0))
      dense = np.asarray(state.dense['kernel'])
  assert mask.sum() == SIZE - round(0.8 * SIZE)


def test_soft_movement():
  level = schedules.linear(0.1, 0.3, 0, 20)
  pull = lambda count: 0.002 * jnp.minimum(count / 10, 1)
  tx = soft_movement(
    optax.sgd(RATE), level, every=2, pull=pull, optimizer=optax.sgd(50.0), packed=True
  )
  dense = np.asarray(params()['kernel'], np.float64)
  scores = np.zeros_like(dense)
  sigmoid = lambda s: 1 / (1 + np.exp(-s))
  for count, grads, shown, state in trained(tx):
    slope = sigmoid(scores) * (1 - sigmoid(scores))
    scores = scores - 50 * (dense * grads + 0.002 * min(count / 10, 1) * slope)
    if count % 2 == 0:
      mask = sigmoid(scores) > level(count)
    np.testing.assert_array_equal(mask_in(state), mask)
    np.testing.assert_allclose(state.memory.scores['kernel'], scores, rtol=1e-4, atol=1e-5)
    assert ((shown != 0) == mask).all()
    dense = np.asarray(state.dense['kernel'], np.float64)
  assert 0.2 < float(metrics(state)['sparsity']) < 0.9
  assert float(metrics(state)['sparsity']) == pytest.approx(1 - mask.mean())


def test_soft_movement_starts_with_everything():
  match = r'`threshold` must be in \[0, 0.5\) at step 0; got 0.5. All scores start at 0'
  with pytest.raises(ValueError, match=match):
    soft_movement(optax.sgd(0.1), 0.5, every=1, pull=0.0)
  with pytest.raises(ValueError, match='soft_movement: `pull` must be at least 0'):
    soft_movement(optax.sgd(0.1), every=1, pull=-1.0)
  with pytest.raises(TypeError, match='soft_movement: `threshold` must be'):
    soft_movement(optax.sgd(0.1), '0.1', every=1, pull=1.0)


PHASES = [(4, 8, 28), (5, 0, 33)]  # a dense phase is cut short, a compressed one goes on


@pytest.mark.parametrize(('every', 'begin', 'end'), PHASES)
def test_ac_dc(every, begin, end):
  tx = ac_dc(
    optax.sgd(RATE, momentum=0.9),
    schedules.linear(0.5, 0.9, 0, end),
    every=every,
    begin=begin,
    end=end,
    scorer=lambda params, grads: {'kernel': jnp.abs(params['kernel'] * grads['kernel'])},
  )
  before, mask = np.asarray(params()['kernel']), None
  names = ''
  for count, grads, shown, state in trained(tx):
    compressed = count >= end or (count >= begin and (count - begin) // every % 2 == 0)
    starts = compressed and (not names or names[-1] == 'd')
    names += 'c' if compressed else 'd'
    if not compressed:
      mask = np.ones_like(before, bool)
    elif starts or count == end:
      kept = SIZE - round((0.5 + 0.4 * min(count / end, 1)) * SIZE)
      saliency = np.abs(before * grads)
      mask = best(np.where(mask if mask is not None else True, saliency, -1), kept)
    np.testing.assert_array_equal(mask_in(state), mask)
    assert ((shown == 0) == ~mask).all()  # dense ones have no zero, compressed ones just these
    assert (np.asarray(state.inner[0].trace['kernel'])[~mask] == 0).all()
    before = shown
  assert names.startswith('d' * begin + 'c' * min(every, end - begin))
  assert names.endswith('c' * (STEPS - end))


def test_ac_dc_keeps_the_weights_of_a_phase_that_is_under_way_at_the_end():
  # by gradients, which change: chosen anew they would be others
  scorer = lambda params, grads: jax.tree.map(jnp.abs, grads)
  tx = ac_dc(optax.sgd(0.5), 0.5, every=4, begin=8, end=10, scorer=scorer)
  masks = [mask_in(state) for *_, state in trained(tx, 14)]
  assert [mask.sum() for mask in masks] == [SIZE] * 8 + [SIZE // 2] * 6
  assert all((mask == masks[8]).all() for mask in masks[8:])


def test_ac_dc_is_dense_in_dense_phases_whatever_the_distribution():
  heavy = lambda params, scores, sparsity: {'kernel': 0.75}
  tx = ac_dc(optax.sgd(0.1), 0.5, every=2, begin=2, end=6, distribution=heavy)
  counts = [int(mask_in(state).sum()) for *_, state in trained(tx, 8)]
  assert counts == [SIZE] * 2 + [SIZE // 4] * 2 + [SIZE] * 2 + [SIZE // 4] * 2


@pytest.mark.parametrize(
  ('arguments', 'match'),
  [
    ({'every': 0}, '`every` must be an int of at least 1'),
    ({'begin': -4}, r'`begin` must be an int in \[0, 2\*\*31\); got -4'),
    ({'begin': 6}, '`begin` must be a multiple of every=4; got 6. Masks change on no other'),
    ({'end': 8}, '`end` must be greater than begin=8; got 8'),
    ({'end': 8.5}, '`end` must be an int'),
  ],
)
def test_phases_that_there_are_not(arguments, match):
  with pytest.raises(ValueError, match=f'ac_dc: {match}'):
    ac_dc(optax.sgd(0.1), 0.5, **{'every': 4, 'begin': 8, 'end': 16, **arguments})


def test_scores_of_their_own():
  for make in (
    functools.partial(movement, sparsity=0.5, every=1),
    s_ste,
  ):
    for setting in ({'scorer': jprune.scores.magnitude}, {'average_grads': 0.9}):
      match = f'`{next(iter(setting))}` must be left out; got a value. It chooses by scores'
      with pytest.raises(TypeError, match=match):
        make(optax.sgd(0.1), **setting)
  with pytest.raises(TypeError, match='s_ste: `pattern` must be an N:M pattern; got Unstruc'):
    s_ste(optax.sgd(0.1), pattern=jprune.masks.Unstructured())


NARROW = {
  'sr_ste': sr_ste(optax.sgd(RATE)),
  's_ste': s_ste(optax.sgd(RATE), packed=True),
  'soft_movement': soft_movement(
    optax.sgd(RATE), every=1, pull=0.02, optimizer=optax.sgd(50.0), packed=True
  ),
}


@pytest.mark.parametrize('name', NARROW)
def test_bfloat16_and_packed(name):
  start = params(jnp.bfloat16)
  with jax.numpy_dtype_promotion('standard'):
    for *_, shown, state in trained(NARROW[name], 9, start):
      mask = mask_in(state)
      assert (shown[~mask] == 0).all()
  assert shown.dtype == jnp.bfloat16
  if name == 'soft_movement':
    assert 0 < mask.sum() < SIZE
  else:
    assert mask.sum() == SIZE // 2
  assert state.dense['kernel'].dtype == jnp.bfloat16
  if state.memory != ():
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(state.memory))


# ------------------------------------------------------------------------------------ running means


def test_masks_by_running_means():
  decays = np.float32(0.9), np.float32(0.5)
  scorer = lambda params, grads: jax.tree.map(lambda w, g: jnp.abs(w * g), params, grads)
  tx = straight_through(
    optax.sgd(RATE), 0.5, every=3, scorer=scorer, average_params=0.9, average_grads=0.5
  )
  dense = np.asarray(params()['kernel'])
  means = [dense, np.zeros_like(dense)]
  for count, grads, _, state in trained(tx):
    means = [d * m + (1 - d) * x for d, m, x in zip(decays, means, (dense, grads))]
    if count % 3 == 0:
      mask = best(np.abs(means[0] * (means[1] / (1 - decays[1] ** (count + 1)))), SIZE // 2)
    np.testing.assert_array_equal(mask_in(state), mask)
    close(state.memory.params['kernel'], means[0])
    close(state.memory.grads['kernel'], means[1])
    dense = np.asarray(state.dense['kernel'])


def test_any_method_takes_running_means():
  start = params(jnp.bfloat16)
  key = jax.random.key(3)
  sizes, mean = [], np.zeros((12, 8), np.float32)
  tx = rigl(optax.sgd(RATE), 0.5, every=4, key=key, average_grads=0.9, packed=True)
  with jax.numpy_dtype_promotion('standard'):
    for _, grads, _, state in trained(tx, 6, start):
      mean = np.float32(0.9) * mean + np.float32(0.1) * grads.astype(np.float32)
      close(state.memory.grads['kernel'], mean)
      sizes.append(mask_in(state).sum())
    assert state.memory.grads['kernel'].dtype == jnp.float32
    assert state.memory.params == ()
    assert set(sizes) == {SIZE // 2}


@pytest.mark.parametrize('argument', ['average_params', 'average_grads'])
def test_decays_of_means(argument):
  match = rf'gradual: `{argument}` must be in \[0, 1\); got 1.0. 0 is no mean at all'
  with pytest.raises(ValueError, match=match):
    gradual(optax.sgd(0.1), 0.5, every=1, **{argument: 1.0})
  with pytest.raises(TypeError, match=f'gradual: `{argument}` must be'):
    gradual(optax.sgd(0.1), 0.5, every=1, **{argument: '0.9'})
