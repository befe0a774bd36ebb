"""Sparse from the start: weights are dropped and others grown, at a constant or falling density."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from jprune import distributions, schedules, scores
from jprune.transforms._method import ByPath, Method, Step, each, magnitudes
from jprune.transforms._sparse_training import sparse_training


def static(inner, sparsity, *, key, distribution=distributions.erk, **settings):
  """Static."""
  method = Method('static', lambda step: (step.masks, ()), _at_random, random=True)
  return sparse_training(
    method, inner, sparsity, every=2**30, key=key, distribution=distribution, **settings
  )


def sparse_evolution(
  inner, sparsity, *, every, key, end=None, drop=0.3, distribution=distributions.er, **settings
):
  """SET."""
  method = Method(
    'sparse_evolution', regrown(drop, _magnitude, _random), _at_random, regrows=True, random=True
  )
  return sparse_training(
    method, inner, sparsity, every=every, end=end, key=key, distribution=distribution, **settings
  )


def rigl(
  inner, sparsity, *, every, key, end=None, drop=0.3, distribution=distributions.erk, **settings
):
  """RigL."""
  method = Method(
    'rigl', regrown(drop, _magnitude, _gradient), _at_random, regrows=True, random=True
  )
  return sparse_training(
    method, inner, sparsity, every=every, end=end, key=key, distribution=distribution, **settings
  )


def granet(
  inner, sparsity, *, every, key, end=None, drop=0.5, distribution=distributions.erk, **settings
):
  """GraNet."""
  method = Method(
    'granet', regrown(drop, _magnitude, _gradient), _at_random, regrows=True, random=True
  )
  return sparse_training(
    method, inner, sparsity, every=every, end=end, key=key, distribution=distribution, **settings
  )


def mest(
  inner,
  sparsity,
  *,
  every,
  key,
  end=None,
  drop=0.3,
  weight=1.0,
  distribution=distributions.erk,
  **settings,
):
  """MEST."""
  method = Method(
    'mest',
    regrown(drop, functools.partial(_both, weight), _random),
    _at_random,
    regrows=True,
    random=True,
  )
  return sparse_training(
    method, inner, sparsity, every=every, end=end, key=key, distribution=distribution, **settings
  )


def regrown(drop: Any, stays: Callable[[Step], ByPath], grows: Callable[[Step], ByPath]):
  """The change of a method that drops a fraction of the weights and grows as many.

  Args:
    drop: the fraction, or a schedule of it.
    stays: scores by which weights stay.
    grows: scores by which they grow.
  """
  fraction = drop if callable(drop) else schedules.constant(drop)

  def change(step: Step) -> tuple[ByPath, Any]:
    dropped = step.part(fraction(step.count))
    stay = step.best(stays(step), kept=step.less(dropped), among=step.masks)
    return step.best(grows(step), first=stay), step.memory

  return change


def _at_random(step: Step) -> ByPath:
  return step.best(_random(step))


def _random(step: Step) -> ByPath:
  return type(step.weights)(scores.random(step.weights, step.key))


def _magnitude(step: Step) -> ByPath:
  return magnitudes(step.weights)


def _gradient(step: Step) -> ByPath:
  return magnitudes(step.grads)


def _both(weight: float, step: Step) -> ByPath:
  return each(lambda w, g: w + weight * g, magnitudes(step.weights), magnitudes(step.grads))
