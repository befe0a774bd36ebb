"""What is read from the state of an optimizer: masks, metrics, a tally."""

import functools
import operator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jprune
from jprune.transforms import gradual, masks_of, metrics

RNG = np.random.default_rng(0)
PARAMS = {
  'a': {'kernel': jnp.asarray(RNG.normal(size=(6, 8)), jnp.float32), 'bias': jnp.zeros(8)},
  'b': {'kernel': jnp.asarray(RNG.normal(size=(8, 4)), jnp.float32)},
}
SCHEDULE = jprune.schedules.linear(0.0, 0.75, begin=0, end=4)


def updated(tx, params=PARAMS, steps=3):
  """The params and the state after some steps."""
  state = tx.init(params)
  with jax.numpy_dtype_promotion('standard'):
    for _ in range(steps):
      updates, state = tx.update(jax.tree.map(jnp.ones_like, params), state, params)
      params = optax.apply_updates(params, updates)
  return params, state


def labels(params):
  return {'a': jax.tree.map(lambda _: 'a', params['a']), 'b': {'kernel': 'b'}}


OPTIMIZERS = {
  'alone': lambda: gradual(optax.adam(0.1), SCHEDULE, every=2),
  'packed': lambda: gradual(optax.sgd(0.1), SCHEDULE, every=2, packed=True),
  'in a chain': lambda: optax.chain(
    optax.clip(1.0), gradual(optax.sgd(0.1, momentum=0.9), SCHEDULE, every=2)
  ),
  'kept': lambda: optax.chain(optax.adam(0.1), jprune.keep_pruned(jprune.prune(PARAMS, 0.5))),
  'kept, and updates masked': lambda: optax.chain(
    jprune.mask_updates(jprune.prune(PARAMS, 0.5)),
    optax.adam(0.1),
    jprune.keep_pruned(jprune.prune(PARAMS, 0.5)),
  ),
  'two': lambda: optax.multi_transform(
    {
      'a': gradual(optax.sgd(0.1), SCHEDULE, every=2),
      'b': gradual(optax.sgd(0.1), 0.25, every=2, packed=True),
    },
    labels,
  ),
}


@pytest.mark.parametrize('name', OPTIMIZERS)
def test_metrics_and_tally_of_a_state(name):
  params, state = updated(OPTIMIZERS[name]())
  masks = jprune.masks.unpack(masks_of(state))
  assert jax.tree.structure(masks, is_leaf=lambda x: x is None) == jax.tree.structure(params)
  np.testing.assert_array_equal(masks['a']['kernel'], params['a']['kernel'] != 0)
  found, compiled = metrics(state), jax.jit(metrics)(state)
  kernels = {path: np.asarray(masks[path[0]]['kernel']) for path in ('a/kernel', 'b/kernel')}
  want = {f'sparsity/{path}': 1 - mask.mean() for path, mask in kernels.items()}
  want['sparsity'] = 1 - np.concatenate([mask.ravel() for mask in kernels.values()]).mean()
  if not name.startswith('kept'):
    # at count 2 from none to 3/8 of each leaf (the linear schedule's), or from a quarter
    first, last = (SCHEDULE(count) for count in (0, 2))
    assert first == 0
    lost = {path: round(last * mask.size) for path, mask in kernels.items()}
    if name == 'two':  # a quarter at count 0, and no change since
      lost['b/kernel'] = 8
    want['churn'] = sum(lost.values()) / sum(mask.size for mask in kernels.values())
  assert set(found) == set(want)
  for key, value in want.items():
    assert found[key].dtype == jnp.float32
    assert found[key].shape == ()
    np.testing.assert_allclose([found[key], compiled[key]], value, rtol=1e-6, err_msg=key)
  assert jprune.tally(params, state).to_dict() == jprune.tally(params, masks_of(state)).to_dict()


def test_of_many_agents_each_its_own():
  tx = gradual(optax.sgd(0.1), SCHEDULE, every=2)
  stacked = jax.tree.map(lambda w: jnp.stack([w, 2 * w + 1, 1 - w]), PARAMS)
  state = jax.vmap(tx.init)(stacked)
  _, state = jax.jit(jax.vmap(tx.update))(stacked, state, stacked)
  state = state._replace(masks=jax.tree.map(lambda m: m.at[1].set(False), state.masks))
  found = jax.vmap(metrics)(state)
  for i in range(3):
    alone = metrics(jax.tree.map(operator.itemgetter(i), state))
    assert {key: float(value[i]) for key, value in found.items()} == {
      key: float(value) for key, value in alone.items()
    }
  assert found['sparsity'].tolist() == [0, 1, 0]
  assert jprune.tally(stacked, state).nonzero == 2 * 80 + 24  # and the biases


@pytest.mark.parametrize('packed', [False, True])
def test_of_an_nnx_optimizer(packed):
  model = nnx.Linear(6, 8, rngs=nnx.Rngs(0))
  tx = gradual(optax.adam(0.1), 0.5, every=2, packed=packed)
  optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
  with jax.numpy_dtype_promotion('standard'):
    optimizer.update(model, jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param)))
  state = optimizer.opt_state
  assert {key: float(value) for key, value in metrics(state).items()} == {
    'sparsity': 0.5,
    'churn': 0.5,
    'sparsity/kernel': 0.5,
  }
  params = nnx.state(model, nnx.Param)
  assert jprune.tally(params, state).nonzero == 24 + 8
  masks = masks_of(state, params)
  jax.tree.map(np.testing.assert_array_equal, jprune.apply(params, masks), params)
  with pytest.raises(ValueError, match="masks_of: `state` must be a tree .* no leaf 'other'"):
    masks_of(state, {'kernel': params['kernel'], 'other': jnp.ones(2)})


def test_states_without_masks_or_with_two():
  state = optax.adam(0.1).init(PARAMS)
  for call in (masks_of, metrics):
    with pytest.raises(ValueError, match=f'{call.__name__}: `state` must be a state with masks'):
      call(state)
  masks = jprune.prune(PARAMS, 0.5)
  twice = optax.chain(jprune.keep_pruned(masks), jprune.keep_pruned(masks)).init(PARAMS)
  for call in (masks_of, metrics, functools.partial(jprune.tally, PARAMS)):
    with pytest.raises(ValueError, match=r"`state` must be one with one mask a leaf; .*'a/kernel'"):
      call(twice)


def test_a_model_with_a_field_of_that_name_is_no_state():
  class Model(NamedTuple):
    masks: jax.Array

  params = Model(jnp.ones((4, 4)))
  assert jprune.tally(params, Model(jnp.eye(4, dtype=bool))).nonzero == 4
