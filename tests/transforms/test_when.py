"""When masks change: on which calls, and until when."""

from jprune import schedules
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
