"""The words of the command line. What can be refused without a file is refused here."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from jprune._cli import _options, _texts
from jprune._cli._argparse import Parser

PROGRAM = 'jprune'

DISTRIBUTIONS = {'uniform': 'uniform', 'erk': 'erk', 'er': 'er', 'global': 'global_'}
"""Those that need no data: as options, and what they are called in ``jprune.distributions``."""


def parsed(argv: Sequence[str] | None, program: str = PROGRAM) -> argparse.Namespace:
  """The arguments, checked against each other; leaves with exit code 2 if they make no sense."""
  words = list(sys.argv[1:] if argv is None else argv)
  parser, commands = parsers(program)
  place = next((i for i, word in enumerate(words) if word in commands), len(words))
  parser.check_options(words[:place])
  for word in words[place : place + 1]:
    commands[word].check_options(words[place + 1 :])
  if not words:
    parser.error(f'a command is required: {", ".join(commands)}. See {program} --help.')
  args = parser.parse_args(words)
  if args.command == 'prune':
    _options.check_prune(commands['prune'], args)
  return args


def parsers(program: str = PROGRAM) -> tuple[Parser, dict[str, Parser]]:
  """The parser, and those of its commands."""
  parser = Parser(program, description=_texts.ABOUT, epilog=_named(_texts.EPILOG, program))
  parser.add_argument('--version', action=_Version, nargs=0, help='print the versions and exit')
  help_ = 'print what makes a shell complete jprune (needs shtab) and exit'
  shells = ('bash', 'zsh', 'fish')
  parser.add_argument('--print-completion', action=_Completion, choices=shells, help=help_)
  commands = parser.add_subparsers(
    title='commands', dest='command', required=True, metavar='COMMAND', parser_class=Parser
  )
  add = lambda name, said, about, epilog: commands.add_parser(
    name, help=said, description=about, epilog=_named(epilog, program)
  )
  tally = add('tally', 'count zeros and bytes', _texts.TALLY, _texts.TALLY_EPILOG)
  prune = add('prune', 'write a sparse copy', _texts.PRUNE, _texts.PRUNE_EPILOG)
  report = add('report', 'tally and bars, also as HTML', _texts.REPORT, _texts.REPORT_EPILOG)
  _add_tally(tally)
  _add_prune(prune)
  _add_report(report)
  return parser, {'tally': tally, 'prune': prune, 'report': report}


def _named(text: str, program: str) -> str:
  return text.replace('PROGRAM', program)


def _add_tally(parser: Parser) -> None:
  parser.add_argument('files', metavar='FILE', nargs='+', help=_texts.INPUT)
  output = parser.add_argument_group('output')
  _add_json(output)
  _add_progress(output)


def _add_prune(parser: Parser) -> None:
  parser.add_argument('inputs', metavar='IN', nargs='+', help=_texts.INPUT)
  parser.add_argument(
    'output', metavar='OUT', help='the file to write; of several files the folder'
  )
  amount = parser.add_argument_group('how much').add_mutually_exclusive_group(required=True)
  amount.add_argument(
    '--sparsity', type=_options.fraction, metavar='S', help='fraction of zeros, from 0 to 1'
  )
  amount.add_argument(
    '--n-of-m', type=_options.n_of_m, metavar='N:M', help='keep the N best of every M, such as 2:4'
  )
  add = parser.add_argument_group('which').add_argument
  add('--scorer', choices=('magnitude', 'random'), default='magnitude', help='default: magnitude')
  add('--seed', type=_options.seed, metavar='N', help='of --scorer random; default: 0')
  add(
    '--distribution',
    choices=tuple(DISTRIBUTIONS),
    help='what each leaf contributes to --sparsity; default: uniform',
  )
  add('--axis', type=_options.axis, metavar='A', help='along which the groups of --n-of-m lie')
  add('--pad', action='store_true', help='let the last group of --n-of-m be smaller than M')
  where = (
    'of these prune only leaves whose path it is found in, or exactly the leaf whose path it is; '
    'give it again for more'
  )
  add('--where', type=_options.regex, action='append', metavar='REGEX', help=where)
  files = parser.add_argument_group('files')
  files.add_argument(
    '--format',
    choices=('sparse', 'dense'),
    default='sparse',
    help='sparse (default): a small file for jprune.load, masks included; dense: the tensors of '
    'IN with zeros in them, for every library',
  )
  files.add_argument(
    '--max-shard-size',
    type=_options.size,
    metavar='SIZE',
    help='write a folder of files of at most so many bytes, such as 5GB',
  )
  files.add_argument('--force', action='store_true', help='replace OUT if it exists')
  dry = 'say what would be pruned and written, and which leaves are left out and why; write nothing'
  files.add_argument('--dry-run', action='store_true', help=dry)
  output = parser.add_argument_group('output')
  said = output.add_mutually_exclusive_group()
  said.add_argument('--quiet', action='store_true', help='print nothing, show no progress')
  _add_json(said)
  _add_progress(output)


def _add_report(parser: Parser) -> None:
  parser.add_argument('files', metavar='FILE', nargs='+', help=_texts.INPUT)
  files = parser.add_argument_group('files')
  files.add_argument('--html', metavar='OUT', help='write a page to look at in a browser')
  files.add_argument('--force', action='store_true', help='replace OUT if it exists')
  output = parser.add_argument_group('output')
  _add_json(output)
  _add_progress(output)


def _add_json(parser: Any) -> None:
  parser.add_argument('--json', action='store_true', help='print JSON instead of a table')


def _add_progress(parser: Any) -> None:
  text = 'no progress bar (there is one in a terminal if tqdm is installed)'
  parser.add_argument('--no-progress', action='store_false', dest='progress', help=text)


class _Version(argparse.Action):
  """``--version``: what a report of a fault should say."""

  def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
    import importlib.metadata
    import platform

    from jprune import __version__

    jax = importlib.metadata.version('jax')
    print(f'jprune {__version__} (JAX {jax}, Python {platform.python_version()})')  # noqa: T201
    parser.exit()


class _Completion(argparse.Action):
  """``--print-completion SHELL``."""

  def __call__(
    self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option_string: Any = None
  ) -> None:
    from jprune._cli._completion import completion

    try:
      print(completion(values))  # noqa: T201
    except ImportError:
      parser.error("--print-completion needs shtab, which isn't installed. Run pip install shtab.")
    parser.exit()
