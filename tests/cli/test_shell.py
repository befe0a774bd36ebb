"""What a shell and its terminal meet: versions, completion, colours; none of it waits for JAX."""

import re
import shutil
import subprocess
import sys

import jax
import pytest

import jprune
from jprune._cli import _style, main
from jprune._cli._completion import completion
from jprune._cli._say import say
from tests.cli.files import foreign, run, weights


def printed(capsys, *args):
  """What a command prints that isn't one."""
  with pytest.raises(SystemExit) as left:
    main(list(args))
  assert left.value.code == 0
  return capsys.readouterr().out


def test_version(capsys):
  python = '.'.join(map(str, sys.version_info[:3]))
  said = f'jprune {jprune.__version__} (JAX {jax.__version__}, Python {python}'
  assert printed(capsys, '--version').startswith(said)


def test_help_names_the_program_as_it_was_started(capsys):
  assert 'usage: jprune prune ' in printed(capsys, 'prune', '--help')
  with pytest.raises(SystemExit):
    main(['prune', '--help'], program='python -m jprune')
  said = capsys.readouterr().out
  assert 'usage: python -m jprune prune ' in said
  assert '\n  python -m jprune prune in.safetensors' in said


@pytest.mark.parametrize('asked', ['--help', '--version', 'prune --help', 'prunes'])
@pytest.mark.parametrize('program', ['jprune', '-m jprune'])
def test_what_is_no_command_needs_no_jax(tmp_path, program, asked):
  script = tmp_path / 'jprune'  # as pip writes it
  script.write_text('import sys\nfrom jprune.__main__ import run\nsys.exit(run())\n')
  words = [str(script)] if program == 'jprune' else program.split()
  command = [sys.executable, '-X', 'importtime', *words, *asked.split()]
  loads = subprocess.run(command, capture_output=True, text=True).stderr
  assert 'jprune._cli._parser\n' in loads
  assert not re.search(r'\| +(jax|numpy|jprune\.scores)\n', loads)


# ---------------------------------------------------------------------------------- completion


@pytest.fixture
def folder(tmp_path):
  for name in ('model.safetensors', 'weights.npz', 'flax.msgpack', 'notes.txt', 'page.html'):
    (tmp_path / name).touch()
  (tmp_path / 'llama').mkdir()
  return tmp_path


TYPED = {
  'commands': ([''], {'tally', 'prune', 'report'}, set()),
  'inputs': (
    ['tally', ''],
    {'model.safetensors', 'weights.npz', 'flax.msgpack', 'llama'},
    {'notes.txt', 'page.html'},
  ),
  'options': (['prune', 'in', 'out', '--s'], {'--sparsity', '--scorer', '--seed'}, {'--html'}),
  'choices': (['prune', 'a', 'b', '--scorer', ''], {'magnitude', 'random'}, {'model.safetensors'}),
  'pages': (['report', 'in', '--html', ''], {'page.html', 'llama'}, {'model.safetensors'}),
}


@pytest.mark.skipif(shutil.which('bash') is None, reason='there is no bash')
@pytest.mark.parametrize('typed', sorted(TYPED))
def test_bash_completes(folder, typed):
  words, offered, others = TYPED[typed]
  script = f"""{completion('bash')}
COMP_WORDS=(jprune {' '.join(word or "''" for word in words)})
COMP_CWORD={len(words)}
_shtab_jprune
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
  done = subprocess.run(
    ['bash', '--norc', '-c', script], capture_output=True, text=True, cwd=folder, check=True
  )
  found = set(done.stdout.split())
  assert offered <= found
  assert not others & found


@pytest.mark.parametrize(
  ('shell', 'texts'),
  [
    ('zsh', ['#compdef jprune', '--max-shard-size', "_files -g '(*.safetensors|"]),
    ('fish', ['complete -c jprune', 'max-shard-size', '*.safetensors.index.json']),
  ],
)
def test_other_shells_get_a_script(capsys, shell, texts):
  script = printed(capsys, '--print-completion', shell)
  assert [text for text in texts if text not in script] == []
  if shutil.which(shell):
    subprocess.run([shell, '-n', '/dev/stdin'], input=script, text=True, check=True)


def test_without_shtab(capsys, monkeypatch):
  monkeypatch.setitem(sys.modules, 'shtab', None)
  with pytest.raises(SystemExit) as left:
    main(['--print-completion', 'bash'])
  assert left.value.code == 2
  assert "needs shtab, which isn't installed. Run pip install shtab." in capsys.readouterr().err


# ------------------------------------------------------------------------------------- colours


class Terminal:
  """A stream that keeps what it is given, and says that it is a terminal."""

  encoding = 'utf-8'

  def __init__(self):
    self.text = ''

  def write(self, text):
    self.text += text

  def flush(self):
    pass

  def isatty(self):
    return True


@pytest.fixture
def terminal(monkeypatch):
  for name in ('NO_COLOR', 'FORCE_COLOR'):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setenv('TERM', 'xterm')
  return Terminal()


def test_colours_in_a_terminal(tmp_path, monkeypatch, terminal):
  monkeypatch.setattr(sys, 'stdout', terminal)
  monkeypatch.setattr(sys, 'stderr', terminal)
  run('tally', foreign(tmp_path / 'in', weights('float32')))
  assert terminal.text.startswith('\033[1mleaf')
  terminal.text = ''
  assert main(['tally', str(tmp_path / 'nope')]) == 1
  assert 'jprune: \033[1;31merror:\033[0m tally: `FILE` must be an existing file' in terminal.text
  terminal.text = ''
  with pytest.raises(SystemExit):
    main(['prune', '--help'])
  assert '\033[1mhow much:\033[0m' in terminal.text


@pytest.mark.parametrize(
  ('given', 'expected'),
  [
    ({}, (True, False)),
    ({'NO_COLOR': '1'}, (False, False)),
    ({'NO_COLOR': ''}, (True, False)),
    ({'FORCE_COLOR': '1'}, (True, True)),
    ({'FORCE_COLOR': '1', 'NO_COLOR': '1'}, (False, False)),
    ({'TERM': 'dumb'}, (False, False)),
  ],
  ids=['plain', 'no', 'empty', 'forced', 'both', 'dumb'],
)
def test_who_gets_colours(tmp_path, monkeypatch, terminal, given, expected):
  for name, value in given.items():
    monkeypatch.setenv(name, value)
  with open(tmp_path / 'pipe', 'w') as pipe:
    assert (_style.wanted(terminal), _style.wanted(pipe)) == expected


def test_pipes_get_plain_text(capsys, tmp_path):
  say(f'head\n{"-" * 9}\nrow')
  assert capsys.readouterr().out == f'head\n{"-" * 9}\nrow\n'
