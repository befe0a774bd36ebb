"""Smaller models, and all that goes with them, of arrays that span processes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jprune
from jprune import graph, masks, scores


def _params():
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.standard_normal(shape, np.float32)
  return {'in': draw(8, 16), 'bias': draw(16), 'fused': draw(16, 16), 'out': draw(8, 4)}


def _forward(params, x):
  hidden = jax.nn.relu(x @ params['in'] + params['bias'][None])
  gate, up = jnp.split(hidden @ params['fused'], 2, axis=1)  # a leaf of which products take parts
  return (gate * up) @ params['out']


def _small(params, x):
  """What is left, of masks that prune channels and, in one leaf, single weights as well."""
  channels = graph.channels(_forward, params, x)
  kept = masks.channels(scores.magnitude(params), channels, 0.4)
  single = jprune.prune(params, 0.3, where='fused')
  both = masks.combine(kept, single)
  small = jprune.shrink(_forward, params, both, x)
  state = optax.adam(1e-2).init(params)
  state = jax.tree.map(lambda leaf: leaf + 1, state)
  sliced = small.plan.slice(state)
  report = jprune.tally(params, both, fn=_forward, args=(x,))
  return {
    'masks': both,
    'params': small.params,
    'state': sliced,
    'whole again': small.plan.expand(sliced),
    'packed': masks.unpack(small.plan.slice(masks.pack(both))),
    'plan': small.plan.to_dict(),
    'report': [report.to_dict(), str(report)],
  }


def check_shrink(world):
  params, x = _params(), np.random.default_rng(1).standard_normal((4, 8), np.float32)
  spread, batch = world.put(params), world.put(x)
  found = _small(spread, batch)
  world.same(found, lambda: _small(jax.tree.map(jnp.asarray, params), jnp.asarray(x)))
  for name, leaf in found['params'].items():
    held = max(shard.data.size for shard in leaf.addressable_shards)
    split = [n % 2 == 0 for n in leaf.shape] if world.kind == 'auto' else [leaf.shape[0] % 2 == 0]
    ways = 1 if name == 'bias' and world.kind == 'explicit' else 2 ** sum(split)
    assert held * ways == leaf.size, (name, leaf.shape, leaf.sharding)


def check_verify(world):
  params, x = _params(), np.random.default_rng(1).standard_normal((4, 8), np.float32)
  spread, batch = world.put(params), world.put(x)
  kept = masks.channels(
    scores.magnitude(spread), graph.channels(_forward, spread, batch), 0.4, round_to=2
  )
  found = graph.verify(_forward, spread, kept, batch, inputs='hard')
  world.agreed((found.largest, found.relative, found.outputs, found.inputs, found.skipped))
  assert found.relative < 1e-5
  assert len(found.inputs) + len(found.skipped) >= 7
  broken = {**params, 'in': np.where(np.arange(16) == 3, np.nan, params['in'])}
  whole = {name: np.ones(leaf.shape, bool) for name, leaf in params.items()}
  found = graph.verify(_forward, world.put(broken), world.put(whole), batch)
  world.agreed(found.largest)
  assert found.largest == 0.0  # NaN where NaN is
