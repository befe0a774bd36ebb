"""Every method, compiled once: stopped and resumed, with donated states, and over many agents."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

import jprune
from jprune import io
from jprune.transforms import masks_of
from tests.transforms.methods import METHODS, params

STEPS, STOPPED = 11, 5  # masks change before and after, and in between there are steps without


def gradients(now, number):
  return jax.tree.map(lambda x: jnp.sin(x * 3 + number), now)


@functools.cache
def compiled(name):
  """The start and the step, which takes the memory of what it gets, as one program each."""
  tx = METHODS[name].make(optax.adamw(0.05))

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def step(now, state, number):
    updates, state = tx.update(gradients(now, number), state, now)
    return optax.apply_updates(now, updates), state

  return jax.jit(tx.init), step


def begun(name):
  with jax.numpy_dtype_promotion('standard'):
    return params(), compiled(name)[0](params())


def trained(name, now, state, begin, end):
  with jax.numpy_dtype_promotion('standard'):  # optax promotes
    for number in range(begin, end):
      now, state = compiled(name)[1](now, state, jnp.float32(number))
  return now, state


@functools.cache
def halfway():
  found = {name: trained(name, *begun(name), 0, STOPPED) for name in METHODS}
  return jax.tree.map(np.array, found)  # copies: steps take the memory of what they get


@functools.cache
def finished():
  start = jax.tree.map(jnp.array, halfway())
  return {name: trained(name, *start[name], STOPPED, STEPS) for name in METHODS}


def assert_same(found, wanted):
  assert jax.tree.structure(found) == jax.tree.structure(wanted)
  for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted)):
    assert one.dtype == other.dtype
    np.testing.assert_array_equal(one, other)


def through_orbax(folder, held):
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(folder / 'checkpoint', held)
    checkpointer.wait_until_finished()
    return checkpointer.restore(
      folder / 'checkpoint', jax.tree.map(ocp.utils.to_shape_dtype_struct, held)
    )


def through_a_file(folder, held):
  io.save(folder / 'state.safetensors', held)
  like = jax.eval_shape(lambda: jax.tree.map(jnp.zeros_like, held))
  return io.load(folder / 'state.safetensors', like)[0]


@pytest.mark.parametrize('through', [through_orbax, through_a_file])
def test_training_goes_on_as_if_it_had_not_stopped(tmp_path, through):
  held = jax.tree.map(jnp.array, halfway())
  found = through(tmp_path, held)
  assert_same(found, held)
  for name in METHODS:
    resumed = trained(name, *found[name], STOPPED, STEPS)
    assert_same(resumed, finished()[name])


def test_params_and_masks_are_saved_in_their_smallest_form(tmp_path):
  for name in ('gradual', 'rigl'):
    now, state = jax.tree.map(jnp.array, halfway()[name])
    io.save(tmp_path / name, now, masks_of(state))
    assert_same(io.load(tmp_path / name), (now, masks_of(state)))


@pytest.mark.parametrize('name', METHODS)
def test_each_of_many_agents_has_masks_of_its_own(name):
  agents = [params(), jax.tree.map(lambda x: x[::-1] * 1.5, params())]
  start, step = compiled(name)
  with jax.numpy_dtype_promotion('standard'):
    together = jax.tree.map(lambda *x: jnp.stack(x), *agents)
    held = together, jax.jit(jax.vmap(start))(together)
    alone = [(agent, start(agent)) for agent in agents]
    many = jax.jit(jax.vmap(lambda now, state: step(now, state, jnp.float32(0.0))))
    for _ in range(4):
      held = many(*held)
      alone = [step(*each, jnp.float32(0.0)) for each in alone]
  masks = jprune.masks.unpack(masks_of(held[1]))
  for i, (now, state) in enumerate(alone):
    assert_same(jax.tree.map(lambda x: x[i], masks), jprune.masks.unpack(masks_of(state)))  # noqa: B023
    near = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda x, y: near(x[i], y), held[0], now)  # noqa: B023
  kernels = masks['a']['kernel']
  assert name in ('admm', 'static', 'ac_dc', 'soft_movement') or (kernels[0] != kernels[1]).any()
