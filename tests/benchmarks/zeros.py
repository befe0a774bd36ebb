"""What zeros are worth: an MLP with pruned kernels, in each form that they can take.

Run it with ``python -m tests.benchmarks.zeros``; prints how many times as fast as the dense MLP
each is, and as the last line the numbers as JSON; ``--help`` says what can be chosen. They take
turns, so that whatever else the machine does meets all of them alike; the ratios are those of
medians.
"""

import argparse
import json
import time

import jax
import numpy as np
from jax.experimental import sparse

import jprune

TOY = '--width 8 --hidden 16 --rows 2 --rounds 1 --block 4'
SPARSITIES = (0.5, 0.9, 0.99)


def dense(params, x):
  return jax.nn.relu(x @ params['up']) @ params['down']


def by_sparse_kernels(params, x):
  """On the left and transposed, as the sparse products want them."""
  return (params['down'] @ jax.nn.relu(params['up'] @ x.T)).T


def forms(params, x, block):
  """Name to ``(function, params)``."""
  masked = lambda *args, **options: jprune.apply(params, jprune.prune(params, *args, **options))
  found = {'dense': (dense, params)}
  for sparsity in SPARSITIES:
    zeros = masked(sparsity)
    found[f'masked, {sparsity:g}'] = dense, zeros
    kernels = {name: sparse.BCOO.fromdense(kernel.T) for name, kernel in zeros.items()}
    found[f'BCOO, {sparsity:g}'] = by_sparse_kernels, kernels
  found['2:4, masked'] = dense, masked(pattern=jprune.masks.NOfM(2, 4))
  found['blocks, masked, 0.9'] = dense, masked(0.9, pattern=jprune.masks.Block((block, block)))
  graph = jprune.graph.channels(dense, params, x)
  for sparsity in SPARSITIES[:2]:
    masks = jprune.masks.channels(jprune.scores.magnitude(params), graph, sparsity)
    small = jprune.shrink(dense, params, masks, x)
    found[f'shrunk, {sparsity:g} of the hidden units'] = small.fn, small.params
  return found


def medians(found, x, rounds):
  """Seconds of each; all take turns, and the first round compiles."""
  calls = {name: (jax.jit(fn), params) for name, (fn, params) in found.items()}
  times = {name: [] for name in calls}
  for _ in range(rounds + 1):
    for name, (fn, params) in calls.items():
      start = time.perf_counter()
      jax.block_until_ready(fn(params, x))
      times[name].append(time.perf_counter() - start)
  return {name: float(np.median(each[1:])) for name, each in times.items()}


def options(given):
  parser = argparse.ArgumentParser(prog='python -m tests.benchmarks.zeros')
  parser.add_argument('--width', type=int, default=1024)
  parser.add_argument('--hidden', type=int, default=4096)
  parser.add_argument('--rows', type=int, default=256)
  parser.add_argument('--rounds', type=int, default=11)
  parser.add_argument('--block', type=int, default=64, help='a side of the blocks of zeros')
  return parser.parse_args(given)


def main(given=None):
  chosen = options(given)
  keys = jax.random.split(jax.random.key(0), 3)
  params = {
    'up': jax.random.normal(keys[0], (chosen.width, chosen.hidden)),
    'down': jax.random.normal(keys[1], (chosen.hidden, chosen.width)),
  }
  x = jax.random.normal(keys[2], (chosen.rows, chosen.width))
  found = forms(params, x, chosen.block)
  # apart, since the large temporary arrays of sparse products slow down whoever comes next
  apart = {name: each for name, each in found.items() if each[0] is by_sparse_kernels}
  together = {name: each for name, each in found.items() if name not in apart}
  seconds = medians(together, x, chosen.rounds) | medians(apart, x, chosen.rounds)
  seconds = {name: seconds[name] for name in found}
  numbers = {name: seconds['dense'] / each for name, each in seconds.items()}
  sizes = f'{chosen.width} x {chosen.hidden} x {chosen.width}, {chosen.rows} rows'
  print(f'{sizes}, {jax.default_backend()}')
  for name, ratio in numbers.items():
    print(f'  {name:36} {1e3 * seconds[name]:9.2f} ms {ratio:8.3f} times as fast')
  print(json.dumps(numbers))


if __name__ == '__main__':
  main()
