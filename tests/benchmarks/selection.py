"""Exact-k and N:M selection side by side with other ways, in one process on one device.

Run it with ``python -m tests.benchmarks.selection`` (with ``long`` for one leaf of more than 2**31
weights and nothing else); prints a table of ratios and, as the last line, all numbers as JSON;
``--help`` says what can be chosen. PyTorch takes part if it is installed. All rivals take turns, so
that whatever else the machine does meets them alike; numbers are medians.
"""

import argparse
import json
import statistics
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jprune

TOY = '64 --narrow 64 --leaves 7 --width 8 --side 16'
KEPT = 0.2
READ, OURS, SORTS = 'one read (jnp.max)', 'jprune in jit', 'two argsorts'
SIZES = (1e6, 1e7, 1e8)


def seconds(calls, rounds):
  """Median seconds of each call, the calls taking turns; one round to warm up."""
  times = {name: [] for name in calls}
  for _ in range(rounds + 1):
    for name, call in calls.items():
      begin = time.perf_counter()
      jax.block_until_ready(call())
      times[name].append(time.perf_counter() - begin)
  return {name: statistics.median(each[1:]) for name, each in times.items()}


def scores_of(size, dtype='float32'):
  return jax.block_until_ready(jnp.abs(jax.random.normal(jax.random.key(0), (size,), dtype)))


def torch_selection(x):
  """What torch.nn.utils.prune.global_unstructured does to choose: topk and a scatter."""
  try:
    import torch
  except ImportError:
    return None
  scores = torch.from_numpy(np.array(x, np.float32))
  prune = round((1 - KEPT) * scores.numel())

  def select():
    mask = torch.ones_like(scores)
    mask[torch.topk(scores, k=prune, largest=False).indices] = 0
    return mask.numpy()

  return select


def select(x):
  return jprune.masks.top_k_global({'w': x}, 1 - KEPT)['w']


def argpartition(x):
  prune = x.size - round(KEPT * x.size)
  mask = np.ones(x.size, bool)
  mask[np.argpartition(x, prune)[:prune]] = False
  return mask


def one_leaf(size, dtype='float32'):
  """Seconds of every way to select from one leaf; temporaries as a fraction of the scores."""
  x = scores_of(size, dtype)
  k = round(KEPT * size)
  compiled = jax.jit(select).lower(x).compile()
  sort = jax.jit(lambda x: jnp.zeros(x.size, bool).at[jnp.argsort(x)[-k:]].set(True))
  held = np.asarray(x, np.float32)
  read = jax.jit(jnp.max)
  fast = {
    READ: lambda: read(x),
    OURS: lambda: compiled(x),
    'jprune on concrete arrays': lambda: select(x),
  }
  times = seconds(fast, 9)
  if dtype == 'float32':
    slow = {'np.argpartition + scatter': lambda: argpartition(held)}
    if size < 10**8:  # sorting more would take minutes
      slow['jnp.argsort'] = lambda: sort(x)
      if rival := torch_selection(x):
        slow['torch topk + scatter'] = rival
    times |= seconds(slow, 3 if size < 10**8 else 1)
  if size == 10**8:
    times['jprune in jit, old mask donated'] = donated(x)
  times['temporaries'] = compiled.memory_analysis().temp_size_in_bytes / x.nbytes
  return times


def donated(x):
  again = jax.jit(lambda x, old: select(x), donate_argnums=1, keep_unused=True)
  mask = again(x, jnp.zeros(x.shape, bool))
  times = []
  for _ in range(7):
    begin = time.perf_counter()
    mask = jax.block_until_ready(again(x, mask))
    times.append(time.perf_counter() - begin)
  return statistics.median(times)


def long_leaf(rows=2**11 + 1, columns=2**20):
  """Seconds for a flat bfloat16 leaf whose indices don't fit int32; takes 9 GiB of memory."""
  size = rows * columns

  @jax.jit
  def draw():
    key = jnp.arange(4, dtype=jnp.uint32)
    bits = lax.rng_bit_generator(key, (rows, columns), jnp.uint16)[1]
    return lax.bitcast_convert_type(bits & 0x7EFF, jnp.bfloat16).reshape(-1)  # finite

  scores = jax.block_until_ready(draw())
  begin = time.perf_counter()
  compiled = jax.jit(select).lower(scores).compile()
  compilation = time.perf_counter() - begin
  begin = time.perf_counter()
  mask = jax.block_until_ready(compiled(scores))
  taken = time.perf_counter() - begin
  kept = sum(int(part.sum()) for part in np.array_split(np.asarray(mask), 64))
  assert kept == size - round((1 - KEPT) * size)
  temporaries = compiled.memory_analysis().temp_size_in_bytes / scores.nbytes
  return {'seconds': taken, 'compilation': compilation, 'temporaries': temporaries}


def many_leaves(count, width):
  """Leaves of mixed shapes, as a model has them: first call, compilation, runs."""
  half, quarter, eighth = width // 2, width // 4, width // 8
  matrices = [(width, width), (width, 4 * width), (4 * width, width), (3 * half, half)]
  shapes = [*matrices, (width,), (3, 3, quarter, quarter), (eighth, eighth)]
  leaves = {
    str(i): jnp.abs(jax.random.normal(jax.random.key(i), shapes[i % len(shapes)]))
    for i in range(count)
  }
  out = {'weights': sum(leaf.size for leaf in leaves.values())}
  ways = {
    'global': lambda leaves: jprune.masks.top_k_global(leaves, 0.8),
    'each': lambda leaves: jprune.masks.top_k(leaves, 0.8),
  }
  for name, way in ways.items():
    begin = time.perf_counter()
    jax.block_until_ready(way(leaves))
    out[f'{name}: first call'] = time.perf_counter() - begin
    begin = time.perf_counter()
    compiled = jax.jit(way).lower(leaves).compile()
    out[f'{name}: compilation in jit'] = time.perf_counter() - begin
    calls = {'concrete': partial(way, leaves), 'jit': partial(compiled, leaves)}
    for call, each in seconds(calls, 3).items():
      out[f'{name}: {call}'] = each
    temporaries = compiled.memory_analysis().temp_size_in_bytes
    out[f'{name}: temporaries'] = temporaries / (4 * out['weights'])
  return out


def n_of_m(n, m, side):
  """Seconds at side x side along the contraction axis."""
  x = jnp.abs(jax.random.normal(jax.random.key(0), (side, side)))

  @jax.jit
  def two_sorts(x):
    groups = x.reshape(-1, m, side)
    rank = jnp.argsort(jnp.argsort(-groups, axis=1), axis=1)
    return (rank < n).reshape(x.shape)

  ours = jax.jit(lambda x: jprune.masks.n_of_m({'w': x}, n, m)['w'])
  return seconds({OURS: lambda: ours(x), SORTS: lambda: two_sorts(x)}, 3)


def report(name, times):
  """Prints every time as a multiple of one read, and of jprune's."""
  print(f'\n{name}')
  for key, value in times.items():
    if key == 'temporaries':
      print(f'  {key:34} {100 * value:9.2f} % of the scores')
    else:
      reads, ours = value / times[READ], value / times[OURS]
      print(f'  {key:34} {1e3 * value:9.2f} ms {reads:9.2f} x a read {ours:9.2f} x jprune')


def options(given):
  parser = argparse.ArgumentParser(prog='python -m tests.benchmarks.selection')
  size = lambda word: word if word == 'long' else int(float(word))
  parser.add_argument('sizes', type=size, nargs='*', default=[int(size) for size in SIZES])
  parser.add_argument('--narrow', type=size, default=10**7, help='size of the bfloat16 leaf')
  parser.add_argument('--leaves', type=int, default=300, help='of mixed shapes')
  parser.add_argument('--width', type=int, default=512, help='of most of these')
  parser.add_argument('--side', type=int, default=4096, help='of the matrix for n:m')
  return parser.parse_args(given)


def main(given=None):
  chosen = options(given)
  if chosen.sizes == ['long']:
    print(json.dumps(long_leaf()))
    return
  numbers = {}
  for size in chosen.sizes:
    numbers[f'{size:.0e}'] = one_leaf(size)
    report(f'one leaf of {size:.0e} float32', numbers[f'{size:.0e}'])
  numbers['bf16'] = one_leaf(chosen.narrow, 'bfloat16')
  report(f'one leaf of {chosen.narrow:.0e} bfloat16', numbers['bf16'])
  for n, m in ((2, 4), (4, 8)):
    times = numbers[f'{n}:{m}'] = n_of_m(n, m, chosen.side)
    of = f'{n}:{m} of {chosen.side} x {chosen.side}'
    print(f'\n{of}: two argsorts take {times[SORTS] / times[OURS]:.0f} x jprune')
  leaves = f'{chosen.leaves} leaves'
  numbers[leaves] = many_leaves(chosen.leaves, chosen.width)
  print(f'\n{leaves} of mixed shapes')
  for key, value in numbers[leaves].items():
    print(f'  {key:34} {value:12.3f}')
  print(json.dumps(numbers))


if __name__ == '__main__':
  main()
