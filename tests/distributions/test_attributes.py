"""What distributions say of themselves, and that a user's own may say the same."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jprune
from jprune import distributions, reconstruct, sensitivity, transforms
from jprune.distributions._needs import Needs, needs_of

PARAMS = {
  'a': {'kernel': jnp.arange(1.0, 17.0).reshape(4, 4)},
  'b': {'kernel': jnp.arange(9.0, 33.0).reshape(4, 6)},
}
SAID = {
  'uniform': Needs(False, True, True, False),
  'er': Needs(False, True, False, False),
  'erk': Needs(False, True, False, False),
  'global_': Needs(True, True, False, True),
  'owl': Needs(True, True, False, False),
}


def own(**attributes):
  """A distribution of a user: every leaf gets the overall sparsity, by default 0.25."""

  def alike(params, scores, sparsity):
    share = 0.25 if sparsity is None else sparsity
    return jax.tree.map(lambda leaf: share, params)

  for name, value in attributes.items():
    setattr(alike, name, value)
  return alike


def same(found, expected):
  jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_every_distribution_says_what_it_needs():
  names = [name for name in vars(distributions) if name[0] != '_']
  assert set(names) == {*SAID, 'fixed'}
  assert {name: needs_of(getattr(distributions, name)) for name in SAID} == SAID
  assert needs_of(distributions.fixed({'w': 0.5})) == Needs(False, False, False, False)
  assert needs_of(own()) == Needs(True, None, False, False)


def test_bound_options_change_nothing():
  assert needs_of(distributions.erk(power=2)) == SAID['erk']
  bound = functools.partial(functools.partial(distributions.owl, m=3.0), lam=0.1)
  assert needs_of(bound) == SAID['owl']


def test_an_overall_sparsity_is_asked_for():
  same(jprune.prune(PARAMS, distribution=own()), jprune.prune(PARAMS, 0.25))
  with pytest.raises(TypeError, match=r'prune: `sparsity` must be a number in \[0, 1\]; got None'):
    jprune.prune(PARAMS, distribution=own(needs_sparsity=True))
  evaluate = lambda params: 1.0
  with pytest.raises(TypeError, match='run: .*sparsity'):
    sensitivity.run(evaluate, PARAMS, distribution=own(needs_sparsity=True))


def test_sparsities_of_its_own():
  evaluate = lambda params: float(sum(map(jnp.sum, jax.tree.leaves(params))))
  named = own(needs_sparsity=False)
  with pytest.raises(ValueError, match='run: `min_metric` must be left out'):
    sensitivity.run(evaluate, PARAMS, distribution=named, min_metric=1.0)
  result = sensitivity.run(evaluate, PARAMS, distribution=named, progress=False)
  assert result.sparsity == 0.25


def test_one_threshold_for_all_leaves():
  def never(params, scores, sparsity):
    raise AssertionError('nobody has to ask')

  never.one_threshold = True
  expected = jprune.prune(PARAMS, 0.5, distribution=distributions.global_)
  same(jprune.prune(PARAMS, 0.5, distribution=never), expected)
  assert int(expected['a']['kernel'].sum()) < 8
  x = jnp.eye(4)
  fn = lambda params, x: (x @ params['a']['kernel'], x @ params['b']['kernel'])
  repaired = lambda distribution: reconstruct.prune(
    fn, PARAMS, [x], sparsity=0.5, distribution=distribution, progress=False
  )[1]
  same(repaired(never), repaired(distributions.global_))


def test_patterns_that_prune_all_leaves_alike():
  pattern = jprune.NOfM(2, 4, axis=0)
  masks = jprune.prune(PARAMS, pattern=pattern, distribution=own(shares_alike=True))
  same(masks, jprune.prune(PARAMS, pattern=pattern))
  with pytest.raises(ValueError, match='prune: `distribution` must be left out for NOfM'):
    jprune.prune(PARAMS, pattern=pattern, distribution=own())


def test_shapes_are_enough_under_jit():
  """Training counts at ``init`` what each leaf keeps; under ``jit`` there are no scores to see."""
  params = {'kernel': jnp.arange(1.0, 17.0).reshape(4, 4)}

  def start(distribution):
    tx = transforms.gradual(optax.sgd(0.1), 0.5, every=2, distribution=distribution)
    return jax.jit(tx.init)(params)

  state = start(own(needs_scores=False))
  assert transforms.masks_of(state)['kernel'].shape == (4, 4)
  with pytest.raises(TypeError, match='gradual: `distribution` .* let it say needs_scores = False'):
    start(own())
