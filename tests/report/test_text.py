"""Words, numbers, names and tables that all reports are made of."""

import io
import os
import re
import shutil

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jprune._text import fold_paths, html, names
from jprune._text.fold_paths import Place, fold, fold_names, natural
from jprune._text.names import headed, shortened
from jprune._text.table import listed, paths_listed, table, width, wrapped
from jprune._text.words import number, printable
from jprune.report import tally

# Keys of few letters, so that names are alike; long ones, so that they are cut.
KEY = st.text('ab01{,}', min_size=1, max_size=4) | st.sampled_from(['x' * 40, 'x' * 39 + 'y', '09'])
PATH = st.builds(str.join, st.sampled_from('./'), st.lists(KEY, min_size=1, max_size=6))
PATHS = st.lists(PATH, min_size=1, max_size=30, unique=True)


def widest(lines):
  return max(len(line) for line in lines)


# ------------------------------------------------------------------------------------------ width


class _Terminal(io.StringIO):
  def fileno(self):
    return 1234


def test_width_is_that_of_the_terminal_that_is_printed_to(monkeypatch):
  assert width() == 100  # pytest's stdout is no terminal
  monkeypatch.setattr('sys.stdout', _Terminal())
  monkeypatch.setattr(os, 'get_terminal_size', lambda fd: os.terminal_size((fd - 1100, 9)))
  assert width() == 134
  monkeypatch.setenv('COLUMNS', '72')
  assert width() == 72 == shutil.get_terminal_size().columns
  monkeypatch.setenv('COLUMNS', '7')
  assert width() == 40
  monkeypatch.setenv('COLUMNS', '0')
  monkeypatch.setattr('sys.stdout', None)
  assert width() == 100


@pytest.mark.parametrize('columns', [40, 60, 80, 100, 140, 300])
def test_tallies_fit_the_terminal(columns, monkeypatch):
  monkeypatch.setenv('COLUMNS', str(columns))
  big = jax.ShapeDtypeStruct((128256, 4096), jnp.bfloat16)
  names = [f'model.layers.{i}.{k}.weight' for i in range(3) for k in ('mlp.down_proj', 'norm')]
  text = str(tally(dict.fromkeys(['lm_head.weight', *names], big)))
  assert widest(text.splitlines()) <= columns
  header = ' '.join(line for line in text.splitlines() if line.startswith('leaf'))
  columns_shown = header.replace('leaf', '').split()
  assert columns_shown == ['shape', 'size', 'nonzero', 'sparsity', 'dense', 'stored', 'as', 'ratio']
  assert text.count('0.00%') == 8  # no number is cut


def test_wide_terminals_show_names_in_full(monkeypatch):
  monkeypatch.setenv('COLUMNS', '240')
  name = 'model/' + 'x' * 120 + '/kernel'
  assert name in str(tally({name: jnp.eye(2)}))
  monkeypatch.setenv('COLUMNS', '100')
  assert name not in str(tally({name: jnp.eye(2)}))


def test_a_table_that_is_too_wide_goes_on_below(monkeypatch):
  monkeypatch.setenv('COLUMNS', '40')
  rows = [['layer_0/kernel', *['1234567'] * 4], ['layer_1/kernel', *['7654321'] * 4]]
  lines = table(['leaf', *'abcd'], rows, ['total', *'ABCD'])
  assert [line.split() for line in lines if line.startswith('leaf')] == [
    ['leaf', 'a', 'b'],
    ['leaf', 'c', 'd'],
  ]
  assert sum(line.startswith('layer_1/kernel') for line in lines) == 2
  assert widest(lines) <= 40


def test_sentences_of_a_table_go_on_below_where_they_began(monkeypatch):
  why = 'dot_general multiplies by it, in a line of the model that is called model.py:12345'
  for columns in (60, 100):
    monkeypatch.setenv('COLUMNS', str(columns))
    lines = table(['leaf', 'why'], [['block/kernel', why]], words=(0, 1))
    assert widest(lines) <= columns
    assert ' '.join(' '.join(lines[2:]).split()) == f'block/kernel {why}'
    assert all(line.startswith(' ' * 14) for line in lines[3:])


# ------------------------------------------------------------------------------------------ names


@settings(max_examples=60, deadline=None)
@given(PATHS, st.integers(12, 60))
def test_no_two_names_are_shortened_to_the_same_text(paths, columns):
  found = shortened(paths, columns)
  assert list(found) == paths
  assert len(set(found.values())) == len(paths)
  assert widest(found.values()) <= columns
  assert all(found[path] == path for path in paths if len(path) <= columns)


@settings(max_examples=60, deadline=None)
@given(PATHS)
def test_no_two_rows_of_a_table_read_the_same(paths):
  lines = table(['leaf', *'abcde'], [[path, *['#' * 11] * 5] for path in paths])
  assert widest(lines) <= 100
  seen, heading = set(), ''
  for line in lines[2:]:
    label, gap, _ = line.partition('  #')
    heading = heading if gap else line
    if gap:
      seen.add((heading if label.startswith('  ') else '', label.rstrip()))
  assert len(seen) == len(paths)


@settings(max_examples=60, deadline=None)
@given(PATHS)
def test_folded_names_stand_for_these_and_no_others(paths):
  shown = fold(map(Place, paths))
  assert len(set(shown)) == len(shown)
  assert sorted(name for each in shown for name in unfolded(each)) == sorted(paths)


def test_names_of_a_list_differ():
  names = [f'{"x" * 60}/{i}/{"y" * 60}' for i in 'abc']
  first, *others = listed(names, 'is: ', '  ', 9)
  shown = [first.removeprefix('is: '), *others]
  assert len({each.strip(' ,') for each in shown}) == 3
  assert all('…' in each for each in shown)


def unfolded(shown):
  """All names that a folded one stands for."""
  found = re.search(r'(?<!\\)\{((?:[^{}\\]|\\.)*)\}', shown)
  if not found:
    return [re.sub(r'\\([{},])', r'\1', shown)]
  options = []
  for option in re.split(r'(?<!\\),', found[1]):
    ends = re.fullmatch('([0-9]+)[.][.]([0-9]+)', option)
    first, last = ends.groups() if ends else ('', '')
    padded = len(first) if first.startswith('0') and len(first) > 1 else 0
    options += (
      [f'{i:0{padded}}' for i in range(int(first), int(last) + 1)]
      if ends
      else [option.replace('\\,', ',')]
    )
  start, end = shown[: found.start()], shown[found.end() :]
  return [name for option in options for name in unfolded(start + option + end)]


def test_dotted_names_fold_as_slashed_ones_do():
  keys = [f'model.layers.{i}.{k}' for i in range(32) for k in ('mlp.up', 'mlp.down')]
  assert fold(map(Place, keys)) == ['model.layers.{0..31}.mlp.{up,down}']
  assert fold(Place(key.replace('.', '/')) for key in keys) == [
    'model/layers/{0..31}/mlp/{up,down}'
  ]
  mixed = [f'params/{key}.weight' for key in keys]
  assert fold(map(Place, mixed)) == ['params/model.layers.{0..31}.mlp.{up,down}.weight']


def test_numbers_that_are_written_differently_are_told_apart():
  eight = [f'layer_{i:02}' for i in range(8, 12)]
  assert fold(map(Place, eight)) == ['layer_{08..11}']
  assert fold(map(Place, ['layer_8', 'layer_9', 'layer_10'])) == ['layer_{8..10}']
  assert fold(map(Place, ['a08', 'a9', 'a10'])) == ['a{08,9,10}']


@pytest.mark.parametrize('piece', ['/', '.', '1a', '{', '9', ',/'])
def test_absurdly_long_names_are_told_apart_in_no_time(piece):
  names = [piece * 300_000, piece * 300_000 + 'x', 'b_0', 'b_1']
  *long, short = fold(map(Place, names))
  assert short == 'b_{0,1}'
  assert [name for each in long for name in unfolded(each)] == names[:2]
  assert len(shortened(names, 40)) == 4
  ordered = sorted(['b_10', *names], key=natural)
  assert [name for name in ordered if name.startswith('b')] == ['b_0', 'b_1', 'b_10']


@pytest.mark.parametrize('name', ['b_{}', 'b/{}/kernel', 'b_{}/x_{}', 'k{}k/y'])
def test_names_that_fold_are_hashed_a_few_times_each(monkeypatch, name):
  """However many stand in one pair of braces."""

  class Counted(str):
    __slots__ = ()
    hashes = 0

    def __hash__(self):
      Counted.hashes += 1
      return super().__hash__()

  real = fold_paths._parts
  monkeypatch.setattr(fold_paths, '_parts', lambda n: [(Counted(part),) for (part,) in real(n)])
  fold_names([name.format(i, i * 7 % 100) for i in range(3000)])
  fold(Place(name.format(i, i * 7 % 100)) for i in range(3000))
  assert Counted.hashes < 100 * 3000


def test_numbers_that_tell_names_apart_are_tried_once(monkeypatch):
  """Also of names whose ends differ where a longer number cuts them off."""
  seen, real = [], names.shorten
  monkeypatch.setattr(names, 'shorten', lambda *given: seen.append(given) or real(*given))
  long = [
    f'xxxxxx{chr(0x4E00 + i)}{a:m<31}{b:m<31}' for i in range(1000) for a in 'ab' for b in 'ab'
  ]
  assert len(set(names.shortened(long, 16).values())) == 4000
  assert len(seen) < 20 * 4000


def test_dotted_names_share_a_heading():
  paths = [f'model.layers.0.self_attn.{k}_proj.weight' for k in 'qk']
  assert headed(paths, 20) == (
    ['model.layers.0.self_attn.'] * 2,
    ['  q_proj.weight', '  k_proj.weight'],
  )
  report = tally({path: jax.ShapeDtypeStruct((128256, 4096), jnp.bfloat16) for path in paths})
  assert str(report).splitlines()[2] == 'model.layers.0.self_attn.'
  assert str(report).splitlines()[3].startswith('  k_proj.weight  bf16[')


def test_lists_fold_only_what_does_not_fit():
  assert paths_listed(['a_0/b', 'a_1/b'], 'None of: ', '  ', 2) == ['None of: a_0/b, a_1/b']
  many = [f'a_{i}/b' for i in range(50)]
  assert paths_listed(many, 'None of: ', '  ', 2) == ['None of: a_{0..49}/b']


def test_names_stay_on_their_line_and_apart():
  names = ['a\nb', 'a\tb', 'a\x7fb', 'a\u200bb', 'a?b', 'a b']
  shown = [printable(name) for name in names]
  assert shown == ['a␊b', 'a␉b', 'a⟨7f⟩b', 'a⟨200b⟩b', 'a?b', 'a b']
  assert [printable(name) for name in shown] == shown


def test_wrapped_sentences_cut_nothing():
  words = ['frozen', 'by', 'some/' + 'long/' * 30 + 'path.py:1234', 'and', '1,234,567']
  for columns in (40, 80):
    assert ' '.join(wrapped(' '.join(words), most=columns)).split() == words


# ---------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
  ('value', 'text'),
  [
    (0.0, '0'),
    (0.5, '0.5'),
    (0.81254, '0.8125'),
    (1.2e-7, '1.2e-07'),
    (9999.5, '1e+04'),
    (12345.6, '12,346'),
    (-12345.6, '-12,346'),
    (999_999.4, '999,999'),
    (999_999.6, '1e+06'),
    (float('nan'), 'nan'),
    (float('inf'), 'inf'),
    (None, ''),
  ],
)
def test_metrics(value, text):
  assert number(value) == text


# ------------------------------------------------------------------------------------------- HTML


def test_tables_scroll_in_their_box():
  page = html.table(['leaf', 'size'], [['kernel', '12 MB']], ['total', '12 MB'])
  assert page.startswith('<div style="overflow-x:auto;')
  assert page.endswith('</table></div>')
  assert 'font-variant-numeric:tabular-nums' in page
  cells = re.findall('<t[hd] style="([^"]*)">([^<]*)<', page)
  assert [(text, re.search('text-align:(.*?);', style)[1]) for style, text in cells] == [
    (text, side)
    for texts in (('leaf', 'size'), ('kernel', '12 MB'), ('total', '12 MB'))
    for text, side in zip(texts, ('left', 'right'))
  ]
  nowrap = ['white-space:nowrap' in style for style, _ in cells]
  assert nowrap == [False, True] * 3  # numbers and their units stay together


def test_many_rows_share_a_style_sheet_of_their_table():
  page = html.table(['leaf', 'size'], [['kernel', '12']] * 2000)
  sheet, name = re.match('<style>(.*?)</style><div .*?><table class="(.*?)"', page).groups()
  assert f'.{name} tr>:nth-child(2){{text-align:right;white-space:nowrap;' in sheet
  assert sheet.count(f'.{name} tr>') == sheet.count('{') == 2
  assert '<tr><td>kernel</td><td>12</td></tr>' in page


def test_html_has_no_colors_of_its_own():
  page = tally({'kernel': jnp.ones((2, 3)), 'bias': jnp.ones(2)})._repr_html_()
  assert not re.search('#[0-9a-f]{3}|rgb|color|background', page)


def test_sentences_of_html_tables_are_broken():
  page = html.table(['leaf', 'why'], [['kernel', 'a long story']], words=(0, 1))
  assert re.search('<td style="[^"]*overflow-wrap:anywhere[^"]*">kernel<', page)
  assert re.search('<td style="[^"]*white-space:normal[^"]*">a long story<', page)


def test_pages_follow_the_colors_of_the_browser():
  page = html.page('A <b>', html.paragraph('text'))
  assert page.startswith('<!DOCTYPE html>\n<html lang="en">')
  assert '<title>A &lt;b&gt;</title>' in page
  assert 'color-scheme: light dark' in page
  assert 'name="viewport"' in page
