"""Bars of a tally, drawn by a renderer without a display."""

import itertools
import subprocess
import sys

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

from jprune.report import tally

matplotlib.use('Agg')
from matplotlib import pyplot as plt


@pytest.fixture(autouse=True)
def _no_figures_left():
  yield
  plt.close('all')


def report(leaves):
  block = {'kernel': jnp.ones((8, 8)), 'bias': jnp.ones(8)}
  params = {f'block_{i:02}': block for i in range(leaves)}
  kept = np.arange(64).reshape(8, 8) < 16
  return tally(params, {name: {'kernel': kept, 'bias': None} for name in params})


def legend(ax):
  return [text.get_text() for text in ax.get_legend().get_texts()]


def labels(ax):
  return [label.get_text() for label in ax.get_yticklabels()]


@pytest.mark.parametrize('leaves', [1, 3, 50])
def test_renders_every_leaf(tmp_path, leaves):
  ax = report(leaves).plot()
  file = tmp_path / 'tally.png'
  ax.figure.savefig(file)
  assert file.read_bytes().startswith(b'\x89PNG')
  assert labels(ax)[:2] == ['block_00/bias', 'block_00/kernel']
  assert len(labels(ax)) == 2 * leaves
  bias, kernel = ax.patches[0], ax.patches[1]
  assert (bias.get_width(), kernel.get_width()) == (100, 25)
  assert bias.get_facecolor() != kernel.get_facecolor()
  assert ax.patches[2 * leaves + 1].get_x() == 25  # the pruned weights go on where the kept end
  assert ax.patches[2 * leaves + 1].get_width() == 75
  assert ax.yaxis.get_inverted()
  assert legend(ax) == ['kept', 'pruned', 'skipped']
  assert ax.get_title(loc='left').startswith(f'{100 * 48 / 72:.2f}% sparse: ')


@pytest.mark.parametrize('leaves', [3, 50])
def test_labels_do_not_overlap(leaves):
  for ax in (report(leaves).plot(), report(leaves).plot(plt.subplots(figsize=(5, 4))[1])):
    ax.figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in ax.get_yticklabels()]
    assert all(upper.y0 > lower.y0 for upper, lower in itertools.pairwise(boxes))
    centers = [(box.y0 + box.y1) / 2 for box in boxes]
    size = ax.get_yticklabels()[0].get_fontsize() * ax.figure.dpi / 72
    assert min(abs(a - b) for a, b in itertools.pairwise(centers)) >= 0.95 * size


def test_draws_into_given_axes():
  figure, axes = plt.subplots(1, 2)
  assert report(2).plot(axes[1]) is axes[1]
  assert not axes[0].patches
  assert plt.get_fignums() == [figure.number]


def test_draws_into_a_subfigure():
  _, inner = plt.figure().subfigures(1, 2)
  assert len(labels(report(2).plot(inner.subplots()))) == 4


def test_names_are_not_read_as_formulas_and_are_shortened():
  ax = tally({'$x_1$' + 'y' * 90: jnp.eye(3), 'empty': jnp.ones((0, 2))}).plot()
  ax.figure.draw_without_rendering()
  assert len(labels(ax)[0]) == 44
  assert labels(ax)[0].startswith('$x_1$yyy')
  assert [patch.get_width() for patch in ax.patches][1::2] == [0, 0]  # no weights, no bar


def test_legend_names_only_what_is_drawn():
  assert legend(tally({'w': jnp.eye(3)}).plot()) == ['kept', 'pruned']
  assert legend(tally({'w': jnp.ones(3)}).plot()) == ['skipped']


def test_never_shows(monkeypatch):
  monkeypatch.setattr(plt, 'show', lambda *args, **kwargs: pytest.fail('shown'))
  report(2).plot()


def test_without_matplotlib(monkeypatch):
  monkeypatch.setitem(sys.modules, 'matplotlib', None)
  monkeypatch.setitem(sys.modules, 'matplotlib.pyplot', None)
  with pytest.raises(ImportError, match=r"Tally.plot: needs matplotlib.*'jprune\[plot\]'"):
    report(2).plot()


def test_import_does_not_load_matplotlib():
  code = "import sys, jprune.report; assert 'matplotlib' not in sys.modules"
  subprocess.run([sys.executable, '-c', code], check=True)
