"""What every schedule promises, through one table."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jprune import schedules

BEGIN, END = 10, 50

# name -> (schedule, value up to BEGIN, value from END on)
TABLE = {
  'constant': (schedules.constant(0.7), 0.7, 0.7),
  'one_shot': (schedules.one_shot(0.9, at=END, initial=0.3), 0.3, 0.9),
  'linear': (schedules.linear(0.3, 0.9, BEGIN, END), 0.3, 0.9),
  'cubic': (schedules.cubic(0.3, 0.9, BEGIN, END), 0.3, 0.9),
  'cosine': (schedules.cosine(0.3, 0.9, BEGIN, END), 0.3, 0.9),
  'exponential': (schedules.exponential(0.3, 0.9, BEGIN, END), 0.3, 0.9),
  'sigmoid': (schedules.sigmoid(0.3, 0.9, BEGIN, END), 0.3, 0.9),
  'joined': (
    schedules.joined(
      [schedules.linear(0.3, 0.5, BEGIN, 20), schedules.cubic(0.5, 0.9, 5, 20)], [END - 20]
    ),
    0.3,
    0.9,
  ),
  'delayed': (schedules.delayed(schedules.linear(0.3, 0.9, 0, END - BEGIN), BEGIN), 0.3, 0.9),
  'every': (schedules.every(schedules.cubic(0.3, 0.9, BEGIN, END), 7), 0.3, 0.9),
}
each = pytest.mark.parametrize(('schedule', 'initial', 'final'), TABLE.values(), ids=TABLE)


def test_the_table_is_complete():
  public = {
    name
    for name, value in vars(schedules).items()
    if inspect.isfunction(value) and value.__module__ == schedules.__name__ and name[0] != '_'
  }
  assert public == set(TABLE)


@each
def test_exact_at_both_ends(schedule, initial, final):
  assert [schedule(count) for count in (0, BEGIN)] == [initial] * 2
  assert [schedule(count) for count in (END, 10**9)] == [final] * 2
  for run in (schedule, jax.jit(schedule)):
    counts = jnp.array([0, BEGIN, END, 10**9])
    np.testing.assert_array_equal(run(counts), np.float32([initial] * 2 + [final] * 2))


@each
def test_rises_from_one_end_to_the_other(schedule, initial, final):
  values = np.array([schedule(count) for count in range(END + 10)])
  assert values.min() == initial
  assert values.max() == final
  assert (np.diff(values) >= 0).all()
  np.testing.assert_allclose(jax.jit(schedule)(jnp.arange(END + 10)), values, rtol=1e-6)


@each
def test_knows_where_it_changes(schedule, initial, final):
  begin, end = schedule.begin, schedule.end
  assert schedule(begin) == (initial if begin < end else schedule(end))
  assert schedule(end) == schedule(10**9) == final
  assert end == 0 or schedule(end - 1) != final
  assert begin in (0, BEGIN, END - 1, END)


@each
def test_float_for_an_int_and_float32_for_an_array(schedule, initial, final):
  del initial, final
  assert type(schedule(20)) is float
  assert type(schedule(np.int64(20))) is float
  for count in (jnp.int32(20), jnp.uint32(20), jnp.arange(3), np.arange(3), jnp.float32(20)):
    value = schedule(count)
    assert value.dtype == jnp.float32
    assert value.shape == count.shape


@each
def test_pure_under_jit_vmap_and_scan(schedule, initial, final):
  del initial, final
  counts = jnp.arange(END + 10)
  expected = jax.jit(schedule)(counts)
  _, scanned = jax.lax.scan(lambda count, _: (count + 1, schedule(count)), 0, length=END + 10)
  np.testing.assert_allclose(scanned, expected, rtol=1e-6)
  np.testing.assert_allclose(jax.vmap(schedule)(counts), expected, rtol=1e-6)
