"""Why what a leaf is multiplied by is none of its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jax.extend import core

from jprune.graph._analysis.dependence import PARAMS
from jprune.graph._capture.follow import Held, Joined
from jprune.graph._rules.base import multiplies, sides


def why_not_by_data(origins: Mapping[Any, int], var: Any) -> str | None:
  """Of a partner that no argument has a part in: the product is another weight."""
  origin = 0 if isinstance(var, core.Literal) else origins[var]
  if origin == PARAMS:
    return 'its partner depends on params only'
  return None if origin else 'its partner depends on no argument of fn'


def why_not_joined(eqn: Any, operand: int, held: Held) -> str | None:
  """Of the partner of several leaves that are summed over together, or used in another form."""
  if not isinstance(held, Joined):
    return None
  if multiplies(eqn).form != 'matrices':
    return 'it is concatenated with others'
  return (
    None
    if held.axis in sides(eqn, operand).outputs
    else 'it is concatenated with others along an axis that is contracted'
  )
