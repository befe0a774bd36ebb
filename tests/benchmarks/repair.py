"""SparseGPT of one leaf side by side with the published algorithm in PyTorch, in one process.

Run it with ``python -m tests.benchmarks.repair``; prints a table of medians and ratios, and as the
last line all numbers as JSON. ``--inputs 512 --outputs 2048`` chooses the leaf, ``--help`` says
what else. PyTorch takes part if it is installed. Rivals take turns, so that whatever else the
machine does meets them alike. Ours is the call that users make, which also looks for weights and
statistics that aren't finite and reports errors; the first call, with compilation, stands apart.
"""

import argparse
import json
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

import jprune
from jprune import reconstruct
from tests.reference_repair import decaying, relative_error

TOY = '--inputs 16 --outputs 8 --rounds 1'
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


def against_torch(w, x, gram, stats, n_of_m, rounds):
  """Seconds of both, the first call of ours, and the relative errors that they leave."""
  share = {'sparsity': SPARSITY} if n_of_m is None else {'pattern': jprune.masks.NOfM(*n_of_m)}
  params = {'w': jnp.asarray(w)}
  ours = lambda: reconstruct.sparsegpt(params, stats, **share, block=BLOCK, damping=DAMPING)[0]
  out, first = seconds(ours)
  numbers = {'first call': first, 'error': relative_error(x, w, out['w'])}
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


def others(w, stats, rounds):
  """Seconds of the other solvers on the same leaf, with every output a support of its own."""
  keep = np.random.default_rng(1).random(w.shape) < SPARSITY
  whole = np.repeat(keep[:, :1], w.shape[1], axis=1)
  params = {'w': jnp.asarray(w)}
  refit = lambda mask: reconstruct.least_squares(params, masks={'w': mask}, stats=stats)[0]
  calls = {
    'least_squares, shared support': lambda: refit(jnp.asarray(whole)),
    'least_squares': lambda: refit(jnp.asarray(keep)),
    'alps': lambda: reconstruct.alps(params, stats, sparsity=SPARSITY, damping=DAMPING)[0],
  }
  return turns(calls, rounds)


def main(given=None):
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--inputs', type=int, default=1024)
  parser.add_argument('--outputs', type=int, default=1024)
  parser.add_argument('--rounds', type=int, default=7)
  parser.add_argument('--parts', nargs='*', default=['0.5', '2:4', 'others'])
  args = parser.parse_args(given)
  rng = np.random.default_rng(0)
  x = decaying(rng, 2 * args.inputs, args.inputs).astype(np.float32)
  w = rng.normal(size=(args.inputs, args.outputs)).astype(np.float32)
  gram = x.T @ x / np.float32(len(x))
  product = lambda params, x: x @ params['w']
  _, stats = jprune.graph.capture(product, {'w': w}, x, gram=True)
  print(f'jprune {jprune.__version__}, {args.inputs} x {args.outputs}, {jax.default_backend()}')
  numbers = {}
  for name, n_of_m in (('0.5', None), ('2:4', (2, 4))):
    if name in args.parts:
      numbers[name] = against_torch(w, x, gram, stats, n_of_m, args.rounds)
  if 'others' in args.parts:
    numbers['others'] = others(w, stats, 1)
  for name, each in numbers.items():
    print(f'\n{name}')
    for key, value in each.items():
      print(f'  {key:30} {value:10.4f}')
  print(json.dumps(numbers))


if __name__ == '__main__':
  main()
