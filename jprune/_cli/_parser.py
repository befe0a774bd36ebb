"""The words of the command line. What can be refused without a file is refused here."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence

from jprune._cli import _errors
from jprune._cli._select import DISTRIBUTIONS
from jprune.distributions._needs import needs_of
from jprune.io._writer import shard_bytes

PROGRAM = 'python -m jprune'

_ABOUT = 'Tally and prune checkpoints of any size, one leaf in memory at a time.'
_EPILOG = """\
exit codes:
  0  done
  1  refused or failed, with one line on the standard error; nothing was written
  2  the arguments make no sense
  129, 130, 143  hung up on, interrupted, terminated; nothing was written

examples:
  python -m jprune tally model.safetensors
  python -m jprune prune model.safetensors sparse.safetensors --sparsity 0.5
  python -m jprune prune llama/ llama-sparse/ --sparsity 0.5 --distribution global
"""
_TALLY = """\
Counts the zeros of every leaf: shape, dtype, sparsity, bytes as they are and as the smallest
sparse format would store them. A file that jprune wrote with masks is counted by its masks.
All files of a folder, an index or a glob are one model.
"""
_PRUNE = """\
Sets a fraction of the weights of IN to zero and writes OUT, which appears whole or not at all.
Exactly as many weights go as asked; the masks are those of jprune.prune on the loaded file.
If IN is a folder, its files are one model and OUT is a folder of the same files, with what lies
beside them (config.json, the tokenizer); an OUT that ends with .safetensors is one file.
"""
_PRUNE_EPILOG = """\
by default all floating leaves with two axes longer than 1 are pruned but biases, norms, class
tokens, position tables and running statistics, as far as names tell; the others are copied, and the
table says why. --where narrows that; a leaf's exact path chooses it whatever it is. int8 and
float8 weights are ranked with their scales, which are never pruned.

--axis, where it is not given, follows the file: 1 if its metadata says format=pt, so kernels
are (out, in, ...); -1 for format=mlx; -2 for format=flax or tf and for what jprune or Orbax
wrote, (..., in, out). A file that says nothing needs it.

examples:
  python -m jprune prune in.safetensors out.safetensors --sparsity 0.9 --distribution erk
  python -m jprune prune in.safetensors out.safetensors --n-of-m 2:4 --format dense
  python -m jprune prune in.safetensors out.safetensors --sparsity 0.5 --where 'mlp.*weight$'
  python -m jprune prune llama/ sparse/ --n-of-m 2:4 --format dense --where 'layers.*(mlp|attn)'
  python -m jprune prune in.safetensors out.safetensors --sparsity 0.5 \\
    --where '^(?!.*(embed|lm_head))'     all matrices but those of some layers
"""


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
  """The arguments, checked against each other; leaves with exit code 2 if they make no sense."""
  parser = argparse.ArgumentParser(PROGRAM, description=_ABOUT, epilog=_EPILOG, **_RAW)
  commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
  _add_tally(commands)
  prune = _add_prune(commands)
  args = parser.parse_args(argv)
  if args.command == 'prune':
    _check(prune, args)
  return args


_INPUT = (
  'a safetensors file of any library; a folder of such files, its index, a glob or a list of them; '
  'or a folder of Orbax'
)
_RAW = {'formatter_class': argparse.RawDescriptionHelpFormatter, 'allow_abbrev': False}


def _add_tally(commands: argparse._SubParsersAction) -> None:
  parser = commands.add_parser('tally', help='count zeros and bytes', description=_TALLY, **_RAW)
  parser.add_argument('files', metavar='FILE', nargs='+', help=_INPUT)
  parser.add_argument('--json', action='store_true', help='print JSON instead of a table')
  _add_progress(parser)


def _add_prune(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
  parser = commands.add_parser(
    'prune', help='write a sparse copy', description=_PRUNE, epilog=_PRUNE_EPILOG, **_RAW
  )
  add = parser.add_argument
  add('inputs', metavar='IN', nargs='+', help=_INPUT)
  add('output', metavar='OUT', help='the file to write; of several files the folder')
  amount = parser.add_argument_group('how much').add_mutually_exclusive_group(required=True)
  amount.add_argument(
    '--sparsity', type=_fraction, metavar='S', help='fraction of zeros, from 0 to 1'
  )
  amount.add_argument(
    '--n-of-m', type=_n_of_m, metavar='N:M', help='keep the N best of every M, such as 2:4'
  )
  which = parser.add_argument_group('which')
  add = which.add_argument
  add('--scorer', choices=('magnitude', 'random'), default='magnitude', help='default: magnitude')
  add('--seed', type=_seed, metavar='N', help='of --scorer random; default: 0')
  add(
    '--distribution',
    choices=tuple(DISTRIBUTIONS),
    help='what each leaf contributes to --sparsity; default: uniform',
  )
  add('--axis', type=int, metavar='A', help='along which the groups of --n-of-m lie')
  add('--pad', action='store_true', help='let the last group of --n-of-m be smaller than M')
  where = (
    'of these prune only leaves whose path it is found in, or exactly the leaf whose path it is; '
    'give it again for more'
  )
  add('--where', type=_regex, action='append', metavar='REGEX', help=where)
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
    type=_size,
    metavar='SIZE',
    help='write a folder of files of at most so many bytes, such as 5GB',
  )
  files.add_argument('--force', action='store_true', help='replace OUT if it exists')
  said = parser.add_mutually_exclusive_group()
  said.add_argument('--quiet', action='store_true', help='print nothing, show no progress')
  said.add_argument('--json', action='store_true', help='print JSON instead of a table')
  _add_progress(parser)
  return parser


def _add_progress(parser: argparse.ArgumentParser) -> None:
  text = 'no progress bar (there is one in a terminal if tqdm is installed)'
  parser.add_argument('--no-progress', action='store_false', dest='progress', help=text)


def _check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
  """Options that go only with others; then the defaults."""
  if args.n_of_m is None:
    for option, value in (('--axis', args.axis), ('--pad', args.pad or None)):
      if value is not None:
        parser.error(_errors.goes_only_with(option, '--n-of-m'))
  elif not needs_of(DISTRIBUTIONS[args.distribution or 'uniform']).shares_alike:
    parser.error(_errors.shares_alike(f'--distribution {args.distribution}'))
  if args.seed is not None and args.scorer != 'random':
    parser.error(_errors.goes_only_with('--seed', '--scorer random'))
  args.distribution = args.distribution or 'uniform'
  args.seed = args.seed or 0
  args.progress = args.progress and not args.quiet


def _fraction(text: str) -> float:
  try:
    value = float(text)
  except ValueError:
    value = -1.0
  if not 0 <= value <= 1:  # nor NaN
    raise _errors.bad_option('a number from 0 to 1', text, 'For 90 % zeros, say 0.9.')
  return value


def _n_of_m(text: str) -> tuple[int, int]:
  found = re.fullmatch(r'([0-9]{1,4}):([0-9]{1,4})', text)
  n, m = map(int, found.groups()) if found else (0, 0)
  if not 1 <= n <= m:
    fix = 'To keep 2 of every 4, say 2:4.'
    raise _errors.bad_option('N:M with 1 <= N <= M', text, fix)
  return n, m


def _size(text: str) -> int:
  try:
    return shard_bytes('prune', int(text) if re.fullmatch('[0-9]{1,18}', text) else text)
  except ValueError:
    fix = 'For five billion bytes, say 5GB.'
    raise _errors.bad_option('a number of bytes', text, fix) from None


def _seed(text: str) -> int:
  # JAX cuts larger ones to 32 bits, so that two seeds would be one
  if not re.fullmatch('[0-9]{1,10}', text) or int(text) >= 2**32:
    raise _errors.bad_option('a whole number from 0 to 4294967295', text, 'Say 0, for example.')
  return int(text)


def _regex(text: str) -> str:
  try:
    re.compile(text)
  except re.error as error:
    fix = f'Escape special characters ({error}).'
    raise _errors.bad_option('a regular expression', text, fix) from None
  return text
