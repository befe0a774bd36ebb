"""Sparse training inside and outside of what wraps an optimizer, and in modules and stacks."""

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from flax import nnx
from flax.training import train_state

import jprune
from jprune.masks import unpack
from jprune.transforms import gradual, masks_of, rigl, static
from tests.transforms.methods import EVENLY, KEY, RISING, params

STEPS = 9


@pytest.fixture(autouse=True)
def _optax_promotes():
  with jax.numpy_dtype_promotion('standard'):
    yield


rising = lambda inner, **settings: gradual(inner, RISING, every=3, **settings)
grown = lambda inner, **settings: rigl(inner, 0.75, every=3, key=KEY, **EVENLY, **settings)
AROUND = {
  'apply_if_finite': lambda tx: optax.apply_if_finite(tx, 3),
  'chain': lambda tx: optax.chain(optax.clip_by_global_norm(1.0), tx),
  'masked': lambda tx: optax.masked(tx, {'a': {'kernel': True, 'bias': False}, 'b': True}),
  'multi_transform': lambda tx: optax.multi_transform(
    {'x': tx, 'y': rising(optax.sgd(0.05))}, {'a': 'x', 'b': 'y'}
  ),
}
INSIDE = {
  'inject_hyperparams': optax.inject_hyperparams(optax.adamw)(
    optax.cosine_decay_schedule(0.05, STEPS)
  ),
  'masked': optax.masked(optax.adam(0.05), {'a': True, 'b': False}),
  'apply_if_finite': optax.apply_if_finite(optax.adam(0.05), 3),
  'accumulated': optax.MultiSteps(optax.adam(0.05), 3).gradient_transformation(),
}


def loss(now, x=None):
  del x
  return sum(jnp.sum(jnp.sin(3 * leaf)) for leaf in jax.tree.leaves(now))


def check_zeros(now, masks, share=None):
  for leaf, mask in zip(jax.tree.leaves(now), jax.tree.leaves(unpack(masks), is_leaf=_is_none)):
    if mask is not None:
      assert (np.asarray(leaf)[~np.asarray(mask)] == 0).all()
      assert share is None or mask.sum() == share * mask.size
      assert np.abs(np.asarray(leaf)[np.asarray(mask)]).sum() > 0.1


_is_none = lambda x: x is None


def trained(tx, now, compiled=False):
  state, update = tx.init(now), jax.jit(tx.update) if compiled else tx.update
  for _ in range(STEPS):
    updates, state = update(jax.grad(loss)(now), state, now)
    now = optax.apply_updates(now, updates)
    yield now, state


@pytest.mark.parametrize('name', AROUND)
def test_inside_of_wrappers(name):
  for now, state in trained(AROUND[name](grown(optax.adam(0.05))), params(), True):
    check_zeros(now, masks_of(state))
  masks = masks_of(state)
  assert masks['a']['kernel'].sum() == masks['a']['kernel'].size / 4
  assert masks['b']['kernel'].sum() == masks['b']['kernel'].size / 4


@pytest.mark.parametrize('name', INSIDE)
def test_around_wrappers(name):
  for now, state in trained(grown(INSIDE[name]), params()):
    check_zeros(now, masks_of(state), 0.25)


def test_line_search_gets_values_and_the_loss():
  tx, now = rising(optax.lbfgs(memory_size=3)), params()
  state = tx.init(now)

  @jax.jit
  def step(now, state):
    value, grads = jax.value_and_grad(loss)(now)
    updates, state = tx.update(grads, state, now, value=value, grad=grads, value_fn=loss)
    return optax.apply_updates(now, updates), state, value

  values = []
  for _ in range(STEPS):
    now, state, value = step(now, state)
    check_zeros(now, masks_of(state))
    values.append(float(value))
  assert values[-1] < values[0]
  check_zeros(now, masks_of(state), 0.25)


def test_what_schedule_free_evaluates_is_zero_too():
  tx = static(optax.contrib.schedule_free_sgd(0.05), 0.75, key=KEY, **EVENLY)
  now = jprune.apply(params(), masks_of(tx.init(params())))
  *_, (now, state) = trained(tx, now)
  check_zeros(optax.contrib.schedule_free_eval_params(state.inner, now), masks_of(state), 0.25)


def test_lookahead_around_masks_that_stay():
  tx = optax.lookahead(static(optax.adam(0.05), 0.75, key=KEY, **EVENLY), 3, 0.5)
  masks = masks_of(tx.init(optax.LookaheadParams.init_synced(params())))
  now = optax.LookaheadParams.init_synced(jprune.apply(params(), masks))
  state = tx.init(now)
  for _ in range(STEPS):
    updates, state = tx.update(jax.grad(loss)(now.fast), state, now)
    now = optax.apply_updates(now, updates)
    check_zeros(now.fast, masks, 0.25)
    check_zeros(now.slow, masks, 0.25)


def test_lookahead_inside():
  tx = rising(optax.lookahead(optax.adam(0.05), 3, 0.5))
  match = 'gradual: `params` must be the params of a model; got optax.LookaheadParams. Slow params'
  with pytest.raises(TypeError, match=match):
    tx.init(optax.LookaheadParams.init_synced(params()))


@pytest.mark.parametrize('packed', [False, True])
def test_nnx_optimizer(packed):
  with jax.numpy_rank_promotion('allow'):
    model = nnx.Sequential(
      nnx.Linear(4, 8, rngs=nnx.Rngs(0)), nnx.relu, nnx.Linear(8, 4, rngs=nnx.Rngs(1))
    )
    optimizer = nnx.Optimizer(model, grown(optax.adamw(0.05), packed=packed), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
      grads = nnx.grad(lambda model: jnp.mean(model(jnp.ones((3, 4))) ** 2))(model)
      optimizer.update(model, grads)

    for _ in range(4):
      step(model, optimizer)
  now = nnx.to_pure_dict(nnx.state(model, nnx.Param))
  masks = unpack(masks_of(optimizer.opt_state))
  for layer in (0, 2):
    mask = np.asarray(jax.tree.leaves(masks['layers'][layer]['kernel'])[0])
    assert mask.sum() == 8
    assert (np.asarray(now['layers'][layer]['kernel'])[~mask] == 0).all()


def test_train_state():
  state = train_state.TrainState.create(apply_fn=loss, params=params(), tx=rising(optax.adam(0.05)))
  for _ in range(STEPS):
    state = state.apply_gradients(grads=jax.grad(loss)(state.params))
    check_zeros(state.params, masks_of(state.opt_state))
  check_zeros(state.params, masks_of(state.opt_state), 0.25)


def test_equinox_modules():
  model = equinox.nn.MLP(4, 4, 8, depth=1, key=KEY)
  tx = grown(optax.adam(0.05))
  state = tx.init(equinox.filter(model, equinox.is_inexact_array))

  @equinox.filter_jit
  def step(model, state):
    grads = equinox.filter_grad(lambda model: jnp.sum(model(jnp.ones(4)) ** 2))(model)
    now = equinox.filter(model, equinox.is_inexact_array)
    updates, state = tx.update(grads, state, now)
    return equinox.apply_updates(model, updates), state

  for _ in range(4):
    model, state = step(model, state)
  for layer, mask in zip(model.layers, masks_of(state).layers):
    assert mask.bias is None
    assert mask.weight.sum() == mask.weight.size / 4
    assert (layer.weight[~mask.weight] == 0).all()


def test_layers_of_a_stack_have_budgets_of_their_own():
  """With roles, the layers that a scan runs through are pruned each to the same sparsity."""
  now = {'layers': jax.random.normal(KEY, (3, 8, 8)) * jnp.array([1.0, 5.0, 9.0])[:, None, None]}

  def fn(now, x):
    return jax.lax.scan(lambda x, layer: (jnp.tanh(x @ layer), None), x, now['layers'])[0]

  roles = jprune.graph.roles(fn, now, jnp.ones((2, 8)))
  for tx in (rising(optax.sgd(0.05), roles=roles), grown(optax.sgd(0.05), roles=roles)):
    *_, (_, state) = trained(tx, now)
    assert masks_of(state)['layers'].sum(axis=(1, 2)).tolist() == [16, 16, 16]
