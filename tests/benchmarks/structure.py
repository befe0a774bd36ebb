"""Channel groups and shrinking: seconds of analysis, and what a shrunk network gains.

Run it with ``python -m tests.benchmarks.structure``; prints a table, and as the last line all
numbers as JSON. ``--parts latency --size 64`` chooses, ``--help`` says from what. What is compared
takes turns, so that whatever else the machine does meets all of it alike, and the numbers are
medians; the seconds of ViT-B/16 and of the decoder are those of one first call, tracing included.
"""

import argparse
import functools
import json
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

import jprune
from tests import networks

TOY = '--small --depths 1 2 --size 16 --width 8 --rounds 1'
SMALL = {'hidden': 64, 'heads': 4, 'mlp': 128, 'size': 32, 'patch': 8, 'num_classes': 10}
# Llama-3.1-405B (arXiv:2407.21783), on 2^15 tokens.
LARGE = {'layers': 126, 'hidden': 16384, 'heads': 128, 'mlp': 53248, 'batch': 4, 'length': 8192}
DECODER = {'hidden': 64, 'heads': 4, 'kv_heads': 2, 'head_dim': 16, 'mlp': 128, 'vocab': 50}


def timed(call):
  begin = time.perf_counter()
  out = jax.block_until_ready(call())
  return out, time.perf_counter() - begin


def turns(calls, rounds):
  """Seconds of each call in each round; one round to warm up.

  The order is drawn for each round: a small network that always came after a large one would
  always find a cold cache.
  """
  rng = np.random.default_rng(0)
  times = {name: [] for name in calls}
  for _ in range(rounds + 1):
    for name in rng.permutation(list(calls)):
      times[name].append(timed(calls[name])[1])
  return {name: np.array(each[1:]) for name, each in times.items()}


def vit(**sizes):
  """Seconds of the three steps on ViT-B/16, from params to smaller params."""
  fn, variables, args = networks.vit(**sizes)
  params = networks.filled(variables)
  times = {}
  scores, times['scores'] = timed(lambda: jprune.scores.magnitude(params))
  graph, times['graph'] = timed(lambda: jprune.graph.channels(fn, params, *args))
  masks, times['masks'] = timed(lambda: jprune.masks.channels(scores, graph, 0.5))

  def shrink():
    small = jprune.shrink(fn, params, masks, *args)
    return jax.block_until_ready(small.params)

  small, times['shrink'] = timed(shrink)
  times['graph + masks + shrink'] = times['graph'] + times['masks'] + times['shrink']
  size = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))
  return times | {'params': size(params), 'params left': size(small)}


def llama(**sizes):
  """Seconds to find the groups of an 8B decoder from its shapes."""
  times = {}
  for name, scan in (('scanned', True), ('unrolled', False)):
    fn, variables, args = networks.llama(**sizes, scan=scan)
    _, times[name] = timed(lambda: jprune.graph.channels(fn, variables, *args))  # noqa: B023
  return times


def large(**sizes):
  """Seconds of what works on shapes alone, and what it counts, exactly."""
  found = {}
  for name, scan in (('scanned', True), ('unrolled', False)):
    fn, variables, args = networks.llama(**sizes, scan=scan)
    graph, found[f'{name}: groups'] = timed(lambda: jprune.graph.channels(fn, variables, *args))  # noqa: B023
    halves = [np.arange(group.size) % 2 == 0 for group in graph.groups]
    left, found[f'{name}: count of half'] = timed(lambda: graph.params_at(halves))  # noqa: B023
    tally, found[f'{name}: tally'] = timed(lambda: jprune.tally(variables, fn=fn, args=args))  # noqa: B023
    _, found[f'{name}: erk'] = timed(
      lambda: jprune.distributions.erk(variables, variables, 0.5)  # noqa: B023
    )
    _, found[f'{name}: plan of a repair'] = timed(
      lambda: jprune.reconstruct.plan(fn, variables, *args, sequential=True)  # noqa: B023
    )
    counts = {'params': tally.size, 'params left': left, 'multiply-adds': tally.macs.dense}
    found |= {f'{name}: {key}': count for key, count in counts.items()}
  return found


def groups_afresh(fn, variables, *args):
  """The groups of a function that JAX hasn't traced before."""
  return jprune.graph.channels(lambda *given: fn(*given), variables, *args)


def layers(depths, rounds=3):
  """Seconds to find the groups of a small ViT at growing depth; how they grow per doubling."""
  calls = {}
  for depth in depths:
    fn, variables, args = networks.vit(layers=depth, **SMALL)
    calls[str(depth)] = functools.partial(groups_afresh, fn, variables, *args)
  times = {name: statistics.median(each) for name, each in turns(calls, rounds).items()}
  growth = {f'{b} / {a}': times[b] / times[a] for a, b in zip(times, list(times)[1:])}
  return times | growth


def latency(size, rounds, width=64):
  """Times of ResNet-18 for one image as multiples: dense, masked, shrunk, written small by hand.

  Shrunk and hand-written have the same params, each in arrays of its own.
  """
  fn, variables, (image,) = networks.resnet18(width=width, size=size)
  params = jax.tree.map(jnp.asarray, networks.filled(variables))
  hand = networks.resnet18(width=width // 2, size=size)
  graph = jprune.graph.channels(fn, params, image)
  masks = jprune.masks.channels(jprune.scores.magnitude(params), graph, 0.5)
  small = jprune.shrink(fn, params, masks, image)
  ways = {
    'dense': (fn, params),
    'masked': (fn, jprune.apply(params, masks)),
    'shrunk': (small.fn, small.params),
    'hand-written': (hand.fn, jax.tree.map(jnp.copy, small.params)),
  }
  assert jax.tree.map(jnp.shape, small.params) == jax.tree.map(jnp.shape, hand.variables)
  return compared(ways, jax.random.normal(jax.random.key(0), image.shape), rounds)


def vit_latency(rounds, **sizes):
  """The same of ViT-B/16, of which nobody wrote a small one by hand."""
  fn, variables, (image,) = networks.vit(**sizes)
  params = jax.tree.map(jnp.asarray, networks.filled(variables))
  graph = jprune.graph.channels(fn, params, image)
  masks = jprune.masks.channels(jprune.scores.magnitude(params), graph, 0.5)
  small = jprune.shrink(fn, params, masks, image)
  ways = {
    'dense': (fn, params),
    'masked': (fn, jprune.apply(params, masks)),
    'shrunk': (small.fn, small.params),
  }
  return compared(ways, jax.random.normal(jax.random.key(0), image.shape), rounds)


def compared(ways, x, rounds):
  """Median time of each (fn, params), compiled, as ratios; those that must agree do so."""
  calls, outs = {}, {}
  for name, (fn, params) in ways.items():
    compiled = jax.jit(fn).lower(params, x).compile()
    calls[name] = lambda compiled=compiled, params=params: compiled(params, x)
    outs[name] = np.asarray(calls[name]())
  for name in [name for name in ways if name not in ('dense', 'masked')]:
    scale = np.abs(outs['masked']).max()
    np.testing.assert_allclose(outs[name], outs['masked'], rtol=0, atol=1e-4 * scale)
  times = turns(calls, rounds)
  ratio = lambda a, b: float(np.median(times[a] / times[b]))
  found = {'dense, milliseconds': 1e3 * float(np.median(times['dense']))}
  found |= {f'dense / {name}': ratio('dense', name) for name in ways if name != 'dense'}
  if 'hand-written' in ways:
    found['shrunk / hand-written'] = ratio('shrunk', 'hand-written')
  return found


PARTS = ('vit', 'llama', 'large', 'layers', 'latency', 'vit_latency')


def options(given):
  parser = argparse.ArgumentParser(prog='python -m tests.benchmarks.structure')
  parser.add_argument('--parts', nargs='+', choices=PARTS, default=PARTS, help='all by default')
  parser.add_argument('--small', action='store_true', help='two small layers of ViT and decoder')
  parser.add_argument('--depths', type=int, nargs='+', default=[12, 24, 48, 96])
  parser.add_argument('--size', type=int, default=224, help='pixels a side, for the latency')
  parser.add_argument('--width', type=int, default=64, help='of the dense ResNet-18')
  parser.add_argument('--rounds', type=int, default=100, help='of the latency')
  return parser.parse_args(given)


def main(given=None):
  chosen = options(given)
  image, decoder = ({'layers': 2} | sizes if chosen.small else {} for sizes in (SMALL, DECODER))
  largest = decoder if chosen.small else LARGE
  small = ', two small layers' if chosen.small else ''
  parts = {
    'vit': (f'ViT-B/16{small}, seconds', lambda: vit(**image)),
    'llama': (f'Llama-3.1-8B shapes{small}, seconds', lambda: llama(**decoder)),
    'large': (f'Llama-3.1-405B shapes{small}, seconds and counts', lambda: large(**largest)),
    'layers': ('small ViT of some layers, seconds and growth', lambda: layers(chosen.depths)),
    'latency': (
      f'ResNet-18 of one {chosen.size} x {chosen.size} image, half of the channels',
      lambda: latency(chosen.size, chosen.rounds, chosen.width),
    ),
    'vit_latency': (
      f'ViT-B/16{small}, one image, half of the channels',
      lambda: vit_latency(chosen.rounds, **image),
    ),
  }
  numbers = {}
  for part in chosen.parts:
    title, measure = parts[part]
    numbers[part] = measure()
    print(f'\n{title}')
    for key, value in numbers[part].items():
      print(f'  {key:34} {value:26,.3f}')
  print(json.dumps(numbers))


if __name__ == '__main__':
  main()
