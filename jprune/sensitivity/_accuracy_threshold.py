"""Thresholds from accuracies: a logistic curve around a target."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from jprune import _checks
from jprune.sensitivity import _errors

_NAME = 'accuracy_threshold'


def accuracy_threshold(accuracy: Any, target: float, gamma: float = 1 / 20) -> Any:
  r"""A threshold that rises with the accuracy that is observed: the logistic curve, as published.

  .. math:: t = \frac{1}{1 + \exp(-\gamma (\mathrm{acc} - \mathrm{acc}_\mathrm{th}))}

  It is one half at the target, always between 0 and 1, and knows nothing of the scale of the
  weights. What that means in numbers:

  - Accuracies as fractions, target .9: all thresholds lie between .4888 (accuracy 0) and .5012
    (accuracy 1), so they hardly tell layers apart. Multiply accuracy and target by 100, or pass
    ``gamma=5``: then they run from .0110 to .6225.
  - The values .076 and .9 that are printed beside the formula don't follow from it: in percent,
    with target 90, .076 takes an accuracy of 40.0 and .9 one of 133.9; as fractions nothing gives
    either.
  - Weights of a trained layer are usually far below one half, so that as a cut on magnitudes it
    would prune nearly all of them: use it on scores that are scaled, for example by the largest
    of each leaf, as below. A threshold doesn't bound the loss of accuracy; :func:`search` and
    :func:`run` measure it.

  Args:
    accuracy: one number; or a dict from leaf path to number, such as ``sensitivity.at(0.5)``, the
      accuracies with one leaf pruned at a time: leaves that bear pruning get higher thresholds.
    target: accuracy that is held to be good enough, in the same unit.
    gamma: slope, positive; the threshold changes by about ``gamma / 4`` for a unit of accuracy.

  Returns:
    A Python float, or a dict of them for :func:`jprune.masks.threshold`.

  Raises:
    ValueError: if a number isn't finite, ``gamma`` isn't positive, or the dict is empty.
    TypeError: if a number isn't one.

  Examples:
    >>> accuracy_threshold(90.0, 90.0), round(accuracy_threshold(0.0, 90.0), 4)
    (0.5, 0.011)
    >>> params = {'a': jnp.array([[0.1, -0.4]]), 'b': jnp.array([[0.3, 0.2]])}
    >>> thresholds = accuracy_threshold({'a': 60.0, 'b': 95.0}, 90.0)
    >>> {path: round(t, 4) for path, t in thresholds.items()}
    {'a': 0.1824, 'b': 0.5622}
    >>> scaled = jax.tree.map(lambda s: s / s.max(), jprune.scores.magnitude(params))
    >>> jprune.masks.threshold(scaled, thresholds)['b']
    Array([[ True,  True]], dtype=bool)
  """
  middle = _errors.finite_number(_NAME, 'target', target)
  slope = _checks.positive_number(_NAME, 'gamma', gamma)
  if not isinstance(accuracy, Mapping):
    return _logistic(slope * (_errors.finite_number(_NAME, 'accuracy', accuracy) - middle))
  if not accuracy:
    raise _errors.empty_accuracies(_NAME)
  found = {
    path: _errors.finite_number(_NAME, 'accuracy', value, str(path))
    for path, value in accuracy.items()
  }
  return {path: _logistic(slope * (value - middle)) for path, value in found.items()}


def _logistic(x: float) -> float:
  """Without overflow on either side."""
  small = math.exp(-abs(x))
  return 1 / (1 + small) if x >= 0 else small / (1 + small)
