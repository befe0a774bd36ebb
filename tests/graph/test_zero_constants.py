"""Constants that are zero, however they were made, leave the axis free to which they are added."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jprune
from jprune import graph
from tests.graph.captured import normal

EVEN = np.arange(8) % 2 == 0
zeros = lambda *shape: jnp.zeros(shape, jnp.float32)
ZEROS = {
  'zeros': lambda: zeros(4, 8),
  'negative': lambda: -zeros(4, 8),
  'elementwise': lambda: jnp.tanh(jnp.abs(zeros(4, 8))),
  'cast': lambda: jnp.zeros((4, 8), jnp.bfloat16).astype(jnp.float32),
  'concatenated': lambda: jnp.concatenate([zeros(4, 3), zeros(4, 5)], 1),
  'concatenated rows': lambda: jnp.concatenate([zeros(1, 8), zeros(3, 8)]),
  'beside an array': lambda: jnp.concatenate([np.zeros((4, 3), np.float32), zeros(4, 5)], 1),
  'stacked': lambda: jnp.stack([zeros(4)] * 8, 1),
  'split': lambda: jnp.concatenate(jnp.split(zeros(4, 8), 2, 1)[::-1], 1),
  'padded': lambda: jnp.pad(zeros(4, 5), ((0, 0), (1, 2))),
  'chosen': lambda: jnp.where(EVEN, zeros(4, 8), zeros(4, 8)),
  'chosen by what is computed': lambda: jnp.where(jnp.arange(8) < 3, zeros(4, 8), 0.0),
  'tiled': lambda: jnp.tile(zeros(4, 2), (1, 4)),
  'repeated': lambda: jnp.repeat(zeros(4, 2), 4, 1),
  'flipped': lambda: zeros(4, 8)[:, ::-1],
  'rolled': lambda: jnp.roll(zeros(4, 8), 2, 1),
  'permuted': lambda: zeros(4, 8)[:, np.array([3, 1, 2, 5, 4, 7, 6, 0])],
  'transposed': lambda: zeros(8, 4).T,
  'a window': lambda: lax.dynamic_slice(zeros(6, 9), (1, 1), (4, 8)),
  'compiled': lambda: jax.jit(jax.jit(lambda: jnp.pad(zeros(4, 8), 0)))(),
  'padding of a concatenation': lambda: jnp.pad(
    jnp.concatenate([zeros(4, 2), zeros(4, 2)], 1), ((0, 0), (3, 1))
  ),
}
OTHERS = {
  'beside ones': lambda: jnp.concatenate([zeros(4, 3), jnp.ones((4, 5))], 1),
  'padded with ones': lambda: jnp.pad(zeros(4, 5), ((0, 0), (1, 2)), constant_values=1.0),
  'chosen from ones': lambda: jnp.where(EVEN, zeros(4, 8), 1.0),
  'filled': lambda: zeros(4, 8).at[:, np.arange(4, 12)].get(mode='fill', fill_value=2.0),
}


def summed(make):
  """What is pruned has to be zero where the function sums: in a loop, and after it."""

  def fn(params, x):
    h = x @ params['in']
    h = lax.scan(lambda h, _: (2 * h + make(), h.sum(1)), h, length=3)[0]
    return h.sum(1)

  return fn


PARAMS, X = {'in': normal(3, 8)}, normal(4, 3, seed=1)


@pytest.mark.parametrize('name', ZEROS)
def test_zeros_leave_the_axis_free(name):
  found = graph.channels(summed(ZEROS[name]), PARAMS, X)
  assert found.frozen.keys() == {('in', 0)}
  assert sum(group.size for group in found.groups) == 8  # where a step sees the parts, one for each


@pytest.mark.parametrize('name', OTHERS)
def test_what_is_zero_only_in_part_does_not(name):
  found = graph.channels(summed(OTHERS[name]), PARAMS, X)
  assert found.groups == ()
  assert 'summed over, where its pruned entries are not zero' in found.frozen['in', 1]


def test_masked_is_shrunk():
  fn = summed(lambda: sum(make() for make in ZEROS.values()))
  masks = {'in': jnp.asarray(np.ones((3, 1), bool) * EVEN)}
  assert graph.verify(fn, PARAMS, masks, X).relative < 1e-6
  assert jprune.shrink(fn, PARAMS, masks, X).params['in'].shape == (3, 4)
