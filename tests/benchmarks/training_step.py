"""What ``keep_pruned`` adds to a training step of 20 million params.

Run it with ``python -m tests.benchmarks.training_step``; prints the ratio of step times, and as
the last line the numbers as JSON. Dense and masked steps take turns, and the ratio is the median
over the rounds, so that whatever else the machine does meets all of them alike.
"""

import functools
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jprune.masks import pack
from jprune.transforms import keep_pruned

WIDTHS = (1000, 2500, 2500, 2500, 2000, 500)
BATCH = 8
STEPS = 63


def loss_fn(params, x):
  for index in range(len(WIDTHS) - 1):
    layer = params[f'Dense_{index}']
    x = jnp.tanh(x @ layer['kernel'] + layer['bias'][None])
  return jnp.mean(x**2)


def init_params():
  keys = jax.random.split(jax.random.key(0), len(WIDTHS) - 1)
  return {
    f'Dense_{index}': {
      'kernel': jax.random.normal(key, (rows, cols)) / rows**0.5,
      'bias': jnp.zeros(cols),
    }
    for index, (key, rows, cols) in enumerate(zip(keys, WIDTHS[:-1], WIDTHS[1:], strict=True))
  }


def init_masks(params):
  keep = lambda leaf: jnp.abs(leaf) > jnp.std(leaf) if leaf.ndim == 2 else None
  return jax.tree.map(keep, params)


class Run:
  """One training run, which goes on where it stopped."""

  def __init__(self, tx):
    self.carry = jax.jit(lambda params: (params, tx.init(params)))(init_params())

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


def step_times():
  """Seconds of each step: dense, with bool masks, with packed masks."""
  params = init_params()
  masks = init_masks(params)
  adam = optax.adam(1e-3)
  runs = {
    'dense': Run(adam),
    'bool': Run(optax.chain(adam, keep_pruned(masks))),
    'packed': Run(optax.chain(adam, keep_pruned(pack(masks)))),
  }
  x = jnp.ones((BATCH, WIDTHS[0]))
  times = {name: [] for name in runs}
  names = list(runs)
  for index in range(STEPS):
    for name in names[index % 3 :] + names[: index % 3]:  # whoever comes first finds a cold cache
      times[name].append(runs[name].timed(x))
  # The first steps compile.
  return {name: np.array(seconds[3:]) for name, seconds in times.items()}


def main():
  times = step_times()
  ratios = {name: float(np.median(times[name] / times['dense'])) for name in ('bool', 'packed')}
  print(f'\ndense step {1e3 * np.median(times["dense"]):.1f} ms; with keep_pruned:')
  for name, ratio in ratios.items():
    print(f'  {name:6} masks {ratio:.3f} x dense')
  print(json.dumps(ratios))


if __name__ == '__main__':
  main()
