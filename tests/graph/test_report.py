"""A graph, a plan and a verification as text, HTML and plain data."""

import html.parser
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jprune import shrink
from jprune._shrink import Plan
from jprune._text.fold_paths import Place, fold, fold_names
from jprune._text.table import listed
from jprune._text.words import percent
from jprune.graph import ChannelGraph, Group, Member, Position, Verification, channels
from tests import networks

MLP = {
  'in': {'kernel': jnp.ones((3, 8)), 'bias': jnp.ones(8)},
  'out': {'kernel': jnp.ones((8, 2)), 'bias': jnp.ones(2)},
}


def mlp(params, x):
  x = jax.nn.relu(x @ params['in']['kernel'] + params['in']['bias'][None])
  return x @ params['out']['kernel'] + params['out']['bias'][None]


def graph_of(groups=(), frozen=None, unsupported=None, leaves=None):
  """A graph of bare facts."""
  return ChannelGraph(tuple(groups), frozen or {}, leaves or {}, None, unsupported or {}, None, ())


def group(name, size, *members, ties=()):
  whole = Position(np.arange(size, dtype=np.int32))
  return Group(name, size, tuple(Member(path, axis, whole) for path, axis in members), ties)


def widest(text):
  return max(len(line) for line in text.splitlines())


# ------------------------------------------------------------------------------------------- text


def test_text_of_a_small_model():
  graph = channels(mlp, MLP, jnp.ones((1, 3)))
  assert str(graph).splitlines() == [
    '1 group, 8 channels; 3 of 6 axes are frozen.',
    '',
    'group         channels  members',
    '-------------------------------',
    'in/kernel[1]         8        3',
    '  in/bias[0], in/kernel[1], out/kernel[0]',
    '',
    'Frozen:',
    '  model input 0 (1): in/kernel[0]',
    '  model output (2): out/bias[0], out/kernel[1]',
  ]
  assert repr(graph) == 'ChannelGraph(1 group, 8 channels; 3 of 6 axes are frozen.)'


def test_axes_that_are_frozen_in_part_are_counted_apart():
  leaves = {
    'a': jax.ShapeDtypeStruct((8,), jnp.float32),
    'b': jax.ShapeDtypeStruct((2,), jnp.int32),
  }
  half = Member('a', 0, Position(np.array([0, 1, 2, 3, -1, -1, -1, -1], np.int32)))
  graph = graph_of(
    [Group('a[0] 0:4', 4, (half,))], {('a', 0): '4:8: model output', ('b', 0): 'x'}, leaves=leaves
  )
  assert str(graph).startswith('1 group, 4 channels; 1 of 2 axes is frozen, 1 more in part.\n')
  assert '\n  a[0] 0:4\n' in str(graph)
  assert '4x(8)' not in str(graph)  # nothing here needs that explained


def test_layouts_are_explained_where_they_occur():
  def fn(params, x):
    x = jax.nn.relu(x @ params['in']).reshape(2, 4, 6).sum(1)
    return x @ params['out']

  graph = channels(fn, {'in': jnp.ones((3, 24)), 'out': jnp.ones((6, 2))}, jnp.ones((2, 3)))
  assert 'in[1] 4x(6)' in str(graph)
  assert str(graph).splitlines()[-1].startswith('4x(8): ')


def test_unknown_primitives_are_named():
  assert str(graph_of(unsupported={'fft': 2, 'igamma': 1})).splitlines()[-1] == (
    'Without a rule, operands frozen: fft (2), igamma (1)'
  )
  assert 'Without' not in str(graph_of())


def test_like_groups_share_a_row():
  groups = [
    group(f'block_{i}/up[1]', 8, (f'block_{i}/up', 1), (f'block_{i}/down', 0)) for i in range(12)
  ]
  other = group('block_12/up[1]', 9, ('block_12/up', 1))
  lines = str(graph_of([*groups, other])).splitlines()
  assert lines[4:8] == [
    'block_{0..11}/up[1]    12 x 8   2 each',
    '  block_{0..11}/up[1], block_{0..11}/down[0]',
    'block_12/up[1]              9        1',
    '  block_12/up[1]',
  ]
  assert lines[-1] == '{0..2}, {a,b}: each of these, in all combinations. [0,1]: axes 0 and 1.'


@pytest.mark.parametrize(
  ('network', 'lines'),
  [
    (networks.resnet50(), 80),
    (networks.vit(), 40),
    (networks.vit(layers=24, fused=True), 40),
    (networks.llama(layers=12), 40),
    (networks.llama(scan=True), 40),
  ],
  ids=['resnet50', 'vit', 'fused', 'llama', 'scan'],
)
def test_large_models_print_in_few_lines(network, lines):
  graph = channels(network.fn, network.variables, *network.args)
  text = str(graph)
  assert len(text.splitlines()) <= lines
  assert widest(text) <= 100
  json.dumps(graph.to_dict())
  page(graph._repr_html_())


def test_anything_prints_in_few_lines():
  names = [''.join(chr(97 + int(d)) for d in f'{i:03}') * 20 for i in range(999)]
  groups = [group(name, 2 + i, *[(n, 0) for n in names[:50]]) for i, name in enumerate(names[:200])]
  frozen = {(name, 0): f'because of {name}' for name in names}
  text = str(graph_of(groups, frozen, dict.fromkeys(names, 3)))
  assert len(text.splitlines()) < 600
  assert 'and 152 more groups' in text
  assert 'and 975 more reasons' in text
  assert widest(text) <= 100


def test_keys_cannot_break_the_layout():
  graph = graph_of([group('a\nb[0]', 2, ('a\nb', 0))], {('c\td', 0): 'x\ny'}, {'e\nf': 1})
  assert 'a␊b[0]' in str(graph)
  assert '  x␊y (1): c␉d[0]' in str(graph)
  assert 'e␊f (1)' in str(graph)


# ---------------------------------------------------------------------------------------- folding


@pytest.mark.parametrize(
  ('places', 'names'),
  [
    ([], []),
    ([('a', 0)], ['a[0]']),
    ([('a', 0), ('a', 1), ('a', 3)], ['a[0,1,3]']),
    ([('a', 0), ('a', 1), ('a', 2)], ['a[0..2]']),
    ([('a', 0, '0:4'), ('b', 0, '4:8')], ['a[0] 0:4', 'b[0] 4:8']),
    ([('a', 0, '0:4'), ('b', 0, '0:4')], ['{a,b}[0] 0:4']),
    ([('l2/a', 0), ('l10/a', 0), ('l3/a', 0), ('l4/a', 0)], ['l{2..4,10}/a[0]']),
    ([('l1/a', 0), ('l2/b', 0)], ['l1/a[0]', 'l2/b[0]']),  # no product, so no folding
    ([(f's{i}/b{j}', 0) for i, n in ((1, 2), (2, 3), (3, 3)) for j in range(n)],
     ['s1/b{0,1}[0]', 's{2,3}/b{0..2}[0]']),
    ([('', 0)], ['(root)[0]']),
    ([('a', None), ('b', None)], ['{a,b}']),
    ([(c, 0) for c in 'abcdefgh'], ['{a,b,c,d,e,f}[0]', '{g,h}[0]']),
  ],
)  # fmt: skip
def test_folded_places(places, names):
  assert fold(Place(*place) for place in places) == names


def unfolded(name):
  """All that a folded name stands for."""
  found = re.search(r'\{([^{}]*)\}', name)
  if not found:
    return [name]
  options = []
  for part in found[1].split(','):
    first, _, last = part.partition('..')
    options += [str(i) for i in range(int(first), int(last) + 1)] if last else [part]
  start, end = name[: found.start()], name[found.end() :]
  return [each for option in options for each in unfolded(start + option + end)]


@pytest.mark.parametrize('seed', range(20))
def test_folding_is_exact(seed):
  rng = np.random.default_rng(seed)
  names = ('kernel', 'bias', 'scale', 'conv2d_1')
  paths = {
    f'b_{rng.integers(4)}/c{rng.integers(3)}/{names[rng.integers(4)]}'
    for _ in range(rng.integers(60))
  }
  folded = fold(Place(path) for path in sorted(paths))
  found = [each for name in folded for each in unfolded(name)]
  assert sorted(found) == sorted(paths)
  assert len(folded) <= max(len(paths), 1)
  by_name = fold_names(sorted(paths))
  assert sorted(i for _, each in by_name for i in each) == list(range(len(paths)))
  for name, indices in by_name:
    assert sorted(unfolded(name)) == sorted(sorted(paths)[i] for i in indices)


def test_lists_break_into_lines_and_end():
  names = [f'name_{letter * 20}' for letter in 'abcdefghij']
  lines = listed(names, '  start: ', '    ', 2)
  assert len(lines) == 2
  assert widest('\n'.join(lines)) <= 100
  assert lines[0].startswith('  start: name_aaa')
  assert lines[1].startswith('    name_')
  shown = sum(line.count('name_') for line in lines)
  assert lines[1].endswith(f' and {10 - shown} more')
  long = listed(['x' * 300, 'y'], '  start: ', '    ', 2)
  assert long[0].startswith('  start: xxx')
  assert long[0].endswith('xxx, y')
  assert '…' in long[0]
  assert widest('\n'.join(long)) <= 100


@pytest.mark.parametrize(
  ('part', 'whole', 'text'),
  [(0, 0, '0.00%'), (9, 9, '100.00%'), (1, 2**40, '<0.01%'), (2**40 - 1, 2**40, '>99.99%')],
)
def test_percentages(part, whole, text):
  assert percent(part, whole) == text


# ------------------------------------------------------------------------------- HTML, plain data


class _Page(html.parser.HTMLParser):
  """Collects all text, and checks that tags are closed in order."""

  def __init__(self, source):
    super().__init__()
    self.open, self.tags, self.texts = [], set(), []
    self.feed(source)
    self.close()
    assert not self.open

  def handle_starttag(self, tag, attrs):
    self.open.append(tag)
    self.tags.add(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.texts.append(data)


page = _Page


def test_html_is_well_formed_escaped_and_in_full():
  name = '<script>alert("&")</script>' + 'x' * 200
  graph = graph_of(
    [group(name, 3, (name, 1), ('b', 0), ties=('a < b (file.py:1)',))],
    {(name, 0): 'model <output>'},
    {'<i>': 2},
  )
  parsed = page(graph._repr_html_())
  assert '<script>' not in graph._repr_html_()
  assert {'table', 'details', 'summary', 'ul', 'li', 'p'} <= parsed.tags
  assert f'{name}[1] all' in parsed.texts
  assert 'b[0] all' in parsed.texts
  assert '1 equation' in parsed.texts
  assert 'a < b (file.py:1)' in parsed.texts
  assert any(text.startswith('model <output> (1): <script>') for text in parsed.texts)
  assert 'Without a rule, operands frozen: <i> (2)' in parsed.texts


def test_html_without_groups():
  assert page(graph_of()._repr_html_()).tags == {'p'}


def test_plain_data():
  def fn(params, x):
    return jnp.concatenate([x @ params['a'], x @ params['b']], axis=-1) @ params['out']

  params = {'a': jnp.ones((3, 2)), 'b': jnp.ones((3, 3)), 'out': jnp.ones((5, 2))}
  data = channels(fn, params, jnp.ones((1, 3))).to_dict()
  assert json.loads(json.dumps(data)) == data
  assert set(data) == {'groups', 'frozen', 'unsupported'}
  first, second = data['groups']
  assert (first['name'], first['size']) == ('a[1]', 2)
  assert first['members'] == [
    {'path': 'a', 'axis': 1, 'units': None},
    {'path': 'out', 'axis': 0, 'units': [0, 1, -1, -1, -1]},
  ]
  assert second['members'][1]['units'] == [-1, -1, 0, 1, 2]
  assert all(isinstance(tie, str) for each in data['groups'] for tie in each['ties'])
  assert {'path': 'a', 'axis': 0, 'reason': 'model input 0'} in data['frozen']
  assert data['unsupported'] == {}


# --------------------------------------------------------------------------- plan and verification


def test_text_of_a_plan():
  keep = np.arange(8) < 3
  masks = {
    'in': {'kernel': np.tile(keep, (3, 1)), 'bias': keep},
    'out': {'kernel': np.tile(keep[:, None], (1, 2)), 'bias': None},
  }
  plan = shrink(mlp, MLP, masks, jnp.ones((1, 3))).plan
  assert str(plan).splitlines()[:6] == [
    '20 of 50 weights stay (40.00%).',
    '',
    'group         kept  of   share',
    '------------------------------',
    'in/kernel[1]     3   8  37.50%',
    '',
  ]
  assert '  model output (2): out/bias[0], out/kernel[1]' in str(plan)
  assert repr(plan) == 'Plan(20 of 50 weights, 1 group)'
  parsed = page(plan._repr_html_())
  assert {'in/kernel[1]', '3', '8', '37.50%'} <= set(parsed.texts)
  assert 'details' in parsed.tags


def test_large_and_empty_plans():
  same = [(f'block_{i}/up[1] 3x({i + 1})x2', 8, 4) for i in range(40)]
  names = [chr(97 + i // 26) + chr(97 + i % 26) for i in range(200)]
  plan = Plan({'a': (4,)}, {}, (*same, *[(name * 70, 9, 8) for name in names]))
  text = str(plan)
  assert widest(text) <= 100
  assert len(text.splitlines()) < 150
  assert 'more groups' in text
  assert str(Plan({'a': (4,)}, {})) == '4 of 4 weights stay (100.00%).'
  few = str(Plan({'a': (4,)}, {}, tuple((f'b_{i}[1]', 8, 4) for i in range(40))))
  assert 'b_{0..39}[1]  40 x 4   8  50.00%' in few


def test_text_of_a_verification():
  found = Verification(1.25e-07, 3e-08, {'a': 1.25e-07, 'b': 0.0}, (5000, 1250))
  assert str(found) == (
    'Masked and shrunk differ by at most 1.25e-07 (3e-08 of the largest value) in 2 results; '
    '1,250 of 5,000 weights are left.'
  )
  nan = Verification(np.inf, np.inf, {'a': np.inf, 'b': 0.0}, (50, 20))
  assert str(nan) == (
    "One of masked and shrunk is infinite or NaN where the other is not: 'a'; "
    '20 of 50 weights are left.'
  )
  exact = Verification(0.0, 0.0, {'': 0.0}, (50, 20))
  assert str(exact) == 'Masked and shrunk agree exactly in 1 result; 20 of 50 weights are left.'
