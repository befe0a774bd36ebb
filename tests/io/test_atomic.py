"""Whatever fails: the old file is as it was, and nothing is left beside it."""

import os
import socket

import jax
import jax.numpy as jnp
import pytest

from jprune._checks import check_output
from jprune.io import _container, load, save

PARAMS = {f'w{i}': jnp.full((8, 8), float(i)) for i in range(6)}
MASKS = {key: jnp.eye(8, dtype=bool) for key in PARAMS}


def failing(monkeypatch, where, name, error, after=0):
  """Makes a function raise at its call number ``after``."""
  real, calls = getattr(where, name), []

  def fails(*args, **kwargs):
    calls.append(args)
    if len(calls) > after:
      raise error
    return real(*args, **kwargs)

  monkeypatch.setattr(where, name, fails)
  return calls


FAILURES = {
  'disk full in the first tensor': (_container, 'write_at', OSError(28, 'No space left'), 0),
  'disk full mid-write': (_container, 'write_at', OSError(28, 'No space left'), 9),
  'interrupted mid-write': (_container, 'write_at', KeyboardInterrupt(), 5),
  'out of memory': (_container, 'header', MemoryError(), 1),
  'fsync': (os, 'fsync', OSError(5, 'Input/output error'), 0),
  'rename': (os, 'replace', PermissionError(13, 'Permission denied'), 0),
}


@pytest.mark.parametrize('exists', [True, False])
@pytest.mark.parametrize('failure', sorted(FAILURES))
def test_a_failure_leaves_everything_as_it_was(tmp_path, monkeypatch, failure, exists):
  path = tmp_path / 'x.safetensors'
  if exists:
    save(path, {'old': jnp.ones(3)})
  before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
  where, name, error, after = FAILURES[failure]
  calls = failing(monkeypatch, where, name, error, after)
  with pytest.raises(type(error)):
    save(path, PARAMS, MASKS)
  assert len(calls) == after + 1
  assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_donated_leaf_is_found_while_writing(tmp_path):
  path = tmp_path / 'x.safetensors'
  save(path, {'old': jnp.ones(3)})
  before = path.read_bytes()
  params = {**PARAMS, 'w5': jnp.ones((8, 8)) + 1}
  params['w5'].delete()
  with pytest.raises(RuntimeError, match='deleted'):
    save(path, params)
  assert path.read_bytes() == before
  assert os.listdir(tmp_path) == ['x.safetensors']


def test_what_is_no_regular_file_stays(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)  # names of sockets are short
  os.mkfifo('pipe')
  with socket.socket(socket.AF_UNIX) as bound:
    bound.bind('socket')
  for name in ('pipe', 'socket'):
    words = f"save: `path` must be a regular file or a new name; got '{name}', a {name}. Choose"
    with pytest.raises(ValueError, match=words):
      save(name, PARAMS)
  with pytest.raises(ValueError, match=f"got '{os.devnull}', a device. Choose"):
    check_output('save', os.devnull)  # looks at it only; never hand a device to what writes
  assert (tmp_path / 'pipe').is_fifo()
  assert sorted(os.listdir()) == ['pipe', 'socket']


def test_the_file_is_synced_before_it_is_renamed(tmp_path, monkeypatch):
  events = []
  for name in ('fsync', 'replace'):
    real = getattr(os, name)
    monkeypatch.setattr(os, name, lambda *a, real=real, name=name: (events.append(name), real(*a)))
  save(tmp_path / 'x', PARAMS, MASKS)
  assert events[:2] == ['fsync', 'replace']


def test_a_folder_that_cannot_be_synced_is_no_failure(tmp_path, monkeypatch):
  failing(monkeypatch, os, 'fsync', OSError(22, 'Invalid argument'), after=1)
  save(tmp_path / 'x', PARAMS, MASKS)
  assert jax.tree.structure(load(tmp_path / 'x')[0]) == jax.tree.structure(PARAMS)


def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
  denied = PermissionError(13, 'Permission denied')
  failing(monkeypatch, os, 'open', denied)
  with pytest.raises(PermissionError, match=f"got '{tmp_path / 'x'}' .Permission denied"):
    save(tmp_path / 'x', PARAMS)
  monkeypatch.setattr(os, 'access', lambda path, mode: False)
  with pytest.raises(PermissionError, match='save: `path` must be in a folder that can be written'):
    save(tmp_path / 'x', PARAMS)
