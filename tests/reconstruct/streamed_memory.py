"""Prunes decoders from checkpoints under a limit of memory, in a process of its own.

``python -m tests.reconstruct.streamed_memory FOLDER 4 8 16`` prints as JSON how many bytes the
process came to hold beyond what it held once all was compiled, for decoders of so many layers, and
those of their params; and for one of 12 layers, with less room than its params need, and whether it
comes to the same as in memory.
"""

import json
import os
import resource
import sys

import jax
import jax.numpy as jnp
import numpy as np

import jprune
from jprune import reconstruct

WIDTH, WIDE, TOKENS = 192, 20 * 192, 100
LIMITED = 12  # layers
HOW = {'sparsity': 0.5, 'sequential': True, 'progress': False}


def block(x, layer):
  """Attention, and a gated layer whose products all have few inputs."""
  norm = lambda x: x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-3)
  h = norm(x)
  q, k, v = (h @ layer[name] for name in 'qkv')
  scores = jax.nn.softmax(jnp.einsum('btd,bsd->bts', q, k) / WIDTH**0.5, axis=-1)
  x = x + jnp.einsum('bts,bsd->btd', scores, v) @ layer['o']
  h = norm(x)
  h = jax.nn.silu(h @ layer['gate']) * (h @ layer['up'])
  return x + h.reshape(*x.shape[:2], -1, WIDTH).mean(axis=2)


def fn(params, x):
  for layer in params['layers']:
    x = block(x, layer)
  return x @ params['head']


def layer(seed):
  rng = np.random.default_rng(seed)
  draw = lambda *shape: (rng.standard_normal(shape) / WIDTH**0.5).astype(np.float32)
  return {n: draw(WIDTH, WIDTH) for n in 'qkvo'} | {n: draw(WIDTH, WIDE) for n in ('gate', 'up')}


def decoder(count):
  head = np.random.default_rng(99).standard_normal((WIDTH, 11)).astype(np.float32)
  return {'head': head, 'layers': [layer(i) for i in range(count)]}


def batches():
  rng = np.random.default_rng(1)
  return [rng.standard_normal((4, TOKENS, WIDTH)).astype(np.float32) for _ in range(2)]


def save(folder, count):
  os.mkdir(os.path.join(folder, str(count)))
  jprune.save(os.path.join(folder, str(count)), decoder(count), max_shard_size='8MB')


def prune(folder, count):
  """The pruned checkpoint, masks, and the most memory on the way."""
  with open('/proc/self/clear_refs', 'w') as file:
    file.write('5')  # the peak is counted anew
  with jprune.io.open(os.path.join(folder, str(count))) as model:
    out = os.path.join(folder, f'{count}-pruned')
    how = {'out': out, 'max_shard_size': '8MB', 'cache_dir': folder}
    pruned, masks, _ = reconstruct.prune(fn, model, iter(batches()), **how, **HOW)
  return pruned, masks, of_process('VmHWM')


def of_process(name):
  """A line of its status, in bytes."""
  with open('/proc/self/status') as file:
    (line,) = [line for line in file if line.startswith(name + ':')]
  return int(line.split()[1]) * 1024


def size(params):
  return sum(leaf.nbytes for leaf in jax.tree.leaves(params))


if __name__ == '__main__':
  folder, layers = sys.argv[1], list(map(int, sys.argv[2:]))
  for count in (3, *layers, LIMITED):
    save(folder, count)
  prune(folder, 3)
  before, found = of_process('VmRSS'), {}
  for count in layers:
    pruned, _, peak = prune(folder, count)
    found[count] = {'peak': peak - before, 'params': size(pruned.params)}
  with jprune.io.open(os.path.join(folder, str(LIMITED))) as model:
    room = size(model.params) * 2 // 3
    most = of_process('VmData') + room
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (most, limits[1]))
    try:
      everything = [leaf.read() for leaf in jax.tree.leaves(model.params)]
    except (MemoryError, ValueError):  # of a leaf that doesn't fit
      found['all at once'] = 'refused'
  pruned, masks, peak = prune(folder, LIMITED)
  found[LIMITED] = {'peak': peak - before, 'params': size(pruned.params), 'room': room}
  resource.setrlimit(resource.RLIMIT_DATA, limits)
  expected = reconstruct.prune(fn, decoder(LIMITED), batches(), **HOW)
  pairs = zip(jax.tree.leaves(pruned.params), jax.tree.leaves(expected[0]), strict=True)
  found['same weights'] = all(np.array_equal(one.read(), other) for one, other in pairs)
  pairs = zip(
    jax.tree.leaves(jprune.masks.unpack(masks)), jax.tree.leaves(expected[1]), strict=True
  )
  found['same masks'] = all(np.array_equal(one, other) for one, other in pairs)
  print(json.dumps(found))
