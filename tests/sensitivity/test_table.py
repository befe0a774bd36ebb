"""The table on disk: interrupted runs go on, and other files are left alone."""

import functools
import json

import jax
import jax.numpy as jnp
import pytest

import jprune
from jprune.sensitivity import curves
from tests.sensitivity.test_curves import POINTS, channel_case, metric, toy


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
    'scores': {'scorer': functools.partial(jprune.scores.magnitude, p=2)},
    'evaluate': {'evaluate': lambda params: 1.0},
    'pattern': {'pattern': jprune.masks.Channel(0)},
    'groups': {'where': 'b/kernel'},
  }
  for field, changed in cases.items():
    given = {'evaluate': metric, 'params': toy(), 'sparsities': POINTS} | changed
    with pytest.raises(ValueError, match=f'of the same run; got .* of a run with other {field}'):
      curves(**given, table=path)
    assert path.read_bytes() == text


@pytest.mark.parametrize('leaves', [(0.5, 0.25), (1, True), ('relu', 'gelu'), (None, 0.0)])
def test_leaves_that_are_no_arrays_count_too(tmp_path, leaves):
  path = tmp_path / 'points.jsonl'
  curves(lambda params: 1.0, {**toy(), 'd': leaves[0]}, POINTS, table=path)
  with pytest.raises(ValueError, match='of a run with other params'):
    curves(lambda params: 1.0, {**toy(), 'd': leaves[1]}, POINTS, table=path)


def scaled(params, by):
  """A scorer whose ranking depends on the values bound to it."""
  return {
    name: {'kernel': -by[name] * layer['kernel'] ** 2, 'bias': None}
    for name, layer in params.items()
  }


KEYS = [functools.partial(jprune.scores.random, key=jax.random.key(seed)) for seed in (0, 1)]
ARRAYS = [
  functools.partial(scaled, by={'a': jnp.float32(sign), 'b': jnp.float32(1), 'c': jnp.float32(1)})
  for sign in (1, -1)
]
LAMBDAS = [lambda params, power=power: jax.tree.map(lambda x: x**power, params) for power in (1, 2)]


@pytest.mark.parametrize('scorers', [KEYS, ARRAYS, LAMBDAS])
def test_a_table_of_other_scores_is_refused(tmp_path, scorers):
  path = tmp_path / 'points.jsonl'
  whole = curves(Counted(), toy(), POINTS, scorer=scorers[0], table=path)
  assert whole.metrics != curves(Counted(), toy(), POINTS, scorer=scorers[1]).metrics
  with pytest.raises(ValueError, match='of a run with other scores'):
    curves(Counted(), toy(), POINTS, scorer=scorers[1], table=path)
  assert curves(Counted(0), toy(), POINTS, scorer=scorers[0], table=path) == whole


def test_channels_scored_by_other_members_are_refused(tmp_path):
  path = tmp_path / 'points.jsonl'
  params, fn, x = channel_case()
  graph = jprune.graph.channels(fn, params, x)
  given = {'evaluate': metric, 'params': params, 'sparsities': POINTS, 'graph': graph}
  whole = curves(**given, where='kernel', table=path)
  biases = ['a/bias', 'b/bias', 'c/bias']
  assert whole.metrics != curves(**given, where=biases).metrics
  with pytest.raises(ValueError, match='of a run with other scores'):
    curves(**given, where=biases, table=path)
  # other members of the same leaves, as where an axis is reversed
  turned = lambda params, x: fn(
    {**params, 'b': {**params['b'], 'kernel': params['b']['kernel'][::-1]}}, x
  )
  given['graph'] = jprune.graph.channels(turned, params, x)
  with pytest.raises(ValueError, match='of a run with other groups'):
    curves(**given, where='kernel', table=path)
  given['graph'] = graph
  assert curves(**given, where='kernel', table=path) == whole


@pytest.mark.parametrize('text', [b'no table\n', b'{"format": 1}\n', b'PNG', b'[]\n', b'\xff\n'])
def test_other_files_are_left_alone(tmp_path, text):
  path = tmp_path / 'points.jsonl'
  path.write_bytes(text)
  with pytest.raises(ValueError, match='curves: `table` must be a new file, or one that curves'):
    curves(metric, toy(), POINTS, table=path)
  assert path.read_bytes() == text


@pytest.mark.parametrize(
  ('change', 'why'),
  [
    (None, 'it cannot be read'),
    ({'metric': float('nan')}, 'its metric is nan'),
    ({'metric': float('inf')}, 'its metric is inf'),
    ({'metric': True}, 'its metric is True'),
    ({'group': 'b/bias'}, 'no such group or sparsity'),
    ({'group': ['a']}, 'it cannot be read'),
    ({'sparsity': 0.75}, 'no such group or sparsity'),
    ({'sparsity': 0.25}, 'the same point stands above'),
    ({'pruned': {}}, 'it counts other leaves'),
    ({'pruned': {'b/kernel': 6}}, 'it counts other leaves'),
    ({'pruned': {'a/kernel': 13}}, 'its counts of pruned weights are impossible'),
    ({'pruned': {'a/kernel': -1}}, 'its counts of pruned weights are impossible'),
    ({'pruned': {'a/kernel': 6.0}}, 'its counts of pruned weights are impossible'),
    ({'pruned': 6}, 'it counts other leaves'),
  ],
)
def test_a_damaged_line(tmp_path, change, why):
  path = tmp_path / 'points.jsonl'
  curves(metric, toy(), POINTS, table=path)
  lines = path.read_text().splitlines()
  row = json.loads(lines[3])
  assert row == {
    'group': 'a/kernel',
    'sparsity': 0.5,
    'metric': row['metric'],
    'pruned': {'a/kernel': 6},
  }
  lines[3] = lines[3][:9] if change is None else json.dumps(row | change)
  path.write_text('\n'.join([*lines, '']))
  text = path.read_bytes()
  with pytest.raises(ValueError, match=f'an undamaged file; got .* whose line 4 is no .*: {why}'):
    curves(metric, toy(), POINTS, table=path)
  assert path.read_bytes() == text
