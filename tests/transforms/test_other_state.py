"""States and schedules of others, given to a method."""

import jax
import jax.numpy as jnp
import optax
import pytest

import jprune
from jprune import schedules, transforms

PARAMS = {'kernel': jax.random.normal(jax.random.key(0), (8, 8))}


def test_a_state_of_another_schedule_is_refused():
  schedule = schedules.linear(0.0, 0.8, 0, 40)
  state = transforms.gradual(optax.sgd(0.1), schedule, every=10).init(PARAMS)
  other = transforms.gradual(optax.sgd(0.1), schedule, every=20)
  with pytest.raises(ValueError, match='gradual: `state` must be that of a schedule with 3'):
    jax.jit(other.update)(PARAMS, state, PARAMS)


def test_a_state_of_no_method_is_refused():
  tx = transforms.gradual(optax.sgd(0.1), 0.5, every=10)
  with pytest.raises(ValueError, match='`state` must be a SparseState; got tuple'):
    tx.update(PARAMS, optax.adam(0.1).init(PARAMS), PARAMS)


def test_params_and_updates_of_other_shapes_are_refused():
  tx = transforms.gradual(optax.sgd(0.1), 0.5, every=10)
  state, other = tx.init(PARAMS), {'kernel': jnp.ones((9, 8))}
  with pytest.raises(ValueError, match=r'`params` must be of shape \(8, 8\).*kernel'):
    tx.update(PARAMS, state, other)
  with pytest.raises(ValueError, match=r'`updates` must be of shape \(8, 8\).*kernel'):
    tx.update(other, state, PARAMS)


def test_a_schedule_may_give_arrays():
  tx = transforms.gradual(optax.sgd(0.1), optax.linear_schedule(0.0, 0.5, 4), every=2, end=4)
  state = tx.init(PARAMS)
  for _ in range(5):
    _, state = tx.update(PARAMS, state, PARAMS)
  assert int(transforms.masks_of(state)['kernel'].sum()) == 32


def test_masks_where_a_label_hides_a_whole_subtree():
  params = {'base': {'kernel': PARAMS['kernel']}, 'adapter': PARAMS}
  parts = {'train': transforms.gradual(optax.sgd(0.1), 0.5, every=2), 'freeze': optax.set_to_zero()}
  tx = optax.multi_transform(parts, {'base': 'freeze', 'adapter': 'train'})
  _, state = tx.update(params, tx.init(params), params)
  masks = transforms.masks_of(state, params)
  assert masks['base'] == {'kernel': None}
  assert int(jprune.apply(params, masks)['adapter']['kernel'].astype(bool).sum()) == 32
  assert jprune.tally(params, state).nonzero == 96
