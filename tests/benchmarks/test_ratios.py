"""Everything that is timed: ratios of things that took turns in one process.

Each in a process of its own, because the test session has eight virtual devices.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def numbers_of(module):
  env = {key: value for key, value in os.environ.items() if key != 'XLA_FLAGS'}
  command = [sys.executable, '-m', f'tests.benchmarks.{module}']
  done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
  table, _, numbers = done.stdout.rstrip().rpartition('\n')
  print(table)
  return json.loads(numbers)


@pytest.mark.parametrize(
  ('module', 'names'),
  [
    ('selection', {'1e+06', '1e+07', '1e+08', 'bf16', '2:4', '4:8', '300 leaves'}),
    ('training_step', {'bool', 'packed'}),
    ('structure', {'vit', 'llama', 'layers', 'latency'}),
    ('capture', {'scanned', 'unrolled'}),
    ('repair', {'0.5', '2:4', 'others'}),
    (
      'libraries',
      {'masks', 'masks at once', 'training', 'shrink', 'sparsegpt', 'sparsegpt 2:4'},
    ),
    (
      'sparse_training',
      {'gradual', 'gradual, packed', 'rigl', 'rigl without a clock'},
    ),
    (
      'zeros',
      {'dense', '2:4, masked', 'blocks, masked, 0.9'}
      | {f'{form}, {share}' for form in ('masked', 'BCOO') for share in (0.5, 0.9, 0.99)}
      | {f'shrunk, {share} of the hidden units' for share in (0.5, 0.9)},
    ),
  ],
)
def test_ratios(benchmark, module, names):
  numbers = benchmark.pedantic(numbers_of, args=(module,), rounds=1)
  benchmark.extra_info.update(numbers)
  assert set(numbers) == names
