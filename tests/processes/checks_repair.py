"""Repair of a model whose params and batches span processes, by every method."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import jprune
from jprune import reconstruct

SIZE = 8


def _net(params, x):
  x, _ = jax.lax.scan(lambda x, w: (x + jnp.tanh(x @ w), None), x, params['layers'])
  return x @ params['out']


def _params():
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.standard_normal(shape, np.float32) / 2
  return {'layers': draw(4, SIZE, SIZE), 'out': draw(SIZE, SIZE)}


def _stats(put, params):
  x = np.random.default_rng(1).standard_normal((64, SIZE), np.float32)
  return jprune.graph.capture(_net, params, put(x), gram=True)[1]


def _methods(params, stats):
  masks = jprune.prune(params, 0.4)
  return {
    'sparsegpt': reconstruct.sparsegpt(params, stats, 0.5, masks=masks),
    'n of m': reconstruct.sparsegpt(params, stats, pattern=jprune.NOfM(2, 4)),
    'alps': reconstruct.alps(params, stats, 0.5, iterations=5, steps=2),
    'least_squares': reconstruct.least_squares(params, stats, masks),
    'per_output': (reconstruct.per_output(jax.tree.map(jnp.abs, params), stats, 0.5),),
  }


def _plain(found):
  return {name: each[:2] for name, each in found.items()}


def check_methods(world):
  params = _params()
  spread = world.put(params)
  found = _methods(spread, _stats(world.put, spread))
  alone = lambda: _plain(_methods(params, _stats(jnp.asarray, params)))
  world.same(_plain(found), alone, rtol=1e-3, atol=1e-5)
  for new, masks, report in (found['sparsegpt'], found['alps'], found['least_squares']):
    world.lies_like([*new.values(), *masks.values()], [*spread.values()] * 2)
    world.agreed(report.to_dict())
    assert 0 < report['out'].error_after < report['out'].error_before < 1


def _pruned(put, params, sequential, method):
  draw = lambda seed: np.random.default_rng(seed).standard_normal((16, SIZE), np.float32)
  return reconstruct.prune(
    _net, params, [put(draw(seed)) for seed in (1, 2)], sparsity=0.5, method=method,
    sequential=sequential, progress=False,
  )  # fmt: skip


def check_whole_models(world):
  params = _params()
  spread = world.put(params)
  for sequential, method in ((False, reconstruct.sparsegpt), (True, None)):
    call = functools.partial(_pruned, sequential=sequential, method=method)
    new, masks, report = call(world.put, spread)
    alone = lambda call=call: call(jnp.asarray, params)[:2]
    world.same((new, masks), alone, rtol=1e-3, atol=1e-5)
    world.lies_like(new, spread)
    assert report.peak_bytes
