"""The report of a repair as text, HTML and plain data."""

import json

import jax.numpy as jnp
import matplotlib
import numpy as np

from jprune.reconstruct import LeafRepair, Repair, sparsegpt
from tests.stats import of_inputs

matplotlib.use('Agg')
from matplotlib import pyplot as plt


def repaired():
  rng = np.random.default_rng(0)
  inputs = {name: rng.normal(size=(50, 8)).astype(np.float32) for name in ('a', 'c')}
  params = {'a': jnp.asarray(rng.normal(size=(8, 6)), jnp.float32), 'b': jnp.ones(6)}
  params |= {'c': jnp.ones((8, 6)), 'd': jnp.arange(3), 'e': jnp.ones((2, 2))}
  stats = of_inputs(inputs, {'a': 6, 'c': 6})
  return params, sparsegpt(params, stats, {'a': 0.5, 'c': 0.0}, where='[ac]$|e')


def test_rows_and_what_was_skipped():
  params, (new, masks, report) = repaired()
  assert [row.path for row in report.rows] == ['a', 'c']
  assert (report['a'].pruned, report['a'].size, report['a'].sparsity) == (24, 48, 0.5)
  assert 0 < report['a'].error_after < report['a'].error_before < 1
  assert report['c'] == LeafRepair('c', (8, 6), 0, 0.0, 0.0, 0.0, False, 'nothing to prune')
  np.testing.assert_array_equal(new['c'], params['c'])
  assert dict(report.skipped) == {
    'b': 'fewer than two dimensions',
    'd': 'not floating',
    'e': 'no sparsity given',
  }
  assert [masks[name] for name in 'bde'] == [None, None, None]


def test_text_says_all_of_it_in_100_columns():
  row = LeafRepair('/'.join(['deep'] * 40), (4096, 4096), 2**23, 0.1234, 3e-9, 0.1, True)
  other = LeafRepair('x' * 90, (3, 5), 7, 0.5, 0.25, 0.01, False, 'no rows ' * 30)
  left = tuple((f'layers_{i}/norm/scale', 'fewer than two dimensions') for i in range(40))
  text = str(Repair('alps', (row, other), left))
  assert max(map(len, text.splitlines())) <= 100
  for part in ('8.389 M', '50.00%', '0.1234', '3e-09', '0.1*', 'more', 'By alps.', 'squared'):
    assert part in text
  assert 'total, 2 leaves' in text


def test_html_escapes_and_shows_paths_in_full():
  row = LeafRepair('<w>/' + 'long/' * 30, (2, 2), 2, 0.5, 0.25, 0.01, False)
  html = Repair('sparsegpt', (row,), (('<b>', 'not selected'),))._repr_html_()
  assert '&lt;w&gt;/' + 'long/' * 30 in html
  assert '<b>' not in html
  assert html.count('<tr>') == 3


def test_plain_data():
  _, (_, _, report) = repaired()
  data = report.to_dict()
  assert json.loads(json.dumps(data)) == data
  assert data['method'] == 'sparsegpt'
  assert data['leaves'][0]['pruned'] == 24
  assert data['leaves'][0]['shape'] == [8, 6]
  assert data['skipped']['b'] == 'fewer than two dimensions'
  assert '2 leaves' in repr(report)


def test_picture(tmp_path):
  rows = [LeafRepair(f'block_{i}/$kernel', (8, 8), 32, 0.4, 0.1 * i, 0.01, False) for i in range(4)]
  ax = Repair('alps', tuple(rows)).plot()
  masked, repaired = ax.collections[1:]
  errors, places = np.transpose(masked.get_offsets())
  np.testing.assert_allclose(errors, 0.4)
  np.testing.assert_array_equal(np.round(places), range(4))
  np.testing.assert_allclose(repaired.get_offsets(), [[0.1 * i, y] for i, y in enumerate(places)])
  assert [label.get_text() for label in ax.get_yticklabels()] == [row.path for row in rows]
  assert ax.get_title(loc='left') == 'alps, 4 leaves, 128 of 256 weights pruned'
  file = tmp_path / 'repair.png'
  ax.figure.savefig(file)
  assert file.read_bytes().startswith(b'\x89PNG')
  plt.close('all')


def test_picture_in_axes_of_ones_own():
  ax = plt.subplots()[1]
  assert Repair('alps', (LeafRepair('w', (2, 2), 1, 0.4, 0.1, 0.01, False),)).plot(ax) is ax
  plt.close('all')


def test_masks_alone_show_no_repair():
  report = Repair('masks alone', (LeafRepair('w', (2, 2), 1, 0.4, 0.4, 0.0, False),), passes=1.0)
  assert 'error masked' in str(report)
  assert 'repaired' not in str(report)
  assert 'repaired' not in report._repr_html_()
  assert 'The model was run once over all batches.' in str(report)
  ax = report.plot()
  assert [text.get_text() for text in ax.get_legend().get_texts()] == ['masked']
  plt.close('all')
