"""Where the units of a group lie, in words."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jprune.graph import Position


def position(*units):
  return Position(np.array(units, np.int32))


@pytest.mark.parametrize(
  ('units', 'text'),
  [
    ((), 'all'),
    ((0,), 'all'),
    (range(5), 'all'),
    # segments
    ((-1, -1, 0, 1, -1), '2:4'),
    ((-1, 0, 1, -1, 2, 3, 4), '1:3+4:7'),
    ((-1, 0, 1, -1, 2, 3), '1:3 of every 3'),
    ((-1, 0) * 3, '(1)x3 in 1:2 of every 2'),
    ((-1, 0, -1, 1, -1, 2), '1:2 of every 2'),
    ((-1, -1), 'none'),
    # factors
    ([0, 0, 0, 1, 1, 1], '(2)x3'),
    ([0, 1, 0, 1, 0, 1], '3x(2)'),
    ([0, 0, 1, 1] * 3, '3x(2)x2'),
    ([0, 0], '(1)x2'),
    ([-1] * 4 + [0, 0, 1, 1], '(2)x2 in 4:8'),
    ([0, 1, 0, 1, -1, -1] * 2, '4x(2) in 0:4 of every 6'),
    ([0, 0, -1, 1, 1, -1], '(2)x2 in 0:2 of every 3'),
    # orders
    (range(7, -1, -1), '(7..0)'),
    ([0, 1, 2, 2, 1, 0], '(0..2 2..0)'),
    ([0, 0, 1, 2, 1, 3], '(0 0..2 1 3)'),
    ([3, 3], '(3..3)x2'),
    ([1, 1, 0, 0] * 2, '2x(1 0)x2'),
    ([-1, 2, 1, 0], '(2..0) in 1:4'),
    ([4, 0, 2, 6, 8, 1, 3, 5, 7, 9], '(4 0 2 6 8 1 3 5 ...)'),
    ([0, -1, 1, -1, -1, 2, -1, 3, -1, -1, -1, 4, -1], '0:1+2:3+5:6+7:8+...'),
  ],
)
def test_text(units, text):
  assert str(position(*units)) == text
  assert repr(position(*units)) == f'Position({text})'


def read(text, size):
  """The units that a text stands for: its definition, once more."""
  layout, _, where = text.rpartition(' in ') if ' in ' in text else (text, '', '')
  if not where and re.match(r'\d+:', layout):
    layout, where = '', layout
  inside = np.full(size, not where)
  spans, _, period = where.partition(' of every ')
  for block in range(0, size, int(period or size)):
    for span in spans.split('+') if spans else ():
      start, end = map(int, span.split(':'))
      inside[block + start : block + end] = True
  major, held, minor = re.fullmatch(r'(?:(\d+)x)?(?:\(([^()]+)\))?(?:x(\d+))?', layout).groups()
  major, minor = int(major or 1), int(minor or 1)
  if held is None:
    units = np.arange(inside.sum())
  elif held.isdigit():
    units = np.arange(int(held))
  else:
    runs = [list(map(int, run.split('..'))) for run in held.split(' ')]
    step = lambda run: 1 if run[-1] >= run[0] else -1
    units = np.concatenate([np.arange(r[0], r[-1] + step(r), step(r)) for r in runs])
  out = np.full(size, -1)
  out[inside] = np.tile(np.repeat(units, minor), major)
  return out


@st.composite
def layouts(draw):
  units = draw(st.sampled_from([list(range(n)) for n in range(1, 6)] + [[1, 0], [2, 0, 1]]))
  units = np.tile(np.repeat(units, draw(st.integers(1, 3))), draw(st.integers(1, 3)))
  cuts = sorted(draw(st.lists(st.integers(0, len(units)), max_size=3)))
  for cut in reversed(cuts):
    units = np.insert(units, cut, [-1] * draw(st.integers(1, 3)))
  return np.tile(units, draw(st.integers(1, 3))).astype(np.int32)


@settings(deadline=None)
@given(layouts())
def test_short_texts_are_exact(units):
  text = str(Position(units))
  if text == 'all':
    assert (units == np.arange(len(units))).all()
  elif '...' not in text:
    np.testing.assert_array_equal(read(text, len(units)), units)


def test_long_axes_are_read_fast_and_in_few_words():
  heads = np.tile(np.repeat(np.arange(8), 128), 4).astype(np.int32)
  assert str(Position(heads)) == '4x(8)x128'
  order = np.random.default_rng(0).permutation(128256).astype(np.int32)
  assert len(str(Position(order))) < 80
  assert str(Position(np.arange(math.prod((501, 256)), dtype=np.int32)[::-1])) == '(128255..0)'


def test_positions_are_values():
  assert position(0, 1) == position(0, 1) != position(1, 0)
  assert hash(position(0, 1)) == hash(position(0, 1))
  assert position(0, 1).whole
  assert not position(0, 0).whole
  with pytest.raises(ValueError, match='read-only'):
    position(0, 1).units[0] = 3
