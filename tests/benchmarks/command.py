"""What the command line takes for a file of 1 GiB: time and peak resident memory.

Run it with ``python -m tests.benchmarks.command``; it needs 4 GiB of disk in the temporary folder
and about 1 GiB of memory. Each command is a process of its own, measured by the system: the peak is
all that was resident at once, Python and JAX included; the time is also given as that of the
processors, which doesn't count what others do. The last line holds the numbers as JSON;
``--help`` says what can be chosen.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
from safetensors.numpy import save_file

TOY = '--leaves 1 --commands 4'
MIB = 2**20
LEAVES = [256, *[128] * 5, *[64] * 2]  # MiB of float32 leaves; 1 GiB in all
COMMANDS = {
  'help': ['--help'],  # without JAX
  'start only': ['tally', 'EMPTY'],
  'tally': ['tally', 'IN'],
  **{
    options: ['prune', 'IN', 'OUT', '--force', *options.split()]
    for options in (
      '--sparsity .5',
      '--sparsity .5 --distribution erk',
      '--sparsity .5 --distribution global',
      '--sparsity .5 --format dense',
      '--sparsity .5 --scorer random',
      '--sparsity .02',
      '--n-of-m 2:4',
    )
  },
  'to a folder, --sparsity .5': [
    *('prune', 'IN', 'FOLDER', '--sparsity', '.5', '--format', 'dense'),
    *('--max-shard-size', '300MB'),
  ],
  'of a folder, --distribution global': [
    *('prune', 'FOLDER', 'FOLDER2', '--sparsity', '.7', '--distribution', 'global'),
  ],
}


def write(path, sizes):
  """A file of normal weights, as PyTorch would have saved it; returns its size in MiB."""
  rng = np.random.default_rng(0)
  tensors = {
    f'layers.{i}.weight': rng.standard_normal((4096, size * MIB // 4 // 4096), np.float32)
    for i, size in enumerate(sizes)
  }
  save_file(tensors, path, metadata={'format': 'pt'})
  return os.path.getsize(path) / MIB


def measured(command):
  """Seconds, those of the processors, and the peak resident memory in MiB, of one process."""
  start = time.perf_counter()
  process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
  _, status, usage = os.wait4(process.pid, 0)  # of this child alone, unlike RUSAGE_CHILDREN
  process.returncode = os.waitstatus_to_exitcode(status)
  if process.returncode:
    raise subprocess.CalledProcessError(process.returncode, command)
  unit = 1 if sys.platform == 'darwin' else 1024
  busy = usage.ru_utime + usage.ru_stime
  return time.perf_counter() - start, busy, usage.ru_maxrss * unit / MIB


def main(given=None):
  parser = argparse.ArgumentParser(prog='python -m tests.benchmarks.command')
  parser.add_argument('--leaves', type=int, nargs='+', default=LEAVES, help='MiB of each')
  parser.add_argument('--commands', type=int, help='the first so many; all by default')
  chosen = parser.parse_args(given)
  numbers = {}
  with tempfile.TemporaryDirectory() as folder:
    names = {
      name: os.path.join(folder, name) for name in ('IN', 'EMPTY', 'OUT', 'FOLDER', 'FOLDER2')
    }
    # in a process of its own: a child's peak counts from what its parent held at the fork
    make = 'from tests.benchmarks.command import write; '
    make += f'write({names["EMPTY"]!r}, [0]); print(write({names["IN"]!r}, {chosen.leaves}))'
    size = float(
      subprocess.run([sys.executable, '-c', make], check=True, stdout=subprocess.PIPE).stdout
    )
    print(f'{size:.0f} MiB, the largest leaf {max(chosen.leaves)} MiB, {os.cpu_count()} CPU cores')
    for name, words in list(COMMANDS.items())[: chosen.commands]:
      command = [sys.executable, '-m', 'jprune', *(names.get(word, word) for word in words)]
      seconds, busy, peak = measured(command)
      numbers[name] = {'seconds': seconds, 'processor seconds': busy, 'peak MiB': peak}
      start = numbers.get('start only', numbers['help'])
      leaves = (peak - start['peak MiB']) / max(chosen.leaves)
      print(
        f'  {name:34} {seconds:5.1f} s {busy:5.1f} s {peak:5.0f} MiB {leaves:5.2f} leaves',
        flush=True,
      )
  print(json.dumps(numbers))


if __name__ == '__main__':
  main()
