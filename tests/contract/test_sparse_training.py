"""What every method of sparse training promises around every optimizer, through one table.

Steps run outside of ``jit``, with the optimizers compiled once for all methods: what is asserted of
shapes and dtypes at each step is what a compiled step would be traced anew for. One program for
each method is compiled as well, with ``optax.MultiSteps`` around it.
"""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import jprune
from jprune import transforms
from jprune.masks import unpack
from tests.transforms.methods import METHODS, OTHERS, STEPS, params

INNER = {
  'momentum': optax.sgd(0.05, momentum=0.9),
  'adam': optax.adam(0.05),
  'adamw': optax.adamw(0.05, weight_decay=0.1),
  'lion': optax.lion(0.01),
  'adafactor': optax.adafactor(0.05, min_dim_size_to_factor=4),
  'lamb': optax.lamb(0.05),
  'muon': optax.contrib.muon(0.05),
  'schedule_free': optax.contrib.schedule_free_adamw(0.05),
  'multi_transform': optax.multi_transform(
    {'a': optax.adamw(0.05), 'b': optax.sgd(0.05, momentum=0.9)}, {'a': 'a', 'b': 'b'}
  ),
  'MultiSteps': optax.MultiSteps(optax.adam(0.05), 2).gradient_transformation(),
  'bfloat16': optax.adamw(0.05),
}
each_method = pytest.mark.parametrize('method', METHODS)


@pytest.fixture(autouse=True)
def _optax_promotes():
  with jax.numpy_dtype_promotion('standard'):
    yield


def test_the_table_is_complete():
  public = {name for name, value in vars(transforms).items() if inspect.isfunction(value)}
  assert public == set(METHODS) | OTHERS


@functools.cache
def optimizer(name):
  """It takes an extra argument that it can't do without, and is compiled."""
  tx = optax.with_extra_args_support(INNER[name])
  update = jax.jit(tx.update)

  def with_value(updates, state, params=None, *, value, **extra_args):
    assert value == 1.5
    assert extra_args == {'other': None}
    return update(updates, state, params)

  return optax.GradientTransformationExtraArgs(tx.init, with_value)


@functools.cache
def start(name):
  return params(jnp.bfloat16 if name == 'bfloat16' else jnp.float32)


@functools.cache
def gradients(name):
  """One for each step: numbers between -1 and 1, other ones in each place."""
  out = []
  for step in range(STEPS):
    wave = lambda x: jnp.sin(x.astype(jnp.float32) * 50 + step).astype(x.dtype)  # noqa: B023
    out.append(jax.tree.map(wave, start(name)))
  return out


def avals(tree):
  kinds = [(x.shape, x.dtype, jax.typeof(x).weak_type) for x in jax.tree.leaves(tree)]
  return jax.tree.structure(tree), tuple(kinds)


def trajectory(tx, name):
  """Params and states, the ones at the start included."""
  now, state = start(name), tx.init(start(name))
  yield now, state
  for grads in gradients(name):
    updates, state = tx.update(grads, state, now, value=1.5, other=None)
    now = optax.apply_updates(now, updates)
    yield now, state


@functools.cache
def kinds_alone(name):
  return len({avals(each) for each in trajectory(optimizer(name), name)})


def kept(case, size, count):
  return size - round(case.sparsity(count) * size)


def check(case, now, masks, count):
  """Counts and zeros after the call with this count."""
  masks = unpack(masks)
  assert masks['a']['bias'] is None
  for layer in ('a', 'b'):
    mask, weights = np.asarray(masks[layer]['kernel']), np.asarray(now[layer]['kernel'], np.float32)
    if case.sparsity:
      assert mask.sum() == kept(case, mask.size, count)
    assert (weights[~mask] == 0).all()
    assert not np.signbit(weights[~mask]).any()
    assert np.isfinite(weights).all()
    assert count < 3 or np.abs(weights[mask]).sum() > 1  # what is kept is not zero


@each_method
@pytest.mark.parametrize('name', INNER)
def test_around_every_optimizer(method, name):
  case = METHODS[method]
  steps = trajectory(case.make(optimizer(name)), name)
  first, state = next(steps)
  kinds, masks = {avals((first, state))}, transforms.masks_of(state)
  check(case, jprune.apply(first, masks), masks, -1)
  for count, (now, state) in enumerate(steps):
    check(case, now, transforms.masks_of(state), count)
    kinds.add(avals((now, state)))
  assert len(kinds) <= kinds_alone(name), 'a step would be traced anew'
  assert int(state.count) == STEPS
  for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(now)):
    assert one.dtype == other.dtype
    assert (one != other).any()


@each_method
def test_inside_of_multi_steps(method):
  case, traces = METHODS[method], []
  tx = optax.MultiSteps(case.make(optax.adam(0.05)), 2).gradient_transformation()

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def step(now, state, grads):
    traces.append(None)
    updates, state = tx.update(grads, state, now)
    return optax.apply_updates(now, updates), state

  state = tx.init(params())
  now = jax.tree.map(jnp.copy, jprune.apply(params(), transforms.masks_of(state)))
  for call, grads in enumerate(gradients('adam')):
    now, state = step(now, state, grads)
    check(case, now, transforms.masks_of(state), (call + 1) // 2 - 1)
  assert len(traces) == 1
