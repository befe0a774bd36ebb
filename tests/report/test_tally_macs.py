"""Tallies of a function: multiply-adds and shrunk sizes beside weights and bytes."""

import json

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

import jprune
from jprune.graph import Macs
from jprune.report import tally
from tests import networks

matplotlib.use('Agg')
from matplotlib import pyplot as plt

KEEP = np.arange(8) < 5


def model(params, x):
  hidden = jax.nn.relu(x @ params['in']['kernel'] + params['in']['bias'][None])
  return (hidden @ hidden.T) @ (hidden @ params['out'])


def pieces():
  params = {
    'in': {'kernel': jnp.ones((3, 8)), 'bias': jnp.ones(8)},
    'out': jnp.ones((8, 2)),
  }
  masks = {'in': {'kernel': np.tile(KEEP, (3, 1)), 'bias': KEEP}, 'out': np.tile(KEEP, (2, 1)).T}
  return params, masks, (jnp.ones((4, 3)),)


def test_numbers_of_rows_and_totals():
  params, masks, args = pieces()
  report = tally(params, masks, fn=model, args=args)
  rows = {row.path: row for row in report.rows}
  assert rows['in/kernel'].macs == Macs(96, 60, 60)
  assert rows['out'].macs == Macs(64, 40, 40)
  assert rows['in/bias'].macs == Macs(0, 0, 0)
  assert rows['in/kernel'].shape_shrunk == (3, 5)
  # hidden @ hidden.T sums over the channels, the product with the scores doesn't.
  assert report.macs.others == Macs(128 + 32, 128 + 32, 80 + 32)
  assert (report.macs.dense, report.macs.sparse, report.macs.shrunk) == (320, 260, 212)
  assert (report.size_shrunk, report.bytes_shrunk) == (30, 120)
  small = jprune.shrink(model, params, masks, *args)
  assert sum(leaf.size for leaf in jax.tree.leaves(small.params)) == report.size_shrunk
  assert report.macs.shrunk == tally(small.params, fn=small.fn, args=args).macs.dense


def test_text_of_a_function_with_masks():
  params, masks, args = pieces()
  plain, whole = str(tally(params, masks)), str(tally(params, masks, fn=model, args=args))
  first, second, tail = whole.split('\n\n')
  assert first == plain.split('\n\n')[0]
  assert second == '\n'.join(
    [
      'leaf              as shrunk  MACs  sparse  shrunk',
      '-------------------------------------------------',
      'in/kernel         f32[3,5]     96      60      60',
      'out               f32[5,2]     64      40      40',
      '(other products)              160     160     112',
      '-------------------------------------------------',
      'total                         320     260     212',
    ]
  )
  assert tail.splitlines()[2:] == [
    'Multiply-adds: 320 dense, 260 sparse, 212 as shrunk.',
    'As shrunk: 30 weights, 120 bytes.',
  ]


def test_text_of_a_function_without_masks():
  params, _, args = pieces()
  lines = str(tally(params, fn=model, args=args)).splitlines()
  assert 'leaf              MACs' in lines
  assert 'Multiply-adds: 320.' in lines
  assert not any('shrunk' in line for line in lines)


def test_nothing_is_said_of_multiply_adds_without_a_function():
  params, masks, _ = pieces()
  report = tally(params, masks)
  assert (report.macs, report.size_shrunk, report.bytes_shrunk) == (None, None, None)
  assert 'macs' not in report.to_dict()
  assert set(report.to_dict()['total']).isdisjoint({'size_shrunk', 'bytes_shrunk'})
  assert set(report.to_dict()['leaves'][0]).isdisjoint({'macs', 'shape_shrunk'})
  assert 'ultiply' not in str(report) + report._repr_html_()


def test_masks_that_are_not_of_groups_are_fine_and_it_is_said():
  params, masks, args = pieces()
  masks['in']['bias'] = None
  report = tally(params, masks, fn=model, args=args)
  assert report.size_shrunk == report.size
  note = 'Not shrunk: 3 units of 1 group, pruned in some of their members only.'
  assert note in str(report).splitlines()
  assert f'>{note}</p>' in report._repr_html_()


def test_data_is_json_and_complete():
  params, masks, args = pieces()
  report = tally(params, jprune.masks.pack(masks), fn=model, args=args)
  data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
  assert data == report.to_dict()
  assert data['macs'] == report.macs.to_dict()
  assert (data['total']['size_shrunk'], data['total']['bytes_shrunk']) == (30, 120)
  assert data['leaves'][1]['macs'] == {'dense': 96, 'sparse': 60, 'shrunk': 60}
  assert data['leaves'][1]['shape_shrunk'] == [3, 5]


def test_html_has_the_columns_in_one_table():
  params, masks, args = pieces()
  page = tally(params, masks, fn=model, args=args)._repr_html_()
  assert page.count('<table ') == 1
  rows = [line for line in page.splitlines() if line.startswith('<tr>')]
  assert {row.count('</td>') + row.count('</th>') for row in rows} == {13}
  assert len(rows) == 1 + 3 + 1 + 1
  assert '(other products)' in rows[-2]
  assert '>Multiply-adds: 320 dense, 260 sparse, 212 as shrunk.</p>' in page


def test_shape_structs_of_a_published_network():
  fn, variables, args = networks.resnet50()
  report = tally(variables, fn=fn, args=args)
  assert 'Multiply-adds: 4,089,184,256.' in str(report).splitlines()
  masks = jax.tree.map(lambda _: None, variables)
  report = tally(variables, masks, fn=fn, args=args)
  assert max(map(len, str(report).splitlines())) <= 100
  assert report.size_shrunk == report.size


def test_title_of_the_plot():
  params, masks, args = pieces()
  title = lambda report: report.plot().get_title(loc='left').replace('\n', ' ')
  assert title(tally(params, masks, fn=model, args=args)).endswith('; 320 MACs, 212 as shrunk')
  assert title(tally(params, fn=model, args=args)).endswith('; 320 MACs')
  assert 'MACs' not in title(tally(params, masks))
  plt.close('all')


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'fn': model}, r'tally: `fn` must be a function that takes these params and args'),
    ({'fn': 'relu'}, r'tally: `fn` must be a function of the params .* got str'),
    ({'fn': model, 'args': jnp.ones((4, 3))}, r'tally: `args` must be a tuple; got float32 of sh'),
    ({'args': (jnp.ones((4, 3)),)}, r'tally: `args` must be empty without fn; got 1 argument'),
    ({'args': jnp.ones((4, 3))}, r'tally: `args` must be a tuple'),
  ],
)
def test_bad_input(options, message):
  params, masks, _ = pieces()
  with pytest.raises(TypeError, match=message):
    tally(params, masks, **options)


def language_model(params, tokens):
  x = params['embed'][tokens] + params['positions'] + params['bos'] * params['gate']
  x = jax.nn.relu(x @ params['up'] + params['up_bias'][None])
  return x @ params['down'] + params['down_bias'][None]


def test_reasons_of_channels_and_of_roles():
  """Why a leaf is dense: frozen channels where channels were pruned, else names, else roles."""
  shapes = {'embed': (9, 4), 'positions': (5, 4), 'bos': (1, 4), 'gate': (), 'up': (4, 8)}
  shapes |= {'up_bias': (8,), 'down': (8, 3), 'down_bias': (3,)}
  params = {name: jax.random.normal(jax.random.key(0), shape) for name, shape in shapes.items()}
  of_fn = {'fn': language_model, 'args': (jnp.zeros(5, int),)}
  why = lambda masks, **more: {
    path: row.skipped for path, row in tally(params, masks, **of_fn, **more).items() if row.skipped
  }
  graph = jprune.graph.channels(language_model, params, *of_fn['args'])
  channels = lambda **more: jprune.masks.channels(
    jprune.scores.magnitude(params), graph, 0.5, **more
  )
  assert why(channels()) == {'down_bias': 'model output', 'gate': 'no channels'}
  kept = why(channels(keep='embed'))
  assert kept.pop('embed') == kept.pop('bos') == kept.pop('positions') == 'its channels are kept'
  assert kept == {'down_bias': 'model output', 'gate': 'no channels'}
  flat = 'fewer than two dimensions'
  names = {'bos': 'one axis longer than 1', 'positions': 'a position table by its name'}
  names |= {'down_bias': flat, 'up_bias': flat, 'gate': flat}
  assert why(jprune.prune(params, 0.5)) == names
  some = jprune.prune(params, 0.5, where=lambda path, leaf: path == 'up')
  looked_up = 'table: looked up, then used by add'
  assert why(some) == names | {'embed': looked_up, 'down': 'not selected'}
  roles = jprune.graph.roles(language_model, params, *of_fn['args'])
  by_roles = why(jprune.prune(params, 0.5, roles=roles), roles=roles)
  assert by_roles['embed'].startswith(f'{looked_up} (test_tally_macs.py:')
  assert by_roles.keys() == {'bos', 'down_bias', 'embed', 'gate', 'positions', 'up_bias'}
  everything = jprune.prune(params, 0.5, where=lambda path, leaf: path != 'down_bias')
  kept_whole = {'gate': 'its mask keeps every weight'}
  assert why(everything) == {'down_bias': 'not selected'} | kept_whole
