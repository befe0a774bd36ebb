"""What the host has to know of arrays, found out together."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import jprune
from jprune import _hosts


def check_counts(world):
  full = np.arange(96).reshape(8, 12) % 5
  own = np.eye(3 + jax.process_index())
  for spec in (P(), P('data'), P(None, 'model'), P('data', 'model'), P(('model', 'data'))):
    rows = jprune.tally({'own': own, 'spread': world.put(full, spec)}).rows
    assert [row.nonzero for row in rows] == [len(own), 76]
  packed = jax.jit(jprune.masks.pack)({'w': world.put(full != 0, P('data'))})
  assert jprune.tally({'w': full}, packed).nonzero == 76


def check_what_all_have_found(world):
  rank, count = jax.process_index(), jax.process_count()
  large = np.array([2**40 + rank, -rank], np.int64)
  np.testing.assert_array_equal(
    _hosts.from_all(large), [[2**40 + i, -i] for i in range(count)], strict=True
  )
  assert _hosts.from_all(np.zeros((0, 3))).shape == (count, 0, 3)
  assert _hosts.by_first(lambda: f'ä + {rank}') == 'ä + 0'
  assert _hosts.by_first(lambda: '') == ''
  for kind in (ValueError, FileNotFoundError, jax.errors.JaxRuntimeError):

    def fails(kind=kind):
      raise kind(f'+ none on {rank}')

    with pytest.raises(Exception, match=r'\+ none on 0') as caught:
      _hosts.by_first(fails)
    world.agreed(isinstance(caught.value, (ValueError, OSError, RuntimeError)))
  x = world.put(np.arange(16.0, dtype=np.float32).reshape(4, 4))
  np.testing.assert_array_equal(_hosts.whole(x), np.arange(16.0).reshape(4, 4))
