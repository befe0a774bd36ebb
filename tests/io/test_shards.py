"""Checkpoints of several files: written as a set, read as one, each fault said once."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import jprune
from jprune.io import _container, _leaf, _writer, load, save
from jprune.io._writer import shard_bytes
from tests.io.test_atomic import failing

PARAMS = {
  'a': {'b': jnp.ones(3), 'w': jnp.arange(64.0).reshape(8, 8).astype(jnp.bfloat16)},
  'l': [jnp.arange(60.0).reshape(3, 4, 5), None],
  'i': jnp.arange(500),
}
MASKS = {
  'a': {'b': None, 'w': PARAMS['a']['w'] % 3 == 0},
  'l': [PARAMS['l'][0] > 20, None],
  'i': PARAMS['i'] == 7,
}
INDEX = 'model.safetensors.index.json'


def assert_same(found, expected):
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  for new, old in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    assert new.dtype == old.dtype
    np.testing.assert_array_equal(np.asarray(new), np.asarray(old))


def contents(folder):
  return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def folder(tmp_path):
  save(tmp_path / 'set', PARAMS, MASKS, max_shard_size=150)
  return tmp_path / 'set'


# --------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize('size', [1, 150, '1KB', '5GiB'])
def test_round_trip(tmp_path, size):
  save(tmp_path / 'one', PARAMS, MASKS)
  save(tmp_path / 'set', PARAMS, MASKS, max_shard_size=size)
  expected = load(tmp_path / 'one')
  for path in (tmp_path / 'set', tmp_path / 'set' / INDEX):
    assert_same(load(path), expected)
    assert_same(load(path, like=PARAMS), expected)
  index = json.loads((tmp_path / 'set' / INDEX).read_bytes())
  count = len(set(index['weight_map'].values()))
  names = [f'model-{i:05}-of-{count:05}.safetensors' for i in range(1, count + 1)]
  assert sorted(os.listdir(tmp_path / 'set')) == [*names, INDEX]
  assert count == {1: 4, 150: 3, '1KB': 1, '5GiB': 1}[size]
  # as other libraries read it: tensor by tensor, from the file that the index names
  found = {name: safetensors.numpy.load_file(tmp_path / 'set' / name) for name in names}
  one = safetensors.numpy.load_file(tmp_path / 'one')
  assert {name: found[file][name].tobytes() for name, file in index['weight_map'].items()} == {
    name: array.tobytes() for name, array in one.items()
  }
  assert index['metadata']['total_size'] == sum(array.nbytes for array in one.values())


def test_files_are_filled_in_order(tmp_path):
  params = {f'w{i}': jnp.zeros(n) for i, n in enumerate([10, 10, 5, 30, 1, 1])}
  save(tmp_path / 'x', params, max_shard_size=100)
  with jprune.io.open(tmp_path / 'x') as opened:
    held = [leaves for _, leaves in sorted(opened.shards.items())]
  assert held == [('w0', 'w1', 'w2'), ('w3',), ('w4', 'w5')]


def test_other_files_stay_and_old_ones_go(folder):
  (folder / 'config.json').write_text('{}')
  (folder / 'adapter.safetensors').write_bytes(b'mine')
  save(folder, PARAMS, max_shard_size='1GB')
  kept = {'config.json', 'adapter.safetensors', INDEX}
  assert set(os.listdir(folder)) == kept | {'model-00001-of-00001.safetensors'}
  assert load(folder)[1] is None


def test_without_hard_links_the_names_are_longer(tmp_path, monkeypatch):
  def refuse(*args, **kwargs):
    raise OSError(1, 'Operation not permitted')

  monkeypatch.setattr(os, 'link', refuse)
  for _ in range(2):
    save(tmp_path / 'x', PARAMS, MASKS, max_shard_size=150)
    assert_same(load(tmp_path / 'x')[1], MASKS)
    assert len(os.listdir(tmp_path / 'x')) == 4
  monkeypatch.undo()
  save(tmp_path / 'x', PARAMS, MASKS, max_shard_size=150)
  assert 'model-00001-of-00003.safetensors' in os.listdir(tmp_path / 'x')
  assert len(os.listdir(tmp_path / 'x')) == 4


def test_a_reader_keeps_the_set_that_it_opened(folder):
  with jprune.io.open(folder) as opened:
    save(folder, jax.tree.map(jnp.zeros_like, PARAMS), max_shard_size=150)
    assert opened.params['l'][0].read()[2, 3, 4] == 59


def test_saves_at_the_same_time(tmp_path):
  errors = []

  def saver(number):
    try:
      for _ in range(4):
        save(
          tmp_path / 'x', {f'w{i}': np.full(9, number, np.float32) for i in range(number)}, None, 36
        )
    except BaseException as error:
      errors.append(error)

  (tmp_path / 'x').mkdir()
  threads = [threading.Thread(target=saver, args=(number,)) for number in (1, 2, 3)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert errors == []
  params, _ = load(tmp_path / 'x')
  assert len(params) + 1 == len(os.listdir(tmp_path / 'x'))
  assert {int(x) for leaf in params.values() for x in leaf} == {len(params)}


# ------------------------------------------------------------------------------ killed or failed


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
def test_killed_at_any_moment(tmp_path):
  """The old set or the new one, whole, never a mixture; what is left goes with the next save."""
  command = [sys.executable, '-W', 'ignore', '-m', 'tests.io.killed', str(tmp_path)]
  env = {**os.environ, 'JAX_PLATFORMS': 'cpu'}
  done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100)
  assert done.returncode == 0, done.stderr
  new = '2 2.0'
  for old, line in zip(['0 0', '2 1.0', '3 1.0'], done.stdout.splitlines(), strict=True):
    states = line.split(', ')
    assert len(states) > 15  # moments
    switch = states.index(new)
    assert 4 < switch < len(states) - 4
    assert states == [old] * switch + [new] * (len(states) - switch)


FAILURES = {
  'disk full mid-write': (_container, 'write_at', OSError(28, 'No space left'), 3),
  'interrupted mid-write': (_container, 'write_at', KeyboardInterrupt(), 5),
  'fsync': (os, 'fsync', OSError(5, 'Input/output error'), 2),
  'rename of a file': (os, 'replace', PermissionError(13, 'Permission denied'), 1),
  'rename of the index': (os, 'replace', OSError(28, 'No space left'), 3),
}


@pytest.mark.parametrize('exists', [True, False])
@pytest.mark.parametrize('failure', sorted(FAILURES))
def test_a_failure_leaves_everything_as_it_was(tmp_path, monkeypatch, failure, exists):
  folder = tmp_path / 'x'
  if exists:
    save(folder, {'old': jnp.ones(3)}, max_shard_size=1)
    (folder / 'config.json').write_text('{}')
  before = contents(folder) if exists else None
  where, name, error, after = FAILURES[failure]
  calls = failing(monkeypatch, where, name, error, after)
  with pytest.raises(type(error)):
    save(folder, PARAMS, MASKS, max_shard_size=150)
  assert len(calls) == after + 1
  monkeypatch.undo()
  assert (contents(folder) if folder.exists() else None) == before


def test_what_fails_once_the_new_set_stands_is_no_failure(tmp_path, monkeypatch):
  save(tmp_path / 'x', PARAMS, MASKS, max_shard_size=150)
  failing(monkeypatch, os, 'replace', OSError(28, 'No space left'), 4)
  save(tmp_path / 'x', PARAMS, max_shard_size=150)
  monkeypatch.undo()
  assert load(tmp_path / 'x')[1] is None
  save(tmp_path / 'x', PARAMS, MASKS, max_shard_size=150)
  assert len(os.listdir(tmp_path / 'x')) == 4


def test_a_disk_that_is_full(tmp_path):
  """As far as a process can fill one by itself: its files may not grow beyond a limit."""
  save(tmp_path / 'x', {'w': np.ones(9)}, max_shard_size='1MB')
  before = contents(tmp_path / 'x')
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
  resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, hard))
  try:
    with pytest.raises(OSError, match=r'save: `path` must be .*x. .File too large.*Make room'):
      save(tmp_path / 'x', {'v': np.ones(9), 'w': np.ones(2**17)}, max_shard_size=100)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, handler)
  assert contents(tmp_path / 'x') == before


# -------------------------------------------------------------------------------------- refused


def test_folders_that_hold_other_weights(folder):
  before = contents(folder)
  orbax = ('_METADATA', '_CHECKPOINT_METADATA')  # as which the folder would be opened
  for name in ('model.safetensors', 'model-00001-of-00009.safetensors', f'x{INDEX}', *orbax):
    (folder / name).write_bytes(b'mine')
    with pytest.raises(
      ValueError, match=f"without other weights; got .*holds '{name}' of no index"
    ):
      save(folder, PARAMS, max_shard_size=150)
    (folder / name).unlink()
  (folder / INDEX).write_text('x')
  with pytest.raises(ValueError, match='save: `path` must be an index of safetensors files'):
    save(folder, PARAMS, max_shard_size=150)
  (folder / INDEX).write_bytes(before[INDEX])
  assert contents(folder) == before


@pytest.mark.parametrize('size', [None, 150])
def test_metadata_for_other_tools(tmp_path, size):
  texts = {'a': '', 'b': '', 'c': '', 'format': 'pt', 'note': 'ü'}
  save(tmp_path / 'x', PARAMS, MASKS, max_shard_size=size, metadata=texts)
  assert_same(load(tmp_path / 'x')[0], jprune.apply(PARAMS, MASKS))
  files = [tmp_path / 'x'] if size is None else sorted((tmp_path / 'x').glob('*.safetensors'))
  assert size is None or len(files) > 1
  for file in files:  # transformers looks into each
    assert safetensors.safe_open(file, 'numpy').metadata().items() >= texts.items()
  with jprune.io.open(tmp_path / 'x') as opened:
    assert list(opened.metadata.items()) == list(texts.items())  # in no order of chance
    save(tmp_path / 'y', opened.params, opened.masks, size, opened.metadata)
  if size is None:
    assert (tmp_path / 'x').read_bytes() == (tmp_path / 'y').read_bytes()
  else:
    assert contents(tmp_path / 'x') == contents(tmp_path / 'y')


@pytest.mark.parametrize('metadata', ['pt', {'format': 1}, {1: 'pt'}, {'jprune': ''}, [('a', 'b')]])
def test_metadata_that_are_none(tmp_path, metadata):
  with pytest.raises(ValueError, match='save: `metadata` must be a dict of texts by their names'):
    save(tmp_path / 'x', PARAMS, metadata=metadata)
  assert os.listdir(tmp_path) == []


NO_SIZES = ['5', 'GB', '5XB', '0GB', 'GIB', '5BB', '9' * 400 + 'GB', 0, -1, True, 5e9]


@pytest.mark.parametrize('size', NO_SIZES)
def test_sizes_that_are_none(tmp_path, size):
  words = "save: `max_shard_size` must be a positive int, of bytes, or a text such as '5GB'"
  with pytest.raises(ValueError, match=words):
    save(tmp_path / 'x', PARAMS, max_shard_size=size)
  assert os.listdir(tmp_path) == []


def test_sizes():
  sizes = {'5GB': 5 * 10**9, '1.5 GiB': 3 * 2**29, '10kb': 10**4, '1TiB': 2**40, '7B': 7, 12: 12}
  assert {size: shard_bytes('save', size) for size in sizes} == sizes


def test_names_that_become_no_folder(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(
    ValueError, match=r"save: `path` must be a folder for several files; got '.*le'"
  ):
    save(tmp_path / 'file', PARAMS, max_shard_size=9)
  with pytest.raises(FileNotFoundError, match=r'save: `path` must be in an existing folder'):
    save(tmp_path / 'no' / 'x', PARAMS, max_shard_size=9)
  save(f'{tmp_path}/x/', PARAMS, max_shard_size='1MB')
  assert_same(load(f'{tmp_path}/x/')[0], PARAMS)


# -------------------------------------------------------------------------------------- writer


def test_leaves_that_come_in_steps(tmp_path):
  values = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
  mask = values % 3 > 0
  mask[1] = True
  plans = [
    _leaf.Leaf('w', 'float32', (3, 4, 5), 'dense', int(mask.sum()), 'bool'),
    _leaf.Leaf('v', 'float32', (3, 4, 5), 'dense', 60, None),
  ]
  writing = lambda name: _writer.several_files(
    'prune',
    str(tmp_path / name),
    _writer.groups(plans, 100),
    {'tree': {'w': 0, 'v': 1}, 'masks': True},
  )
  with writing('x') as out:
    for i in (2, 0, 1):
      out.put_step('w', i, values[i], mask[i])
      out.put_step('v', i, values[i])
    assert 'w' in out
    assert 'z' not in out
  params, masks = load(tmp_path / 'x')
  assert_same((params, masks), ({'w': values * mask, 'v': values}, {'w': mask, 'v': None}))
  bad = {
    'other counts with 39': lambda out: [
      out.put_step('w', i, values[i], mask[0]) for i in range(3)
    ],
    "got none for 'w'": lambda out: out.put_step('w', 0, values[0], mask[0]),
    r'float64 of shape \(4, 5\)': lambda out: out.put_step('w', 0, values[0].astype(float)),
    r'float32 of shape \(4, 5\)': lambda out: out.put_step('w', 3, values[0]),
    'with 60': lambda out: out.put('w', values),
  }

  def written(put):
    with writing('y') as out:
      out.put('v', values)
      put(out)

  for match, put in bad.items():
    with pytest.raises(ValueError, match='prune: `params` must be .*' + match):
      written(put)
  assert os.listdir(tmp_path) == ['x']
