"""Curves over arrays that span processes: one table on disk, one metric, and one mind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jprune import sensitivity


def _params():
  rng = np.random.default_rng(0)
  return {name: rng.standard_normal((4, 4), np.float32) for name in ('a', 'b')}


def _evaluate(params):
  return float(sum(jnp.sum(jnp.abs(leaf)) for leaf in params.values()))


def check_table(world):
  params, path, seen = _params(), world.folder / 'curves.jsonl', []

  def evaluate(params):
    seen.append(None)
    if len(seen) == 4:
      raise KeyboardInterrupt
    return _evaluate(params) + jax.process_index()  # the first process has its way

  measure = lambda evaluate, params, **table: sensitivity.curves(
    evaluate, params, [0.0, 0.5, 1.0], progress=False, **table
  )
  with pytest.raises(KeyboardInterrupt):
    measure(evaluate, world.put(params), table=path)
  assert path.read_bytes().count(b'\n') == 4
  found = measure(evaluate, world.put(params), table=path)
  assert len(seen) == 6, 'points on record were measured anew'
  world.same(found.to_dict(), lambda: measure(_evaluate, params).to_dict(), rtol=1e-6)
  if world.first:
    path.write_text('something else')
  with pytest.raises(ValueError, match='table'):
    measure(evaluate, world.put(params), table=path)
  with pytest.raises(FileNotFoundError, match='existing folder'):
    measure(evaluate, world.put(params), table=world.folder / 'none' / 'curves.jsonl')


def check_metric_is_finite_on_all_or_none(world):
  params = world.put(_params())
  for metrics in ([np.nan, 1.0], [1.0, np.nan]):
    evaluate = lambda params, metrics=metrics: metrics[min(jax.process_index(), 1)]
    measure = lambda evaluate=evaluate: sensitivity.curves(evaluate, params, [0.5], progress=False)
    if np.isnan(metrics[0]):
      with pytest.raises(ValueError, match='finite'):
        measure()
    else:
      assert measure().baseline == 1.0
