"""When masks change: on which calls, and until when."""

import jax.numpy as jnp
import optax

from jprune import schedules
from jprune.transforms import gradual, masks_of
from jprune.transforms._when import when


def due(sparsity, every, end=None, regrows=False, steps=30):
  found = when('example', sparsity, every, end, regrows)
  return [count for count in range(steps) if found.due(count)]


def test_the_last_change_is_that_at_the_end_of_the_schedule():
  assert due(schedules.linear(0.0, 0.5, 5, 13), 5) == [0, 5, 10, 13]
  assert due(schedules.linear(0.0, 0.5, 5, 13), 5, end=21) == [0, 5, 10, 13, 15, 20, 21]


def test_where_weights_may_come_back_masks_change_for_good():
  assert due(0.5, 10, regrows=True) == [0, 10, 20]
  assert due(0.5, 10, end=15, regrows=True) == [0, 10, 15]
  assert due(schedules.linear(0.0, 0.5, 5, 13), 10, regrows=True) == [0, 10, 13, 20]
  assert due(0.5, 10) == [0]


def test_a_schedule_of_optax():
  tx = gradual(optax.sgd(0.1), optax.linear_schedule(0.0, 0.5, 4), every=2, end=4)
  params = {'kernel': jnp.arange(1.0, 9.0).reshape(2, 4)}
  state, kept = tx.init(params), []
  for _ in range(6):
    _, state = tx.update(params, state, params)
    kept.append(int(masks_of(state)['kernel'].sum()))
  assert kept == [8, 8, 6, 6, 4, 4]
