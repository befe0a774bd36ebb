"""The table on disk: interrupted runs go on, and other files are left alone."""

import functools
import json

import pytest

import jprune
from jprune.sensitivity import curves
from tests.sensitivity.test_curves import POINTS, metric, toy


class Counted:
  """``metric``, that fails after so many calls."""

  def __init__(self, most=10**9):
    self.calls, self.most = 0, most

  def __call__(self, params):
    if self.calls == self.most:
      raise KeyboardInterrupt
    self.calls += 1
    return metric(params)


@pytest.mark.parametrize('most', range(10))
@pytest.mark.parametrize('cut', [b'', b'{"group": "a/ker'])
def test_an_interrupted_run_goes_on(tmp_path, most, cut):
  path = tmp_path / 'points.jsonl'
  whole = curves(metric, toy(), POINTS)
  with pytest.raises(KeyboardInterrupt):
    curves(Counted(most), toy(), POINTS, table=path)
  assert len(path.read_text().splitlines()) == 1 + most
  with open(path, 'ab') as file:
    file.write(cut)
  again = Counted()
  assert curves(again, toy(), POINTS, table=path) == whole
  assert again.calls == 10 - most
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  assert len(rows) == 1 + 10  # header, dense, 3 groups at 3 sparsities
  third = Counted()
  assert curves(third, toy(), POINTS, table=path) == whole
  assert third.calls == 0


def test_an_unfinished_header(tmp_path):
  path = tmp_path / 'points.jsonl'
  curves(metric, toy(), POINTS, table=path)
  text = path.read_bytes()
  path.write_bytes(text[:30])
  curves(metric, toy(), POINTS, table=path)
  assert path.read_bytes() == text


def test_a_table_of_another_run_is_refused(tmp_path):
  path = tmp_path / 'points.jsonl'
  curves(metric, toy(), POINTS, table=path)
  text = path.read_bytes()
  other = toy()
  other['c']['bias'] = other['c']['bias'].at[0].add(1e-3)
  cases = {
    'params': {'params': other},
    'sparsities': {'sparsities': [0.5]},
    'scorer': {'scorer': functools.partial(jprune.scores.magnitude, p=2)},
    'evaluate': {'evaluate': lambda params: 1.0},
    'pattern': {'pattern': jprune.masks.Channel(0)},
    'groups': {'where': 'b/kernel'},
  }
  for field, changed in cases.items():
    given = {'evaluate': metric, 'params': toy(), 'sparsities': POINTS} | changed
    with pytest.raises(ValueError, match=f'of the same run; got .* of a run with other {field}'):
      curves(**given, table=path)
    assert path.read_bytes() == text


@pytest.mark.parametrize('text', [b'no table\n', b'{"format": 1}\n', b'PNG', b'[]\n', b'\xff\n'])
def test_other_files_are_left_alone(tmp_path, text):
  path = tmp_path / 'points.jsonl'
  path.write_bytes(text)
  with pytest.raises(ValueError, match='curves: `table` must be a new file, or one that curves'):
    curves(metric, toy(), POINTS, table=path)
  assert path.read_bytes() == text


def test_a_broken_line_in_between(tmp_path):
  path = tmp_path / 'points.jsonl'
  curves(metric, toy(), POINTS, table=path)
  lines = path.read_text().splitlines()
  path.write_text('\n'.join([*lines[:3], lines[3][:9], *lines[4:], '']))
  with pytest.raises(ValueError, match='`table` must be an undamaged file; got .* whose line 4'):
    curves(metric, toy(), POINTS, table=path)
