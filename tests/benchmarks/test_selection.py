"""Selection against sorting, partitioning and PyTorch: ratios measured in one process.

In a process of its own, because the test session has eight virtual devices.
"""

import json
import os
import subprocess
import sys
from pathlib import Path


def measure():
  env = {key: value for key, value in os.environ.items() if key != 'XLA_FLAGS'}
  command = [sys.executable, '-m', 'tests.benchmarks.selection']
  root = Path(__file__).parents[2]
  done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=True)
  table, _, numbers = done.stdout.rstrip().rpartition('\n')
  print(table)
  return json.loads(numbers)


def test_selection(benchmark):
  numbers = benchmark.pedantic(measure, rounds=1)
  benchmark.extra_info.update(numbers)
  assert set(numbers) >= {'1e+06', '1e+07', '1e+08', 'bf16', '2:4', '4:8', '300 leaves'}
