"""Many instances: ``python -m tests.graph.primitives --count 200 --name gather``."""

import argparse
import collections
import sys

import jax

from tests.graph.primitives import _forms, _machine


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--name', nargs='*', help='primitives; all by default')
  parser.add_argument('--count', type=int, default=20, help='instances of each form')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--shown', type=int, default=1, help='failures shown of each kind')
  options = parser.parse_args()
  jax.config.update('jax_numpy_dtype_promotion', 'strict')
  jax.config.update('jax_numpy_rank_promotion', 'raise')
  kinds = collections.Counter()
  with jax.enable_x64(True):
    for name in options.name or [name for name in _forms.FORMS if name in _forms.KNOWN]:
      report = _machine.check(name, options.count, options.seed)
      by_kind = collections.defaultdict(list)
      for failure in report.failures:
        by_kind[name, failure.form, failure.side].append(failure)
      for kind, found in by_kind.items():
        kinds[kind] = len(found)
        for failure in sorted(found, key=lambda failure: len(failure.text))[: options.shown]:
          print(f'\n{failure}')
      for each, label in report.idle:
        if each in _forms.KNOWN:
          print(f'{label} of {name}: nothing can be pruned, or {each} is not in it')
  print()
  for kind, number in kinds.items():
    print(*kind, number)
  return bool(kinds)


if __name__ == '__main__':
  sys.exit(main())
