"""Prunes a decoder from a checkpoint under a limit of memory, in a process of its own.

``python -m tests.reconstruct.streamed_memory FOLDER LAYERS [LIMIT]`` prints as JSON how much memory the
process came to hold beyond what it held once all was compiled, in bytes, and the bytes of the params.
"""

import json
import os
import resource
import sys

import jax
import numpy as np

import jprune
from jprune import reconstruct
from tests.reconstruct.test_one_pass import HOW, unrolled

WIDTH, HIDDEN, TOKENS = 256, 1024, 300


def layer(rng):
  draw = lambda *shape: (rng.standard_normal(shape) / 16).astype(np.float32)
  square = {name: draw(WIDTH, WIDTH) for name in 'qkvo'}
  wide = {'gate': draw(WIDTH, HIDDEN), 'up': draw(WIDTH, HIDDEN), 'down': draw(HIDDEN, WIDTH)}
  return square | wide | {'norm': np.ones((1, 1, WIDTH), np.float32)}


def decoder(count):
  rng = np.random.default_rng(0)
  table = rng.standard_normal((11, WIDTH)).astype(np.float32)
  return {'table': table, 'layers': [layer(rng) for _ in range(count)]}


def batches():
  rng = np.random.default_rng(1)
  return [rng.integers(0, 11, size=(2, TOKENS // 2)) for _ in range(2)]


def of_process(name):
  """A line of its status, in bytes."""
  with open('/proc/self/status') as file:
    (line,) = [line for line in file if line.startswith(name + ':')]
  return int(line.split()[1]) * 1024


def prune(folder, name):
  with jprune.io.open(os.path.join(folder, name)) as model:
    out = os.path.join(folder, f'{name}-pruned')
    return reconstruct.prune(
      unrolled, model, batches(), out=out, max_shard_size='8MB', cache_dir=folder, **HOW
    )


if __name__ == '__main__':
  folder, layers, *limit = sys.argv[1:]
  prune(folder, '1')
  before = of_process('VmRSS')
  if limit:
    most = of_process('VmData') + int(limit[0])
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
  with open('/proc/self/clear_refs', 'w') as file:
    file.write('5')  # the peak is counted anew
  pruned, masks, _ = prune(folder, layers)
  peak = of_process('VmHWM') - before
  size = sum(leaf.nbytes for leaf in jax.tree.leaves(pruned.params))
  print(json.dumps({'peak': peak, 'params': size}))
