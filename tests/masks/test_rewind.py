"""rewind: early weights under late masks."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import jprune
from jprune.masks import pack

EARLY = {'kernel': np.float32([[1.0, np.nan], [3.0, -0.0]]), 'bias': np.float32([7.0, 8.0])}
TRAINED = {'kernel': jnp.array([[0.5, 0.1], [0.2, 0.9]]), 'bias': jnp.array([-1.0, -2.0])}
MASKS = {'kernel': jnp.array([[True, False], [False, True]]), 'bias': None}


def test_early_where_kept_zero_where_pruned():
  for masks in (MASKS, pack(MASKS)):
    for call in (jprune.rewind, jax.jit(jprune.rewind)):
      out = call(TRAINED, EARLY, masks)
      assert np.asarray(out['kernel']).tobytes() == np.float32([[1, 0], [0, -0.0]]).tobytes()
      np.testing.assert_array_equal(out['bias'], EARLY['bias'])


def test_what_is_none_stays_as_it_was_trained():
  out = jprune.rewind(TRAINED, {'kernel': None, 'bias': None}, MASKS)
  jax.tree.map(np.testing.assert_array_equal, out, jprune.apply(TRAINED, MASKS))


def test_a_loop_that_donates_leaves_the_early_params_alone():
  early = jax.tree.map(jnp.asarray, EARLY)
  step = jax.jit(lambda params: jax.tree.map(lambda w: w + 1, params), donate_argnums=0)
  for masks in (MASKS, {'kernel': None, 'bias': None}):
    step(jprune.rewind(TRAINED, early, masks))
    step(jprune.rewind(TRAINED, {'kernel': None, 'bias': None}, masks))
  jax.tree.map(np.testing.assert_array_equal, early, EARLY)
  assert not TRAINED['bias'].is_deleted()


def test_it_lies_where_the_trained_params_lie():
  mesh = jax.make_mesh((2,), ('model',), axis_types=(jax.sharding.AxisType.Auto,))
  sharding = NamedSharding(mesh, PartitionSpec('model'))
  trained = jax.tree.map(lambda w: jax.device_put(w, sharding), TRAINED)
  masks = {'kernel': jax.device_put(MASKS['kernel'], sharding), 'bias': None}
  out = jprune.rewind(trained, EARLY, masks)
  for leaf in jax.tree.leaves(out):
    assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim)


@pytest.mark.parametrize(
  ('early', 'error', 'words'),
  [
    ({'kernel': EARLY['kernel']}, ValueError, "structure of `params`; got no leaf 'bias'"),
    (
      {**EARLY, 'kernel': np.ones((2, 3), np.float32)},
      ValueError,
      r"`early_params` must be of shape \(2, 2\); got float32 of shape \(2, 3\) at leaf 'kernel'",
    ),
    (
      {**EARLY, 'bias': np.ones(2, np.float16)},
      TypeError,
      "`early_params` must be of dtype float32; got float16 of shape .* at leaf 'bias'. Cast it",
    ),
    (
      {**EARLY, 'bias': jax.ShapeDtypeStruct((2,), jnp.float32)},
      TypeError,
      '`early_params` must be arrays; got a shape struct',
    ),
    ({**EARLY, 'bias': np.array(['a', 'b'])}, TypeError, '`early_params` must be arrays of dtypes'),
  ],
)
def test_other_early_params(early, error, words):
  with pytest.raises(error, match=f'rewind: .*{words}'):
    jprune.rewind(TRAINED, early, MASKS)


def test_other_masks():
  with pytest.raises(ValueError, match='rewind: `masks` must be a tree with the structure'):
    jprune.rewind(TRAINED, EARLY, {'kernel': None})


def test_a_lottery_ticket():
  """Rounds of pruning with rewinding: nested masks, and every round begins at the early weights."""
  x = jax.random.normal(jax.random.key(0), (32, 6))
  y = jnp.sin(x @ jax.random.normal(jax.random.key(1), (6, 2)))
  loss = lambda params: jnp.mean((x @ params['kernel'] + params['bias'][None] - y) ** 2)
  early = {'kernel': jax.random.normal(jax.random.key(2), (6, 2)), 'bias': jnp.zeros(2)}
  params, masks = early, jprune.prune(early, 0.0)
  for sparsity in (0.25, 0.5, 0.75):
    tx = optax.chain(optax.sgd(0.1), jprune.keep_pruned(masks))
    state = tx.init(params)
    for _ in range(3):
      updates, state = tx.update(jax.grad(loss)(params), state, params)
      params = optax.apply_updates(params, updates)
    before, masks = masks, jprune.prune(params, sparsity, masks=masks)
    assert not (masks['kernel'] & ~before['kernel']).any()
    params = jprune.rewind(params, early, masks)
    want = np.where(masks['kernel'], early['kernel'], 0)
    np.testing.assert_array_equal(params['kernel'], want)
    np.testing.assert_array_equal(params['bias'], early['bias'])
  assert int(masks['kernel'].sum()) == 3
