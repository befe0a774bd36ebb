"""What the values of options must be, and which options go together."""

from __future__ import annotations

import argparse
import re

from jprune._cli._argparse import Parser
from jprune._text.words import as_regex


def check_prune(parser: Parser, args: argparse.Namespace) -> None:
  """Options that go only with others; then the defaults."""
  if args.n_of_m is None:
    for option, value in (('--axis', args.axis), ('--pad', args.pad or None)):
      if value is not None:
        parser.error(_goes_only_with(option, '--n-of-m'))
  elif args.distribution not in (None, 'uniform'):
    alike = '--n-of-m has its own sparsity, the same for every leaf.'
    parser.error(f'{alike} Leave --distribution {args.distribution} out.')
  if args.seed is not None and args.scorer != 'random':
    parser.error(_goes_only_with('--seed', '--scorer random'))
  if args.dry_run and args.quiet:
    parser.error('--dry-run is there to be read. Leave --quiet out.')
  args.distribution = args.distribution or 'uniform'
  args.seed = args.seed or 0
  args.progress = args.progress and not args.quiet


def _goes_only_with(option: str, other: str) -> str:
  return f'{option} goes only with {other}. Leave it out.'


def _bad(constraint: str, text: str, fix: str) -> argparse.ArgumentTypeError:
  """An option's value that doesn't parse; argparse puts the option's name before it."""
  return argparse.ArgumentTypeError(f'must be {constraint}; got {text!r}. {fix}')


def fraction(text: str) -> float:
  """A sparsity."""
  try:
    value = float(text)
  except ValueError:
    value = -1.0
  if not 0 <= value <= 1:  # nor NaN
    found = re.fullmatch(r'([1-9][0-9](?:\.[0-9]+)?) ?%?', text)
    percent = float(found[1]) if found else 90
    raise _bad('a number from 0 to 1', text, f'For {percent:g} % zeros, say {percent / 100:g}.')
  return value


def n_of_m(text: str) -> tuple[int, int]:
  """``N:M``."""
  found = re.fullmatch(r'([0-9]{1,4}):([0-9]{1,4})', text)
  n, m = map(int, found.groups()) if found else (0, 0)
  if not 1 <= n <= m:
    raise _bad('N:M with 1 <= N <= M', text, 'To keep 2 of every 4, say 2:4.')
  return n, m


def size(text: str) -> int:
  """A number of bytes."""
  from jprune.io._writer import shard_bytes

  try:
    return shard_bytes('prune', int(text) if re.fullmatch('[0-9]{1,18}', text) else text)
  except ValueError:
    fix = 'For five billion bytes, say 5GB.'
    raise _bad('a number of bytes', text, fix) from None


def axis(text: str) -> int:
  """An axis of a leaf."""
  if not re.fullmatch('-?[0-9]{1,3}', text):
    raise _bad('a whole number', text, 'Say 1 for the second axis, -1 for the last.')
  return int(text)


def seed(text: str) -> int:
  """A seed of a key."""
  # JAX cuts larger ones to 32 bits, so that two seeds would be one
  if not re.fullmatch('[0-9]{1,10}', text) or int(text) >= 2**32:
    raise _bad('a whole number from 0 to 4294967295', text, 'Say 0, for example.')
  return int(text)


def regex(text: str) -> str:
  """A regular expression."""
  try:
    re.compile(text)
  except re.error as error:
    fix = f'Escape special characters ({error}).'
    if part := as_regex(text):
      fix = f"It is looked for anywhere in a path: say '{part}'."
    raise _bad('a regular expression', text, fix) from None
  return text
