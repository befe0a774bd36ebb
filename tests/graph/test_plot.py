"""The picture of a graph, drawn by a renderer without a display."""

import itertools
import subprocess
import sys

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

from jprune.graph import channels

matplotlib.use('Agg')
from matplotlib import pyplot as plt


@pytest.fixture(autouse=True)
def _no_figures_left():
  yield
  plt.close('all')


def chain(layers, width=8):
  """Dense layers, one after the other, each with a bias."""

  def fn(params, x):
    for i in range(layers):
      x = jax.nn.relu(x @ params[f'layer_{i}']['kernel'] + params[f'layer_{i}']['bias'][None])
    return x @ params['out']

  block = {'kernel': jnp.ones((width, width)), 'bias': jnp.ones(width)}
  params = {f'layer_{i}': block for i in range(layers)} | {'out': jnp.ones((width, 2))}
  return channels(fn, params, jnp.ones((1, width)))


def rows(ax):
  return [label.get_text() for label in ax.get_yticklabels()]


def columns(ax):
  return [label.get_text() for label in ax.get_xticklabels()]


def sizes(ax):
  return [label.get_text() for label in ax.child_axes[0].get_xticklabels()]


def cells(ax, *shape):
  """How much of an axis is in each cell: 1 for the whole, less for a part, NaN for nothing."""
  found = np.full(shape, np.nan)
  (squares,) = (each for each in ax.collections if len(each.get_paths()) > 0)
  for path, color in zip(squares.get_paths(), squares.get_facecolors(), strict=True):
    column, row = path.get_extents().get_points().mean(axis=0)
    found[round(row), round(column)] = color[3]
  return found


def numbers(ax):
  """The axes that stand in the cells, by column and row."""
  return {text.get_position(): text.get_text() for text in ax.texts}


def test_who_belongs_to_whom(tmp_path):
  ax = chain(2).plot()
  ax.figure.savefig(tmp_path / 'graph.png')
  assert (tmp_path / 'graph.png').read_bytes().startswith(b'\x89PNG')
  assert rows(ax) == ['layer_0/bias', 'layer_0/kernel', 'layer_1/bias, out', 'layer_1/kernel']
  assert columns(ax) == ['layer_0/kernel[1]', 'layer_1/kernel[1]']
  assert sizes(ax) == ['8', '8']
  assert numbers(ax) == {(0, 0): '0', (0, 1): '1', (1, 2): '0', (0, 3): '0', (1, 3): '1'}
  nan = np.nan
  np.testing.assert_array_equal(cells(ax, 4, 2), [[1, nan], [1, nan], [nan, 1], [1, 1]])
  assert ax.yaxis.get_inverted()
  assert ax.get_title(loc='left') == '2 groups, 16 channels;\n2 of 8 axes are frozen.'
  assert [text.get_text() for text in ax.get_legend().get_texts()] == ['the axis with this number']


def test_like_leaves_share_a_row_in_natural_order():
  def fn(params, x):
    x = x @ params['in']
    for norm in params['norms'].values():
      x = x * norm['scale'] + norm['bias']
    return x @ params['out']

  norms = {f'n{i}': {'scale': jnp.ones((1, 4)), 'bias': jnp.ones((1, 4))} for i in range(12)}
  params = {'in': jnp.ones((3, 4)), 'norms': norms, 'out': jnp.ones((4, 2))}
  assert rows(channels(fn, params, jnp.ones((1, 3))).plot()) == [
    'norms/n{0..11}/{bias,scale}, in',  # the larger part of the tree first
    'out',
  ]
  order = rows(chain(11).plot())
  assert order.index('layer_2/kernel') < order.index('layer_10/kernel')


def test_long_lists_of_leaves_are_cut():
  fn = lambda params, x: sum(x * leaf for leaf in params.values()) @ jnp.ones((4, 2))
  params = {'name_' + letter * 9: jnp.ones((1, 4)) for letter in 'abcdefghijklmnop'}
  (label,) = rows(channels(fn, params, jnp.ones((1, 1))).plot())
  assert len(label) <= 48
  assert label.endswith(' more')


def test_parts_of_axes_are_told_apart():
  def fn(params, x):
    both = jnp.concatenate([x @ params['a'], x @ params['b']], axis=-1)
    return jax.nn.relu(both) @ params['out']

  params = {'a': jnp.ones((3, 4)), 'b': jnp.ones((3, 5)), 'out': jnp.ones((9, 2))}
  ax = channels(fn, params, jnp.ones((1, 3))).plot()
  labels = [text.get_text() for text in ax.get_legend().get_texts()]
  assert labels == ['the axis with this number', 'a part or factor of it']
  filled = cells(ax, 3, 2)
  assert filled[0, 0] == filled[1, 1] == 1
  assert (filled[2] > 0).all()
  assert (filled[2] < 0.5).all()


@pytest.mark.parametrize('layers', [3, 60])
def test_labels_do_not_overlap(layers):
  graph = chain(layers)
  for ax in (graph.plot(), graph.plot(plt.subplots(figsize=(5, 4))[1])):
    ax.figure.draw_without_rendering()
    size = ax.get_yticklabels()[0].get_fontsize() * ax.figure.dpi / 72
    for labels, low, high in (
      (ax.get_yticklabels(), 'y0', 'y1'),
      (ax.get_xticklabels(), 'x0', 'x1'),
    ):
      boxes = [label.get_window_extent() for label in labels]
      centers = [(getattr(box, low) + getattr(box, high)) / 2 for box in boxes]
      assert min(abs(a - b) for a, b in itertools.pairwise(centers)) >= 0.95 * size


def test_labels_lie_inside_the_figure():
  ax = chain(5).plot()
  ax.figure.draw_without_rendering()
  assert min(label.get_window_extent().x0 for label in ax.get_yticklabels()) >= 0
  assert min(label.get_window_extent().y0 for label in ax.get_xticklabels()) >= 0


def test_draws_into_given_axes():
  figure, axes = plt.subplots(1, 2)
  assert chain(1).plot(axes[1]) is axes[1]
  assert not axes[0].collections
  assert plt.get_fignums() == [figure.number]


def test_without_groups():
  ax = channels(lambda params, x: x @ params, jnp.ones((2, 3)), jnp.ones((1, 2))).plot()
  ax.figure.draw_without_rendering()
  assert rows(ax) == columns(ax) == []
  assert ax.get_title(loc='left') == '0 groups, 0 channels;\n2 of 2 axes are frozen.'


def test_names_are_not_read_as_formulas_and_are_shortened():
  name = '$x_1$' + 'y' * 90
  fn = lambda params, x: jax.nn.relu(x @ params[name]) @ params['out']
  ax = channels(fn, {name: jnp.ones((2, 3)), 'out': jnp.ones((3, 2))}, jnp.ones((1, 2))).plot()
  ax.figure.draw_without_rendering()
  assert len(rows(ax)[0]) == 48
  assert rows(ax)[0].startswith('$x_1$yyy')


def test_never_shows(monkeypatch):
  monkeypatch.setattr(plt, 'show', lambda *args, **kwargs: pytest.fail('shown'))
  chain(1).plot()


def test_without_matplotlib(monkeypatch):
  monkeypatch.setitem(sys.modules, 'matplotlib', None)
  monkeypatch.setitem(sys.modules, 'matplotlib.pyplot', None)
  with pytest.raises(ImportError, match=r"ChannelGraph.plot: needs matplotlib.*'jprune\[plot\]'"):
    chain(1).plot()


def test_import_does_not_load_matplotlib():
  code = "import sys, jprune.graph; assert 'matplotlib' not in sys.modules"
  subprocess.run([sys.executable, '-c', code], check=True)
