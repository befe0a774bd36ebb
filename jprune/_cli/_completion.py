"""What a shell needs to complete ``jprune``: a script of its own, which asks no Python."""

from __future__ import annotations

from jprune._cli._parser import parsers

_INPUTS = ('*.safetensors', '*.safetensors.index.json', '*.npz', '*.msgpack')


def completion(shell: str) -> str:
  """The script for a shell.

  Raises:
    ImportError: if shtab isn't installed.
  """
  import shtab

  parser, commands = parsers()
  kinds = {
    'files': shtab.glob(*_INPUTS),
    'inputs': shtab.glob(*_INPUTS),
    'output': shtab.glob('*.safetensors'),
    'html': shtab.glob('*.html'),
  }
  for command in commands.values():
    for action in command._actions:
      if action.dest in kinds:
        action.complete = kinds[action.dest]  # pyright: ignore[reportAttributeAccessIssue]
  return shtab.complete(parser, shell)
