"""One leaf in memory at a time, whatever is asked."""

import contextlib
import tracemalloc

import numpy as np
import pytest

from jprune._cli import _scores
from jprune._cli._source import ModelSource
from tests.cli.files import foreign, run, sharded

LEAF, COUNT = 2**21, 8  # weights of a leaf; 8 MiB each, 64 MiB in all


@pytest.fixture(scope='module')
def file(tmp_path_factory):
  return foreign(tmp_path_factory.mktemp('memory') / 'in', leaves(), {'format': 'pt'})


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """The same in three files."""
  return sharded(tmp_path_factory.mktemp('memory') / 'in', leaves(), metadata={'format': 'pt'})


def leaves():
  rng = np.random.default_rng(0)
  return {f'w{i}': rng.standard_normal((1024, LEAF // 1024), np.float32) for i in range(COUNT)}


@contextlib.contextmanager
def traced():
  tracemalloc.start()
  try:
    yield lambda: tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()


ASKED = {
  'uniform': ['--sparsity', '.5'],
  'erk': ['--sparsity', '.5', '--distribution', 'erk'],
  'global': ['--sparsity', '.5', '--distribution', 'global'],
  'few zeros': ['--sparsity', '.01'],
  'dense': ['--sparsity', '.5', '--format', 'dense'],
  'random': ['--sparsity', '.5', '--scorer', 'random'],
  '2:4': ['--n-of-m', '2:4'],
}


@pytest.mark.parametrize('asked', sorted(ASKED))
def test_twice_the_largest_leaf(tmp_path, monkeypatch, file, asked):
  monkeypatch.setattr(_scores, 'CHUNK', 2**14)  # so that the leaves are what is measured
  with traced() as peak:
    run('prune', file, tmp_path / 'out', *ASKED[asked], '--quiet')
    assert 4 * LEAF < peak() < 2.5 * 4 * LEAF


@pytest.mark.parametrize('asked', ['global', 'dense'])
def test_twice_the_largest_leaf_of_a_folder(tmp_path, monkeypatch, folder, asked):
  monkeypatch.setattr(_scores, 'CHUNK', 2**14)
  with traced() as peak:
    run('prune', folder, tmp_path / 'out', *ASKED[asked], '--quiet')
    assert 4 * LEAF < peak() < 2.5 * 4 * LEAF


def test_tally_holds_one_leaf(capsys, file):
  with traced() as peak:
    run('tally', file)
    assert peak() < 1.5 * 4 * LEAF
  assert f'total, {COUNT} leaves' in capsys.readouterr().out


@pytest.mark.parametrize(
  ('asked', 'times'), [('uniform', 1), ('erk', 1), ('2:4', 1), ('global', 3)]
)
def test_how_often_a_leaf_is_read(tmp_path, monkeypatch, file, asked, times):
  reads = []
  real = ModelSource.read
  monkeypatch.setattr(ModelSource, 'read', lambda self, i: reads.append(i) or real(self, i))
  run('prune', file, tmp_path / 'out', *ASKED[asked], '--quiet')
  assert sorted(reads) == sorted(list(range(COUNT)) * times)
