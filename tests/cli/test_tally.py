"""``tally FILE`` says what ``jprune.tally`` says of the loaded file."""

import json

import jax
import jax.numpy as jnp
import numpy as np

import jprune
from tests.cli.files import foreign, own, run, weights


def test_foreign_file(tmp_path, capsys):
  params = weights('bfloat16')
  foreign(tmp_path / 'in', params)
  run('tally', tmp_path / 'in')
  expected = jprune.tally(jax.tree.map(jnp.asarray, params))
  assert capsys.readouterr().out == f'{expected}\n'


def test_json(tmp_path, capsys):
  foreign(tmp_path / 'in', {'w': np.array([[1.0, 0.0], [0.0, -0.0]], np.float32)})
  run('tally', tmp_path / 'in', '--json')
  found = json.loads(capsys.readouterr().out)
  assert found['leaves'][0]['path'] == 'w'
  assert found['leaves'][0]['shape'] == [2, 2]
  assert found['leaves'][0]['dtype'] == 'float32'
  assert found['leaves'][0]['sparsity'] == found['total']['sparsity'] == 0.75
  assert found['total']['bytes_dense'] == 16


def test_masks_are_what_counts(tmp_path, capsys):
  params = {'a': {'w': jnp.ones((9, 9))}, 'b': jnp.zeros(9)}
  masks = {'a': {'w': jnp.eye(9, dtype=bool)}, 'b': None}
  run('tally', own(tmp_path / 'in', params, masks), '--json')
  assert json.loads(capsys.readouterr().out) == jprune.tally(params, masks).to_dict()


def test_float64_without_x64(tmp_path, capsys):
  foreign(tmp_path / 'in', {'w': np.array([[0.0, 1e-300]]), 'i': np.array([0, 2**40])})
  run('tally', tmp_path / 'in', '--json')
  rows = json.loads(capsys.readouterr().out)['leaves']
  assert [(row['dtype'], row['nonzero']) for row in rows] == [('int64', 1), ('float64', 1)]


def test_pruned_file_is_tallied_as_it_was_announced(tmp_path, capsys):
  foreign(tmp_path / 'in', weights('float32'))
  run('prune', tmp_path / 'in', tmp_path / 'out', '--sparsity', 0.5)
  announced = capsys.readouterr().out
  run('tally', tmp_path / 'out')
  assert capsys.readouterr().out.strip() in announced
