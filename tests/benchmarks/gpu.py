"""All that is measured on a GPU, in one go, and the table of it in docs/performance.md.

Run it with ``python -m tests.benchmarks.gpu`` where JAX finds a GPU. It runs the tests that are
marked ``gpu``, then the benchmarks, one process after the other, and writes what they print between
the two comments in the page, under the name of the device. ``--allow-cpu --small --out FILE`` tries
it where there is none.
"""

import argparse
import importlib
import json
import os
import pathlib
import subprocess
import sys

PAGE = pathlib.Path(__file__).parents[2] / 'docs' / 'performance.md'
BEGIN, END = '<!-- GPU table: begin -->', '<!-- GPU table: end -->'
TOY = '--allow-cpu --small --parts training_step --no-tests --out -'
# Which of all the benchmarks, and what they are asked for.
PARTS = {
  'selection': '1e6 1e7 1e8',
  'training_step': '',
  'capture': '',
  'repair': '',
  'structure': '--parts latency vit_latency',
}
_DEVICE = (
  'import jax; found = jax.devices()[0];'
  'print(found.platform, found.device_kind, jax.__version__, sep="|")'
)


def python(*args, **variables):
  """What another process prints: this one never takes the device's memory."""
  env = os.environ | variables
  done = subprocess.run([sys.executable, *args], stdout=subprocess.PIPE, text=True, env=env)
  if done.returncode:
    raise SystemExit(f'{" ".join(args)}: failed\n{done.stdout[-2000:]}')
  return done.stdout


def tests(platform):
  """The last line of the tests that are marked; they all have to pass."""
  args = ('-m', 'pytest', '-m', 'gpu', '-p', 'no:cacheprovider', '-n', '0', 'tests/test_gpu.py')
  return python(*args, JPRUNE_GPU_TESTS=platform).rstrip().splitlines()[-1]


def measured(part, small):
  """The numbers of a benchmark, as it names them."""
  name = f'tests.benchmarks.{part}'
  options = importlib.import_module(name).TOY if small else PARTS[part]
  if part == 'structure' and small:
    options += ' --parts latency vit_latency'
  return json.loads(python('-m', name, *options.split()).rstrip().splitlines()[-1])


def flat(numbers, above=()):
  """Pairs of a name and a number, of nested dicts and lists."""
  if isinstance(numbers, (int, float)):
    yield ', '.join(above), numbers
    return
  each = numbers.items() if isinstance(numbers, dict) else enumerate(numbers)
  for key, value in each:
    yield from flat(value, (*above, str(key)))


def table(device, version, found):
  lines = [f'Measured on one {device}, with JAX {version}.', '', '| Benchmark | What | |']
  lines.append('|---|---|---|')
  for part, numbers in found.items():
    lines += [f'| {part} | {name} | {number:,.4g} |' for name, number in flat(numbers)]
  return '\n'.join(lines)


def write(page, text):
  """Puts a text between the two comments of a page."""
  before, _, rest = page.read_text().partition(BEGIN)
  _, found, after = rest.partition(END)
  if not found:
    raise SystemExit(f'{page} must hold {BEGIN} and, below, {END}')
  page.write_text(f'{before}{BEGIN}\n{text}\n{END}{after}')


def options(given):
  parser = argparse.ArgumentParser(prog='python -m tests.benchmarks.gpu')
  parser.add_argument('--parts', nargs='+', choices=PARTS, default=list(PARTS))
  parser.add_argument('--allow-cpu', action='store_true', help='where there is no GPU')
  parser.add_argument('--small', action='store_true', help='toy sizes')
  parser.add_argument('--no-tests', action='store_true', help='benchmarks only')
  parser.add_argument('--out', default=PAGE, help='the page that is written; - for none')
  return parser.parse_args(given)


def main(given=None):
  chosen = options(given)
  platform, device, version = python('-c', _DEVICE).strip().splitlines()[-1].split('|')
  if platform != 'gpu' and not chosen.allow_cpu:
    raise SystemExit(f'there is no GPU: JAX found {device}. --allow-cpu --small tries the script.')
  if platform != 'gpu' and pathlib.Path(chosen.out) == PAGE:
    raise SystemExit('numbers that are of no GPU stay out of the page: name another file as --out.')
  if not chosen.no_tests:
    print(tests(platform))
  found = {part: measured(part, chosen.small) for part in chosen.parts}
  text = table(device, version, found)
  if chosen.out != '-':
    write(pathlib.Path(chosen.out), text)
  print(text)
  print(json.dumps(found))


if __name__ == '__main__':
  main()
