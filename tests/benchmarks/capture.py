"""Capture: what statistics of a forward pass cost, as multiples of the pass itself.

Run it with ``python -m tests.benchmarks.capture``; prints a table, and as the last line all
numbers as JSON. ``--layers 4 --rounds 5`` makes it smaller, ``--help`` says what else there is.
Passes take turns, so that whatever else the machine does meets all of them alike, and the numbers
are medians of the ratios in each turn. Compilation is timed once, tracing included. Memory is what
the compiler reserves besides arguments and results, where it tells.
"""

import argparse
import functools
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

import jprune
from tests.benchmarks.structure import turns

VOCABULARY = 512
TOY = '--layers 1 --width 16 --batch 1 --length 4 --rounds 1'


class Block(nn.Module):
  width: int

  @nn.compact
  def __call__(self, x, _):
    h = nn.LayerNorm()(x)
    x = x + nn.MultiHeadDotProductAttention(num_heads=4)(h, h)
    h = nn.gelu(nn.Dense(4 * self.width)(nn.LayerNorm()(x)))
    return x + nn.Dense(self.width)(h), None


class Transformer(nn.Module):
  layers: int
  width: int
  scan: bool

  @nn.compact
  def __call__(self, tokens):
    x = nn.Embed(VOCABULARY, self.width)(tokens)
    if self.scan:
      axes = {'variable_axes': {'params': 0}, 'split_rngs': {'params': True}}
      x, _ = nn.scan(Block, **axes, length=self.layers)(self.width)(x, None)
    else:
      for _ in range(self.layers):
        x, _ = Block(self.width)(x, None)
    return nn.Dense(VOCABULARY)(nn.LayerNorm()(x))


def network(layers, width, scan, batch, length):
  """``(fn, params, tokens)``."""
  model = Transformer(layers, width, scan)
  tokens = np.random.default_rng(0).integers(0, VOCABULARY, (batch, length))
  tokens = jnp.asarray(tokens, jnp.int32)
  return model.apply, jax.jit(model.init)(jax.random.key(0), tokens), tokens


def costs(fn, params, tokens, rounds):
  """Ratios of times and of seconds to compile, and megabytes, for a pass without and with Grams."""
  capture = functools.partial(jprune.graph.capture, fn)
  ways = {
    'forward': fn,
    'moments': capture,
    'Grams': functools.partial(capture, gram=True),
  }
  calls, numbers = {}, {}
  for name, way in ways.items():
    begin = time.perf_counter()
    compiled = jax.jit(way).lower(params, tokens).compile()
    numbers[f'{name}, seconds to compile'] = time.perf_counter() - begin
    calls[name] = functools.partial(compiled, params, tokens)
    if (memory := compiled.memory_analysis()) is not None:
      numbers[f'{name}, temporary megabytes'] = memory.temp_size_in_bytes / 1e6
  times = turns(calls, rounds)
  numbers['forward, milliseconds'] = 1e3 * float(np.median(times['forward']))
  for name in ('moments', 'Grams'):
    numbers[f'{name} / forward'] = float(np.median(times[name] / times['forward']))
  return dict(sorted(numbers.items()))


def options(given):
  parser = argparse.ArgumentParser(prog='python -m tests.benchmarks.capture')
  parser.add_argument('--layers', type=int, default=12)
  parser.add_argument('--width', type=int, default=256)
  parser.add_argument('--batch', type=int, default=4, help='sequences')
  parser.add_argument('--length', type=int, default=256, help='tokens of a sequence')
  parser.add_argument('--rounds', type=int, default=7)
  return parser.parse_args(given)


def main(given=None):
  chosen = options(given)
  size = chosen.layers, chosen.width
  print(f'Transformer of {size[0]} layers, d={size[1]}, {chosen.batch} x {chosen.length} tokens')
  numbers = {}
  for name, scan in (('scanned', True), ('unrolled', False)):
    made = network(*size, scan, chosen.batch, chosen.length)
    numbers[name] = costs(*made, chosen.rounds)
    print(f'\n{name}')
    for key, value in numbers[name].items():
      print(f'  {key:32} {value:12,.3f}')
  print(json.dumps(numbers))


if __name__ == '__main__':
  main()
