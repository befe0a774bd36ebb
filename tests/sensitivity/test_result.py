"""A result as text, HTML, JSON and a plot."""

import itertools
import json
import os

import jax.numpy as jnp
import numpy as np
import pytest

from jprune.sensitivity import run
from tests.sensitivity.test_run import TOY, total


def whole():
  fn = lambda params, x: x @ params['w'] + params['v'][:1] + params['b'].sum()[None, None]
  return run(
    total,
    TOY,
    min_metric=200.0,
    test=lambda params: total(params) / 2,
    finetune=lambda params, masks, index: params,
    rounds=2,
    fn=fn,
    args=(jnp.ones((1, 4)),),
  )


def test_text_html_and_json(tmp_path):
  result = whole()
  lines = str(result).splitlines()
  assert max(map(len, lines)) <= 100
  for words in ('floor 200 held', 'dense, test', 'fine-tuned', 'threshold', 'Multiply-adds'):
    assert words in str(result)
  result.save(tmp_path / 'report.json')
  data = json.loads((tmp_path / 'report.json').read_text())
  assert data == json.loads(json.dumps(result.to_dict()))
  assert (data['before'], data['after'], data['holds']) == (result.before, result.after, True)
  assert [step['metric'] for step in data['steps']] == [step.metric for step in result.steps]
  result.save(str(tmp_path / 'report.html'))
  page = (tmp_path / 'report.html').read_text()
  assert page.startswith('<!DOCTYPE html>')
  assert result._repr_html_() in page
  assert f'{result.after:.4g}' in page
  assert sorted(path.name for path in tmp_path.iterdir()) == ['report.html', 'report.json']
  with pytest.raises(ValueError, match="save: `path` must be a name that ends in '.json' or"):
    result.save(tmp_path / 'report.txt')
  with pytest.raises(FileNotFoundError, match='save: `path` must be in an existing folder'):
    result.save(tmp_path / 'no' / 'report.json')
  os.mkfifo(tmp_path / 'pipe.json')
  with pytest.raises(ValueError, match='save: `path` must be a regular file or a new name; got'):
    result.save(tmp_path / 'pipe.json')
  assert (tmp_path / 'pipe.json').is_fifo()


def test_json_without_infinities(tmp_path):
  result = run(total, TOY, sparsity=1.0)
  result.save(tmp_path / 'report.json')
  data = json.loads((tmp_path / 'report.json').read_text(), parse_constant=pytest.fail)
  assert data['thresholds'] == {'w': 'inf', 'v': 'inf'}
  assert [float(cut) for cut in data['thresholds'].values()] == list(result.thresholds.values())


def test_plot():
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot as plt

  result = whole()
  ax = result.plot()
  np.testing.assert_array_equal(ax.lines[0].get_ydata(), [step.metric for step in result.steps])
  labels = {text.get_text() for text in ax.figure.legends[0].get_texts()}
  assert labels == {'validation', 'test', 'floor'}
  title = ax.get_title(loc='left')
  assert title.replace('\n', ' ') == result.summary
  narrow, other = plt.subplots(1, 2, layout='constrained')
  assert result.plot(other[0]) is other[0]
  for each, figure in ((ax, ax.figure), (other[0], narrow)):
    figure.draw_without_rendering()
    assert each._left_title.get_window_extent().x1 <= each.bbox.x1 + 15  # none of it is cut off
  plt.close('all')


@pytest.mark.parametrize('rounds', [2, 4, 8, 30])
def test_names_of_steps_do_not_overlap(rounds):
  from matplotlib import pyplot as plt

  ax = run(total, TOY, sparsity=0.9, rounds=rounds, finetune=lambda p, masks, i: p).plot()
  ax.figure.draw_without_rendering()
  boxes = [label.get_window_extent() for label in ax.get_xticklabels()]
  assert len(boxes) >= 5
  assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))
  assert ax.get_xticks()[-1] == 2 * rounds
  plt.close('all')
