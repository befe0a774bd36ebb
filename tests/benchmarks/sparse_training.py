"""What training sparse adds to a training step of 21 million params in 300 leaves.

Run it with ``python -m tests.benchmarks.sparse_training``; prints ratios to the dense step with the
same AdamW, and as the last line the numbers as JSON; ``--help`` says what can be chosen. Steps take
turns, and a ratio is the median over the rounds. Masks change on one step of a hundred; that step
is timed apart, and counts for a hundredth. Seconds to compile are those of the processor, whatever
else it does.
"""

import argparse
import itertools
import json
import resource
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jprune.schedules import cubic
from jprune.transforms import gradual, rigl

TOY = '--leaves 3 --width 8 --steps 1 --changes 1'
BATCH = 64
EVERY = 100
END = 2000


def loss_fn(params, x):
  for index, kernel in enumerate(params):
    x = x @ kernel
    if index % 10 == 9:
      x = jnp.tanh(x)
  return jnp.mean(x**2)


def init_params(widths):
  keys = jax.random.split(jax.random.key(0), len(widths) - 1)
  shapes = itertools.pairwise(widths)
  return [jax.random.normal(key, shape) / shape[0] ** 0.5 for key, shape in zip(keys, shapes)]


def optimizers():
  adamw = optax.adamw(1e-3)
  start = {'every': EVERY, 'end': END, 'key': jax.random.key(1)}
  return {
    'dense': adamw,
    'gradual': gradual(adamw, cubic(0.0, 0.9, 0, END), every=EVERY),
    'gradual, packed': gradual(adamw, cubic(0.0, 0.9, 0, END), every=EVERY, packed=True),
    'rigl': rigl(adamw, 0.9, **start),
    'rigl without a clock': rigl(adamw, 0.9, clock=False, **start),
  }


def processor_seconds():
  used = resource.getrusage(resource.RUSAGE_SELF)
  return used.ru_utime + used.ru_stime


class Run:
  """One training run, which goes on where it stopped."""

  def __init__(self, name, tx, x, widths):
    self.sparse = name != 'dense'
    self.params = init_params(widths)
    self.state = jax.block_until_ready(jax.jit(tx.init)(self.params))

    def step(params, state, x):
      grads = jax.grad(loss_fn)(params, x)
      updates, state = tx.update(grads, state, params)
      return optax.apply_updates(params, updates), state

    begin = processor_seconds()
    lowered = jax.jit(step, donate_argnums=(0, 1)).lower(self.params, self.state, x)
    self.step = lowered.compile()
    self.seconds = processor_seconds() - begin
    self.temporary = self.step.memory_analysis().temp_size_in_bytes

  def timed(self, x, count):
    """Seconds of a step that is the call with this count."""
    if self.sparse:
      self.state = self.state._replace(count=jnp.asarray(count, jnp.int32))
    start = time.perf_counter()
    self.params, self.state = jax.block_until_ready(self.step(self.params, self.state, x))
    return time.perf_counter() - start

  def state_bytes(self):
    """Bytes of the state over those of the inner optimizer's, of each weight."""
    size = lambda node: sum(leaf.nbytes for leaf in jax.tree.leaves(node))
    inner = self.state.inner if self.sparse else self.state
    return (size(self.state) - size(inner)) / size(self.params) * 4


def rounds(runs, x, counts):
  """Seconds of each step of each run, which take turns."""
  times = {name: [] for name in runs}
  names = list(runs)
  for index, count in enumerate(counts):
    first = index % len(names)  # whoever comes first finds a cold cache
    for name in names[first:] + names[:first]:
      times[name].append(runs[name].timed(x, count))
  return {name: np.array(seconds) for name, seconds in times.items()}


def options(given):
  parser = argparse.ArgumentParser(prog='python -m tests.benchmarks.sparse_training')
  parser.add_argument('--leaves', type=int, default=300)
  parser.add_argument('--width', type=int, default=460, help='the largest of a layer')
  parser.add_argument('--steps', type=int, default=24, help='without a change of the masks')
  parser.add_argument('--changes', type=int, default=5, help='steps with one')
  return parser.parse_args(given)


def main(given=None):
  chosen = options(given)
  least = min(64, chosen.width - 1)
  widths = np.random.default_rng(0).integers(least, chosen.width, chosen.leaves + 1).tolist()
  x = jnp.ones((BATCH, widths[0]))
  runs = {name: Run(name, tx, x, widths) for name, tx in optimizers().items()}
  dense = runs['dense']
  rounds(runs, x, [EVERY, 1])  # warm
  plain = rounds(runs, x, [1 + i for i in range(chosen.steps)])
  changes = rounds(runs, x, [EVERY * (2 + i) for i in range(chosen.changes)])
  print(f'\ndense step {1e3 * np.median(plain["dense"]):.0f} ms, {dense.seconds:.1f} s to compile')
  print('of dense: amortised, plain, with a change; bytes a weight: state, temporary; s to compile')
  numbers = {}
  for name, run in runs.items():
    if not run.sparse:
      continue
    step = float(np.median(plain[name] / plain['dense']))
    change = float(np.median(changes[name] / changes['dense']))
    weights = sum(leaf.size for leaf in run.params)
    numbers[name] = {
      'amortised': ((EVERY - 1) * step + change) / EVERY,
      'step': step,
      'change': change,
      'state': run.state_bytes(),
      'temporary': (run.temporary - dense.temporary) / weights,
      'compilation': run.seconds - dense.seconds,
    }
    row = ', '.join(f'{value:.3f}' for value in numbers[name].values())
    print(f'  {name:22} {row}')
  print(json.dumps(numbers))


if __name__ == '__main__':
  main()
