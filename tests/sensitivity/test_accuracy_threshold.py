"""The logistic curve, by its closed form, and the numbers of its docstring."""

import math

import jax.numpy as jnp
import pytest

import jprune
from jprune.sensitivity import accuracy_threshold


@pytest.mark.parametrize('gamma', [1 / 20, 1.0, 5.0])
@pytest.mark.parametrize('accuracy', [0.0, 0.5, 0.9, 1.0, 40.0, 100.0])
def test_closed_form(accuracy, gamma):
  expected = 1 / (1 + math.exp(-gamma * (accuracy - 0.9)))
  assert accuracy_threshold(accuracy, 0.9, gamma) == pytest.approx(expected, rel=1e-14)


def test_numbers_in_the_docstring():
  fractions = [round(accuracy_threshold(acc, 0.9), 4) for acc in (0.0, 0.9, 1.0)]
  assert fractions == [0.4888, 0.5, 0.5012]
  percent = [round(accuracy_threshold(acc, 90.0), 4) for acc in (0.0, 90.0, 100.0)]
  assert percent == [0.011, 0.5, 0.6225]
  assert accuracy_threshold(40.0, 90.0) == pytest.approx(0.076, abs=5e-4)
  assert accuracy_threshold(133.9, 90.0) == pytest.approx(0.9, abs=5e-4)
  assert accuracy_threshold(0.5, 0.9, 5) == pytest.approx(accuracy_threshold(50, 90), rel=1e-12)


def test_no_overflow():
  assert accuracy_threshold(-1e9, 0.0) == 0.0
  assert accuracy_threshold(1e9, 0.0) == 1.0


def test_by_leaf():
  accuracies = {'a': 0.4, 'b': jnp.float32(0.95)}
  found = accuracy_threshold(accuracies, 0.9, gamma=5)
  assert found['a'] == accuracy_threshold(0.4, 0.9, gamma=5)
  assert found['a'] < 0.5 < found['b']
  assert isinstance(found['b'], float)
  scores = {'a': jnp.array([0.01, 0.3]), 'b': jnp.array([0.3, 0.8])}
  masks = jprune.masks.threshold(scores, found)
  assert masks['a'].tolist() == [False, True]
  assert masks['b'].tolist() == [False, True]


def test_of_a_sensitivity():
  params = {'a': jnp.ones((2, 2)), 'b': jnp.ones((2, 2)) * 3}
  found = jprune.sensitivity.curves(lambda p: p['a'].sum() + p['b'].sum(), params, [0.5])
  thresholds = accuracy_threshold(found.at(0.5), 12.0)
  assert thresholds == {
    'a': accuracy_threshold(14.0, 12.0),
    'b': accuracy_threshold(10.0, 12.0),
  }


@pytest.mark.parametrize(
  ('given', 'error', 'match'),
  [
    (('a', 0.9), TypeError, 'accuracy_threshold: `accuracy` must be a number'),
    ((0.5, math.nan), ValueError, 'accuracy_threshold: `target` must be finite'),
    ((0.5, 0.9, 0.0), ValueError, 'accuracy_threshold: `gamma` must be positive'),
    (({}, 0.9), ValueError, 'accuracy_threshold: `accuracy` must be a number or a non-empty'),
    (({'a': math.inf}, 0.9), ValueError, "`accuracy` must be finite; got inf at leaf 'a'"),
  ],
)
def test_bad_input(given, error, match):
  with pytest.raises(error, match=match):
    accuracy_threshold(*given)
