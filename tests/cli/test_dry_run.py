"""``prune --dry-run`` says what ``prune`` would do, and does nothing."""

import json
import os

import jax.numpy as jnp
import numpy as np
import pytest

from jprune._cli import main
from jprune._cli._source import ModelSource
from tests.cli.files import foreign, own, run, sharded, weights


@pytest.fixture
def file(tmp_path):
  return foreign(tmp_path / 'in', weights('bfloat16'), {'format': 'pt'})


ASKED = {
  'uniform': ['--sparsity', 0.5],
  'dense': ['--sparsity', 0.5, '--format', 'dense'],
  'erk': ['--sparsity', 0.7, '--distribution', 'erk'],
  'global': ['--sparsity', 0.7, '--distribution', 'global'],
  'random': ['--sparsity', 0.7, '--scorer', 'random'],
  'where': ['--sparsity', 0.9, '--where', 'layers'],
  '2:4': ['--n-of-m', '2:4', '--where', 'layers'],
}


@pytest.mark.parametrize('asked', sorted(ASKED))
def test_same_as_what_is_then_done(tmp_path, capsys, monkeypatch, file, asked):
  out = tmp_path / 'out.safetensors'
  reads = []
  real = ModelSource.read
  monkeypatch.setattr(ModelSource, 'read', lambda self, i: reads.append(i) or real(self, i))
  run('prune', file, out, *ASKED[asked], '--dry-run', '--json')
  assert bool(reads) == (asked == 'global')  # its threshold is one of values
  dry = json.loads(capsys.readouterr().out)
  assert os.listdir(tmp_path) == ['in']
  run('prune', file, out, *ASKED[asked], '--json')
  done = json.loads(capsys.readouterr().out)
  would, written = dry.pop('would_write'), done.pop('written')
  assert dry == done
  assert (would['path'], would['format']) == (written['path'], written['format'])
  assert would['files'] == len(written['files']) == 1
  header = int.from_bytes(out.read_bytes()[:8], 'little') + 8
  assert would['bytes'] == written['bytes'] - header


def test_text(tmp_path, capsys, file):
  run('prune', file, tmp_path / 'out', '--sparsity', 0.5, '--where', 'layers', '--dry-run')
  said = capsys.readouterr().out
  assert said.startswith('sparsity 50.00%, uniform, magnitude: 2 of 8 leaves selected.')
  assert '  not selected (2): conv.weight, odd\n' in said
  assert 'Dry run: 992 of 2,335 weights would be zero, in 2 leaves that are pruned.\n' in said
  assert said.endswith(f"Nothing was written; it would be '{tmp_path / 'out'}', about 3.30 kB.\n")
  assert os.listdir(tmp_path) == ['in']


def test_a_folder(tmp_path, capsys):
  folder = sharded(tmp_path / 'in', weights('float32'))
  more = ['--sparsity', 0.5, '--format', 'dense', '--dry-run']
  run('prune', folder, tmp_path / 'out', *more)
  size = sum(leaf.nbytes for leaf in weights('float32').values())
  said = capsys.readouterr().out
  assert f', about {size / 1000:.2f} kB in 3 files.\n' in said
  assert said.endswith('Bytes as stored, above, are those of --format sparse.\n')
  run('prune', folder, tmp_path / 'out', *more, '--max-shard-size', '4kB', '--json')
  assert json.loads(capsys.readouterr().out)['would_write']['files'] == 4
  assert os.listdir(tmp_path) == ['in']


def test_masks_that_are_there(tmp_path, capsys):
  params = {'w': jnp.arange(1.0, 65.0).reshape(8, 8)}
  own(tmp_path / 'in', params, {'w': params['w'] > 48})
  run('prune', tmp_path / 'in', tmp_path / 'out', '--sparsity', 0.5, '--dry-run')
  assert 'Dry run: 48 of 64 weights would be zero' in capsys.readouterr().out


def test_what_would_be_refused_is(tmp_path, capsys, file):
  (tmp_path / 'out').write_text('old')
  args = ['prune', str(file), str(tmp_path / 'out'), '--sparsity', '.5', '--dry-run']
  assert main(args) == 1
  assert '`OUT` must be a new file; got ' in capsys.readouterr().err
  assert main([*args, '--force']) == 0
  assert (tmp_path / 'out').read_text() == 'old'
  taken = foreign(tmp_path / 'in2', {'w': np.ones((64, 64), np.float32), 'w.shape': np.ones(2)})
  assert main(['prune', str(taken), f'{tmp_path}/out2', '--sparsity', '.5', '--dry-run']) == 1
  assert "got two tensors 'w.shape'. Pass --format dense" in capsys.readouterr().err
