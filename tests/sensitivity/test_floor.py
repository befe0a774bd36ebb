"""Runs down to a floor: how far the search goes, what its metrics may be, and what is saved."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jprune
from jprune.sensitivity import allocate, curves, run
from tests.sensitivity.test_run import TOY, total


def test_an_allocation_of_some_leaves_ends_where_they_are_pruned():
  chosen = allocate(curves(total, TOY, [0.0, 0.5, 1.0], where='v'), sparsity=0.5)
  result = run(total, TOY, distribution=chosen, min_metric=0.0)
  assert [trial.sparsity for trial in result.search.trials] == [0.0, 10 / 30]
  assert (result.steps[-1].pruned, result.masks['w'] is None or bool(result.masks['w'].all())) == (
    10,
    True,
  )
  result = run(total, TOY, distribution=chosen, min_metric=total(TOY) - 3.5, tolerance=1e-3)
  assert result.steps[-1].pruned == 2  # 1 + 2 of the leaf v; 1 + 2 + 3 is too much
  capped = run(total, TOY, distribution=chosen, min_metric=0.0, low=0.1, high=0.2)
  assert [trial.sparsity for trial in capped.search.trials] == [0.1, 0.2]
  words = r'run: `low` must be below 0.3333: the allocation covers only 33.3% of .*; got 0.4. Lower'
  with pytest.raises(ValueError, match=words):
    run(total, TOY, distribution=chosen, min_metric=0.0, low=0.4)
  with pytest.raises(ValueError, match="`sparsities` must be .* 'v'"):
    run(total, TOY, distribution=chosen, min_metric=0.0, where='w')


def test_a_metric_that_is_nan_where_all_is_zero():
  normed = lambda params: float(jnp.sum(params['w'] / jnp.sum(params['w'])))
  result = run(normed, TOY, min_metric=0.9, where='w')
  assert result.holds
  assert result.search.trials[1].sparsity == 1.0
  assert math.isnan(result.search.trials[1].metric)
  assert not result.search.trials[1].holds
  assert result.sparsity == 0.95  # all but the largest


def test_numbers_of_any_kind_are_saved(tmp_path):
  floor, evaluate = (
    jnp.float32(200),
    lambda params: sum(jnp.sum(x) for x in jax.tree.leaves(params)),
  )
  result = run(evaluate, TOY, min_metric=floor, noise=jnp.float32(0.5), test=evaluate, repeats=2)
  result.save(tmp_path / 'report.json')
  data = json.loads((tmp_path / 'report.json').read_text())
  assert (data['min_metric'], data['holds']) == (200.0, True)
  result = run(evaluate, TOY, sparsity=np.float32(0.5), rounds=np.int64(2))
  result.save(tmp_path / 'report.json')
  assert json.loads((tmp_path / 'report.json').read_text())['sparsity'] == 0.5


@pytest.mark.parametrize('given', [{'sparsity': 1.0}, {'min_metric': -1e9}])
def test_rounds_up_to_all_weights(given):
  result = run(total, TOY, rounds=3, **given)
  at = [jprune.schedules.cubic(0.0, 1.0, 0, 3)(r) for r in (1, 2)] + [1.0]
  assert [step.pruned for step in result.steps[1:]] == [round(s * 20) + round(s * 10) for s in at]


def test_the_dense_metric_is_measured_once():
  """Two values of one thing would contradict each other in the message."""
  calls = []

  def noisy(params):
    calls.append(1)
    return 100.0 if len(calls) == 1 else 0.0

  result = run(noisy, TOY, min_metric=99.0)
  assert (result.sparsity, result.search.trials[0].metric) == (0.0, 100.0)
  assert len(calls) == 1 + 8 + 1  # dense, trials above 0, the result
  words = 'the metric of the dense model: 275.0; got 275.5. Lower'
  with pytest.raises(ValueError, match=f'run: `min_metric` must be at most {words}'):
    run(lambda params: 275.0, TOY, min_metric=275.5)
  with pytest.raises(
    ValueError, match=r'less than the noise \(1\): lower it, or pass more repeats'
  ):
    run(lambda params: 275.0, TOY, min_metric=275.5, noise=1.0)
  with pytest.raises(ValueError, match='the metric at the lowest sparsity, 0.5: '):
    run(total, TOY, min_metric=250, low=0.5)
