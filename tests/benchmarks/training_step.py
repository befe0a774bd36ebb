"""What ``keep_pruned`` adds to a training step of 20 million params.

Run it with ``python -m tests.benchmarks.training_step``; prints the ratio of step times, and as
the last line the numbers as JSON; ``--help`` says what can be chosen. Dense and masked steps take
turns, and the ratio is the median over the rounds, so that whatever else the machine does meets all
of them alike.
"""

import argparse
import functools
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jprune.masks import pack
from jprune.transforms import keep_pruned

TOY = '--widths 8 16 4 --steps 2'
WIDTHS = (1000, 2500, 2500, 2500, 2000, 500)
BATCH = 8
WARM = 3  # steps that aren't counted: the first one compiles


def loss_fn(params, x):
  for index in range(len(params)):
    layer = params[f'Dense_{index}']
    x = jnp.tanh(x @ layer['kernel'] + layer['bias'][None])
  return jnp.mean(x**2)


def init_params(widths):
  keys = jax.random.split(jax.random.key(0), len(widths) - 1)
  return {
    f'Dense_{index}': {
      'kernel': jax.random.normal(key, (rows, cols)) / rows**0.5,
      'bias': jnp.zeros(cols),
    }
    for index, (key, rows, cols) in enumerate(zip(keys, widths[:-1], widths[1:], strict=True))
  }


def init_masks(params):
  keep = lambda leaf: jnp.abs(leaf) > jnp.std(leaf) if leaf.ndim == 2 else None
  return jax.tree.map(keep, params)


class Run:
  """One training run, which goes on where it stopped."""

  def __init__(self, tx, widths):
    self.carry = jax.jit(lambda params: (params, tx.init(params)))(init_params(widths))

    @functools.partial(jax.jit, donate_argnums=0)
    def step(carry, x):
      params, state = carry
      grads = jax.grad(loss_fn)(params, x)
      updates, state = tx.update(grads, state, params)
      return optax.apply_updates(params, updates), state

    self.step = step

  def timed(self, x):
    start = time.perf_counter()
    self.carry = jax.block_until_ready(self.step(self.carry, x))
    return time.perf_counter() - start


def step_times(widths, steps):
  """Seconds of each step: dense, with bool masks, with packed masks."""
  masks = init_masks(init_params(widths))
  adam = optax.adam(1e-3)
  ways = {
    'dense': adam,
    'bool': optax.chain(adam, keep_pruned(masks)),
    'packed': optax.chain(adam, keep_pruned(pack(masks))),
  }
  runs = {name: Run(tx, widths) for name, tx in ways.items()}
  x = jnp.ones((BATCH, widths[0]))
  times = {name: [] for name in runs}
  names = list(runs)
  for index in range(WARM + steps):
    for name in names[index % 3 :] + names[: index % 3]:  # whoever comes first finds a cold cache
      times[name].append(runs[name].timed(x))
  return {name: np.array(seconds[WARM:]) for name, seconds in times.items()}


def main(given=None):
  parser = argparse.ArgumentParser(prog='python -m tests.benchmarks.training_step')
  parser.add_argument('--widths', type=int, nargs='+', default=WIDTHS)
  parser.add_argument('--steps', type=int, default=60, help='that are counted')
  chosen = parser.parse_args(given)
  times = step_times(chosen.widths, chosen.steps)
  ratios = {name: float(np.median(times[name] / times['dense'])) for name in ('bool', 'packed')}
  print(f'\ndense step {1e3 * np.median(times["dense"]):.1f} ms; with keep_pruned:')
  for name, ratio in ratios.items():
    print(f'  {name:6} masks {ratio:.3f} x dense')
  print(json.dumps(ratios))


if __name__ == '__main__':
  main()
