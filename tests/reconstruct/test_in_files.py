"""Leaves in files are, at any moment, what they would be in memory."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jprune
from jprune.graph._segments.program import LeafPart
from jprune.reconstruct._at_hand import AtHand
from jprune.reconstruct._in_files import InFiles

SHAPE = 3, 3, 8


@pytest.fixture
def both(tmp_path):
  """A leaf in memory and in a file; nobody writes what becomes of it."""
  w = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
  jprune.save(tmp_path / 'model', {'w': w})
  nothing = lambda *args, **kwargs: None
  with jprune.io.open(tmp_path / 'model') as model:
    yield (
      AtHand({'w': jnp.asarray(w)}),
      InFiles(model, types.SimpleNamespace(put=nothing, put_step=nothing)),
    )


def check_same(both):
  for axis in (0, 1):
    for step in range(3):
      one, other = (held.part('w', axis, step) for held in both)
      np.testing.assert_array_equal(one, other)
  one, other = (held.whole('w') for held in both)
  np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize('order', [(0, 1, 2), (2, 1, 0)])
@pytest.mark.parametrize('axis', [0, 1])
@pytest.mark.parametrize('released', [False, True])
def test_step_by_step(both, order, axis, released):
  check_same(both)
  for step in order:
    new = jnp.full((3, 8), step + 1.0)
    for held in both:
      held.put_part('w', axis, step, new, new > 1)
    if released:
      both[1].release([LeafPart(0)])
    check_same(both)
  for held in both:
    held.join()
  masks = both[0].masks, jprune.masks.unpack(both[1].masks)
  jax.tree.map(np.testing.assert_array_equal, *masks)


def test_as_a_whole(both):
  check_same(both)
  new = jnp.ones(SHAPE)
  for held in both:
    held.put('w', new, new > 0)
  check_same(both)
