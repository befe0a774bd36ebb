"""Random programs, as many as one likes: ``python -m tests.programs --count 2000 --seed 0``."""

import os

os.environ.setdefault('JAX_PLATFORMS', 'cpu')

import argparse
import collections
import time

import jax

from tests.programs import _check, _program, _random, _reduce


def main():
  parser = argparse.ArgumentParser(prog='python -m tests.programs', description=__doc__)
  parser.add_argument('--count', type=int, default=2000)
  parser.add_argument('--first', type=int, default=0)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--minutes', type=float, default=1e9)
  parser.add_argument('--show', action='store_true', help='print every program')
  options = parser.parse_args()
  stop = time.monotonic() + 60 * options.minutes
  tally, seen = collections.Counter(), collections.Counter()
  with _program.setting():
    for index in range(options.first, options.first + options.count):
      if time.monotonic() > stop:
        break
      program, mode, choice, _ = _random.random(options.seed, index)
      if options.show:
        print(_program.source(program), f'\n# {mode}, {choice}\n')
      outcome = _check.check(program, mode, choice, index)
      tally[outcome.kind] += 1
      if outcome.failed:
        _report(options.seed, index, program, mode, choice, outcome, seen)
      if index % 100 == 99:
        print(f'# {sum(tally.values())} programs: {dict(tally)}', flush=True)
      if index % 200 == 199:
        jax.clear_caches()
  print(f'{sum(tally.values())} programs: {dict(tally)}')
  return sum(seen.values())


def _report(seed, index, program, mode, choice, outcome, seen):
  program, outcome, mode = _reduce.reduced(program, mode, outcome, choice, index)
  try:
    kind = outcome.kind, _reduce.primitives(program)
  except Exception:  # a program that JAX refuses
    kind = outcome.kind, frozenset()
  seen[kind] += 1
  print(f'# ---- seed {seed}, program {index}: {outcome.kind}: {outcome.detail}')
  if seen[kind] == 1:
    print(_program.script(program, outcome.kept, mode) + '\n', flush=True)
  else:
    print(f'# as before: {sorted(kind[1])}', flush=True)


if __name__ == '__main__':
  raise SystemExit(main() > 0)
