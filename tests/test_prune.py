"""prune: scorer, distribution, pattern and selection put together, and rounds of it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jprune
from jprune import distributions, scores
from jprune.masks import Block, Channel, NOfM, pack
from tests import reference


def make_params(seed=0):
  keys = jax.random.split(jax.random.key(seed), 4)
  return {
    'a': {'kernel': jax.random.normal(keys[0], (30, 40)), 'bias': jnp.ones(40)},
    'b': {'kernel': jax.random.normal(keys[1], (40, 8)).astype(jnp.bfloat16)},
    'conv': jax.random.normal(keys[2], (3, 3, 8, 16)),
    'count': jnp.arange(3),
  }


PARAMS = make_params()
KERNELS = ('a/kernel', 'b/kernel', 'conv')


def leaves(masks):
  paths, found, _ = jprune.tree.flatten(masks)
  return dict(zip(paths, found))


def test_uniform_is_exact_in_every_leaf():
  masks = leaves(jprune.prune(PARAMS, 0.9))
  assert tuple(masks) == KERNELS
  params = leaves(PARAMS)
  for path, mask in masks.items():
    magnitudes = np.abs(np.asarray(params[path], np.float32))
    want = reference.top_k(magnitudes, mask.size - round(0.9 * mask.size))
    np.testing.assert_array_equal(mask, want)


def test_global_is_exact_over_all_leaves():
  masks = leaves(jprune.prune(PARAMS, 0.9, distribution=distributions.global_))
  magnitudes = [np.abs(np.asarray(leaves(PARAMS)[path], np.float32)) for path in KERNELS]
  size = sum(leaf.size for leaf in magnitudes)
  want = reference.top_k_together(magnitudes, size - round(0.9 * size))
  for mask, expected in zip(masks.values(), want):
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(
  'distribution', [distributions.erk, distributions.er, distributions.erk(power=0.5)]
)
def test_distributions_set_the_counts(distribution):
  masks = leaves(jprune.prune(PARAMS, 0.8, distribution=distribution))
  sparsities = leaves(
    distribution(
      PARAMS,
      {
        'a': {'kernel': PARAMS['a']['kernel'], 'bias': None},
        'b': PARAMS['b'],
        'conv': PARAMS['conv'],
        'count': None,
      },
      0.8,
    )
  )
  for path, mask in masks.items():
    assert int((~mask).sum()) == round(sparsities[path] * mask.size)


def test_fixed_needs_no_sparsity():
  fixed = distributions.fixed({'conv': 0.25, 'a/kernel': 0.5})
  masks = jprune.prune(PARAMS, distribution=fixed)
  assert int(masks['conv'].sum()) == 3 * 3 * 8 * 16 * 3 // 4
  assert int(masks['a']['kernel'].sum()) == 600
  assert masks['b']['kernel'] is None


def test_a_distribution_of_ones_own():
  half_of_a = lambda params, scores, sparsity: {'a/kernel': sparsity / 2}
  masks = jprune.prune(PARAMS, 0.5, distribution=half_of_a)
  assert int((~masks['a']['kernel']).sum()) == 300
  assert masks['conv'] is None


def test_scores_may_be_given_and_scorers_take_arguments():
  flipped = jax.tree.map(lambda x: -jnp.abs(x.astype(jnp.float32)), PARAMS)
  given_ = jprune.prune(PARAMS, 0.5, scorer=flipped)
  called = jprune.prune(
    PARAMS,
    0.5,
    scorer=lambda p, sign: jax.tree.map(lambda x: sign * jnp.abs(x).astype(float), p),
    sign=-1,
  )
  for one, two in zip(jax.tree.leaves(given_), jax.tree.leaves(called)):
    np.testing.assert_array_equal(one, two)
  squares = jprune.prune(PARAMS, 0.5, scorer=scores.magnitude, p=2)
  plain = jprune.prune(PARAMS, 0.5)
  np.testing.assert_array_equal(squares['conv'], plain['conv'])
  assert jprune.prune(PARAMS, 0.5, scorer=scores.lamp)['conv'].sum() == plain['conv'].sum()


def test_random_scores_take_a_key():
  masks = jprune.prune(PARAMS, 0.5, scorer=scores.random, key=jax.random.key(1))
  again = jprune.prune(PARAMS, 0.5, scorer=scores.random, key=jax.random.key(1))
  other = jprune.prune(PARAMS, 0.5, scorer=scores.random, key=jax.random.key(2))
  np.testing.assert_array_equal(masks['conv'], again['conv'])
  assert not np.array_equal(masks['conv'], other['conv'])
  assert int(masks['conv'].sum()) == masks['conv'].size // 2
  bound = functools.partial(scores.random, key=jax.random.key(1))
  bound = jprune.prune(PARAMS, 0.5, scorer=bound)
  np.testing.assert_array_equal(masks['conv'], bound['conv'])


def test_under_jit_with_a_traced_sparsity():
  for distribution in (distributions.uniform, distributions.global_):
    run = functools.partial(jprune.prune, distribution=distribution)
    for sparsity in (0.0, 0.5, 0.75, 1.0):
      traced, plain = jax.jit(run)(PARAMS, sparsity), run(PARAMS, sparsity)
      for one, two in zip(jax.tree.leaves(traced), jax.tree.leaves(plain)):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize('distribution', [distributions.uniform, distributions.global_])
@given(st.lists(st.floats(0, 1), min_size=2, max_size=4))
@settings(deadline=None, max_examples=10)
def test_rounds_nest_and_count_whole_leaves(distribution, sparsities):
  masks, reached = None, 0.0
  size = sum(leaves(PARAMS)[path].size for path in KERNELS)
  for round_, sparsity in enumerate(sparsities):
    moved = make_params(seed=round_)  # as after fine-tuning: other weights are small now
    new = jprune.prune(moved, sparsity, distribution=distribution, masks=masks)
    if masks is not None:
      for one, two in zip(jax.tree.leaves(masks), jax.tree.leaves(new)):
        assert not bool(jnp.any(two & ~one))
    masks, reached = new, max(reached, sparsity)
    pruned = sum(int((~mask).sum()) for mask in jax.tree.leaves(masks))
    if distribution is distributions.global_:
      assert pruned == round(reached * size)
    else:
      assert pruned == sum(round(reached * leaf.size) for leaf in jax.tree.leaves(masks))


def test_rounds_of_other_leaves_add_up():
  first = jprune.prune(PARAMS, 0.5, where='conv')
  second = jprune.prune(PARAMS, 0.5, where='a/kernel', masks=pack(first))
  assert int(second['conv'].sum()) == int(first['conv'].sum())
  assert int(second['a']['kernel'].sum()) == 600
  assert second['b']['kernel'] is None
  third = jprune.prune(PARAMS, where='a/kernel', pattern=NOfM(2, 4, axis=-1), masks=first)
  np.testing.assert_array_equal(third['conv'], first['conv'])


def test_rounds_of_patterns():
  first = jprune.prune(PARAMS, 0.25, where='a/kernel', pattern=Channel(-1))
  other = make_params(seed=5)
  second = jprune.prune(other, 0.5, where='a/kernel', pattern=Channel(-1), masks=first)
  alive = lambda masks: np.asarray(masks['a']['kernel']).all(0)
  assert alive(first).sum() == 30
  assert alive(second).sum() == 20
  assert not (alive(second) & ~alive(first)).any()
  groups = jprune.prune(other, where='a/kernel', pattern=NOfM(2, 4, axis=-1), masks=first)
  kept = np.asarray(groups['a']['kernel']).reshape(30, 10, 4)
  room = np.asarray(first['a']['kernel']).reshape(30, 10, 4).sum(-1)
  assert (kept.sum(-1) == np.minimum(2, room)).all()


def test_params_stay_as_they_are():
  before = jax.tree.map(np.array, PARAMS)
  jprune.prune(PARAMS, 0.9, pattern=Block((2, 2)))
  for one, two in zip(jax.tree.leaves(before), jax.tree.leaves(PARAMS)):
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
  ('call', 'error', 'words'),
  [
    (
      lambda: jprune.prune(PARAMS),
      TypeError,
      r'prune: `sparsity` must be a number in \[0, 1\]; got None',
    ),
    (
      lambda: jprune.prune(PARAMS, distribution=distributions.global_),
      TypeError,
      'prune: `sparsity`',
    ),
    (
      lambda: jprune.prune(PARAMS, 90),
      ValueError,
      r'prune: `sparsity` must be in \[0, 1\]; got 90.0. It is the fraction of zeros, '
      'not a percentage',
    ),
    (lambda: jprune.prune(PARAMS, -0.1), ValueError, r'got -0.1'),
    (lambda: jprune.prune(PARAMS, float('nan')), ValueError, r'got nan'),
    (
      lambda: jprune.prune(PARAMS, '0.9'),
      TypeError,
      r"prune: `sparsity` must be a number; got '0.9'",
    ),
    (
      lambda: jprune.prune({}, 0.5),
      ValueError,
      r'prune: `params` must be a tree with at least one',
    ),
    (
      lambda: jprune.prune(PARAMS, 0.5, where='bais'),
      ValueError,
      r'prune: `where` must be a filter',
    ),
    (lambda: jprune.prune(PARAMS, 0.5, where='count'), TypeError, r"int32 .* at leaf 'count'"),
    (
      lambda: jprune.prune(PARAMS, 0.5, scorer=lambda p: p['conv']),
      ValueError,
      r'prune: `scorer` must be a tree with the structure of `params`',
    ),
    (
      lambda: jprune.prune(PARAMS, 0.5, scorer=lambda p: jax.tree.map(lambda x: None, p)),
      TypeError,
      r"prune: `scorer` must be a floating array; got NoneType at leaf 'a/kernel'",
    ),
    (
      lambda: jprune.prune(PARAMS, 0.5, scorer=jax.tree.map(lambda x: jnp.ones(2), PARAMS)),
      ValueError,
      r'prune: `scorer` must be of shape \(30, 40\); got float32 of '
      r"shape \(2,\) at leaf 'a/kernel'",
    ),
    (
      lambda: jprune.prune({'w': jnp.full((2, 2), jnp.nan)}, 0.5),
      ValueError,
      r"prune: `scores` must be free of NaN; got NaN at leaf 'w'",
    ),
    (lambda: jprune.prune(PARAMS, 0.5, scorer=scores.random), TypeError, r'`key` must be .* None'),
    (
      lambda: jprune.prune(PARAMS, 0.5, key=jax.random.key(0)),
      TypeError,
      r'prune: `key` must be None for a scorer that draws nothing; got a key for magnitude',
    ),
    (
      lambda: jprune.prune(PARAMS, 0.5, scorer=PARAMS, p=2),
      TypeError,
      r"prune: `scorer` must be a function .*; got a tree of scores and 'p'",
    ),
    (
      lambda: jprune.prune(PARAMS, 0.5, masks={'conv': None}),
      ValueError,
      r'prune: `masks` must be a tree with the structure',
    ),
    (
      lambda: jprune.prune(PARAMS, 0.5, distribution=lambda p, s, x: {'nowhere': 0.5}),
      ValueError,
      r'prune: `sparsities` must be a tree with the structure',
    ),
  ],
)
def test_one_clear_error(call, error, words):
  with pytest.raises(error, match=words):
    call()


@pytest.mark.parametrize(
  ('call', 'words'),
  [
    (
      lambda: jprune.prune(PARAMS, 0.5, pattern='2:4'),
      "prune: `pattern` must be a pattern; got '2:4'",
    ),
    (
      lambda: jprune.prune(PARAMS, 0.5, pattern=Block),
      'prune: `pattern` must be a pattern; got <class',
    ),
    (
      lambda: jprune.prune(PARAMS, 0.5, distribution='erk'),
      "prune: `distribution` must be a function; got 'erk'",
    ),
    (
      lambda: jprune.prune(PARAMS, 0.5, scorer='magnitude'),
      "prune: `scorer` must be a function or a tree of scores; got 'magnitude'",
    ),
    (
      lambda: jprune.prune(PARAMS, 0.5, scorer=None),
      'prune: `scorer` must be a function .* got None',
    ),
    (
      lambda: jprune.prune(PARAMS, distribution=distributions.erk(power=2)),
      'prune: `sparsity` must be a number in',
    ),
    (
      lambda: jprune.masks.top_k({'w': jax.ShapeDtypeStruct((2, 2), jnp.float32)}, 0.5),
      r"top_k: `scores` must be arrays; got a shape struct .* at leaf 'w'",
    ),
    (
      lambda: jprune.apply({'w': jax.ShapeDtypeStruct((2,), jnp.float32)}, {'w': None}),
      r"apply: `params` must be arrays; got a shape struct .* at leaf 'w'",
    ),
    (
      lambda: jprune.masks.top_k_rows({'w': jnp.ones((2, 2))}, None),
      'top_k_rows: `sparsity` must be',
    ),
    (
      lambda: jprune.masks.n_of_m({'w': jnp.ones((4, 4))}, 2, 4, axis=1.0),
      'n_of_m: `axis` must be an int',
    ),
  ],
)
def test_arguments_of_another_kind(call, words):
  with pytest.raises(TypeError, match=words):
    call()


def test_n_of_m_leaves_nothing_to_distribute():
  with pytest.raises(ValueError, match='prune: `distribution` must be left out for NOfM'):
    jprune.prune(PARAMS, pattern=NOfM(2, 4), distribution=distributions.erk)


def test_params_with_holes():
  # what a partition leaves behind: None in the structure, not a leaf
  params = {'a': None, 'b': jnp.arange(1.0, 7.0).reshape(2, 3), 'c': [None, jnp.ones((2, 2)), None]}
  first = jprune.prune(params, 0.5)
  assert first['b'].tolist() == [[False] * 3, [True] * 3]
  assert first['a'] is None
  second = jprune.prune(params, 2 / 3, where='b', masks=pack(first))
  assert int(second['b'].sum()) == 2
  np.testing.assert_array_equal(second['c'][1], first['c'][1])
  both = jprune.prune(params, 0.9, distribution=distributions.global_, masks=first)
  assert sum(int(mask.sum()) for mask in jax.tree.leaves(both)) == 1
  erk = jprune.prune(params, 0.5, distribution=distributions.erk)
  assert erk['c'][0] is None
  assert jprune.masks.top_k(jax.tree.map(jnp.abs, params), {'b': 0.5})['c'][1] is None
  fixed = jprune.prune(params, distribution=distributions.fixed({'c/1': 0.25}))
  assert fixed['b'] is None
  assert int(fixed['c'][1].sum()) == 3


@pytest.mark.parametrize(('scorer', 'missing'), [('wanda', 'stats'), ('snip', 'loss_fn')])
def test_scorers_that_need_more_say_what(scorer, missing):
  message = (
    rf'prune: `scorer` must be given all that it takes; got {scorer} without .{missing}.\. Pass'
  )
  with pytest.raises(TypeError, match=message):
    jprune.prune({'w': jnp.ones((2, 2))}, 0.5, scorer=getattr(jprune.scores, scorer))
