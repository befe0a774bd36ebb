"""The bisection on functions whose answer is known."""

import json
import math

import numpy as np
import pytest

from jprune.sensitivity import search

identity = lambda s: s


@pytest.mark.parametrize('floor', [0.1, 0.25, 0.5, 0.731, 0.999])
@pytest.mark.parametrize('tolerance', [0.1, 0.01, 1e-4])
def test_monotone(floor, tolerance):
  found = search(lambda s: 1 - s, identity, min_metric=floor, tolerance=tolerance)
  assert found.holds
  assert found.metric == 1 - found.sparsity >= floor
  assert found.sparsity + tolerance >= 1 - floor
  assert len(found.trials) <= 2 + math.ceil(math.log2(1 / tolerance))
  assert found.stopped == 'The interval is below the tolerance.'
  assert all(trial.holds == (trial.metric >= floor) for trial in found.trials)
  assert [trial.sparsity for trial in found.trials[:2]] == [0.0, 1.0]


def test_what_is_returned_was_measured():
  wavy = lambda s: math.cos(20 * s)
  found = search(wavy, identity, min_metric=0.3)
  assert wavy(found.sparsity) == found.metric >= 0.3


def test_bounds():
  found = search(lambda s: 1.0, identity, min_metric=0.5, high=0.8)
  assert (found.sparsity, len(found.trials)) == (0.8, 2)
  assert found.stopped == 'Nothing higher can be tried.'
  found = search(lambda s: 1 - s, identity, min_metric=0.5, low=0.2, high=0.3)
  assert found.sparsity == 0.3


def test_not_even_dense():
  calls = []
  found = search(lambda s: calls.append(s) or 0.4, identity, min_metric=0.5)
  assert (found.sparsity, found.holds, found.metric, calls) == (None, False, 0.4, [0.0])
  assert 'Not even sparsity 0.00% holds the floor of 0.5 (metric 0.4).' in str(found)


def test_stops_within_the_noise():
  found = search(lambda s: 1 - s, identity, min_metric=0.5, tolerance=1e-6, noise=0.05)
  assert [trial.sparsity for trial in found.trials] == [0.0, 1.0, 0.5]
  assert found.stopped == 'At 50.00% the floor is within the noise of the metric.'
  found = search(lambda s: 1 - s, identity, min_metric=0.52, tolerance=1e-6, noise=0.05)
  # .5 is below the floor by less than the noise; what is returned still was measured to hold it
  assert [trial.sparsity for trial in found.trials] == [0.0, 1.0, 0.5]
  assert found.sparsity == 0.0
  calm = search(lambda s: 1 - s, identity, min_metric=0.52, tolerance=1e-6, noise=0.0)
  assert calm.sparsity == pytest.approx(0.48, abs=1e-6)


def test_low_within_the_noise():
  found = search(lambda s: 0.49, identity, min_metric=0.5, noise=0.04, repeats=4)
  assert (found.sparsity, len(found.trials)) == (None, 1)
  assert found.stopped == 'At 0.00% the floor is within the noise of the metric.'
  metric = 'metric 0.49, standard error 0.02'
  words = f"Whether sparsity 0.00% holds the floor of 0.5 can't be told ({metric})."
  assert words == found.summary
  calm = search(lambda s: 0.47, identity, min_metric=0.5, noise=0.04, repeats=4)
  assert calm.summary == 'Not even sparsity 0.00% holds the floor of 0.5 (metric 0.47).'
  assert calm.stopped == 'Nothing lower can be tried.'


@pytest.mark.parametrize('value', [math.nan, -math.inf, math.inf])
def test_no_finite_metric_does_not_hold(value):
  for repeats in (1, 3):
    broken = lambda s: 1 - s if s < 0.3 else value
    found = search(broken, identity, min_metric=0.5, repeats=repeats, noise=0.0)
    assert 0.28 < found.sparsity < 0.3
    assert [trial.holds for trial in found.trials] == [t.sparsity < 0.3 for t in found.trials]
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert data['trials'][1] == {'sparsity': 1.0, 'metric': None, 'error': 0.0, 'holds': False}
    assert str(value) in str(found)
  found.plot().figure.draw_without_rendering()


def test_repeats():
  rng = np.random.default_rng(0)
  calls = []

  def noisy(s):
    calls.append(s)
    return 1 - s + float(rng.normal(0, 0.01))

  found = search(noisy, identity, min_metric=0.6, tolerance=1e-9, repeats=20)
  assert len(calls) == 20 * len(found.trials)
  assert abs(found.trials[-1].metric - 0.6) <= found.trials[-1].error
  assert 0.3 < found.sparsity < 0.5
  for trial in found.trials:
    assert 0.001 < trial.error < 0.004  # .01 / sqrt(20) = .0022
  given = search(noisy, identity, min_metric=0.6, repeats=4, noise=0.01)
  assert {trial.error for trial in given.trials} == {0.005}


def test_repeats_by_hand():
  values = iter([1.0, 0.8, 0.3, 0.1])
  found = search(lambda s: next(values), identity, min_metric=0.5, repeats=2, tolerance=1.0)
  (low, high) = found.trials
  assert (low.metric, high.metric) == (pytest.approx(0.9), pytest.approx(0.2))
  # a standard deviation of .2 / sqrt(2), over sqrt(2)
  assert (low.error, high.error) == (pytest.approx(0.1), pytest.approx(0.1))


def test_tiny_tolerance_ends():
  found = search(lambda s: 1.0 if s < 0.3 else 0.0, identity, min_metric=0.5, tolerance=1e-300)
  assert found.sparsity == np.nextafter(0.3, 0)


def test_result():
  found = search(lambda s: 1 - s, identity, min_metric=0.5)
  assert max(map(len, str(found).splitlines())) <= 100
  assert len(json.loads(json.dumps(found.to_dict()))['trials']) == len(found.trials)
  assert found._repr_html_().count('<tr>') == 1 + len(found.trials)
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot as plt

  ax = found.plot()
  labels = {text.get_text() for text in ax.figure.legends[0].get_texts()}
  assert labels == {'tried', 'floor', 'chosen'}
  other = plt.subplots()[1]
  assert found.plot(other) is other
  search(lambda s: 0.0, identity, min_metric=0.5).plot().figure.draw_without_rendering()
  plt.close('all')


@pytest.mark.parametrize(
  ('changed', 'error', 'match'),
  [
    ({'evaluate': 1}, TypeError, r'Pass a function evaluate\(prune_at\(sparsity\)\) -> float'),
    (
      {'prune_at': 1},
      TypeError,
      r'`prune_at` must be a .* Pass a function prune_at\(sparsity\) ->',
    ),
    (
      {'evaluate': lambda s: math.nan},
      ValueError,
      r'one finite number \(at sparsity 0\); got nan',
    ),
    ({'min_metric': math.inf}, ValueError, 'search: `min_metric` must be finite'),
    ({'min_metric': 'a'}, TypeError, 'search: `min_metric` must be a number'),
    ({'min_metric': True}, TypeError, 'search: `min_metric` must be a number'),
    ({'tolerance': 0}, ValueError, 'search: `tolerance` must be positive'),
    ({'noise': -1}, ValueError, 'search: `noise` must be at least 0'),
    ({'repeats': 0}, ValueError, 'search: `repeats` must be an int of at least 1'),
    ({'low': 0.5, 'high': 0.5}, ValueError, 'search: `high` must be greater than low=0.5'),
    ({'high': 1.1}, ValueError, r'search: `high` must be in \[0, 1\]'),
  ],
)
def test_bad_input(changed, error, match):
  given = {'evaluate': lambda s: 1 - s, 'prune_at': identity, 'min_metric': 0.5} | changed
  with pytest.raises(error, match=match):
    search(**given)
