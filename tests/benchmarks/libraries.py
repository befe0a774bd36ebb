"""jprune beside other libraries, on the same weights, in one process, taking turns.

Run it with ``python -m tests.benchmarks.libraries``; prints, for each thing that is done, how many
times as long the others take: the median of the ratios of each round, and their quartiles. The last
line holds the numbers as JSON; ``--help`` says what can be chosen. Who isn't installed is named and
left out: PyTorch (``torch``, with its ``torch.nn.utils.prune``), Torch-Pruning
(``torch-pruning``), and JaxPruner, which is on no index: a checkout of
github.com/google-research/jaxpruner on ``PYTHONPATH``.

Each is called as its users call it, on arrays or modules of its own. Times are those of the
processor, summed over threads, so that others on the machine don't count; PyTorch has one thread,
as several would wait for each other at its expense.
"""

import argparse
import functools
import importlib
import importlib.metadata
import importlib.util
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jprune
from jprune import distributions, graph, masks, reconstruct, schedules, scores, transforms
from tests import networks
from tests.benchmarks import repair
from tests.reference_repair import decaying

TOY = '--leaves 2 --width 8 --small --rounds 1'
SPARSITY = 0.8
OURS, JAXPRUNER, TORCH, TORCH_PRUNING = 'jprune', 'JaxPruner', 'PyTorch', 'Torch-Pruning'
PACKAGES = {JAXPRUNER: 'jaxpruner', TORCH: 'torch', TORCH_PRUNING: 'torch_pruning'}


def installed():
  """The libraries that can be imported, by name; JaxPruner calls a name that JAX once had."""
  found = {}
  for name, package in PACKAGES.items():
    if importlib.util.find_spec(package):
      found[name] = importlib.import_module(package)
  if JAXPRUNER in found:
    jax.tree_map = jax.tree.map
  if TORCH in found:
    found[TORCH].set_num_threads(1)
  return found


def turns(calls, rounds):
  """Seconds of each call in each round; a call is a function, or one that makes it, untimed."""
  rng = np.random.default_rng(0)
  times = {name: [] for name in calls}
  for _ in range(rounds + 1):  # the first compiles
    for name in rng.permutation(list(calls)):
      call = calls[name]()
      begin = time.process_time()
      jax.block_until_ready(call())
      times[name].append(time.process_time() - begin)
  return {name: np.array(each[1:]) for name, each in times.items()}


def compared(calls, rounds):
  """Milliseconds of each, and of the others how many times as long: quartiles."""
  times = turns(calls, rounds)
  found = {f'{name}, ms': 1e3 * float(np.median(each)) for name, each in times.items()}
  for name in list(times)[1:]:
    quartiles = np.quantile(times[name] / times[OURS], (0.25, 0.5, 0.75))
    found[name] = [float(each) for each in quartiles]
  return found


# -------------------------------------------------------------------------------------- masks


def kernels(leaves, width):
  keys = jax.random.split(jax.random.key(0), leaves)
  return {
    f'layer_{i}': {'kernel': jax.random.normal(key, (width, width))} for i, key in enumerate(keys)
  }


def select(libraries, chosen, at_once):
  """Masks of the largest magnitudes and the masked weights, of each leaf or of all together."""
  params = kernels(chosen.leaves, chosen.width)
  share = distributions.global_ if at_once else distributions.uniform

  def ours():
    return jprune.apply(params, jprune.prune(params, SPARSITY, distribution=share))

  calls = {OURS: lambda: ours}
  if jaxpruner := libraries.get(JAXPRUNER):
    compiled = jax.jit(
      _jaxpruner(jaxpruner, at_once).instant_sparsify
    )  # else it compiles each time
    calls[JAXPRUNER] = lambda: lambda: compiled(params)[0]
  if torch := libraries.get(TORCH):
    calls[TORCH] = functools.partial(_torch_prunes, torch, params, at_once)
  for name, make in calls.items():  # all do the same
    weights = np.concatenate([np.asarray(each).ravel() for each in jax.tree.leaves(make()())])
    assert abs(np.mean(weights == 0) - SPARSITY) < 1e-6 + chosen.leaves / weights.size, name
  return compared(calls, chosen.rounds)


def _jaxpruner(jaxpruner, at_once, **options):
  if at_once:
    return jaxpruner.GlobalMagnitudePruning(sparsity=SPARSITY, **options)
  share = importlib.import_module('jaxpruner.sparsity_distributions').uniform
  share = functools.partial(share, sparsity=SPARSITY)
  return jaxpruner.MagnitudePruning(sparsity_distribution_fn=share, **options)


def _torch_prunes(torch, params, at_once):
  """A call that prunes modules which haven't been pruned yet."""
  from torch.nn.utils import prune

  modules = []
  for layer in params.values():
    weight = torch.from_numpy(np.array(layer['kernel']).T.copy())
    modules.append(torch.nn.Linear(*weight.shape[::-1], bias=False))
    modules[-1].weight = torch.nn.Parameter(weight)

  def call():
    if at_once:
      named = [(module, 'weight') for module in modules]
      prune.global_unstructured(named, prune.L1Unstructured, amount=SPARSITY)
    else:
      for module in modules:
        prune.l1_unstructured(module, 'weight', SPARSITY)
    return [module.weight.detach() for module in modules]

  return call


# ----------------------------------------------------------------------------------- training


def train(libraries, chosen):
  """Ten jitted, donated steps of AdamW, of which one changes the masks."""
  params, every, end = kernels(chosen.leaves, chosen.width), 10, 10**6
  x = jax.random.normal(jax.random.key(1), (64, chosen.width))

  def loss_fn(params):
    y = x
    for layer in params.values():
      y = jnp.tanh(y @ layer['kernel'] / chosen.width**0.5)
    return jnp.mean(y**2)

  adamw = optax.adamw(1e-3)
  ramp = schedules.cubic(0.0, SPARSITY, 0, end)
  runs = {OURS: _steps(transforms.gradual(adamw, ramp, every=every), loss_fn, params)}
  if jaxpruner := libraries.get(JAXPRUNER):
    scheduler = jaxpruner.PolynomialSchedule(every, 0, end)
    pruner = _jaxpruner(jaxpruner, False, scheduler=scheduler)
    after = pruner.post_gradient_update
    runs[JAXPRUNER] = _steps(pruner.wrap_optax(adamw), loss_fn, params, after)
  runs['dense'] = _steps(adamw, loss_fn, params)
  return compared({name: lambda run=run: run for name, run in runs.items()}, chosen.rounds)


def _steps(tx, loss_fn, params, after=lambda params, state: params):
  """A call that trains on from where it stopped, for ten steps."""

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def step(params, state):
    updates, state = tx.update(jax.grad(loss_fn)(params), state, params)
    return after(optax.apply_updates(params, updates), state), state

  now = [jax.tree.map(jnp.copy, params), jax.jit(tx.init)(params)]

  def run():
    for _ in range(10):
      now[:] = step(*now)
    return now[0]

  return run


# ---------------------------------------------------------------------------------- structure


def shrink(libraries, chosen):
  """From a ResNet-18 to one with half of the channels: groups, masks, smaller params."""
  width = 8 if chosen.small else 64
  small = functools.partial(networks.resnet56, width=4, size=8, blocks=1)
  fn, variables, (image,) = small() if chosen.small else networks.resnet18()
  params = jax.tree.map(jnp.asarray, networks.filled(variables))

  def ours():
    afresh = lambda *args: fn(*args)  # which JAX hasn't traced before
    groups = graph.channels(afresh, params, image)
    masked = masks.channels(scores.magnitude(params), groups, 0.5)
    return jprune.shrink(afresh, params, masked, image).params

  calls = {OURS: lambda: ours}
  if library := libraries.get(TORCH_PRUNING):
    calls[TORCH_PRUNING] = functools.partial(_torch_shrinks, library, width)
  return compared(calls, max(1, chosen.rounds // 3))


def _torch_shrinks(library, width):
  """A call that halves the channels of a network which hasn't been pruned yet."""
  import torch

  from tests import torch_networks

  model = torch_networks.resnet18(width).eval()
  image = torch.zeros(1, 3, 224, 224)

  def call():
    importance = library.importance.MagnitudeImportance(p=1)
    options = {'pruning_ratio': 0.5, 'ignored_layers': [model.head]}
    library.pruner.MagnitudePruner(model, image, importance, **options).step()
    assert model.head.in_features == 4 * width

  return call


def repaired(libraries, chosen, **pattern):
  """One leaf by SparseGPT: the call, and the published algorithm in PyTorch."""
  side = 16 if chosen.small else 1024
  rng = np.random.default_rng(0)
  x = decaying(rng, 2 * side, side).astype(np.float32)
  params = {'w': jnp.asarray(rng.normal(size=(side, side)), jnp.float32)}
  _, stats = graph.capture(lambda params, x: x @ params['w'], params, x, gram=True)
  share = {'pattern': masks.NOfM(*pattern['n_of_m'])} if pattern else {'sparsity': repair.SPARSITY}
  share |= {'block': repair.BLOCK, 'damping': repair.DAMPING}
  calls = {OURS: lambda: lambda: reconstruct.sparsegpt(params, stats, **share)[0]}
  if torch := libraries.get(TORCH):
    weight, gram = (
      torch.from_numpy(np.array(each)) for each in (params['w'].T, 2 * x.T @ x / len(x))
    )
    calls[TORCH] = lambda: lambda: repair.published(weight, gram, **pattern).numpy()
  return compared(calls, chosen.rounds)


# -------------------------------------------------------------------------------------- table


def options(given):
  parser = argparse.ArgumentParser(prog='python -m tests.benchmarks.libraries')
  parser.add_argument('--leaves', type=int, default=4)
  parser.add_argument('--width', type=int, default=1024, help='of each leaf, on both sides')
  parser.add_argument('--rounds', type=int, default=7)
  parser.add_argument('--parts', nargs='+', help='all by default')
  parser.add_argument('--small', action='store_true', help='a small ResNet and a small leaf')
  return parser.parse_args(given)


def version(name):
  packages = {TORCH: 'torch', TORCH_PRUNING: 'torch-pruning'}
  return importlib.metadata.version(packages[name]) if name in packages else '(a checkout)'


def main(given=None):
  chosen, libraries = options(given), installed()
  weights = f'{chosen.leaves} leaves of {chosen.width} x {chosen.width}'
  half = 'of half of the channels of ResNet-18'
  parts = {
    'masks': (f'masks of {weights}', lambda: select(libraries, chosen, at_once=False)),
    'masks at once': ('the same, one threshold', lambda: select(libraries, chosen, at_once=True)),
    'training': (f'ten steps of AdamW on {weights}', lambda: train(libraries, chosen)),
    'shrink': (f'removal {half}', lambda: shrink(libraries, chosen)),
    'sparsegpt': ('SparseGPT, 50 %', lambda: repaired(libraries, chosen)),
    'sparsegpt 2:4': ('SparseGPT, 2:4', lambda: repaired(libraries, chosen, n_of_m=(2, 4))),
  }
  print(f'{OURS} {jprune.__version__}, JAX {jax.__version__}, {jax.default_backend()}')
  print('beside', ', '.join(f'{name} {version(name)}' for name in libraries) or 'nobody')
  print('not installed:', ', '.join(name for name in PACKAGES if name not in libraries) or 'none')
  numbers = {}
  for part in chosen.parts or parts:
    title, measure = parts[part]
    numbers[part] = measure()
    print(f'\n{title}')
    for name, value in numbers[part].items():
      low, middle, high = value if isinstance(value, list) else [None, value, None]
      print(
        f'  {name:20} {middle:12.3f}' + (f'  ({low:.3f} to {high:.3f})' if low else ''), flush=True
      )
  print(json.dumps(numbers))


if __name__ == '__main__':
  main()
