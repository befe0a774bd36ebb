"""Repair of a model whose params and batches span processes, by every method."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

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


def _spread(world, params):
  if world.kind == 'auto':
    return world.put(params)
  specs = {'layers': P(), 'out': P(None, 'model')}  # of which types say what becomes of products
  return {name: world.put(leaf, specs[name]) for name, leaf in params.items()}


@functools.cache
def _given(world):
  """Params and statistics of them, spread, or at hand where there is no world."""
  params, put = _params(), jnp.asarray
  if world is not None:
    params, put = _spread(world, params), world.put
  x = np.random.default_rng(1).standard_normal((64, SIZE), np.float32)
  return params, jprune.graph.capture(_net, params, put(x), gram=True)[1]


def _masks(params):
  return jax.tree.map(lambda w: jnp.abs(w) > 0.1, params)


METHODS = {
  'sparsegpt': lambda p, stats: reconstruct.sparsegpt(p, stats, 0.5, masks=_masks(p)),
  'n_of_m': lambda p, stats: reconstruct.sparsegpt(p, stats, pattern=jprune.NOfM(2, 4)),
  'alps': lambda p, stats: reconstruct.alps(p, stats, 0.5, iterations=5, steps=2),
  'least_squares': lambda p, stats: reconstruct.least_squares(p, stats, _masks(p)),
}


def _check(method, world):
  params, stats = _given(world.anywhere)
  new, masks, report = METHODS[method](params, stats)
  alone = lambda: METHODS[method](*_given(None))[:2]
  world.same((new, masks), alone, rtol=1e-3, atol=1e-5)
  world.lies_like([*new.values(), *masks.values()], [*params.values()] * 2)
  world.agreed(report.to_dict())
  assert 0 < report['out'].error_after < report['out'].error_before < 1


for _method in METHODS:
  vars()[f'check_{_method}'] = functools.partial(_check, _method)


def check_per_output(world):
  params, stats = _given(world.anywhere)
  found = reconstruct.per_output(jax.tree.map(jnp.abs, params), stats, 0.5)
  alone = lambda: reconstruct.per_output(jax.tree.map(jnp.abs, _params()), _given(None)[1], 0.5)
  world.same(found, alone)


def _pruned(put, params, sequential, method):
  draw = lambda seed: np.random.default_rng(seed).standard_normal((16, SIZE), np.float32)
  return reconstruct.prune(
    _net, params, [put(draw(seed)) for seed in (1, 2)], sparsity=0.5, method=method,
    sequential=sequential, progress=False,
  )  # fmt: skip


def check_whole_models(world):
  params = _params()
  spread = _spread(world, params)
  for sequential, method in ((False, reconstruct.sparsegpt), (True, None)):
    call = functools.partial(_pruned, sequential=sequential, method=method)
    new, masks, report = call(world.put, spread)
    alone = lambda call=call: call(jnp.asarray, params)[:2]
    world.same((new, masks), alone, rtol=1e-3, atol=1e-5)
    world.lies_like(new, spread)
    assert report.peak_bytes
