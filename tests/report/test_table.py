"""The table as text and as HTML."""

import html.parser
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jprune.report import LeafTally, Tally, _table, tally

BIG = jax.ShapeDtypeStruct((128256, 4096), jnp.bfloat16)


def widest(text):
  return max(len(line) for line in text.splitlines())


def table_lines(report):
  """The lines of the table proper: header, rule, rows, rule, total."""
  return str(report).split('\n\n')[0].splitlines()


def test_text_of_a_small_model():
  params = {
    'Conv_0': {'kernel': jnp.ones((3, 3, 8, 16)), 'bias': jnp.ones(16)},
    'Dense_0': {'kernel': jnp.ones((128, 10), jnp.bfloat16), 'bias': jnp.ones(10, jnp.bfloat16)},
  }
  masks = {
    'Conv_0': {'kernel': np.arange(1152).reshape(3, 3, 8, 16) % 10 == 0, 'bias': None},
    'Dense_0': {'kernel': None, 'bias': None},
  }
  text, tail = str(tally(params, masks)).split('\n\n')
  assert text == '\n'.join(
    [
      'leaf             shape           size  nonzero  sparsity    dense   stored  as     ratio',
      '----------------------------------------------------------------------------------------',
      'Conv_0/bias      f32[16]           16       16     0.00%     64 B     64 B  dense  1.00x',
      'Conv_0/kernel    f32[3,3,8,16]  1,152      116    89.93%  4.61 kB    960 B  index  4.80x',
      'Dense_0/bias     bf16[10]          10       10     0.00%     20 B     20 B  dense  1.00x',
      'Dense_0/kernel   bf16[128,10]   1,280    1,280     0.00%  2.56 kB  2.56 kB  dense  1.00x',
      '----------------------------------------------------------------------------------------',
      'total, 4 leaves                 2,458    1,422    42.15%  7.25 kB  3.60 kB         2.01x',
    ]
  )
  lines = tail.splitlines()
  assert lines[0] == 'Nonzero: 1,422 of 2,458 weights.'
  assert lines[1].startswith('Bytes: 7,252 dense, 3,604 as stored; about ')
  assert lines[2:] == [
    'Skipped: 3 of 4 leaves, 1,306 weights.',
    '  fewer than two dimensions (2): Conv_0/bias, Dense_0/bias',
    '  not selected (1): Dense_0/kernel',
  ]


def test_nothing_skipped_is_not_mentioned():
  assert 'Skipped' not in str(tally({'w': jnp.eye(3)}))
  assert 'Skipped' not in tally({'w': jnp.eye(3)})._repr_html_()


def test_emptied_leaves_are_named():
  params = {'<w>': jnp.ones((3, 3)), 'b': jnp.ones(3), 'none': jnp.ones((0, 2))}
  report = tally(params, {'<w>': jnp.zeros((3, 3), bool), 'b': jnp.ones(3, bool), 'none': None})
  assert 'Emptied, nothing but zeros: <w>' in str(report).splitlines()
  assert '>Emptied, nothing but zeros: &lt;w&gt;</p>' in report._repr_html_()
  assert report.to_dict()['emptied'] == ['<w>']
  whole = tally(params)
  assert 'Emptied' not in str(whole) + whole._repr_html_()


def test_short_repr():
  report = tally({'w': jnp.eye(3)})
  assert repr(report) == 'Tally(1 leaf: 3 of 9 weights nonzero, 36 B dense, 36 B as stored)'


def test_long_paths_share_a_heading_and_stay_whole():
  wide = jax.ShapeDtypeStruct((3, 3, 512, 512), jnp.float32)
  params = {
    'BottleneckResNetBlock_0': {'BatchNorm_0': {'scale': wide}, 'Conv_0': {'kernel': wide}},
    'BottleneckResNetBlock_1': {'Conv_0': {'kernel': wide}},
    'head': {'kernel': BIG},
  }
  starts = [re.split('  b?f', line)[0].rstrip() for line in table_lines(tally(params))]
  assert starts[2:-2] == [
    'BottleneckResNetBlock_0/',
    '  BatchNorm_0/scale',
    '  Conv_0/kernel',
    'BottleneckResNetBlock_1/',
    '  Conv_0/kernel',
    'head/kernel',
  ]
  assert widest(str(tally(params))) <= 100


def test_one_overlong_name_is_cut_in_the_middle_and_moves_no_other():
  params = {'a': {'kernel': BIG}, 'b': {'start' + 'x' * 200 + 'end': BIG}}
  lines = table_lines(tally(params))
  assert lines[2].startswith('a/kernel ')
  assert any(line.lstrip().startswith('b/start') and 'end  bf16' in line for line in lines)
  assert widest(str(tally(params))) <= 100


@pytest.mark.parametrize('keys', [1, 2, 5, 9])
def test_fits_100_columns_whatever_the_names_and_shapes(keys):
  path, shape = '/'.join(['a_rather_long_module_name'] * keys), (1, 1, 1024, 2048, 64, 128)
  huge = 10**20
  rows = [
    LeafTally(path, shape, 'float8_e4m3fn', huge, 1, huge, 10**6, 'bitmask'),
    LeafTally('b' * 300, None, 'T' * 300, 0, 0, 0, 0, 'dense', 'not an array'),
    LeafTally('c', (), 'int32', 1, 0, 4, 0, 'index'),
  ]
  text = str(Tally(tuple(rows)))
  assert widest(text) <= 100
  numbers = [line for line in text.splitlines() if line.endswith('x')]
  assert len(numbers) == 3
  assert len({len(line) for line in numbers}) == 1


def test_keys_cannot_break_the_layout():
  text = str(tally({'a\nb\tc': jnp.eye(2)}))
  assert 'a␊b␉c' in text
  assert len(text.splitlines()) == len(str(tally({'a': jnp.eye(2)})).splitlines())


def test_many_skipped_leaves_stand_as_one_or_are_counted():
  report = tally({f'layer_{i:03}': jnp.ones(4) for i in range(200)})
  assert str(report).splitlines()[-1] == '  no zeros (200): layer_{000..199}'
  names = [f'layer_{chr(97 + i // 20)}{chr(97 + i % 20)}' for i in range(200)]
  *_, first, last = str(tally({name: jnp.ones(4) for name in names})).splitlines()
  assert first.startswith('  no zeros (200): {layer_aa,layer_ab')
  shown = (first + last).count('layer_')
  groups = 34  # six in a pair of braces
  assert last.endswith(f' and {groups - (first + last).count("{")} more')
  assert shown < 200
  assert len(last) <= 100


class _Page(html.parser.HTMLParser):
  """Collects the text of the cells, and checks that tags are closed in order."""

  def __init__(self, page):
    super().__init__()
    self.open, self.cells, self.tags = [], [], set()
    self.feed(page)
    self.close()
    assert not self.open

  def handle_starttag(self, tag, attrs):
    self.open.append(tag)
    self.tags.add(tag)
    if tag in ('td', 'th'):
      self.cells.append('')

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if self.open and self.open[-1] in ('td', 'th'):
      self.cells[-1] += data


def test_html_is_well_formed_and_escaped():
  name = '<script>alert("&")</script>' + 'x' * 100
  page = tally({name: jnp.eye(3), 'b<i>': jnp.ones(3)})._repr_html_()
  parsed = _Page(page)
  assert parsed.tags == {
    *('div', 'table', 'thead', 'tbody', 'tfoot', 'tr', 'th', 'td'),
    *('p', 'details', 'summary', 'ul', 'li'),
  }
  assert '<script>' not in page
  assert '&lt;script&gt;alert(&quot;&amp;&quot;)' in page
  assert name in parsed.cells  # in full, unlike in the text
  assert '<summary>no zeros (1)</summary>' in page
  assert '<li>b&lt;i&gt;</li>' in page
  assert len(parsed.cells) == 4 * 9
  assert parsed.cells[-9:-5] == ['total, 2 leaves', '', '12', '6']


@pytest.mark.parametrize(
  ('number', 'text'),
  [
    (0, '0'),
    (999_999, '999,999'),
    (10**6, '1.000 M'),
    (999_999_999, '1.000 G'),
    (9_999_600, '10.00 M'),
    (25_557_032, '25.56 M'),
    (10**15, '1.000 P'),
  ],
)
def test_counts(number, text):
  assert _table.count(number) == text


@pytest.mark.parametrize(
  ('number', 'text'),
  [
    (0, '0 B'),
    (999, '999 B'),
    (1000, '1.00 kB'),
    (9_996, '10.0 kB'),
    (999_499, '999 kB'),
    (999_500, '1.00 MB'),
    (102_011_648, '102 MB'),
    (2**40, '1.10 TB'),
  ],
)
def test_bytes(number, text):
  assert _table.byte_size(number) == text


@pytest.mark.parametrize(
  ('part', 'whole', 'text'),
  [
    (0, 0, '0.00%'),
    (0, 9, '0.00%'),
    (9, 9, '100.00%'),
    (1, 2**40, '<0.01%'),
    (2**40 - 1, 2**40, '>99.99%'),
    (1, 3, '33.33%'),
  ],
)
def test_percentages(part, whole, text):
  assert _table.percent(part, whole) == text


@pytest.mark.parametrize(
  ('value', 'text'),
  [
    (1.0, '1.00x'),
    (9.999, '10.0x'),
    (99.96, '100x'),
    (123456.7, '123,457x'),
    (float('inf'), 'inf'),
    (0.97, '0.97x'),
  ],
)
def test_ratios(value, text):
  assert _table.ratio(value) == text
