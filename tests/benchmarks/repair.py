"""SparseGPT of one leaf side by side with the published algorithm in PyTorch, in one process.

Run it with ``python -m tests.benchmarks.repair``; prints a table of medians and ratios, and as the
last line all numbers as JSON. ``--inputs 512 --outputs 2048`` chooses the leaf, ``--help`` says
what else. PyTorch takes part if it is installed. Rivals take turns, so that whatever else the
machine does meets them alike. Of what ours does only the solver is timed, as of PyTorch's; the
first call, with compilation, stands apart.
"""

import argparse
import json
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

import jprune
from jprune.reconstruct import _alps_core, _counts, _least_squares, _sparsegpt_core
from tests.reference_repair import decaying, relative_error
from tests.stats import of_inputs

BLOCK, DAMPING, SPARSITY = 128, 0.01, 0.5
TORCH = 'PyTorch'


def published(w, gram, n_of_m=None):
  """Algorithm 1 of arXiv:2301.00774 as its authors wrote it; ``w`` is ``(outputs, inputs)``."""
  import torch

  w, h = w.clone(), gram.clone()
  columns = w.shape[1]
  dead = torch.diag(h) == 0
  h[dead, dead] = 1
  w[:, dead] = 0
  diagonal = torch.arange(columns)
  h[diagonal, diagonal] += DAMPING * torch.mean(torch.diag(h))
  inverse = torch.cholesky_inverse(torch.linalg.cholesky(h))
  u = torch.linalg.cholesky(inverse, upper=True)
  for begin in range(0, columns, BLOCK):
    end = min(begin + BLOCK, columns)
    own, root = w[:, begin:end].clone(), u[begin:end, begin:end]
    kept, errors = torch.zeros_like(own), torch.zeros_like(own)
    if n_of_m is None:
      scores = own**2 / torch.diag(root).reshape(1, -1) ** 2
      threshold = torch.sort(scores.flatten())[0][int(scores.numel() * SPARSITY)]
      mask = scores <= threshold
    else:
      mask = torch.zeros_like(own) == 1
    for i in range(end - begin):
      column, scale = own[:, i], root[i, i]
      if n_of_m is not None and i % n_of_m[1] == 0:
        n, m = n_of_m
        scores = own[:, i : i + m] ** 2 / torch.diag(root)[i : i + m].reshape(1, -1) ** 2
        mask.scatter_(1, i + torch.topk(scores, m - n, dim=1, largest=False)[1], True)
      new = column.clone()
      new[mask[:, i]] = 0
      kept[:, i] = new
      error = (column - new) / scale
      own[:, i:] -= error.unsqueeze(1).matmul(root[i, i:].unsqueeze(0))
      errors[:, i] = error
    w[:, begin:end] = kept
    w[:, end:] -= errors.matmul(u[begin:end, end:])
  return w


def seconds(call):
  begin = time.perf_counter()
  out = jax.block_until_ready(call())
  return out, time.perf_counter() - begin


def turns(calls, rounds):
  """Median seconds of each call; one round to warm up."""
  rng = np.random.default_rng(0)
  times = {name: [] for name in calls}
  for _ in range(rounds + 1):
    for name in rng.permutation(list(calls)):
      times[name].append(seconds(calls[name])[1])
  return {name: statistics.median(each[1:]) for name, each in times.items()}


def against_torch(w, x, gram, n_of_m, rounds):
  """Seconds of both, the first call of ours, and the relative errors that they leave."""
  inputs, outputs = w.shape
  use = of_inputs({'w': x[:1]}, {'w': outputs}, gram=False)['w'][0][0]
  heights = [min(BLOCK, inputs - begin) for begin in range(0, inputs, BLOCK)]
  counts = _counts.split_over_uses(round(SPARSITY * w.size), [use], [heights])[0]
  given = (jnp.asarray(w)[None], jnp.asarray(gram)[None], counts, _counts.orders(use), DAMPING)
  ours = lambda: _sparsegpt_core.solve(*given, block=BLOCK, n_of_m=n_of_m)
  out, first = seconds(ours)
  numbers = {'first call': first, 'error': relative_error(x, w, out.matrices[0])}
  calls = {'jprune': ours}
  try:
    import torch
  except ImportError:
    return numbers | turns(calls, rounds)
  theirs_given = torch.from_numpy(w.T.copy()), torch.from_numpy(2 * gram)
  threads = torch.get_num_threads()

  def theirs(number):
    torch.set_num_threads(number)
    return published(*theirs_given, n_of_m)

  numbers['error of PyTorch'] = relative_error(x, w, theirs(threads).numpy().T)
  # where others use the machine too, its threads wait for each other: the better one counts
  rivals = {TORCH: lambda: theirs(threads), f'{TORCH}, one thread': lambda: theirs(1)}
  numbers |= turns(calls | rivals, rounds)
  return numbers | {'ratio': numbers['jprune'] / min(numbers[name] for name in rivals)}


def others(w, gram, rounds):
  """Seconds of the other solvers on the same leaf, with every output a support of its own."""
  rng = np.random.default_rng(1)
  inputs, outputs = w.shape
  keep = rng.random(w.shape) < SPARSITY
  whole = np.repeat(keep[:, :1], outputs, axis=1)
  given = jnp.asarray(w)[None], jnp.asarray(gram)[None]
  orders = np.arange(inputs, dtype=np.int32) * np.int32(outputs), np.arange(outputs, dtype=np.int32)
  count = np.array([w.size // 2], np.int32)

  def refit(mask):
    shared, width = _least_squares.supports(mask[None])
    return _least_squares.solve(*given, jnp.asarray(mask)[None], 0.0, shared=shared, width=width)

  calls = {
    'least_squares, shared support': lambda: refit(whole),
    'least_squares': lambda: refit(keep),
    'alps': lambda: _alps_core.solve(*given, count, orders, DAMPING, jnp.zeros(1), (300, 10)),
  }
  return turns(calls, rounds)


def main():
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--inputs', type=int, default=1024)
  parser.add_argument('--outputs', type=int, default=1024)
  parser.add_argument('--rounds', type=int, default=7)
  parser.add_argument('--parts', nargs='*', default=['0.5', '2:4', 'others'])
  args = parser.parse_args()
  rng = np.random.default_rng(0)
  x = decaying(rng, 2 * args.inputs, args.inputs).astype(np.float32)
  w = rng.normal(size=(args.inputs, args.outputs)).astype(np.float32)
  gram = x.T @ x / np.float32(len(x))
  print(f'jprune {jprune.__version__}, {args.inputs} x {args.outputs}, {jax.default_backend()}')
  numbers = {}
  for name, n_of_m in (('0.5', None), ('2:4', (2, 4))):
    if name in args.parts:
      numbers[name] = against_torch(w, x, gram, n_of_m, args.rounds)
  if 'others' in args.parts:
    numbers['others'] = others(w, gram, 1)
  for name, each in numbers.items():
    print(f'\n{name}')
    for key, value in each.items():
      print(f'  {key:30} {value:10.4f}')
  print(json.dumps(numbers))


if __name__ == '__main__':
  main()
