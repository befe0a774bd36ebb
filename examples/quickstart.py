"""Train, prune to 90 %, fine-tune, save: a small network on real handwritten digits.

Run it with ``python examples/quickstart.py``. It takes about a minute on two cores and
writes a picture and two checkpoints, one dense and one sparse, into the folder where it
is run.
"""

from __future__ import annotations

import argparse
import functools
import pathlib
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
from flax import linen as nn
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import jprune

matplotlib.use('Agg')  # draws into files, so no screen is needed
import matplotlib.pyplot as plt

SPARSITY = 0.9
EPOCHS = 20  # of the dense network, and again of the sparse one
BATCH = 64
DENSE_GOAL = 0.97  # test accuracy to reach before pruning
LOSS_GOAL = 0.01  # test accuracy that pruning may cost: one point


class Data(NamedTuple):
  """Images in [0, 1], of shape (count, 8, 8, 1), and the digits that they show."""

  train_x: np.ndarray
  train_y: np.ndarray
  test_x: np.ndarray
  test_y: np.ndarray


def load_data() -> Data:
  """1,797 handwritten digits; 30 % of each kind are held out for the test."""
  digits = load_digits()
  images = (digits.images[..., None] / 16).astype(np.float32)
  labels = digits.target.astype(np.int32)
  train_x, test_x, train_y, test_y = train_test_split(
    images, labels, test_size=0.3, stratify=labels, random_state=0
  )
  return Data(train_x, train_y, test_x, test_y)


class Network(nn.Module):
  """Three convolutions with BatchNorm and two dense layers: 97,938 params."""

  @nn.compact
  def __call__(self, x, train: bool):
    for features in (16, 32, 64):
      x = nn.Conv(features, (3, 3), use_bias=False)(x)
      x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
      x = nn.relu(x)
      if features == 32:
        x = nn.max_pool(x, (2, 2), strides=(2, 2))
    x = x.reshape(len(x), -1)
    x = nn.relu(nn.Dense(72)(x))
    return nn.Dense(10)(x)


MODEL = Network()


# ------------------------------------------------------- training, as without jprune


@jax.jit
def initial(key):
  """Fresh params and statistics."""
  return MODEL.init(key, jnp.zeros((1, 8, 8, 1)), train=False)


def optimizer(steps: int) -> optax.GradientTransformation:
  return optax.adam(optax.cosine_decay_schedule(2e-3, steps))


@functools.partial(jax.jit, static_argnums=0)
def step(tx, variables, opt_state, x, y):
  """One step of training. It doesn't know about pruning: that is up to ``tx``."""

  def loss_fn(params):
    logits, changed = MODEL.apply(
      {**variables, 'params': params}, x, train=True, mutable=['batch_stats']
    )
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), changed

  grads, changed = jax.grad(loss_fn, has_aux=True)(variables['params'])
  updates, opt_state = tx.update(grads, opt_state, variables['params'])
  params = optax.apply_updates(variables['params'], updates)
  return {'params': params, **changed}, opt_state


def train(tx, variables, data: Data, epochs: int, seed: int, label: str):
  """Runs ``step`` over shuffled batches, with a progress bar."""
  opt_state = tx.init(variables['params'])
  random = np.random.default_rng(seed)
  batches = len(data.train_x) // BATCH
  for _ in tqdm(range(epochs), desc=label, unit='epoch'):
    order = random.permutation(len(data.train_x))[: batches * BATCH]
    for batch in order.reshape(batches, BATCH):
      x, y = data.train_x[batch], data.train_y[batch]
      variables, opt_state = step(tx, variables, opt_state, x, y)
  return variables


@jax.jit
def predict(variables, x):
  return MODEL.apply(variables, x, train=False).argmax(axis=-1)


def accuracy(variables, data: Data) -> float:
  """Share of the held-out digits that the network reads right."""
  return float(np.mean(np.asarray(predict(variables, data.test_x)) == data.test_y))


# ----------------------------------------------------------------------- with jprune


class Run(NamedTuple):
  """What came of one seed."""

  dense: dict
  sparse: dict  # pruned and fine-tuned
  masks: dict
  accuracies: tuple[float, float, float]  # dense, pruned, fine-tuned


def run(
  seed: int, data: Data, adam: optax.GradientTransformation, epochs: int = EPOCHS
) -> Run:
  """Train, prune, fine-tune."""
  fresh = initial(jax.random.key(seed))
  dense = train(adam, fresh, data, epochs, seed, f'seed {seed}, dense')

  # Params to masks. By default kernels are pruned, but neither biases nor BatchNorm.
  # With `global_` all of them compete for one budget.
  masks = jprune.prune(dense, SPARSITY, distribution=jprune.distributions.global_)
  pruned = jprune.apply(dense, masks)

  # The same training again. The only difference is the end of the chain, which leaves
  # pruned weights at zero whatever Adam wants.
  tx = optax.chain(adam, jprune.keep_pruned(masks['params']))
  sparse = train(tx, pruned, data, epochs, seed + 1, f'seed {seed}, sparse')
  check_zeros(sparse, masks)
  return Run(
    dense, sparse, masks, tuple(accuracy(v, data) for v in (dense, pruned, sparse))
  )


def check_zeros(variables, masks) -> None:
  """Makes sure that every pruned weight is 0.0: not nearly, but exactly."""

  def all_zero(weights, mask):
    return mask is None or not np.any(np.asarray(weights)[~np.asarray(mask)])

  # Params first, then masks: leaves that stay dense have None in place of a mask.
  if not jax.tree.all(jax.tree.map(all_zero, variables, masks)):
    raise RuntimeError('a pruned weight is not 0.0')


def save_and_reload(best: Run, out: pathlib.Path, data: Data) -> None:
  """Writes both checkpoints, compares their sizes, and reads the sparse one again."""
  dense_file, sparse_file = (
    out / 'quickstart-dense.safetensors',
    out / 'quickstart.safetensors',
  )
  jprune.save(dense_file, best.dense)
  jprune.save(sparse_file, best.sparse, best.masks)
  loaded, loaded_masks = jprune.load(sparse_file)
  check_zeros(loaded, loaded_masks)
  before, after = best.accuracies[-1], accuracy(loaded, data)
  if after != before:
    raise RuntimeError(
      f'accuracy was {before} before saving and is {after} after loading'
    )
  dense_size, sparse_size = dense_file.stat().st_size, sparse_file.stat().st_size
  print(
    f'{dense_file.name}: {dense_size:,} bytes; '
    f'{sparse_file.name}: {sparse_size:,} bytes, '
    f'{dense_size / sparse_size:.1f} times smaller.\n'
    f'Loaded again, it reads {after:.2%} of the held-out digits right, as before.'
  )


# --------------------------------------------------------------------------- results


def table(seeds: range, runs: list[Run]) -> str:
  """Test accuracies, one line for each seed and one for the mean."""
  lines = [f'{"seed":<6}{"dense":>9}{"pruned":>9}{"fine-tuned":>12}']
  rows = [(str(seed), result.accuracies) for seed, result in zip(seeds, runs)]
  rows.append(('mean', tuple(np.mean([result.accuracies for result in runs], axis=0))))
  for name, (dense, pruned, tuned) in rows:
    lines.append(f'{name:<6}{dense:>9.2%}{pruned:>9.2%}{tuned:>12.2%}')
  return '\n'.join(lines)


def plot(runs: list[Run], path: pathlib.Path) -> None:
  """Sparsity of each pruned layer of the first run, and accuracy over all runs."""
  figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout='constrained')
  rows = jprune.tally(runs[0].sparse['params'], runs[0].masks['params']).rows
  rows = [row for row in rows if row.skipped is None]
  names = [row.path for row in rows]
  sparsity = [100 * row.sparsity for row in rows]
  bars = left.barh(names, sparsity, color='#1f5fa8')
  left.bar_label(bars, [f'{value:.1f} %' for value in sparsity], padding=4, fontsize=9)
  left.invert_yaxis()
  left.set(xlim=(0, 118), xticks=range(0, 101, 20), xlabel='zeros (%)')
  left.set_title(
    f'Sparsity of each layer, {100 * SPARSITY:g} % in all', loc='left', fontsize=11
  )

  scores = 100 * np.array([result.accuracies for result in runs])
  means = scores.mean(axis=0)
  labels = ['dense', 'pruned', 'fine-tuned']
  bars = right.bar(labels, means, color=['#b5b5b5', '#d98a3d', '#1f5fa8'], width=0.6)
  right.bar_label(bars, [f'{value:.1f} %' for value in means], padding=4, fontsize=9)
  right.set(ylim=(0, 112), yticks=range(0, 101, 20), ylabel='test accuracy (%)')
  over = f', mean of {len(runs)} seeds' if len(runs) > 1 else ''
  right.set_title(f'Accuracy{over}', loc='left', fontsize=11)
  for axes in (left, right):
    axes.spines[['top', 'right']].set_visible(False)
  figure.savefig(path, dpi=150)
  plt.close(figure)


def missed_goals(runs: list[Run]) -> list[str]:
  """What the mean accuracies fell short of, in words."""
  dense, _, tuned = np.mean([result.accuracies for result in runs], axis=0)
  missed = []
  if dense < DENSE_GOAL:
    missed.append(f'the dense network reached {dense:.2%}, not {DENSE_GOAL:.0%}')
  if tuned < dense - LOSS_GOAL:
    missed.append(
      f'pruning cost {100 * (dense - tuned):.2f} points, more than {100 * LOSS_GOAL:g}'
    )
  return missed


def main(arguments: list[str] | None = None) -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument(
    '--seeds', type=int, default=3, help='how many runs to average over'
  )
  parser.add_argument(
    '--out', type=pathlib.Path, default='.', help='folder for what is written'
  )
  options = parser.parse_args(arguments)
  if options.seeds < 1:
    parser.error('--seeds must be at least 1')
  options.out.mkdir(parents=True, exist_ok=True)

  data = load_data()
  # One optimizer for the dense networks of all seeds: their step is compiled once.
  adam = optimizer(EPOCHS * (len(data.train_x) // BATCH))
  seeds = range(options.seeds)
  runs = [run(seed, data, adam) for seed in seeds]

  print('\nWhat pruning saved (seed 0):\n')
  print(jprune.tally(runs[0].sparse, runs[0].masks))
  print('\nTest accuracy:\n')
  print(table(seeds, runs), end='\n\n')
  save_and_reload(runs[0], options.out, data)
  plot(runs, options.out / 'quickstart.png')
  print(f'The picture is {options.out / "quickstart.png"}.')

  missed = missed_goals(runs)
  for message in missed:
    print(f'Goal missed: {message}.', file=sys.stderr)
  return 1 if missed else 0


if __name__ == '__main__':
  sys.exit(main())
