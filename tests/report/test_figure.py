"""The look that all plots share."""

import itertools
import re

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

from jprune import _figure
from jprune.reconstruct import LeafRepair, Repair
from jprune.report import Recorder, tally
from jprune.sensitivity import search
from tests.graph.test_plot import chain

matplotlib.use('Agg')
from matplotlib import colors, text
from matplotlib import pyplot as plt

WHITE, DARK = (1.0, 1.0, 1.0), colors.to_rgb('#131416')
PHONE = 350  # pixels of a picture on a phone, between its margins


@pytest.fixture(autouse=True)
def _no_figures_left():
  yield
  plt.close('all')


def recorded():
  recorder = Recorder()
  leaves = {f'sparsity/block_{i}/kernel': np.float32(i / 12) for i in range(12)}
  for i in range(3):
    metrics = {'sparsity': np.float32(i / 3), 'churn': np.float32(0.1), **leaves}
    recorder.add(metrics, count=i)
  return recorder.plot()[0]


def repair():
  row = lambda i: LeafRepair(f'block_{i}/kernel', (8, 8), 32, 0.4, 0.1 * i, 0.01, False)
  return Repair('alps', tuple(map(row, range(4)))).plot()


PLOTS = {
  'tally': lambda: tally({'w': jnp.eye(3), 'b': jnp.ones(3)}).plot(),
  'recorder': recorded,
  'repair': repair,
  'search': lambda: search(lambda s: 1 - s, lambda s: s, min_metric=0.8).plot(),
  'graph': lambda: chain(3).plot(),
}


def luminance(color):
  parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
  return np.dot(parts, [0.2126, 0.7152, 0.0722])


def contrast(color, ground):
  """Of a color over a ground, as WCAG 2.2 defines it, 1 to 21."""
  *color, alpha = colors.to_rgba(color)
  mixed = [alpha * c + (1 - alpha) * g for c, g in zip(color, ground, strict=True)]
  low, high = sorted([luminance(mixed), luminance(ground)])
  return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize('color', [_figure.GREY, *_figure.COLORS])
def test_colors_are_read_on_white_and_on_dark(color):
  assert min(contrast(color, WHITE), contrast(color, DARK)) >= 2.9


def test_text_is_read_on_white_and_on_dark():
  assert min(contrast(_figure.GREY, WHITE), contrast(_figure.GREY, DARK)) >= 3.9


@pytest.mark.parametrize('name', PLOTS)
def test_plots_have_one_look(name):
  figure = PLOTS[name]().figure
  figure.draw_without_rendering()
  shown = [each for each in figure.findobj(text.Text) if each.get_text() and each.get_visible()]
  own = [each for each in shown if not re.fullmatch(r'[\d,]+', each.get_text())]  # not in cells
  assert {each.get_fontsize() for each in own} == {_figure.FONT}
  assert {colors.to_hex(each.get_color()) for each in own} == {_figure.GREY}
  assert figure.get_facecolor()[3] == 0
  assert all(ax.get_facecolor()[3] == 0 for ax in figure.axes)


@pytest.mark.parametrize('name', PLOTS)
def test_plots_are_read_on_a_phone(name):
  figure = PLOTS[name]().figure
  pixels = _figure.FONT / 72 * PHONE / figure.get_figwidth()
  assert pixels >= 9
  figure.draw_without_rendering()
  box = figure.get_tightbbox()  # of what is drawn, in inches
  assert box.x0 >= -0.01
  assert box.x1 <= figure.get_figwidth() + 0.01


@pytest.mark.parametrize(
  'plot', [tally({'w': jnp.eye(3)}).plot, chain(3).plot], ids=['tally', 'graph']
)
def test_given_axes_keep_their_own_look(plot):
  figure, ax = plt.subplots(figsize=(5, 3))
  before = figure.get_facecolor(), ax.get_facecolor()
  plot(ax)
  assert (figure.get_facecolor(), ax.get_facecolor()) == before
  assert ax._left_title.get_fontsize() == matplotlib.rcParams['font.size'] * 1.2
  assert ax.get_yticklabels()[0].get_color() == matplotlib.rcParams['text.color']


def test_drawing_leaves_no_style_behind():
  before = matplotlib.rcParams.copy()
  PLOTS['tally']()
  assert matplotlib.rcParams == before


def test_labels_of_different_leaves_differ():
  names = ['x' * 40 + f'/{i}/' + 'y' * 40 for i in range(30)]
  ax = tally({name: jnp.eye(2) for name in names}).plot()
  labels = [each.get_text() for each in ax.get_yticklabels()]
  assert len(set(labels)) == 30
  legend = _figure.apart(names, 20)
  assert len(set(legend.values())) == 30


def test_labels_stand_above_bars_without_touching_them():
  ax = tally({f'block_{i}/kernel': jnp.eye(3) for i in range(8)}).plot()
  ax.figure.draw_without_rendering()
  boxes = [label.get_window_extent() for label in ax.get_yticklabels()]
  bars = [bar.get_window_extent() for bar in ax.patches[:8]]
  assert all(label.y0 > bar.y1 - 1 for label, bar in zip(boxes, bars, strict=True))
  assert all(label.y1 < bar.y0 + 1 for bar, label in zip(bars, boxes[1:]))
  assert all(one.y0 > two.y1 for one, two in itertools.pairwise(boxes))
