"""Whatever fails: the old file is as it was, and nothing is left beside it."""

import os
import socket
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from jprune._checks import check_output
from jprune.io import _atomic, _container, load, save

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


# ------------------------------------------------------------------------------- odd names


@pytest.fixture
def odd(tmp_path, monkeypatch):
  """A folder with all that a name can lead to but a file."""
  monkeypatch.chdir(tmp_path)  # names of sockets are short
  os.mkfifo('pipe')
  with socket.socket(socket.AF_UNIX) as bound:
    bound.bind('socket')
  os.mkdir('folder')
  for link, to in [('a', 'b'), ('b', 'a'), ('self', 'self'), ('far', 'no/x'), ('to pipe', 'pipe')]:
    os.symlink(to, link)
  save('file', {'old': jnp.ones(3)})
  return tmp_path


NOWHERE = {
  'pipe': (ValueError, 'a regular file.*, a pipe'),
  'to pipe': (ValueError, 'a regular file.*, a pipe'),
  'socket': (ValueError, 'a regular file.*, a socket'),
  os.devnull: (ValueError, 'a regular file.*, a device'),
  '/dev/zero': (ValueError, 'a regular file.*, a device'),
  'folder': (ValueError, "the folder 'folder'. Add a file name"),
  'new/': (ValueError, "the folder 'new/'. Add a file name"),
  'new/..': (ValueError, "the folder 'new/..'"),
  'x\0y': (ValueError, r"the name of a file; got 'x\\x00y'. Leave out NUL"),
  'x\ud800': (ValueError, r"the name of a file; got 'x\\ud800'. Leave out"),
  'a': (OSError, r'Too many levels of symbolic links'),
  'self': (OSError, r'Too many levels of symbolic links'),
  'a/x': (OSError, r'Too many levels of symbolic links'),
  'n' * 300: (OSError, r'File name too long'),
  '\u20ac' * 100: (OSError, r'File name too long'),
  'd/' * 5000 + 'x': (OSError, r"got 'd/d/.* \.\.\. .*d/x' \(File name too long"),
  'file/x': (NotADirectoryError, r'Not a directory'),
  'no/x': (FileNotFoundError, 'existing f'),
  'no/../x': (FileNotFoundError, 'existing f'),
  'far': (FileNotFoundError, 'existing f'),
  '/proc/x': (FileNotFoundError, 'existing file|can be written'),
}


@pytest.mark.parametrize('function', ['save', 'load'])
def test_names_that_lead_to_no_file(odd, function):
  before = {name: os.lstat(name).st_mode for name in os.listdir()}
  for name, (error, words) in NOWHERE.items():
    call = lambda name=name: save(name, PARAMS) if function == 'save' else load(name)
    if (function, name) == ('load', 'folder'):
      words = "the folder 'folder', which holds no safetensors file"
    if function == 'load' and name in ('new/', 'new/..'):  # a folder is fine, if it is there
      error, words = FileNotFoundError, 'an existing file'
    with pytest.raises(error, match=f'^{function}: `path` must be .*{words}') as refused:
      call()
    assert len(str(refused.value)) < 1500
  assert {name: os.lstat(name).st_mode for name in os.listdir()} == before


def test_a_device_is_only_looked_at():
  with pytest.raises(ValueError, match=f"got '{os.devnull}', a device. Choose"):
    check_output('save', os.devnull)  # never hand a device to what writes


def test_links_are_written_through(odd):
  os.symlink('folder/new', 'dangling')
  os.symlink('dangling', 'two')
  os.symlink('file', 'to file')
  for link, target in [('two', 'folder/new'), ('to file', 'file')]:
    save(link, PARAMS)
    assert os.path.islink(link)
    assert not os.path.islink(target)
    assert sorted(load(target)[0]) == sorted(PARAMS)


@pytest.mark.parametrize('name', ['n' * 250, '\u20ac' * 83, 'x' * 255, os.fsdecode(b'\xff' * 240)])
def test_long_names(tmp_path, name):
  for _ in range(2):
    save(tmp_path / name, PARAMS)
  assert sorted(load(os.fsencode(tmp_path / name).decode(errors='surrogateescape'))[0])
  assert os.listdir(tmp_path) == [name]


def test_a_file_that_has_lost_its_name(tmp_path):
  with open(tmp_path / 'x', 'wb') as file:
    os.unlink(tmp_path / 'x')
    if os.path.exists(name := f'/proc/self/fd/{file.fileno()}'):
      with pytest.raises(ValueError, match=r'a file that has a name; got .*, which leads to none'):
        save(name, PARAMS)
  assert os.listdir(tmp_path) == []


# ------------------------------------------------------------------------- other processes


def test_what_a_killed_save_left_goes(tmp_path):
  """A temporary file without its writer; not one that is being written, nor one of another."""
  path = tmp_path / 'x'
  dead, other = _atomic._created(str(path), 0o666), _atomic._created(str(tmp_path / 'xy'), 0o666)
  alive = _atomic._created(str(path), 0o666)
  for handle in (dead[0], other[0]):
    os.close(handle)  # as the system does when a process ends
  alike = tmp_path / '.x.0123456789abcdef.tmp.txt'
  alike.write_text('mine')
  os.symlink('x', tmp_path / '.x.0123456789abcdef.tmp')
  before = set(os.listdir(tmp_path))
  save(path, PARAMS)
  assert before - set(os.listdir(tmp_path)) == {os.path.basename(dead[1])}
  os.close(alive[0])
  save(path, PARAMS)
  assert before - set(os.listdir(tmp_path)) == {os.path.basename(each[1]) for each in (dead, alive)}


def test_a_leftover_that_cannot_be_removed_is_no_failure(tmp_path, monkeypatch):
  handle, temporary = _atomic._created(str(tmp_path / 'x'), 0o666)
  os.close(handle)
  monkeypatch.setattr(os, 'unlink', lambda path: (_ for _ in ()).throw(PermissionError(1, path)))
  save(tmp_path / 'x', PARAMS)
  assert sorted(os.listdir(tmp_path)) == [os.path.basename(temporary), 'x']


def test_a_new_file_that_is_taken_for_a_leftover(tmp_path, monkeypatch):
  """Between its creation and its lock another save may remove it."""
  real, calls = _atomic.fcntl.flock, []

  def late(handle, how):
    calls.append(how)
    if len(calls) == 1:
      (name,) = os.listdir(tmp_path)
      os.unlink(tmp_path / name)
    real(handle, how)

  monkeypatch.setattr(_atomic.fcntl, 'flock', late)
  save(tmp_path / 'x', PARAMS)
  assert len(calls) == 2
  assert os.listdir(tmp_path) == ['x']


@pytest.mark.parametrize('locks', [True, False])
def test_saves_at_the_same_time(tmp_path, monkeypatch, locks):
  if not locks:  # as on Windows
    monkeypatch.setattr(_atomic, 'fcntl', None)
  path, begun, errors = tmp_path / 'x', threading.Barrier(4), []

  def saver(number):
    begun.wait()
    try:
      for _ in range(10):
        save(path, {'w': np.full(1000, number)}, None)
    except BaseException as error:
      errors.append(error)

  threads = [threading.Thread(target=saver, args=(number,)) for number in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert errors == []
  assert os.listdir(tmp_path) == ['x']
  assert len(set(safetensors.numpy.load_file(path)['w'].tolist())) == 1


# ------------------------------------------------------------------------------ the file system


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


def test_a_file_that_cannot_be_read_or_written_to(tmp_path, monkeypatch):
  path = tmp_path / 'x'
  save(path, PARAMS)
  monkeypatch.setattr(os, 'access', lambda name, mode: name != str(path))
  with pytest.raises(PermissionError, match=r'save: `path` must be a file that can be written to'):
    save(path, PARAMS)
  failing(monkeypatch, os, 'open', PermissionError(13, 'Permission denied'))
  with pytest.raises(
    PermissionError, match=r'load: `path` must be a file that can be read; got .*d'
  ):
    load(path)
