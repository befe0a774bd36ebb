"""The recorder: what it keeps of a loop, and what it shows."""

import sys

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
import pytest

import jprune
from jprune._text import html
from jprune.report import Recorder
from jprune.transforms import gradual, masks_of, metrics

matplotlib.use('Agg')
from matplotlib import pyplot as plt

PARAMS = {
  'a': {'kernel': jnp.asarray(np.random.default_rng(0).normal(size=(6, 8)), jnp.float32)},
  'b': {'kernel': jnp.asarray(np.random.default_rng(1).normal(size=(8, 4)), jnp.float32)},
}
STEPS = 9
TX = gradual(
  optax.sgd(0.1),
  jprune.schedules.cubic(0.0, 0.75, begin=0, end=8),
  every=2,
  distribution=jprune.distributions.global_,
)


@pytest.fixture(autouse=True)
def _no_figures_left():
  yield
  plt.close('all')


def step(params, state):
  updates, state = TX.update(jax.tree.map(jnp.sin, params), state, params)
  return optax.apply_updates(params, updates), state


def pruned(masks):
  return np.concatenate([~np.asarray(mask).ravel() for mask in jax.tree.leaves(masks)])


def test_a_loop_a_scan_and_a_step_of_one_s_own_are_recorded_alike():
  loop, compiled, scanned = Recorder(), Recorder(), Recorder()
  donating = jax.jit(step, donate_argnums=(0, 1))
  params = jax.tree.map(jnp.copy, PARAMS)
  state, before, want, churn = TX.init(params), None, [], 0.0
  for i in range(STEPS):
    before = pruned(masks_of(state))
    params, state = donating(params, state)
    loop.add(state)
    compiled.add(jax.jit(metrics)(state), count=state.count)
    now = pruned(masks_of(state))
    churn = np.mean(now != before) if i % 2 == 0 else churn
    want.append([i + 1, now.mean(), churn, np.mean(~(masks_of(state)['b']['kernel']))])

  def body(carry, _):
    params, state = step(*carry)
    return (params, state), (metrics(state), state.count)

  scanned.add(*jax.lax.scan(body, (PARAMS, TX.init(PARAMS)), length=STEPS)[1])
  assert len(loop) == len(compiled) == len(scanned) == STEPS
  for recorder in (loop, compiled, scanned):
    found = recorder.to_dict()
    names = ('sparsity', 'churn', 'sparsity/b/kernel')
    got = np.stack([found['count'], *(found['metrics'][name] for name in names)], axis=1)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert str(recorder) == str(loop)
  assert repr(loop) == 'Recorder(9 steps)'
  assert str(loop).splitlines()[2].split() == ['1', '0.00%', '0.00%']
  assert str(loop).splitlines()[10].split()[:2] == ['9', '75.00%']
  assert '>b/kernel</td>' in loop._repr_html_()


def test_nothing_is_waited_for_but_what_is_long_done(monkeypatch):
  monkeypatch.setattr('jprune.report._recorder._HELD', 4)
  fetched = []
  get = jax.device_get
  monkeypatch.setattr(jax, 'device_get', lambda x: fetched.append(len(x[0])) or get(x))
  recorder, state = Recorder(), TX.init(PARAMS)
  for _ in range(12):
    recorder.add(state._replace(count=jnp.int32(len(recorder))))
  assert fetched == [2, 2, 2, 2]  # the older half, whenever there are five
  assert recorder.to_dict()['count'].tolist() == list(range(12))


def test_without_a_count_steps_are_numbered():
  masks = jprune.prune(PARAMS, 0.5)
  state = jprune.keep_pruned(masks).init(PARAMS)
  recorder = Recorder()
  recorder.add(state)
  recorder.add(state, count=10)
  recorder.add({**metrics(state), 'loss': jnp.float32(3.0)})
  found = recorder.to_dict()
  assert found['count'].tolist() == [1, 10, 11]
  np.testing.assert_array_equal(found['metrics']['loss'], [np.nan, np.nan, 3])
  assert 'churn' not in str(recorder)
  recorder.plot()


def test_agents_have_their_own():
  stacked = jax.tree.map(lambda w: jnp.stack([w, -w, jnp.sin(9 * w)]), PARAMS)
  state = jax.jit(jax.vmap(TX.init))(stacked)
  masks = jax.tree.map(lambda mask: mask.at[1].set(False), state.masks)
  later = state._replace(count=state.count + 7, masks=masks, churn=jnp.array([0.0, 1.0, 0.5]))
  recorder = Recorder()
  recorder.add(state)
  recorder.add(later)
  recorder.add(jax.vmap(metrics)(later), count=8)
  found = recorder.to_dict()
  assert found['count'].tolist() == [0, 7, 8]
  assert found['metrics']['churn'].tolist() == [[0, 0, 0], [0, 1, 0.5], [0, 1, 0.5]]
  assert found['metrics']['sparsity/a/kernel'].tolist() == [[0, 0, 0], [0, 1, 0], [0, 1, 0]]
  assert str(recorder).endswith('Means over 3 agents.')
  below = recorder.plot()[1]
  assert len(below.collections) == 1  # the band
  assert below.lines[0].get_ydata().tolist() == [0, 0.5, 0.5]


def many_leaves(count):
  recorder = Recorder()
  for i in range(5):
    leaves = {f'sparsity/block_{j}/$w$': np.float32(i * j / (4 * count)) for j in range(count)}
    recorder.add({'sparsity': np.float32(i / 5), 'churn': np.float32(0.1), **leaves}, count=10 * i)
  return recorder


@pytest.mark.parametrize('count', [1, 3, 30])
def test_plot(count, tmp_path):
  top, below = many_leaves(count).plot()
  top.figure.savefig(tmp_path / 'history.png')
  assert top.get_title(loc='left') == '80.00% sparse after 40 steps'
  np.testing.assert_array_equal(top.lines[-1].get_xdata(), [0, 10, 20, 30, 40])
  np.testing.assert_allclose(top.lines[-1].get_ydata(), np.arange(5) / 5, rtol=1e-6)
  assert len(top.lines) == (1 if count == 1 else count + 1)
  assert below.lines[0].get_color() == top.lines[-1].get_color()  # both are of all leaves
  names = [text.get_text().strip('\u200b') for text in top.figure.legends[0].get_texts()]
  assert names[-1] == 'all leaves'
  if count == 30:
    first, last = (r'block_0/\$w\$', r'block_29/\$w\$')
    assert names[0] == '24 more'
    assert (names[1], names[-2]) == (first, last)
  given = plt.subplots(1, 2)[1]
  assert all(one is two for one, two in zip(many_leaves(count).plot(given), given))


def test_a_plot_of_leaves_that_are_pruned_alike_has_one_line():
  recorder = Recorder()
  for i in range(5):
    leaves = {f'sparsity/{j}': np.float32(i / 5 + j / 1000) for j in range(3)}
    recorder.add({'sparsity': np.float32(i / 5), 'churn': np.float32(0.1), **leaves})
  top, _ = recorder.plot()
  assert len(top.lines) == 1
  (text,) = top.figure.legends[0].get_texts()
  assert text.get_text() == 'all leaves, and each of them'
  recorder.add({'sparsity': np.float32(0.9), 'sparsity/2': np.float32(0.8)})
  assert len(recorder.plot()[0].lines) == 4


def test_words(monkeypatch):
  recorder = Recorder()
  assert str(recorder) == 'nothing recorded'
  assert recorder._repr_html_() == html.paragraph('nothing recorded')
  assert len(recorder.to_dict()['count']) == 0
  with pytest.raises(ValueError, match=r'Recorder.plot: `recorder` must be one with entries'):
    recorder.plot()
  with pytest.raises(ValueError, match=r'Recorder.add: `seen` must be a state with masks; got Sca'):
    recorder.add(optax.adam(0.1).init(PARAMS)[0])
  with pytest.raises(TypeError, match=r'Recorder.add: `seen` must be arrays with values at hand'):
    jax.jit(recorder.add)(TX.init(PARAMS))
  for count in ({'loss': 0.5}, '3', True):
    with pytest.raises(TypeError, match=r'Recorder.add: `count` must be a step .*; got .* Losses'):
      recorder.add(TX.init(PARAMS), count)
  assert len(recorder) == 0
  recorder.add(TX.init(PARAMS))
  for axes in (plt.gca(), plt.subplots(3)[1]):
    with pytest.raises(ValueError, match=r'Recorder.plot: `axes` must be two .* plt.subplots\(2'):
      recorder.plot(axes)
  with pytest.raises(ValueError, match=r'must be metrics of shape \(\); got .* of shape \(2,\)'):
    recorder.add({'sparsity': np.zeros(2)})
  with pytest.raises(ValueError, match=r"metrics of shape \(3,\); got 'churn' of shape \(\)"):
    recorder.add({'sparsity': np.zeros(3), 'churn': np.float32(0)}, count=np.arange(3))
  monkeypatch.setitem(sys.modules, 'matplotlib', None)
  monkeypatch.setitem(sys.modules, 'matplotlib.pyplot', None)
  with pytest.raises(ImportError, match=r"Recorder.plot: needs matplotlib.*'jprune\[plot\]'"):
    recorder.plot()
