"""Exit codes, one clear line, and no file where there was none."""

import os
import re
import resource
import signal
import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
import pytest

from jprune.__main__ import run as run_process
from jprune._cli import _target, main
from jprune.io import _foreign
from tests.cli.files import foreign, own, run


@pytest.fixture
def into(tmp_path):
  rng = np.random.default_rng(0)
  params = {'w': rng.standard_normal((8, 8), np.float32), 'i': np.arange(4)}
  return foreign(tmp_path / 'in', params)


def refused(capsys, *args):
  """The one line on the standard error of a refused command."""
  assert main([str(arg) for arg in args]) == 1
  said = capsys.readouterr()
  assert 'Wrote' not in said.out
  assert said.err.count('\n') == 1
  assert said.err.startswith('jprune: error: ')
  return said.err


def usage(capsys, *args):
  """What argparse says of arguments that make no sense."""
  with pytest.raises(SystemExit) as left:
    main([str(arg) for arg in args])
  assert left.value.code == 2
  return capsys.readouterr().err


USAGE = {
  'no command': ([], r'a command is required: tally, prune, report\. See jprune --help\.'),
  'option as a command': (['version'], r"got 'version'\. Did you mean --version\?"),
  'unknown command': (['grow'], r"must be one of tally, prune, report; got 'grow'\.$"),
  'misspelt command': (['talley', 'a'], r"got 'talley'\. Did you mean tally\?"),
  'misspelt option': (
    ['prune', 'a', 'b', '--sparsty', '.5'],
    r'jprune prune: error: there is no option --sparsty\. Did you mean --sparsity\?',
  ),
  'one dash': (['prune', 'a', 'b', '-sparsity=.5'], r'option -sparsity\. Did you mean --spars'),
  'unknown option': (['tally', 'a', '--colour'], r'there is no option --colour\.$'),
  'exclude': (
    ['prune', 'a', 'b', '--sparsity', '.5', '--exclude', 'head'],
    r"there is no option --exclude\. To leave leaves out, say --where '\^\(\?!\.\*REGEX\)'\.$",
  ),
  'an option of another': (['--json', 'tally', 'a'], r'jprune: error: there is no option --json'),
  'misspelt scorer': (
    ['prune', 'a', 'b', '--sparsity', '.5', '--scorer', 'magnitud'],
    r"--scorer: must be one of magnitude, random; got 'magnitud'\. Did you mean magnitude\?",
  ),
  'misspelt format': (
    ['prune', 'a', 'b', '--sparsity', '.5', '--format', 'spars'],
    r"--format: must be one of sparse, dense; got 'spars'\. Did you mean sparse\?",
  ),
  'neither': (['prune', 'a', 'b'], r'one of the arguments --sparsity --n-of-m is required'),
  'both': (
    ['prune', 'a', 'b', '--sparsity', '.5', '--n-of-m', '2:4'],
    r'--n-of-m: not allowed with argument --sparsity',
  ),
  'percent': (['prune', 'a', 'b', '--sparsity', '90'], r"from 0 to 1; got '90'.*say 0.9"),
  'percentage': (['prune', 'a', 'b', '--sparsity', '50%'], r"got '50%'. For 50 % zeros, say 0.5"),
  'nan': (['prune', 'a', 'b', '--sparsity', 'nan'], r"from 0 to 1; got 'nan'"),
  'words': (['prune', 'a', 'b', '--sparsity', 'half'], r"from 0 to 1; got 'half'"),
  'n of m': (['prune', 'a', 'b', '--n-of-m', '2/4'], r"must be N:M with .*; got '2/4'. .*2:4"),
  'n over m': (['prune', 'a', 'b', '--n-of-m', '5:4'], r"N <= M; got '5:4'"),
  'regex': (
    ['prune', 'a', 'b', '--sparsity', '.5', '--where', '('],
    r"--where: must be a regular expression; got '\('",
  ),
  'glob': (
    ['prune', 'a', 'b', '--sparsity', '.5', '--where', '*/weight'],
    r"got '\*/weight'\. It is looked for anywhere in a path: say 'weight'\.",
  ),
  'no axis': (
    ['prune', 'a', 'b', '--n-of-m', '2:4', '--axis', 'last'],
    r"--axis: must be a whole number; got 'last'\. Say 1 for the second axis",
  ),
  'axis': (['prune', 'a', 'b', '--sparsity', '.5', '--axis', '-2'], r'--axis goes only with --n-o'),
  'pad': (['prune', 'a', 'b', '--sparsity', '.5', '--pad'], r'--pad goes only with --n-of-m'),
  'seed': (['prune', 'a', 'b', '--sparsity', '.5', '--seed', '1'], r'--seed goes only with --sco'),
  'json': (
    ['prune', 'a', 'b', '--sparsity', '.5', '--quiet', '--json'],
    r'--json: not allowed with argument --quiet',
  ),
  'quiet dry run': (
    ['prune', 'a', 'b', '--sparsity', '.5', '--dry-run', '--quiet'],
    r'--dry-run is there to be read\. Leave --quiet out',
  ),
  'large seed': (
    ['prune', 'a', 'b', '--sparsity', '.5', '--scorer', 'random', '--seed', f'{2**32}'],
    r"--seed: must be a whole number from 0 to 4294967295; got '4294967296'",
  ),
  'negative seed': (
    ['prune', 'a', 'b', '--sparsity', '.5', '--scorer', 'random', '--seed', '-1'],
    r"from 0 to 4294967295; got '-1'",
  ),
  'distribution': (
    ['prune', 'a', 'b', '--n-of-m', '2:4', '--distribution', 'erk'],
    r'--n-of-m has its own sparsity.*Leave --distribution erk out',
  ),
}


@pytest.mark.parametrize('kind', sorted(USAGE))
def test_usage(capsys, kind):
  args, match = USAGE[kind]
  assert re.search(match, usage(capsys, *args))


def test_input(tmp_path, capsys, into):
  out = tmp_path / 'out'
  prune = lambda path, *more: refused(capsys, 'prune', path, out, '--sparsity', '.5', *more)
  assert "prune: `IN` must be an existing file; got '" in prune(tmp_path / 'nope')
  (tmp_path / 'llama').mkdir()
  assert prune(tmp_path / 'lama').endswith(". Did you mean 'llama'?\n")
  assert '`IN` must be a checkpoint; got the folder' in prune(tmp_path)
  assert "`IN` must be the name of a file; got ''. Pass a file name" in prune('')
  said = prune(into, '--where', 'nope')
  assert "prune: `--where` must be a filter that selects at least one leaf; got --where 'no" in said
  said = prune(into, '--where', 'i')
  assert "a filter of floating leaves; got int64 of shape (4,) at leaf 'i'. Exclude" in said
  assert said.endswith('Exclude the leaf with --where.\n')
  vectors = foreign(tmp_path / 'vectors', {'norm.weight': np.ones(4, np.float32)})
  said = prune(vectors)
  assert 'got none, so the default, which selects no weights' in said
  assert 'jprune.tree.skipped says why. --where with the path of a leaf chooses exactly' in said
  said = prune(vectors, '--where', 'norm')
  assert 'To choose these all the same, pass their paths, each with a --where of its own' in said
  (tmp_path / 'text').write_text('{"w": 1}')
  assert 'must be a complete safetensors file' in prune(tmp_path / 'text')
  assert 'at least one tensor' in prune(foreign(tmp_path / 'none', {}))
  nan = foreign(tmp_path / 'nan', {'w': np.array([[1.0, np.nan]] * 2, np.float32)})
  assert "free of NaN in the selected leaves; got NaN at leaf 'w'" in prune(nan)
  assert "got NaN at leaf 'w'" in prune(nan, '--distribution', 'global')
  taken = foreign(tmp_path / 'taken', {'w': np.ones((64, 64), np.float32), 'w.shape': np.ones(2)})
  assert "got two tensors 'w.shape'. Pass --format dense" in prune(taken)
  assert not out.exists()
  run('prune', taken, out, '--sparsity', '.5', '--format', 'dense', '--quiet')


def test_groups(tmp_path, capsys, into):
  prune = lambda *more: refused(capsys, 'prune', into, tmp_path / 'out', '--n-of-m', '3:5', *more)
  assert 'got none for a file that names no format. Pass --axis 1 for kernels (out' in prune()
  said = prune('--axis', 1)
  assert "axis 1 of leaf 'w' must be divisible by m=5; got shape (8, 8). Exclude the" in said
  assert said.endswith('leaf with --where, choose another size, or pass --pad.\n')
  assert '`--axis` must be an axis of a leaf with 2 dimensions; got 2' in prune('--axis', 2)


def test_names_stay_as_they_are(tmp_path, capsys):
  odd = foreign(tmp_path / 'in', {'where=`path`': np.full((2, 2), np.nan, np.float32)})
  said = refused(capsys, 'prune', odd, tmp_path / 'out', '--sparsity', '.5')
  assert "at leaf 'where=`path`'. Mend" in said


def test_unknown_dtypes(tmp_path, capsys, monkeypatch):
  # what the library can read and NumPy can't depends on the library's version
  monkeypatch.delitem(_foreign._DTYPES, 'I8')
  foreign(tmp_path / 'in', {'w': np.ones((2, 2)), 'x': np.ones(2, np.int8)})
  said = refused(capsys, 'tally', tmp_path / 'in')
  assert "got I8 at leaf 'x'. Convert that tensor" in said


def test_damaged_files_of_jprune(tmp_path, capsys):
  params = {'w': jnp.arange(64.0).reshape(8, 8)}
  data = bytearray(own(tmp_path / 'in', params).read_bytes())
  data[-3] ^= 1
  (tmp_path / 'in').write_bytes(data)
  said = refused(capsys, 'prune', tmp_path / 'in', tmp_path / 'out', '--sparsity', 0.5, '--quiet')
  assert "its data has another checksum) at leaf 'w'" in said
  assert os.listdir(tmp_path) == ['in']


def test_output(tmp_path, capsys, into):
  prune = lambda path, *more: refused(capsys, 'prune', into, path, '--sparsity', '.5', *more)
  before = into.read_bytes()
  link = tmp_path / 'link'
  link.symlink_to(into)
  for path in (into, link):
    for more in ([], ['--force']):
      assert '`OUT` must be another file or folder than IN' in prune(path, *more)
  assert into.read_bytes() == before
  assert 'prune: `OUT` must be in an existing folder' in prune(tmp_path / 'no' / 'out')
  assert "prune: `OUT` must be the name of a file; got ''." in prune('')
  os.mkfifo(tmp_path / 'pipe')
  (tmp_path / 'to pipe').symlink_to(tmp_path / 'pipe')
  for path in (tmp_path / 'pipe', tmp_path / 'to pipe'):
    said = prune(path, '--force')
    assert f"`OUT` must be a regular file or a new name; got '{path}', a pipe. Choose" in said
  assert (tmp_path / 'pipe').is_fifo()
  (tmp_path / 'old').write_text('precious')
  assert '`OUT` must be a new file; got ' in prune(tmp_path / 'old')
  assert (tmp_path / 'old').read_text() == 'precious'
  run('prune', into, tmp_path / 'old', '--sparsity', '.5', '--force')
  run('tally', tmp_path / 'old')


def test_a_folder_that_cannot_be_written_to(tmp_path, capsys, monkeypatch, into):
  monkeypatch.setattr(os, 'access', lambda path, mode: False)
  said = refused(capsys, 'prune', into, tmp_path / 'out', '--sparsity', '.5')
  assert f"`OUT` must be in a folder that can be written to; got '{tmp_path / 'out'}'" in said
  assert os.listdir(tmp_path) == ['in']


@pytest.mark.parametrize(('mode', 'expected'), [(0o600, 0o600), (0o440, 0o640), (0o755, 0o644)])
def test_the_output_is_as_private_as_the_input(tmp_path, into, mode, expected):
  into.chmod(mode)
  umask = os.umask(0o022)
  try:
    run('prune', into, tmp_path / 'out', '--sparsity', '.5', '--quiet')
  finally:
    os.umask(umask)
  assert (tmp_path / 'out').stat().st_mode & 0o777 == expected


@pytest.mark.parametrize(
  ('error', 'code', 'said'),
  [
    (OSError(28, 'No space left on device'), 1, 'No space left on device'),
    (MemoryError(), 1, 'must fit into memory about twice'),
    (KeyboardInterrupt(), 130, 'interrupted'),
  ],
)
def test_a_failure_midway_leaves_the_old_file(
  tmp_path, capsys, monkeypatch, into, error, code, said
):
  def fail(*args):
    raise error

  (tmp_path / 'out').write_text('old')
  monkeypatch.setattr(_target, '_put', fail)
  args = ['prune', str(into), str(tmp_path / 'out'), '--sparsity', '.5', '--force', '--quiet']
  assert main(args) == code
  assert said in capsys.readouterr().err
  assert (tmp_path / 'out').read_text() == 'old'
  assert sorted(os.listdir(tmp_path)) == ['in', 'out']


def test_a_file_that_grows_too_large_is_named(tmp_path, capsys, into):
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))  # as a disk that is full
  try:
    said = refused(capsys, 'prune', into, tmp_path / 'out', '--sparsity', '.5', '--quiet')
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  assert f"a file that can be written; got '{tmp_path / 'out'}' (File too large). Make" in said
  assert os.listdir(tmp_path) == ['in']


def test_an_input_that_changes_meanwhile(tmp_path, capsys, monkeypatch, into):
  write = _target.write

  def rewritten(*args):
    data = bytearray(into.read_bytes())
    data[-200:] = bytes(200)
    into.write_bytes(data)
    write(*args)

  monkeypatch.setattr('jprune._cli._prune._target.write', rewritten)
  args = ['--sparsity', '.5', '--distribution', 'global', '--quiet']
  said = refused(capsys, 'prune', into, tmp_path / 'out', *args)
  assert '`IN` must be left alone until OUT is written; got other weights' in said
  assert not (tmp_path / 'out').exists()


def test_quiet(tmp_path, capsys, into):
  run('prune', into, tmp_path / 'out', '--sparsity', '.5', '--quiet')
  assert capsys.readouterr() == ('', '')


@pytest.mark.parametrize('command', [[], ['prune'], ['tally']])
def test_help(capsys, command):
  with pytest.raises(SystemExit) as left:
    main([*command, '--help'])
  assert left.value.code == 0
  assert all(len(line) <= 100 for line in capsys.readouterr().out.splitlines())


# ---------------------------------------------------------------------------- as a real process


def process(*args, **more):
  command = [sys.executable, '-m', 'jprune', *map(str, args)]
  return subprocess.run(command, capture_output=True, text=True, **more)


def test_process(tmp_path, into):
  done = process('prune', into, tmp_path / 'out', '--sparsity', '.5')
  assert (done.returncode, done.stderr) == (0, '')
  assert done.stdout.startswith('sparsity 50.00%, uniform, magnitude: 1 of 2 leaves selected.')
  failed = process('tally', tmp_path / 'nope')
  assert failed.returncode == 1
  assert failed.stderr.startswith('python -m jprune: error: tally: `FILE` must be an existing')
  assert 'Traceback' not in failed.stderr


def unread():
  """The end of a pipe that nobody reads any more."""
  reading, writing = os.pipe()
  os.close(reading)
  return writing


def test_a_reader_that_has_seen_enough(tmp_path, monkeypatch, into):
  command = ['prune', into, tmp_path / 'out', '--sparsity', '.5']
  command = [sys.executable, '-m', 'jprune', *map(str, command)]
  writing = unread()
  done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE)
  os.close(writing)
  assert (done.returncode, done.stderr) == (0, b'')
  with open(unread(), 'w') as closed:
    monkeypatch.setattr(sys, 'stdout', closed)
    run('tally', tmp_path / 'out')


@pytest.fixture(scope='module')
def long(tmp_path_factory):
  """A file that takes a while to prune."""
  rng = np.random.default_rng(0)
  params = {f'w{i}': rng.standard_normal((1024, 1024), np.float32) for i in range(24)}
  return foreign(tmp_path_factory.mktemp('long') / 'in', params)


@pytest.mark.parametrize('sent', [signal.SIGTERM, signal.SIGKILL])
def test_a_kill_leaves_nothing_to_clean_up(tmp_path, tmp_path_factory, long, sent):
  """At once if it is polite, else by the next that writes there."""
  small = foreign(tmp_path_factory.mktemp('small') / 'in', {'w': np.ones((2, 2), np.float32)})
  command = [sys.executable, '-m', 'jprune', 'prune', long, tmp_path / 'out', '--sparsity', '.5']
  with subprocess.Popen([*command, '--quiet']) as running:
    while not os.listdir(tmp_path) and running.poll() is None:
      time.sleep(0.005)
    running.send_signal(sent)
  if sent == signal.SIGKILL:
    assert len(os.listdir(tmp_path)) == 1
    run('prune', small, tmp_path / 'out', '--sparsity', '.5', '--force')
    assert os.listdir(tmp_path) == ['out']
    return
  # if it was faster than this test, the file is there, else nothing is
  assert running.returncode in (0, 128 + sent)
  assert os.listdir(tmp_path) == ([] if running.returncode else ['out'])


def test_no_hangup(monkeypatch):
  monkeypatch.setattr('jprune.__main__.main', lambda program: 0)
  before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)}
  try:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    assert run_process() == 0
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    with pytest.raises(SystemExit, match='143'):
      signal.raise_signal(signal.SIGTERM)
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
