"""owl: the authors' formula, exact means, groups, and errors."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jprune
from jprune.distributions import owl
from tests import reference_statistics, stats


def heavy(*shape, seed=0, tail=2.0):
  """Scores with more outliers for a smaller ``tail``."""
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.pareto(tail, size=shape), jnp.float32)


def overall(scores, found):
  leaves = jax.tree.leaves(scores)
  zeros = sum(x.size * s for x, s in zip(leaves, jax.tree.leaves(found), strict=True))
  return zeros / sum(x.size for x in leaves)


@pytest.mark.parametrize('sparsity', [0.3, 0.5, 0.7])
@pytest.mark.parametrize(('m', 'lam'), [(5, 0.08), (3, 0.15), (7.5, 0.02)])
def test_is_the_authors_formula_for_layers_of_one_size(sparsity, m, lam):
  layers = [heavy(30, 20, seed=i, tail=t) for i, t in enumerate((1.2, 1.5, 2, 3, 8))]
  found = owl(layers, layers, sparsity, m=m, lam=lam)
  expected = reference_statistics.owl([[x] for x in layers], sparsity, m, lam)
  np.testing.assert_allclose(found, expected, atol=1e-12)


def test_five_and_eight_hundredths_are_the_defaults():
  layers = [heavy(30, 20, seed=i, tail=t) for i, t in enumerate((1.2, 2, 8))]
  assert owl(layers, layers, 0.5) == owl(layers, layers, 0.5, m=5.0, lam=0.08)


def test_leaves_of_a_block_share_as_in_the_authors_code():
  params = {
    f'layers_{i}': {'q': heavy(6, 6, seed=i, tail=1 + i), 'up': heavy(6, 20, seed=9 + i, tail=2)}
    for i in range(3)
  }
  found = owl(params, params, 0.6, groups=r'(layers_\d+)/')
  blocks = [[block['q'], block['up']] for block in params.values()]
  expected = reference_statistics.owl(blocks, 0.6, 5, 0.08)
  for block, value in zip(found.values(), expected):
    assert block['q'] == block['up'] == pytest.approx(value, abs=1e-12)
  assert found == owl(params, params, 0.6, groups=lambda path: path.split('/')[0])
  assert found == owl(params, params, 0.6, groups=lambda path: int(path[7]))


def test_leaves_without_a_group_are_by_themselves():
  params = {'head': heavy(9, 9), 'tail': heavy(9, 9, seed=4), 'a/1': heavy(9, 9, seed=2)}
  alone = owl(params, params, 0.5)
  assert owl(params, params, 0.5, groups=r'(a)/') == alone
  assert owl(params, params, 0.5, groups=lambda path: None) == alone


sizes = st.lists(st.integers(1, 60), min_size=1, max_size=6)


@settings(max_examples=30, deadline=None)
@given(sizes, st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1), st.floats(0.5, 10))
def test_the_mean_weighted_by_size_is_the_one_requested(sizes, seed, sparsity, lam, m):
  rng = np.random.default_rng(seed)
  scores = [rng.pareto(1.5, size=n).astype(np.float32) for n in sizes]
  found = owl(scores, scores, sparsity, m=m, lam=lam)
  assert all(isinstance(s, float) and 0 <= s <= 1 for s in found)
  assert overall(scores, found) == pytest.approx(sparsity, abs=1e-12)
  assert max(found) - min(found) <= 2 * lam + 1e-12
  ratios = [np.mean(x > np.float32(m * x.mean(dtype=np.float64))) for x in scores]
  for i in np.argsort(ratios)[1:]:
    assert found[i] <= max(found[j] for j in range(len(found)) if ratios[j] <= ratios[i]) + 1e-12


def test_equal_ratios_are_uniform():
  scores = {'a': jnp.ones(10), 'b': jnp.zeros((3, 4)), 'c': jnp.full(2, 7.0)}
  assert owl(scores, scores, 0.3) == {'a': 0.3, 'b': 0.3, 'c': 0.3}
  assert owl({'a': heavy(9)}, {'a': heavy(9)}, 0.3) == {'a': 0.3}


@pytest.mark.parametrize('sparsity', [0.0, 1.0])
def test_nothing_and_everything(sparsity):
  scores = [heavy(30, seed=i, tail=t) for i, t in enumerate((1, 2, 8))]
  assert owl(scores, scores, sparsity, lam=0.3) == [sparsity] * 3


def test_leaves_without_scores_and_without_weights():
  params = {'w': heavy(9), 'b': jnp.ones(3), 'e': jnp.ones((0, 2))}
  assert owl(params, {**params, 'b': None}, 0.5) == {'w': 0.5, 'b': None, 'e': 0.0}
  assert owl({'e': params['e']}, {'e': params['e']}, 0.5) == {'e': 0.0}


@pytest.mark.parametrize('scale', [2.0**-100, 2.0**100, 2.0**126])
def test_is_relative(scale):
  scores = [jnp.minimum(heavy(200, seed=i, tail=t), 3.9) for i, t in enumerate((1.2, 2, 8))]
  assert owl(scores, [x * np.float32(scale / 4) for x in scores], 0.5) == owl(scores, scores, 0.5)


def test_counts_in_half_precision_are_exact():
  scores = {
    'a': jnp.asarray(np.r_[np.ones(9999), np.full(1, 10)], jnp.bfloat16),
    'b': heavy(10_000),
  }
  ratio = lambda x: np.mean(np.asarray(x, np.float64) > 5 * np.mean(np.asarray(x, np.float64)))
  assert ratio(scores['a']) == 1e-4
  found = owl(scores, scores, 0.5)
  assert found['a'] == pytest.approx(0.58)
  assert found['b'] == pytest.approx(0.42)


def test_prune_with_wanda():
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
  params = {'a': draw(8, 20), 'b': draw(20, 10), 'bias': draw(20)}
  x, y = draw(30, 8), draw(30, 20)
  y[:, 3] *= 100  # an outlier feature, as in large language models
  given = stats.of_inputs({'a': x, 'b': y}, {'a': 20, 'b': 10})
  distribution = functools.partial(owl, lam=0.1)
  masks = jprune.prune(
    params, 0.5, scorer=jprune.scores.wanda, stats=given, distribution=distribution
  )
  zeros = {name: 1 - float(np.mean(masks[name])) for name in 'ab'}
  assert zeros['a'] - zeros['b'] == pytest.approx(0.2, abs=0.01)
  assert sum(int((~masks[name]).sum()) for name in 'ab') == 180
  with pytest.raises(TypeError, match='prune: `sparsity` must be a number in .*; got None'):
    jprune.prune(params, distribution=distribution)


def test_errors():
  scores = {'a/w': heavy(9)}
  call = functools.partial(owl, scores, scores)
  with pytest.raises(ValueError, match=r'owl: `sparsity` must be in \[0, 1\]; got 50.0'):
    call(50)
  with pytest.raises(ValueError, match=r'owl: `m` must be positive and finite; got 0.0'):
    call(0.5, m=0)
  with pytest.raises(ValueError, match=r'owl: `lam` must be in \[0, 1\]; got 8.0'):
    call(0.5, lam=8)
  with pytest.raises(TypeError, match='owl: `groups` must be a function of .*; got 3'):
    call(0.5, groups=3)
  for regex, why in [('a', '0 groups'), ('(a)/(w)', '2 groups'), ('(a', 'missing')]:
    with pytest.raises(
      ValueError, match=rf'owl: `groups` must be a regular expression with one group; .*\({why}'
    ):
      call(0.5, groups=regex)
  with pytest.raises(TypeError, match="owl: `groups` must be a function that .*; got list.*'a/w'"):
    call(0.5, groups=lambda path: [path])
  with pytest.raises(ValueError, match="owl: `scores` must be free of NaN; .* leaf 'a/w'"):
    owl(scores, {'a/w': scores['a/w'].at[2].set(math.nan)}, 0.5)
  with pytest.raises(TypeError, match="owl: `scores` must be a floating array; .* leaf 'a/w'"):
    owl(scores, {'a/w': jnp.arange(9)}, 0.5)
  with pytest.raises(TypeError, match="owl: `scores` must be arrays with values.*traced.*'a/w'"):
    jax.jit(lambda s: owl(s, s, 0.5))(scores)
  with pytest.raises(TypeError, match='owl: `scores` must be arrays with values'):
    jax.eval_shape(lambda s: owl(s, s, 0.5), scores)
