"""Names and files of which nothing can be made: one line, exit code 1, and nothing is touched."""

import io
import json
import os
import random
import sys

import numpy as np
import pytest

from jprune._cli import main
from jprune._text import names
from jprune.io import _memory, save
from tests.cli.files import foreign, run
from tests.io.odd_files import MASKS, PARAMS, built, empty_leaf, mutated, parts, write

COMMANDS = {
  'tally': lambda file, out: ['tally', file, '--no-progress'],
  'json': lambda file, out: ['tally', file, '--json', '--no-progress'],
  'prune': lambda file, out: ['prune', file, out, '--sparsity', '.5', '--force', '--quiet'],
  'global': lambda file, out: [
    *('prune', file, out, '--sparsity', '.5', '--distribution', 'global', '--force', '--quiet')
  ],
  'random': lambda file, out: [
    *('prune', file, out, '--n-of-m', '2:4', '--axis', '-1', '--pad', '--scorer', 'random'),
    *('--force', '--quiet'),
  ],
}


def said_by(capsys, args):
  """The exit code and what the command says, which is one line if that isn't 0."""
  code = main([str(arg) for arg in args])
  said = capsys.readouterr()
  if code:
    assert code == 1
    assert said.err.startswith('jprune: error: ')
    assert said.err.count('\n') == 1
    assert said.err[:-1].isprintable()
    assert len(said.err) < 2000
  else:
    assert said.err == ''
  return code, said.err


@pytest.fixture
def odd(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  foreign('file', {'w': np.arange(16.0, dtype=np.float32).reshape(4, 4)})
  os.mkfifo('pipe')
  os.mkdir('folder')
  for link, to in [('a', 'b'), ('b', 'a'), ('to pipe', 'pipe'), ('far', 'no/x')]:
    os.symlink(to, link)


NAMES = {
  'pipe': ', a pipe.',
  'to pipe': ', a pipe.',
  '/dev/zero': ', a device.',
  '/dev/null': ', a device.',
  'folder': "the folder 'folder'",
  'a': 'Too many levels of symbolic links',
  'a/x': 'Too many levels of symbolic links',
  'n' * 300: 'File name too long',
  'x\0y': r"got 'x\x00y'. Leave out NUL",
  'x\udcffy' * 200: 'File name too long',
  'x\ud800': r"got 'x\ud800'. Leave out",
  'new/': "'new/'",
  'file/x': 'Not a directory',
  'no/x': 'existing f',
  'far': 'existing f',
  '/proc/x\n': 'must be ',
}


@pytest.mark.parametrize('name', NAMES, ids=lambda name: ascii(name)[:12])
def test_names(odd, capsys, name):
  before = {each: os.lstat(each).st_mode for each in os.listdir()}
  for command in ('tally', 'prune'):
    code, said = said_by(capsys, COMMANDS[command](name, 'out'))
    assert code == 1
    assert f'{command}: `{"FILE" if command == "tally" else "IN"}` must be ' in said
    assert NAMES[name] in said
  code, said = said_by(capsys, COMMANDS['prune']('file', name))
  assert code == 1
  assert 'prune: `OUT` must be ' in said
  assert NAMES[name] in said
  assert {each: os.lstat(each).st_mode for each in os.listdir()} == before


def test_links_and_long_names_are_written(odd, capsys):
  os.symlink('folder/out', 'link')
  for name, target in [('link', 'folder/out'), ('n' * 250, 'n' * 250)]:
    assert said_by(capsys, COMMANDS['prune']('file', name)) == (0, '')
    assert said_by(capsys, COMMANDS['tally'](target, None)) == (0, '')
  assert os.path.islink('link')


@pytest.mark.parametrize('what', ['metadata', 'header', 'leaves'])
def test_mutated(tmp_path, capsys, monkeypatch, what):
  monkeypatch.setattr(_memory, 'available', lambda: 2**27)
  path, rng, codes = tmp_path / 'in', random.Random(1), []
  save(path, PARAMS, MASKS)
  header, contents, data = parts(path)
  for _ in range(25):
    if what == 'leaves':
      built(rng, path)
    elif what == 'header':
      write(path, mutated(rng, header), None, data)
    else:
      write(path, header, json.dumps(mutated(rng, contents)), data)
    codes += [said_by(capsys, each(path, tmp_path / 'out'))[0] for each in COMMANDS.values()]
  assert set(codes) == ({1} if what == 'header' else {0, 1})  # all of a header is compared
  assert set(os.listdir(tmp_path)) <= {'in', 'out'}


def test_tensors_of_another_library(tmp_path, capsys):
  """What the format allows and NumPy doesn't."""
  for shape in ([0, 2**64 - 1], [0] * 65, [0, 2**62, 2**62]):
    write(tmp_path / 'in', {'w': {'dtype': 'F32', 'shape': shape, 'data_offsets': [0, 0]}})
    for command in COMMANDS.values():
      code, said = said_by(capsys, command(tmp_path / 'in', tmp_path / 'out'))
      assert code == 1
      assert 'no array has the shape (0, ' in said
      assert "at leaf 'w'" in said
  nested = '{"a":' * 10**5 + '0' + '}' * 10**5
  write(tmp_path / 'in', nested.encode())
  assert 'complete safetensors file' in said_by(capsys, COMMANDS['tally'](tmp_path / 'in', 0))[1]
  slashes, escape = '/' * 10**6, '\x1b[2J\u2028\n\x85'
  foreign(tmp_path / 'in', {slashes: np.ones((2, 2)), escape: np.full((2, 2), np.nan)})
  assert said_by(capsys, COMMANDS['tally'](tmp_path / 'in', 0)) == (0, '')
  code, said = said_by(capsys, COMMANDS['prune'](tmp_path / 'in', tmp_path / 'out'))
  assert r"got NaN at leaf '\x1b[2J" in said
  assert os.listdir(tmp_path) == ['in']


def test_absurd_shapes(tmp_path, capsys):
  empty_leaf(tmp_path / 'in', [2**20, 2**20])
  assert said_by(capsys, COMMANDS['tally'](tmp_path / 'in', 0)) == (0, '')  # masks alone count
  code, said = said_by(capsys, COMMANDS['prune'](tmp_path / 'in', tmp_path / 'out'))
  assert code == 1
  assert "`IN` must be a file of leaves that fit into memory; got '" in said
  assert "at leaf 'w'" in said


# ------------------------------------------------------------------------------ many leaves


class Watched(list):
  """A list that counts the items that it gives away."""

  given = 0

  def __iter__(self):
    self.given += len(self)
    return super().__iter__()

  def __contains__(self, item):
    self.given += len(self)
    return super().__contains__(item)

  def __getitem__(self, index):
    found = super().__getitem__(index)
    self.given += len(found) if isinstance(index, slice) else 1
    return found


@pytest.mark.parametrize(
  'asked', ['--sparsity .5', '--sparsity .5 --distribution erk', '--n-of-m 1:2 --axis 1']
)
def test_work_is_linear_in_the_leaves(tmp_path, monkeypatch, asked):
  from jprune._cli import _select

  seen, real = [], _select.selected
  monkeypatch.setattr(
    _select, 'selected', lambda *args: seen.append(Watched(real(*args))) or seen[-1]
  )
  foreign(tmp_path / 'in', {f'l{i}': np.ones((2, 2), np.float32) for i in range(300)})
  run('prune', tmp_path / 'in', tmp_path / 'out', *asked.split(), '--quiet')
  assert 300 <= seen[0].given <= 10 * 300


def test_names_are_compared_a_few_times_each(monkeypatch):
  """Of names that are the same when cut: all with each other, not each with all."""
  seen, real = [], names._shared
  monkeypatch.setattr(names, '_shared', lambda group: seen.append(len(group)) or real(group))
  alike = [f'{"x" * 50}{i:04}{"y" * 50}' for i in range(3000)]
  assert len(set(names.shortened(alike, 40).values())) == 3000
  assert 3000 <= sum(seen) <= 4 * 3000


# ------------------------------------------------------------------------- streams that are gone


def test_output_that_cannot_be_printed(tmp_path, capsys, monkeypatch):
  foreign(tmp_path / 'in', {'\u00e9': np.ones((2, 2), np.float32)})
  tally = ['tally', str(tmp_path / 'in')]
  ascii_only = io.TextIOWrapper(io.BytesIO(), 'ascii')
  with monkeypatch.context() as patch, open('/dev/full', 'w') as full:
    patch.setattr(sys, 'stdout', full)
    assert main(tally) == 1
    patch.setattr(sys, 'stdout', ascii_only)
    assert main(tally) == 0
    patch.setattr(sys, 'stdout', None)  # as with >&-
    assert main(tally) == 0
    patch.setattr(sys, 'stderr', None)
    assert main([*tally[:1], 'nope']) == 1
  assert b'\n? ' in ascii_only.buffer.getvalue()
  assert capsys.readouterr().err == (
    "jprune: error: the standard output must be open for writing; got 'No space left on device'.\n"
  )
