"""How weights are dropped and others grown: what methods that are sparse from the start share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jprune import _checks, distributions, schedules, scores
from jprune.masks import ChannelGroups, NOfM
from jprune.transforms import _errors
from jprune.transforms._method import Method, Step, each, magnitudes
from jprune.transforms._sparse_training import (
  Settings,
  SettingsAndPattern,
  checked,
  not_scored,
)
from jprune.typing import ByPath, Distribution, Schedule

Chosen = Callable[[Step], ByPath]


def as_fraction(function: str, drop: float | Schedule) -> Schedule:
  """The fraction of weights that are replaced on each change, as a function of the count."""
  if not callable(drop):
    return schedules.constant(_checks.static_fraction(function, 'drop', drop))
  for count in (0, getattr(drop, 'begin', 0), getattr(drop, 'end', 0)):
    if not 0 <= float(drop(count)) <= 1:
      raise _errors.drop_outside(function, float(drop(count)), count)
  return drop


def settled(
  function: str, settings: SettingsAndPattern, given: Distribution | None, default: Distribution
) -> Settings:
  """The settings with the distribution, by default one for single weights."""
  settings = checked(function, settings, from_masks=True)
  not_scored(function, settings, ('scorer',))
  if given is None:
    alike = isinstance(settings.get('pattern'), (NOfM, ChannelGroups))
    given = distributions.uniform if alike else default
  return {**settings, 'distribution': given}


def regrowing(name: str, drop: float | Schedule, stays: Chosen, grows: Chosen) -> Method:
  """A method that drops a fraction of the weights, all but those with the best ``stays``.

  As many grow, those with the best ``grows``.
  """
  fraction = as_fraction(name, drop)

  def change(step: Step) -> tuple[ByPath, Any]:
    dropped = step.part(fraction(step.count))
    stay = step.best(stays(step), kept=step.less(dropped), among=step.masks)
    return step.best(grows(step), first=stay), step.memory

  return Method(name, change, at_random, regrows=True, random=True)


def at_random(step: Step) -> ByPath:
  """Masks of as many weights as are to be kept, whichever."""
  return step.best(chances(step))


def chances(step: Step) -> ByPath:
  """Scores at random."""
  return scores.random(step.weights, key=step.key)


def magnitude(step: Step) -> ByPath:
  """Scores by weights."""
  return magnitudes(step.weights)


def gradient(step: Step) -> ByPath:
  """Scores by gradients."""
  return magnitudes(step.grads)


def both(weight: float, step: Step) -> ByPath:
  """Scores by weights, and gradients times a number."""
  return each(lambda w, g: w + weight * g, magnitudes(step.weights), magnitudes(step.grads))
