"""OBS against least squares, weight by weight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jprune import scores
from tests import reference_statistics, stats


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def correlated(rows, inputs, seed=0):
  return normal(rows, inputs, seed=seed) @ normal(inputs, inputs, seed=seed + 1)


def find(x, w, **options):
  return scores.obs({'w': w}, stats.of_inputs({'w': x}, {'w': w.shape[-1]}), **options)['w']


@pytest.mark.parametrize('damping', [0, 0.01, 1.0])
@pytest.mark.parametrize('mean', [0, 3])
def test_is_what_refitting_the_others_leaves(damping, mean):
  x, w = correlated(60, 7) + np.float32(mean), normal(7, 3, seed=5)
  expected = reference_statistics.obs(x, w, damping)
  np.testing.assert_allclose(find(x, w, damping=damping), expected, rtol=1e-3)


def test_a_hundredth_is_the_default():
  x, w = correlated(60, 7), normal(7, 3, seed=5)
  np.testing.assert_array_equal(find(x, w), find(x, w, damping=0.01))


def test_uncorrelated_inputs_give_the_square_of_wanda():
  x, w = 3 * np.eye(6, dtype=np.float32), normal(6, 4)
  wanda = scores.wanda({'w': w}, stats.of_inputs({'w': x}, {'w': 4}))['w']
  np.testing.assert_allclose(find(x, w, damping=0), np.square(wanda) / 6, rtol=1e-5)


def test_matrices_side_by_side():
  x = np.stack([correlated(60, 5, seed) for seed in (1, 2, 3)])
  w = normal(3, 5, 2, seed=9)
  for i, found in enumerate(find(x, w)):
    expected = reference_statistics.obs(x[i], w[i], 0.01)
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_dead_inputs_score_zero_and_change_nothing_else():
  x, w = correlated(60, 6), normal(6, 3, seed=5)
  x[:, 2] = 0
  found = find(x, w, damping=0)
  assert not np.any(found[2])
  live = [0, 1, 3, 4, 5]
  np.testing.assert_allclose(found[live,], find(x[:, live], w[live], damping=0), rtol=1e-4)
  assert not np.any(find(np.zeros_like(x), w))


@pytest.mark.parametrize('damping', [0, 1e-12, 0.01])
@pytest.mark.parametrize('rows', [1, 5])
def test_singular_matrices_are_damped_until_they_are_not(damping, rows):
  x, w = correlated(rows, 40), normal(40, 3, seed=5)
  x[:, 7] = x[:, 8]
  found = np.asarray(find(x, w, damping=damping))
  assert np.isfinite(found).all()
  assert (found > 0).all()
  largest = np.square(w) * np.mean(np.square(x), axis=0)[:, None]  # if nothing were refitted
  assert (found <= 1.1 * largest + damping * np.square(w) * np.mean(np.square(x))).all()


@pytest.mark.parametrize('scale', [1e-12, 1e12])
def test_the_scale_of_inputs_is_the_scale_of_scores(scale):
  x, w = correlated(60, 7), normal(7, 3, seed=5)
  found = find(x * np.float32(scale), w)
  np.testing.assert_allclose(found, find(x, w) * np.float32(scale**2), rtol=1e-4)


def test_each_model_under_vmap_is_damped_by_itself():
  signs = np.where(np.arange(60) % 2, 1, -1).astype(np.float32)
  # the second is singular, and its Gram matrix has no rounding that could be blown up
  xs = np.stack([correlated(60, 6), np.repeat(signs[:, None], 6, axis=1)])
  w = normal(6, 3, seed=5)
  given = [stats.of_inputs({'w': x}, {'w': 3}) for x in xs]
  stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *given)
  find_one = lambda each: scores.obs({'w': w}, each, damping=0.0)['w']
  found = jax.vmap(find_one)(stacked)
  for i in range(2):
    np.testing.assert_allclose(found[i], find_one(given[i]), rtol=1e-4)


def test_errors():
  params, x = {'w': jnp.ones((3, 2))}, normal(4, 3)
  with pytest.raises(ValueError, match=r"obs: `stats` must be captured with gram=True; .*leaf 'w'"):
    scores.obs(params, stats.of_inputs({'w': x}, {'w': 2}, gram=False))
  with pytest.raises(ValueError, match=r'obs: `damping` must be at least 0 and finite; got nan'):
    scores.obs(params, stats.of_inputs({'w': x}, {'w': 2}), damping=float('nan'))
