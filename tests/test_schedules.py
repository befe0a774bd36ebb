"""Schedules against the papers' numbers, in double precision and in float32."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jprune import schedules

RAMPS = [schedules.linear, schedules.cubic, schedules.cosine, schedules.exponential]


def test_cubic_gives_the_published_numbers():
  schedule = schedules.cubic(0.2, 0.8, begin=100, end=110)
  expected = {0: 0.2, 100: 0.2, 102: 0.4928, 105: 0.725, 110: 0.8, 500: 0.8}
  for count, sparsity in expected.items():
    assert schedule(count) == pytest.approx(sparsity, abs=1e-12)
    np.testing.assert_allclose(jax.jit(schedule)(jnp.int32(count)), sparsity, rtol=1e-6)


def test_cubic_gives_the_published_formula():
  schedule = schedules.cubic(0.0, 0.5, begin=5, end=20)
  for count in range(5, 21):
    progress = (count - 5) / 15
    assert schedule(count) == pytest.approx(0.5 * (1 - (1 - progress) ** 3), abs=1e-12)


def test_linear_and_cubic_agree_with_optax():
  counts = jnp.arange(130)
  for ours, power in ((schedules.linear, 1), (schedules.cubic, 3)):
    theirs = optax.polynomial_schedule(0.1, 0.9, power, transition_steps=100, transition_begin=10)
    np.testing.assert_allclose(ours(0.1, 0.9, 10, 110)(counts), theirs(counts), atol=1e-6)


def test_cosine_is_slow_at_both_ends():
  schedule = schedules.cosine(0.0, 0.8, begin=0, end=100)
  assert schedule(50) == pytest.approx(0.4)
  assert schedule(1) < 0.001
  assert schedule(99) > 0.799


def test_cosine_anneals_a_drop_fraction():
  schedule = schedules.cosine(0.3, 0.0, begin=0, end=100)
  assert [schedule(count) for count in (0, 50, 100)] == pytest.approx([0.3, 0.15, 0.0])


def test_exponential_prunes_the_same_share_of_what_is_left():
  schedule = schedules.exponential(0.0, 0.99, begin=0, end=50)
  density = np.array([1 - schedule(count) for count in range(51)])
  np.testing.assert_allclose(density[1:] / density[:-1], 0.01 ** (1 / 50), rtol=1e-9)


def test_one_shot_jumps_at_the_step():
  schedule = schedules.one_shot(0.9, at=10, initial=0.1)
  np.testing.assert_array_equal(schedule(jnp.arange(9, 12)), np.float32([0.1, 0.9, 0.9]))


@pytest.mark.parametrize('ramp', RAMPS)
@settings(max_examples=8, deadline=None)  # each compiles
@given(
  initial=st.floats(0, 0.999),
  final=st.floats(0, 0.999),
  begin=st.integers(0, 2**30),
  length=st.integers(1, 2**30 - 1),
  progress=st.floats(0, 1),
)
def test_ramps_are_exact_at_the_ends_and_between_them(
  ramp, initial, final, begin, length, progress
):
  end = begin + length
  schedule = ramp(initial, final, begin, end)
  counts = jnp.array([0, begin, begin + int(progress * length), end, 2**31 - 1])
  values = jax.jit(schedule)(counts)
  single = np.float32([initial, final])
  assert values.dtype == jnp.float32
  np.testing.assert_array_equal(values[jnp.array([0, 1, 3, 4])], single.repeat(2))
  assert single.min() <= values[2] <= single.max()
  exact = [schedule(int(count)) for count in counts]
  assert exact[:2] == [initial] * 2
  assert exact[3:] == [final] * 2
  # float32 holds the progress to 6e-8; the steepest ramp here, exponential, makes that 7e-7.
  np.testing.assert_allclose(values, exact, atol=2e-6)


def test_a_long_ramp_keeps_its_resolution():
  # 2**30 and 2**30 + 10 are one and the same float32.
  schedule = jax.jit(schedules.linear(0.0, 1.0, begin=2**30, end=2**30 + 10))
  np.testing.assert_allclose(schedule(jnp.int32(2**30 + 3)), 0.3, rtol=1e-6)


@pytest.mark.parametrize('dtype', [jnp.int8, jnp.uint8, jnp.int16, jnp.uint32])
def test_counts_of_any_integer_dtype(dtype):
  schedule = schedules.cubic(0.0, 0.9, begin=10, end=100_000)
  np.testing.assert_array_equal(
    schedule(jnp.array([0, 100], dtype)), schedule(jnp.array([0, 100], jnp.int32))
  )


def test_sparsities_may_be_traced():
  at_five = lambda final: schedules.cubic(0.0, final, begin=0, end=10)(5)
  finals = jnp.array([0.8, 0.4])
  np.testing.assert_allclose(jax.vmap(at_five)(finals), 0.875 * finals, rtol=1e-6)
  np.testing.assert_allclose(jax.vmap(lambda s: schedules.constant(s)(5))(finals), finals)


@pytest.mark.parametrize(
  ('make', 'error', 'match'),
  [
    (lambda: schedules.constant(90), ValueError, r'constant: `sparsity` must be in \[0, 1\]'),
    (lambda: schedules.constant('a'), TypeError, 'constant: `sparsity` must be a number'),
    (
      lambda: schedules.exponential(0, 'a', 0, 10),
      TypeError,
      'exponential: `final` must be a number',
    ),
    (lambda: schedules.one_shot(1.5, 3), ValueError, r'one_shot: `final` must be in \[0, 1\]'),
    (
      lambda: schedules.one_shot(0.5, 3, initial=-1),
      ValueError,
      r'one_shot: `initial` must be in \[0, 1\]; got -1.0',
    ),
    (
      lambda: schedules.one_shot(0.5, 0.3),
      ValueError,
      r'one_shot: `at` must be an int in \[0, 2\*\*31\); got 0.3.$',
    ),
    (
      lambda: schedules.cubic(0.0, 0.5, begin=0, end=1000 / 3),
      ValueError,
      r'cubic: `end` must be an int in \[0, 2\*\*31\); got 333.3\d*. Write 333.$',
    ),
    (
      lambda: schedules.linear(0, float('nan'), 0, 1),
      ValueError,
      r'linear: `final` must be in \[0, 1\]; got nan',
    ),
    (
      lambda: schedules.cosine(0, 0.5, -1, 1),
      ValueError,
      r'cosine: `begin` must be an int in \[0, 2\*\*31\); got -1',
    ),
    (
      lambda: schedules.cosine(0, 0.5, 0, 2**31),
      ValueError,
      r'cosine: `end` must be an int in \[0, 2\*\*31\); got 2147483648',
    ),
    (
      lambda: schedules.cubic(0, 0.5, 10, 10),
      ValueError,
      'cubic: `end` must be greater than begin=10; got 10. Use one_shot',
    ),
    (
      lambda: schedules.exponential(0, 1.0, 0, 10),
      ValueError,
      'exponential: `final` must be below 1; got 1.0. A density',
    ),
    (
      lambda: schedules.exponential(1, 0.5, 0, 10),
      ValueError,
      'exponential: `initial` must be below 1; got 1.0.',
    ),
  ],
)
def test_errors(make, error, match):
  with pytest.raises(error, match=match):
    make()


def test_joined_and_delayed_count_steps_of_their_own():
  first, second = schedules.linear(0.0, 0.5, 0, 10), schedules.exponential(0.5, 0.9, 2, 12)
  one = schedules.joined([first, second], [20])
  late = schedules.delayed(second, 20)
  for count in range(40):
    assert one(count) == (first(count) if count < 20 else second(count - 20))
    assert late(count) == second(max(count - 20, 0))
  assert (one.begin, one.end) == (0, 32)
  assert (late.begin, late.end) == (22, 32)


@pytest.mark.parametrize(
  'call',
  [
    'constant(0.5)',
    'one_shot(0.5, at=3)',
    'cubic(0.0, 0.9, begin=0, end=10)',
    'joined([constant(0.1), linear(0.1, 0.5, begin=0, end=5)], [20])',
    'delayed(cosine(0.0, 0.9, begin=0, end=10), by=5)',
    'every(exponential(0.0, 0.9, begin=0, end=10), 2)',
  ],
)
def test_schedules_show_how_they_were_made(call):
  schedule = eval(f'schedules.{call}', {'schedules': schedules, **vars(schedules)})
  assert repr(schedule).startswith(f'<function {call} at 0x')
  with pytest.raises(TypeError, match=re.escape(call)):
    schedule()


@pytest.mark.parametrize(
  ('make', 'fix'),
  [
    (lambda: schedules.cubic(0.0, finall=0.9, begin=0, end=10), 'Did you mean final='),
    (lambda: schedules.linear(start=0.0, final=0.9, begin=0, end=10), 'There are initial='),
    (lambda: schedules.one_shot(0.9, att=3), 'Did you mean at='),
    (lambda: schedules.delayed(schedules.constant(0.5), steps=3), 'There are schedule='),
  ],
)
def test_misspelt_arguments(make, fix):
  with pytest.raises(TypeError, match=rf'^\w+: `\w+` must be an argument of \w+; got .* {fix}'):
    make()


def test_stairs_are_as_high_as_the_curve_and_end_where_it_does():
  curve = schedules.sigmoid(0.1, 0.8, 3, 31, steepness=9.0)
  stairs = schedules.every(curve, 6)
  want = [curve(31) if count >= 31 else curve(count // 6 * 6) for count in range(40)]
  assert [stairs(count) for count in range(40)] == want


def test_sigmoid_is_the_logistic_function_stretched():
  logistic = lambda x: 1 / (1 + np.exp(-x))
  x = np.arange(11) / 10
  low, high = logistic(-3.0), logistic(3.0)
  want = 0.9 * (logistic(6 * (x - 0.5)) - low) / (high - low)
  found = [schedules.sigmoid(0.0, 0.9, 0, 10)(count) for count in range(11)]
  np.testing.assert_allclose(found, want, rtol=1e-12)


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: schedules.joined([], []), 'joined: `schedules` must be at least one schedule'),
    (
      lambda: schedules.joined(schedules.constant(0.5), 3),
      'joined: `schedules` must be a list; got the function constant. Write joined',
    ),
    (
      lambda: schedules.joined([schedules.constant(0.5)], 3),
      'joined: `boundaries` must be a list; got 3. Write joined',
    ),
    (lambda: schedules.joined([0.5], []), r'joined: `schedules\[0\]` must be a function'),
    (
      lambda: schedules.joined([schedules.constant(0.1)] * 3, [5, 2]),
      'joined: `boundaries` must be 2 ascending steps',
    ),
    (lambda: schedules.joined([schedules.constant(0.1)] * 2, [-1]), r'joined: `boundaries\[0\]`'),
    (lambda: schedules.delayed(0.5, 3), 'delayed: `schedule` must be a function'),
    (lambda: schedules.delayed(schedules.constant(0.1), -3), 'delayed: `by` must be an int'),
    (lambda: schedules.every(schedules.constant(0.1), 0), 'every: `steps` must be an int of at'),
    (lambda: schedules.sigmoid(0, 1, 0, 9, steepness=0), 'sigmoid: `steepness` must be'),
  ],
)
def test_what_is_put_together_has_to_fit(make, message):
  with pytest.raises((ValueError, TypeError), match=f'^{message}'):
    make()


def test_a_sigmoid_may_be_as_steep_as_one_likes():
  schedule = schedules.sigmoid(0.0, 0.8, 0, 100, steepness=1e5)
  assert [schedule(count) for count in (49, 50, 51)] == [0.0, 0.4, 0.8]
